"""The data path: readers against wfdb, record reads and builds against the usual forms of `datasets`.

    python benchmarks/bench_data.py          # one thread; under a minute of CPU

`ECG_DATA_DIR` may name a folder of real records (`ptb-xl/`, `mitdb/`); without it ones like them are written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from timing import Row, rotate, row

RECORDS, LEADS, LENGTH = 256, 12, 2500


def rows() -> list[Row]:
    """One dictionary a comparison: `name`, `forms` (median CPU seconds), `ratio` and `goal`."""
    folder = os.environ.get("ECG_DATA_DIR")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        return [*reader_rows(Path(folder) if folder else None, place), *storage_rows(place), build_row(place)]


def reader_rows(folder: Path | None, scratch: Path) -> list[Row]:
    """`read_record` against `wfdb.rdrecord`, bit-equal in float32."""
    import wfdb

    from ecg_transformers.data.readers.reading import read_record

    result = []
    for name, paths, goal in _reader_cases(folder, scratch):
        bases = [str(path.with_suffix("")) for path in paths]

        def own(bases: Sequence[str] = bases) -> list[np.ndarray]:
            return [read_record(base).signal for base in bases]

        def unverified(bases: Sequence[str] = bases) -> list[np.ndarray]:
            return [read_record(base, checksum="ignore").signal for base in bases]

        def reference(bases: Sequence[str] = bases) -> list[np.ndarray]:
            return [wfdb.rdrecord(base).p_signal.astype(np.float32) for base in bases]

        equal = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(own(), reference()))
        if not equal:
            raise RuntimeError(f"{name}: the fast reader differs from wfdb")
        # the whole of what a caller waits for, checksums verified, against wfdb, which verifies none
        forms = {"wfdb.rdrecord": reference, "read_record": own, "without checksums": unverified}
        result.append(row(name, rotate(forms, 5), "wfdb.rdrecord", "read_record", goal))
    return result


def _reader_cases(folder: Path | None, scratch: Path) -> list[tuple[str, list[Path], float]]:
    if folder is not None and (folder / "ptb-xl").is_dir() and (folder / "mitdb").is_dir():
        fast = sorted((folder / "ptb-xl" / "records500").rglob("*.hea"))[:20]
        slow = sorted((folder / "ptb-xl" / "records100").rglob("*.hea"))[:60]
        half_hours = sorted((folder / "mitdb").glob("*.hea"))[:4]
    else:
        fast = [write_record(scratch, f"h{n}", n, 500, 10) for n in range(20)]
        slow = [write_record(scratch, f"l{n}", n, 100, 10) for n in range(60)]
        half_hours = [write_record(scratch, f"m{n}", n, 360, 1805, fmt="212") for n in range(2)]
    return [
        ("WFDB format 16, 500 Hz", fast, 14.0),
        ("WFDB format 16, 100 Hz", slow, 30.0),
        ("WFDB format 212, 30 minutes", half_hours, 1.4),
    ]


def write_record(folder: Path, name: str, seed: int, rate: int, duration: int, fmt: str = "16") -> Path:
    """A record of noise like those of PTB-XL (format 16, 12 leads) or MIT-BIH (212, 2 leads)."""
    leads = 12 if fmt == "16" else 2
    samples = np.random.default_rng(seed).integers(-900, 900, (rate * duration, leads)).astype(np.int16)
    if fmt == "16":
        samples.astype("<i2").tofile(folder / f"{name}.dat")
    else:
        pairs = samples.reshape(-1, 2).astype(np.int32) & 0xFFF
        high = (pairs[:, 0] >> 8) | (pairs[:, 1] >> 8 << 4)
        np.column_stack([pairs[:, 0] & 0xFF, high, pairs[:, 1] & 0xFF]).astype(np.uint8).tofile(folder / f"{name}.dat")
    sums = samples.sum(axis=0, dtype=np.int64) % 65536
    lines = [f"{name}.dat {fmt} 1000(0)/mV 16 0 {samples[0, n]} {sums[n]} 0 lead{n}" for n in range(leads)]
    (folder / f"{name}.hea").write_text("\n".join([f"{name} {leads} {rate} {len(samples)}", *lines]) + "\n")
    return folder / f"{name}.hea"


def storage_rows(scratch: Path) -> list[Row]:
    """Reading records one by one in random order to float32 millivolt."""
    import datasets

    from ecg_transformers.data.rows import RecordTable

    samples = _samples()
    volts = samples.astype(np.float32) / 1000
    array = datasets.Features({"signal": datasets.Array2D((LENGTH, LEADS), "float32")})
    lists = datasets.Features({"signal": datasets.List(datasets.Value("float32"))})
    ours = _save(datasets.Dataset.from_list([_row(x, n) for n, x in enumerate(samples)], features=_features()), scratch)
    as_array = _save(datasets.Dataset.from_dict({"signal": list(volts)}, features=array), scratch).with_format("numpy")
    as_lists = _save(datasets.Dataset.from_dict({"signal": [v.ravel() for v in volts]}, features=lists), scratch)
    table = RecordTable(ours)
    order = np.random.default_rng(0).permutation(RECORDS).tolist()
    few = order[:48]
    if not np.array_equal(table.signal(3), volts[3]):
        raise RuntimeError("the table does not give the samples back")
    seconds = rotate(
        {
            "int16 view": lambda: read_each(table.signal, order),
            "Array2D float32, numpy format": lambda: read_each(lambda n: as_array[n]["signal"], few),
            "list of float32, python format": lambda: read_each(
                lambda n: np.asarray(as_lists[n]["signal"], np.float32), few
            ),
        },
        5,
    )
    forms = {name: value / len(order if name == "int16 view" else few) for name, value in seconds.items()}
    stored = sum(Path(file["filename"]).stat().st_size for file in ours.cache_files)
    plain = sum(Path(file["filename"]).stat().st_size for file in as_array.cache_files)
    return [
        row("record reads, view over Array2D", forms, "Array2D float32, numpy format", "int16 view", 15.0),
        row("record reads, view over lists", forms, "list of float32, python format", "int16 view", 60.0),
        row(
            "bytes per record, float32 over int16",
            {"int16 row": stored / RECORDS, "float32 row": plain / RECORDS},
            "float32 row",
            "int16 row",
            1 / 0.51,
        ),
    ]


def read_each(read: Callable[[int], np.ndarray], indices: Sequence[int]) -> None:
    """Records one by one, each let go before the next, as a loader hands them on."""
    for index in indices:
        read(index)


def build_row(scratch: Path) -> Row:
    """Writing: one buffer of int16 bytes against `from_dict` with lists of float arrays, saving included."""
    import datasets

    samples = _samples()[:64]
    volts = samples.astype(np.float32) / 1000
    lists = datasets.Features({"signal": datasets.List(datasets.Value("float32"))})

    def rows_of_bytes() -> None:
        _save(datasets.Dataset.from_dict({"signal": [x.tobytes() for x in samples]}), scratch)

    def lists_of_floats() -> None:
        _save(datasets.Dataset.from_dict({"signal": [v.ravel() for v in volts]}, features=lists), scratch)

    forms = {"binary int16": rows_of_bytes, "lists of float32": lists_of_floats}
    name = "dataset build, int16 bytes over lists"
    return row(name, rotate(forms, 3), "lists of float32", "binary int16", 15.0)


def _samples() -> np.ndarray:
    return np.random.default_rng(0).integers(-2000, 2000, (RECORDS, LENGTH, LEADS)).astype(np.int16)


def _features() -> Any:
    from ecg_transformers.data.record import record_features

    return record_features()


def _row(samples: np.ndarray, number: int) -> dict[str, Any]:
    from ecg_transformers.data.record import DigitalRecord

    names = [f"lead{n}" for n in range(LEADS)]
    return DigitalRecord(samples, np.full(LEADS, 1000.0), np.zeros(LEADS), 250.0, names, str(number)).to_row()


def _save(dataset: Any, scratch: Path) -> Any:
    import datasets

    folder = tempfile.mkdtemp(dir=scratch)
    with _no_bars(datasets):
        dataset.save_to_disk(folder)
    return datasets.load_from_disk(folder)


@contextlib.contextmanager
def _no_bars(module: Any) -> Iterator[None]:
    module.disable_progress_bars()
    try:
        yield
    finally:
        module.enable_progress_bars()


if __name__ == "__main__":
    from run import main

    raise SystemExit(main(["--only", "data"]))
