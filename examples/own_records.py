"""From your own records to what a model sees: read one file, look at it, and make the input of a published method.

    python examples/own_records.py RECORD [METHOD] [HZ]

RECORD is a WFDB header, a MAT, NPZ, CSV or EDF file. HZ is the sampling rate, for files that do not say it. How a folder of
such files becomes training data is told in the README, under "Your own records".
"""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded: waiting threads leave the cores to others

import ecg_transformers as ecg
from ecg_transformers.analysis.figures import save_figure
from ecg_transformers.analysis.plots import plot_ecg


def main(path: str, method: str = "st_mem", hz: str | None = None) -> None:
    record = ecg.read_record(path, sampling_rate=None if hz is None else float(hz))
    seconds = len(record.signal) / record.sampling_rate
    print(f"{record.record_id}: {seconds:.1f} s at {record.sampling_rate:g} Hz, leads {', '.join(record.lead_names)}")
    print(f"largest value {abs(record.signal).max():.2f} mV; a QRS complex is usually about 1 mV high")
    save_figure(plot_ecg(record), "record.png")

    extractor = ecg.get_method(method).extractor_class.for_method(method)
    inputs = extractor(record, return_tensors="pt")
    for name, value in inputs.items():
        print(f"{name}: {tuple(getattr(value, 'shape', (len(value),)))}")
    for note in getattr(extractor, "last_report", []):
        print({key: value for key, value in note.items() if value})


if __name__ == "__main__":
    main(*sys.argv[1:])
