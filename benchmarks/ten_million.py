"""What ten million records cost: measured figures of one core, and what follows from them.

    python benchmarks/ten_million.py           # the tables; a few minutes of CPU, one thread
    python benchmarks/ten_million.py --page    # as the page docs/ten_million_records.md

Records are like those of a hospital archive: 12 leads, 10 s, 500 Hz, WFDB format 16. Nothing here needs a network.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports a BLAS

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import wfdb
from bench_data import write_record
from run import machine, markdown
from timing import rotate
from torch.utils.flop_counter import FlopCounterMode

from ecg_transformers.data.loading import load_ecg_dataset
from ecg_transformers.data.readers.reading import read_record
from ecg_transformers.data.rows import RecordTable
from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.models.st_mem.configuration_st_mem import STMEMConfig
from ecg_transformers.models.st_mem.modeling_st_mem import STMEMForPreTraining
from ecg_transformers.signal.leads import STANDARD_LEADS

RECORDS = 10_000_000
RATE, SECONDS, LEADS = 500, 10, 12
SUSTAINED = 400e12  # assumed, bfloat16 FLOP/s of a GPU
DISK = 1e9  # assumed, bytes/s
LINK = 50e9  # assumed, bytes/s to and from a GPU
LOCAL_BATCH = 256  # assumed, records a GPU and step

HEAD = f"""# Ten million records

What it costs to build, to store and to stream {RECORDS:,} records (12 leads, {SECONDS} s, {RATE} Hz) to one GPU and to 64.
Printed by `python benchmarks/ten_million.py --page`: run it on your machine for your figures. What was measured, what is
assumed and what was calculated from them stand in tables of their own.
"""
TAIL = """
## What limits

- **Build**: once, on the cores of any machines. It is bound by reading and writing, not by arithmetic: `--num_proc` on one
  machine, `--shard i/n` or an engine on many, the same bytes in the end.
- **Storage**: int16 as the cart wrote it. Crops are drawn at random and filters see the crop only, so filtered signals
  cannot be stored without changing the method.
- **One GPU**: the extractor. With the exact filters a GPU waits for the cores of the table, with the fast form (`fast=True`,
  whose error `make bench` prints) for fewer. Training with `--preprocessing_overrides fast=true` on an accelerator sends
  it int16 with a scale for each lead and leaves scaling, resampling, filters and normalisation to it; cores then only check
  and stack records (all of it where a recipe augments). What that takes of a GPU was not measured.
- **64 GPUs**: the stored rows. The traffic of the table is that of all GPUs together; a shard is read by one node only, so
  that each node can also hold its part of the corpus on its own disk.
- **Gradients** are hidden behind the backward pass as long as a step takes longer than their exchange.

Not a medical device; nothing on this page says how good a model will be.
"""


@dataclass(frozen=True)
class Measured:
    """Records per second of one core, and what a record takes; all of it measured in this process."""

    read: float
    read_wfdb: float
    build: float
    rows: float
    exact: float
    fast: float
    stored_bytes: float
    step_flops: float
    parameters: int


def measure(records: int = 128, repeats: int = 3) -> Measured:
    """The figures of this machine, one thread, CPU time, medians."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        source, cache = Path(scratch, "records"), Path(scratch, "cache")
        source.mkdir()
        headers = [write_record(source, f"r{number}", number, RATE, SECONDS) for number in range(records)]
        builds = iter(range(1000))

        def build() -> RecordTable:
            parts = load_ecg_dataset("folder", source, cache_dir=cache / str(next(builds)), split="train")
            return RecordTable(parts)

        table = build()
        stored = sum(file.stat().st_size for file in (cache / "0").rglob("*.arrow")) / records
        signals = [with_limb_leads(table.signal(number)) for number in range(32)]
        leads = {"lead_names": list(STANDARD_LEADS), "sampling_rate": RATE}
        order = np.random.default_rng(0).permutation(len(table)).tolist()
        exact, fast = ECGFeatureExtractor.for_method("st_mem"), ECGFeatureExtractor.for_method("st_mem", fast=True)
        seconds = rotate(
            {
                "read": lambda: [read_record(str(path)) for path in headers],
                "read_wfdb": lambda: [wfdb.rdrecord(str(path.with_suffix(""))) for path in headers[:16]],
                "build": build,
                "rows": lambda: [table.signal(number) for number in order],
                "exact": lambda: exact(signals, **leads),
                "fast": lambda: fast(signals, **leads),
            },
            repeats,
        )
    count = {"read": records, "read_wfdb": 16, "build": records, "rows": records, "exact": 32, "fast": 32}
    speed = {name: count[name] / value for name, value in seconds.items()}
    return Measured(**speed, stored_bytes=stored, **step())


def with_limb_leads(signal: np.ndarray) -> np.ndarray:
    """The same record `(T, 12)` with III, aVR, aVL and aVF that follow from I and II, as in any real one."""
    first, second = signal[:, 0], signal[:, 1]
    limbs = [second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    return np.column_stack([first, second, *limbs, signal[:, 6:]])


def step() -> dict[str, float]:
    """Operations of one record's part of a training step of ST-MEM ViT-B, as torch counts them, and its parameters."""
    model = STMEMForPreTraining(STMEMConfig())
    inputs = torch.randn(1, LEADS, model.config.seq_len)
    with FlopCounterMode(display=False) as counter:
        model(input_values=inputs).loss.backward()
    return {"step_flops": float(counter.get_total_flops()), "parameters": model.num_parameters()}


Table = list[tuple[str, ...]]


def tables(found: Measured) -> list[tuple[str, Table]]:
    """Title and rows: measured, extrapolated from that alone, assumed, calculated from all."""
    return [
        ("Measured: one core", measured_table(found)),
        (f"Extrapolated to {RECORDS:,} records: the measured figures, times the number", extrapolated_table(found)),
        ("Assumed, not measured here", assumed_table()),
        ("Calculated from the measured and the assumed figures: ST-MEM ViT-B", gpu_table(found)),
    ]


def measured_table(found: Measured) -> Table:
    speed = [
        ("`read_record`, checksums verified", found.read),
        ("`wfdb.rdrecord`, the same files", found.read_wfdb),
        ("build: plan, read, verify, write Arrow", found.build),
        ("stored rows in random order, to float32 millivolts", found.rows),
        ("extractor of ST-MEM, exact filters, batches of 32", found.exact),
        ("extractor of ST-MEM, `fast=True`, batches of 32", found.fast),
    ]
    return [
        ("what", "figure"),
        *((name, f"{figure(value)} records/s") for name, value in speed),
        ("a stored record", f"{found.stored_bytes / 1e3:.1f} kB"),
        ("training step of ST-MEM ViT-B, operations a record", f"{found.step_flops / 1e9:.0f} GFLOP"),
    ]


def extrapolated_table(found: Measured) -> Table:
    hours = [
        ("read with `read_record`", found.read),
        ("read with `wfdb.rdrecord`", found.read_wfdb),
        ("build", found.build),
        ("one pass over the stored rows", found.rows),
        ("one pass of the extractor, exact filters", found.exact),
        ("one pass of the extractor, `fast=True`", found.fast),
    ]
    return [
        ("what", "cost"),
        ("storage", f"{RECORDS * found.stored_bytes / 1e12:.2f} TB"),
        *((name, f"{figure(RECORDS / value / 3600)} core-hours") for name, value in hours),
    ]


def assumed_table() -> Table:
    return [
        ("what", "value"),
        ("sustained by a GPU, bfloat16", f"{SUSTAINED / 1e12:.0f} TFLOP/s"),
        ("a disk", f"{DISK / 1e9:.0f} GB/s"),
        ("gradients, to and from a GPU", f"{LINK / 1e9:.0f} GB/s"),
        ("records a GPU and step", f"{LOCAL_BATCH}"),
    ]


def gpu_table(found: Measured) -> Table:
    one = SUSTAINED / found.step_flops
    exchange = 2 * 4 * found.parameters / LINK  # ring all-reduce of float32 gradients: twice their size a GPU

    def both(of: Callable[[float], str]) -> tuple[str, str]:
        return of(one), of(64 * one)

    return [
        ("what", "1 GPU", "64 GPUs"),
        ("records/s", *both(figure)),
        ("one pass over the corpus", *both(lambda rate: duration(RECORDS / rate))),
        ("100 passes", *both(lambda rate: duration(100 * RECORDS / rate))),
        ("stored rows to read", *both(lambda rate: f"{figure(rate * found.stored_bytes / 1e9)} GB/s")),
        ("disks for that", *both(lambda rate: f"{np.ceil(rate * found.stored_bytes / DISK):.0f}")),
        ("cores for the exact filters", *both(lambda rate: f"{np.ceil(rate / found.exact):,.0f}")),
        ("cores for `fast=True`", *both(lambda rate: f"{np.ceil(rate / found.fast):,.0f}")),
        ("a step", *both(lambda _: f"{1e3 * LOCAL_BATCH / one:.0f} ms")),
        ("exchange of the gradients, float32", "none", f"{1e3 * exchange:.0f} ms"),
    ]


def figure(value: float) -> str:
    """Two significant digits, thousands apart: the measurement allows no more."""
    return f"{float(f'{value:.2g}'):,.15g}"


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days, whichever reads best."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{figure(seconds / size)} {unit}"
    return f"{figure(seconds)} s"


def text(found: Measured, page: bool) -> str:
    lines = [HEAD] if page else []
    for title, rows in tables(found):
        lines += [f"## {title}" if page else title, "", *markdown(rows), ""]
        if rows[0] == ("what", "figure"):
            lines += [machine(), ""]
    return "\n".join([*lines, TAIL.strip("\n")] if page else lines).rstrip("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", action="store_true", help="as the page docs/ten_million_records.md")
    parser.add_argument("--records", type=int, default=128, help="records that are written and read (default 128)")
    options = parser.parse_args(arguments)
    print(text(measure(options.records), options.page))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
