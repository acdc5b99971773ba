"""Embeddings of real records by every checkpoint of the table, through a file laid out as the released one.

    python tests/soak/embeddings.py [--records 100] [--size tiny|released] [--only NAME]        (or: make soak)

Whatever the batch and the number of processes, `embed` gives what extractor and model give by hand, to 1e-5 of the
largest absolute value, in the records' order, and leaves out the same records. Weights are random. Among the records are
some that not every checkpoint takes (other rates and lengths, one lead, a missing file). Needs `ECG_DATA_DIR`.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

TOLERANCE = 1e-5
# batch size and processes of a run
RUNS = {"tiny": [(1, 1), (7, 1), (32, 1), (1, 2), (7, 2), (32, 2)], "released": [(7, 1), (32, 2)]}
# every how many records of a corpus one is taken that not every checkpoint takes
OTHERS = {"cinc2017": "*.hea", "cinc2020": "*.hea", "ptbdb": "*_re.hea", "ludb": "*.hea"}


def real_records(count: int) -> list[Path]:
    """Resting ECGs of PTB-XL at both rates, and a few of other corpora among them."""
    root = Path(os.environ["ECG_DATA_DIR"])
    twelve = [*sorted((root / "ptb-xl").rglob("*_hr.hea")), *sorted((root / "ptb-xl").rglob("*_lr.hea"))]
    others = [path for name, pattern in OTHERS.items() for path in sorted((root / name).rglob(pattern))[:3]]
    others.append(root / "no-such-record.hea")
    most = max(1, count // 8)
    chosen = (
        twelve[:: max(1, len(twelve) // count)][: count - min(most, len(others))]
        + others[:: max(1, len(others) // most)]
    )
    order = np.random.default_rng(0).permutation(min(count, len(chosen)))
    return [chosen[index] for index in order]


def by_hand(name: str, files: list[Path]) -> np.ndarray:
    """One record after the other through extractor and model, long ones in windows; NaN where the extractor refuses it."""
    import torch

    import ecg_transformers as ecg

    model, extractor = ecg.load_checkpoint(name)
    encoder, rows = model.base_model, []
    for file in files:
        try:
            record = ecg.read_record(file)
            inputs = {key: torch.as_tensor(value) for key, value in extractor(record, return_tensors="pt").items()}
            length = int(record.num_samples * extractor.sampling_rate / record.sampling_rate)
            if record.num_samples > 15 * record.sampling_rate and extractor.crop != "sliding":
                starts = range(0, length - extractor.seq_len + 1, extractor.seq_len)
                inputs["input_values"] = torch.as_tensor(extractor.finish(extractor.prepare(record), crop_start=starts))
        except (ValueError, OSError):
            rows.append(None)
            continue
        values = inputs["input_values"]
        with torch.no_grad():
            out = encoder(**{**inputs, "input_values": values.flatten(0, 1) if values.ndim == 4 else values})
        rows.append(out.pooler_output.numpy().mean(axis=0))
    width = next(len(row) for row in rows if row is not None)
    return np.stack([np.full(width, np.nan, np.float32) if row is None else row for row in rows])


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Of the largest absolute value; infinite where other rows are missing."""
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    kept = ~np.isnan(expected).any(axis=1)
    return float(np.abs(found[kept] - expected[kept]).max() / np.abs(expected[kept]).max())


def check(name: str, files: list[Path], size: str) -> bool:
    """All runs of a checkpoint; prints the largest difference."""
    import ecg_transformers as ecg
    from tests.support.released_files import bring

    bring(name, size)
    began = time.process_time()
    expected = by_hand(name, files)
    worst, reports = 0.0, set()
    for batch_size, num_proc in RUNS[size]:
        found = ecg.embed(files, name, batch_size=batch_size, num_proc=num_proc, on_error="skip", device="cpu")
        worst = max(worst, difference(found, expected))
        skipped = tuple(item["index"] for item in ecg.embed.last_report.skipped)
        reports.add(skipped)
    refused = tuple(np.flatnonzero(np.isnan(expected).any(axis=1)).tolist())
    good = worst <= TOLERANCE and reports == {refused}
    windows = max(ecg.embed.last_report.windows)
    print(
        f"{'pass' if good else 'FAIL'}  {name} ({size}): {len(files)} records, {len(refused)} skipped, up to {windows} "
        f"windows, {len(RUNS[size])} runs, width {expected.shape[1]}: largest difference {worst:.1e} "
        f"({time.process_time() - began:.0f} s CPU)",
        flush=True,
    )
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--size", choices=list(RUNS), default="tiny")
    parser.add_argument("--only", help="one checkpoint")
    options = parser.parse_args()
    if "ECG_DATA_DIR" not in os.environ:
        print("skipped: no real records; point ECG_DATA_DIR to them.")
        return 0
    warnings.simplefilter("ignore")
    import torch
    from transformers.utils import logging

    import ecg_transformers as ecg

    logging.disable_progress_bar()
    torch.set_num_threads(1)
    files, results = real_records(options.records), []
    for name in [options.only] if options.only else ecg.list_checkpoints():
        with tempfile.TemporaryDirectory() as cache:  # one file at a time: released ones are large
            os.environ["ECG_CACHE_DIR"] = cache
            results.append(check(name, files, options.size))
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{sum(results)} of {len(results)} checkpoints passed; {peak:.1f} GiB at most")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
