"""Records of any readable format written as WFDB, NPZ or CSV, so that a group leaves its cart's format behind once.

WFDB keeps the file's own counts and scale, in as many bits as they need (16, 24 for most BDF, 32): the numbers come out
again. NPZ and CSV hold float32 millivolt, from which a count of 24 bits can still be told.
The identity of the patient is left out unless it is asked for; what the file says beside its samples (age, sex, time,
statements, the stand-in for the patient) goes into the comments of the header, or into a JSON file beside.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ecg_transformers.data.errors import ECGDataError, OptionError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers.reading import read_stored
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.files import replacing, temporary_folder

TARGETS = ("wfdb", "npz", "csv")
_MOST_TIMES = 100


class Converted(NamedTuple):
    """What became of one file: the file to open, or the sentence why there is none."""

    source: str
    written: Path | None
    problem: str


def convert_records(
    paths: Iterable[str | Path], output_dir: str | Path, to: str = "wfdb", **hints: Any
) -> Iterator[Converted]:
    """Write several records into a folder, one by one; a file that cannot be read is told and ends nothing.

    Args:
        paths: files of any readable format.
        output_dir: a folder, made when absent. Nothing in it is overwritten.
        to: "wfdb" (header, signals, beats as `.atr`), "npz" or "csv" (with a `.json` beside).
        **hints: as `read_record`: `keep_identity=True` writes the files' own ids, names and birth dates.

    Raises:
        OptionError: another target.
    """
    check_choice("convert-record: the target", to, TARGETS)
    for path in paths:
        try:
            yield Converted(str(path), convert_record(path, output_dir, to, **hints), "")
        except ECGDataError as error:
            yield Converted(str(path), None, str(error))


def convert_record(path: str | Path, output_dir: str | Path, to: str = "wfdb", **hints: Any) -> Path:
    """Write one record; returns the file to open (`.hea`, `.npz`, `.csv`).

    The files appear together when all of them are written.

    Raises:
        ECGDataError: the record cannot be read, a file of that name is there already, the folder cannot be written to.

    Example:
        >>> convert_record("export.xml", "converted", to="wfdb")  # doctest: +SKIP
        PosixPath('converted/export.hea')
    """
    check_choice("convert-record: the target", to, TARGETS)
    record = read_stored(path, **hints)
    name = re.sub(r"[^A-Za-z0-9_\-]", "_", record.record_id) or "record"  # what WFDB allows in a name
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder) as beside:
            main = _WRITERS[to](record, beside, name)
            made = sorted(beside.iterdir(), key=lambda file: file == main)  # the one to open comes last
            for file in made:
                if (folder / file.name).exists():
                    raise OptionError(f"{file.name} is there already; give another folder.", path=folder)
            for file in made:
                with replacing(folder / file.name) as free:
                    file.rename(free)
    except OSError as error:
        raise ECGDataError(f"the record cannot be written here ({error.strerror or error}).", path=folder) from error
    return folder / main.name


def _write_wfdb(record: DigitalRecord | ECGRecord, folder: Path, name: str) -> Path:
    import wfdb

    samples, gain, baseline, fmt = _whole_counts(record)
    acquired = _acquired(record)
    wfdb.wrsamp(
        name,
        fs=record.sampling_rate,
        units=["mV"] * len(record.lead_names),
        sig_name=list(record.lead_names),
        d_signal=samples,
        fmt=[fmt] * len(record.lead_names),
        adc_gain=gain.tolist(),
        baseline=baseline.tolist(),
        comments=_comments(record),
        base_date=acquired.date() if acquired else None,
        base_time=acquired.time() if acquired else None,
        write_dir=str(folder),
    )
    beats = (record.annotations or {}).get("beat_samples")
    if record.annotations is not None and beats is not None and len(beats):
        symbols = [_WFDB_BEATS.get(str(symbol), "Q") for symbol in record.annotations["beat_symbols"]]
        wfdb.wrann(name, "atr", np.asarray(beats), symbol=symbols, fs=record.sampling_rate, write_dir=str(folder))
    return folder / f"{name}.hea"


_WFDB_BEATS = {"N": "N", "V": "V", "S": "S", "P": "/", "B": "B", "X": "|", "U": "Q"}
"""Beat labels of ISHNE in WFDB's letters; calibration pulses and others become Q (unclassifiable)."""


def _whole_counts(record: DigitalRecord | ECGRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Counts, counts a millivolt, whole baselines, and the narrowest WFDB format that holds them beside "no value".

    WFDB's baseline is whole, that of EDF often a half: such a lead is stored as a small multiple of its counts.
    """
    if isinstance(record, DigitalRecord) and (np.abs(record.offset) < 2**31).all():
        counts = record.samples.astype(np.int64)
        missing = record.samples == np.iinfo(record.samples.dtype).min
        gain, offset = (np.broadcast_to(np.asarray(v, float), counts.shape[1:]) for v in (record.gain, record.offset))
    else:
        whole = record.to_record() if isinstance(record, DigitalRecord) else record
        counts, missing, gain, offset = _over_the_range(whole.signal)
    counts[missing] = 0
    reach = np.maximum(np.abs(counts).max(axis=0), np.abs(offset))
    times = np.array([_whole_after(start, most) for start, most in zip(offset, (2**31 - 1) / np.maximum(reach, 1))])
    counts *= times
    widest = np.abs(counts).max()
    fmt = next((bits for bits in (16, 24) if widest < 2 ** (bits - 1)), 32)
    counts[missing] = -(2 ** (fmt - 1))
    return counts, gain * times, np.rint(offset * times).astype(np.int64), str(fmt)


def _whole_after(offset: float, most: float) -> int:
    """The small number by which an offset is to be multiplied to be whole, to a hundredth of a count at worst."""
    return Fraction(offset).limit_denominator(max(1, int(min(most, _MOST_TIMES)))).denominator


def _over_the_range(signal: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts of 24 bits over the range of each lead of a signal in millivolts, what is missing, gain and offset."""
    values = signal.astype(np.float64)
    missing = np.isnan(values)
    low = np.where(missing, np.inf, values).min(axis=0)
    high = np.where(missing, -np.inf, values).max(axis=0)
    middle = np.where(np.isfinite(low), (low + high) / 2, 0.0)
    reach = np.where(np.isfinite(low), (high - low) / 2, 0.0)
    reach = np.maximum(reach, np.abs(middle) / 200)  # the baseline has 31 bits
    with np.errstate(divide="ignore"):
        gain = np.exp2(np.clip(np.floor(np.log2((2**23 - 2) / reach)), -40, 24))
    offset = -np.rint(middle * gain)
    return np.rint(np.where(missing, 0.0, values) * gain + offset).astype(np.int64), missing, gain, offset


def _acquired(record: DigitalRecord | ECGRecord) -> datetime | None:
    try:
        return datetime.strptime(str(record.metadata.get("acquired")), "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return None


def _comments(record: DigitalRecord | ECGRecord) -> list[str]:
    """Lines `key: value` for the header, ASCII, as WFDB wants them."""
    lines = []
    for key, value in _facts(record).items():
        values = value if isinstance(value, list) else [value]
        lines += [f"{key}: {part if isinstance(part, str) else json.dumps(part)}" for part in values]
    clean = (" ".join(line.split()).encode("ascii", "replace").decode() for line in lines)
    return [line[:900] for line in clean if line]


def _facts(record: DigitalRecord | ECGRecord) -> dict[str, Any]:
    facts = {"patient_id": record.patient_id, **record.metadata}
    return {key: value for key, value in facts.items() if value not in (None, [], {}, "")}


def _write_npz(record: DigitalRecord | ECGRecord, folder: Path, name: str) -> Path:
    whole = record.to_record() if isinstance(record, DigitalRecord) else record
    path = folder / f"{name}.npz"
    np.savez_compressed(
        path,
        signal=whole.signal,
        sampling_rate=np.float64(whole.sampling_rate),
        lead_names=np.array(whole.lead_names),
        units=np.array("mV"),
    )
    _write_sidecar(whole, path)
    return path


def _write_csv(record: DigitalRecord | ECGRecord, folder: Path, name: str) -> Path:
    """A column of seconds, then one a lead; nine digits give every float32 again."""
    whole = record.to_record() if isinstance(record, DigitalRecord) else record
    path = folder / f"{name}.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(["time_s", *(f'"{lead}"' if "," in lead else lead for lead in whole.lead_names)]) + "\n")
        for number, row in enumerate(whole.signal):
            cells = ("" if np.isnan(value) else f"{value:.9g}" for value in row)
            stream.write(f"{number / whole.sampling_rate:.9g},{','.join(cells)}\n")
    _write_sidecar(whole, path)
    return path


def _write_sidecar(record: ECGRecord, path: Path) -> None:
    """What NPZ and CSV have no place for, as JSON beside them."""
    annotations = {key: np.asarray(values).tolist() for key, values in (record.annotations or {}).items()}
    facts = {"sampling_rate": record.sampling_rate, "lead_names": record.lead_names, "units": "mV", **_facts(record)}
    if annotations:
        facts["annotations"] = annotations
    text = json.dumps(facts, indent=2, ensure_ascii=False, default=str) + "\n"
    path.with_name(f"{path.name}.json").write_text(text, encoding="utf-8")


_WRITERS: dict[str, Callable[[DigitalRecord | ECGRecord, Path, str], Path]] = {
    "wfdb": _write_wfdb,
    "npz": _write_npz,
    "csv": _write_csv,
}
