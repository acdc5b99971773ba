"""The data path: readers against wfdb, record reads and builds against the usual forms of `datasets`.

Run `python benchmarks/bench_data.py [FOLDER]`; FOLDER holds real records (`ptb-xl/`, `mitdb/`), else ones like them
are written. Each row compares two forms in one run, so a busy machine disturbs the ratio little.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

RECORDS, LEADS, LENGTH = 256, 12, 2500


def rows(folder: str | Path | None = None) -> list[dict[str, Any]]:
    """One dictionary a comparison: `name`, `forms` (seconds by form), `ratio` and `goal` (what the ratio must
    reach).
    """
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(folder or os.environ.get("ECG_DATA_DIR", "")) if folder or os.environ.get("ECG_DATA_DIR") else None
        return [*reader_rows(place, Path(scratch)), *storage_rows(Path(scratch)), build_row(Path(scratch))]


def best(function: Callable[[], Any], repeats: int = 3) -> float:
    """Smallest CPU time of some runs."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        function()
        times.append(time.process_time() - started)
    return min(times)


def reader_rows(folder: Path | None, scratch: Path) -> list[dict[str, Any]]:
    """`read_record` against `wfdb.rdrecord`, bit-equal in float32."""
    import wfdb

    from ecg_transformers.data.readers.wfdb_signal import read_wfdb

    result = []
    for name, paths, goal in _reader_cases(folder, scratch):
        bases = [str(path.with_suffix("")) for path in paths]

        def own(bases: Sequence[str] = bases) -> list[np.ndarray]:
            return [read_wfdb(base, checksum="ignore").to_record().signal for base in bases]

        def verified(bases: Sequence[str] = bases) -> list[np.ndarray]:
            return [read_wfdb(base).to_record().signal for base in bases]

        def reference(bases: Sequence[str] = bases) -> list[np.ndarray]:
            return [wfdb.rdrecord(base).p_signal.astype(np.float32) for base in bases]

        equal = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(own(), reference()))
        if not equal:
            raise RuntimeError(f"{name}: the fast reader differs from wfdb")
        # wfdb verifies no checksum, so the like of it is compared; the default, which does, is timed beside it
        forms = {"wfdb.rdrecord": best(reference), "read_wfdb": best(own, 5), "with checksums": best(verified, 5)}
        result.append(
            {"name": name, "forms": forms, "ratio": forms["wfdb.rdrecord"] / forms["read_wfdb"], "goal": goal}
        )
    return result


def _reader_cases(folder: Path | None, scratch: Path) -> list[tuple[str, list[Path], float]]:
    if folder is not None and (folder / "ptb-xl").is_dir() and (folder / "mitdb").is_dir():
        fast = sorted((folder / "ptb-xl" / "records500").rglob("*.hea"))[:20]
        slow = sorted((folder / "ptb-xl" / "records100").rglob("*.hea"))[:60]
        half_hours = sorted((folder / "mitdb").glob("*.hea"))[:4]
    else:
        fast = [_write(scratch, f"h{n}", n, 500, 10) for n in range(20)]
        slow = [_write(scratch, f"l{n}", n, 100, 10) for n in range(60)]
        half_hours = [_write(scratch, f"m{n}", n, 360, 1805, fmt="212") for n in range(2)]
    return [
        ("WFDB format 16, 500 Hz", fast, 14.0),
        ("WFDB format 16, 100 Hz", slow, 30.0),
        ("WFDB format 212, 30 minutes", half_hours, 1.4),
    ]


def _write(folder: Path, name: str, seed: int, rate: int, duration: int, fmt: str = "16") -> Path:
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


def storage_rows(scratch: Path) -> list[dict[str, Any]]:
    """Reading records one by one in random order to float32 millivolt."""
    import datasets

    from ecg_transformers.data.record_table import RecordTable

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
    view = best(lambda: [table.signal(n) for n in order], 7) / len(order)
    forms = {
        "int16 view": view,
        "Array2D float32, numpy format": best(lambda: [as_array[n]["signal"] for n in few]) / len(few),
        "list of float32, python format": best(lambda: [np.asarray(as_lists[n]["signal"], np.float32) for n in few])
        / len(few),
    }
    stored = sum(Path(file["filename"]).stat().st_size for file in ours.cache_files)
    plain = sum(Path(file["filename"]).stat().st_size for file in as_array.cache_files)
    return [
        {"name": "record reads, view over Array2D", "forms": forms, "ratio": _over(forms, 1), "goal": 15.0},
        {"name": "record reads, view over lists", "forms": forms, "ratio": _over(forms, 2), "goal": 60.0},
        {
            "name": "bytes per record, float32 over int16",
            "forms": {"int16 row": stored / RECORDS, "float32 row": plain / RECORDS},
            "ratio": plain / stored,
            "goal": 1 / 0.51,
        },
    ]


def _over(forms: dict[str, float], position: int) -> float:
    return list(forms.values())[position] / forms["int16 view"]


def build_row(scratch: Path) -> dict[str, Any]:
    """Writing: one buffer of int16 bytes against `from_dict` with lists of float arrays, saving included."""
    import datasets

    samples = _samples()[:64]
    volts = samples.astype(np.float32) / 1000
    lists = datasets.Features({"signal": datasets.List(datasets.Value("float32"))})

    def rows_of_bytes() -> None:
        _save(datasets.Dataset.from_dict({"signal": [x.tobytes() for x in samples]}), scratch)

    def lists_of_floats() -> None:
        _save(datasets.Dataset.from_dict({"signal": [v.ravel() for v in volts]}, features=lists), scratch)

    forms = {"binary int16": best(rows_of_bytes), "lists of float32": best(lists_of_floats, 2)}
    ratio = forms["lists of float32"] / forms["binary int16"]
    return {"name": "dataset build, int16 bytes over lists", "forms": forms, "ratio": ratio, "goal": 15.0}


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


def _no_bars(module: Any) -> Any:
    import contextlib

    @contextlib.contextmanager
    def silent() -> Any:
        module.disable_progress_bars()
        try:
            yield
        finally:
            module.enable_progress_bars()

    return silent()


def main() -> None:
    """Print the table."""
    for row in rows(sys.argv[1] if len(sys.argv) > 1 else None):
        verdict = "ok" if row["ratio"] >= row["goal"] else "SHORT"
        print(f"{row['name']:<42} {row['ratio']:8.2f}  goal {row['goal']:6.2f}  {verdict}")


if __name__ == "__main__":
    main()
