"""Readers of hospital formats beside a second reader of the same files (ecgdatakit, edfio; both in the extra `[dev]`).

    python benchmarks/bench_hospital.py          # one thread; half a minute of CPU

Files of carts hold ten seconds of twelve leads at 500 Hz, ISHNE, EDF and BDF a long recording, all written by the
tests' own writers.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from timing import Row, rotate, row

WRITERS = Path(__file__).resolve().parents[1] / "tests" / "data" / "readers"
LONG = 200_000
GOALS = {"dicom": 1.0, "aecg": 1.0, "philips": 1.0, "muse": 1.0, "scp": 2.0, "ishne": 1.0, "edf": 1.0, "bdf": 1.0}


def rows() -> list[Row]:
    """One dictionary a format: `name`, `forms` (median CPU seconds), `ratio` and `goal`."""
    from ecg_transformers.data.readers import read_record

    result = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, path, second in _files(Path(folder)):

            def own(path: Path = path) -> np.ndarray:
                return read_record(path).signal

            times = rotate({"second reader": second, "read_record": own}, 7)
            result.append(row(f"hospital: {kind}", times, "second reader", "read_record", GOALS[kind]))
    return result


def _files(folder: Path) -> Iterator[tuple[str, Path, Callable[[], object]]]:
    """Every format with a file of it and its second reader."""
    import ecgdatakit
    import edfio

    sys.path.insert(0, str(WRITERS))
    import hospital_files

    for name, content, *_ in [*hospital_files.cart_files(5000), *hospital_files.long_files(LONG)]:
        path = folder / name
        path.write_bytes(content)
        kind = {
            "a": "dicom",
            "b": "aecg",
            "c": "philips",
            "d": "muse",
            "e": "scp",
            "f": "ishne",
            "g": "edf",
            "h": "bdf",
        }[name[0]]
        second: dict[str, Callable[[], object]] = {
            "edf": lambda path=path: [signal.data for signal in edfio.read_edf(path).signals],
            "bdf": lambda path=path: [signal.data for signal in edfio.read_bdf(path).signals],
        }
        parser = ecgdatakit.FileParser()
        yield kind, path, second.get(kind, lambda path=path, parser=parser: parser.parse(path))


if __name__ == "__main__":
    for line in rows():
        print(line)
