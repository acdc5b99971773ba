"""Embeddings per second of every published network at its released size, with random weights.

python benchmarks/bench_embeddings.py          # one thread; some minutes of CPU

A record is ten seconds as the authors feed it, its windows in one forward pass, preprocessing not counted. The share is
that of the matmul rate, from the operations that torch counts (products and convolutions).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from timing import Form, Row, gemm, rotate, share_of_peak
from torch.utils.flop_counter import FlopCounterMode

from ecg_transformers.hub.official.cache import published_extractor
from ecg_transformers.models.checkpoints import CHECKPOINTS, Checkpoint
from ecg_transformers.models.registry import get_method

SECONDS = 10.0


def rows(names: Sequence[str] | None = None, repeats: int = 3, **config: Any) -> list[Row]:
    """One dictionary a network: `name`, `forms` (embeddings per second), `ratio` (share of the matmul rate); no goals."""
    torch.set_num_threads(1)
    return [measure(CHECKPOINTS[name], repeats, config) for name in names or distinct_networks()]


def distinct_networks() -> list[str]:
    """The checkpoints of the table, one of those that are the same network fed in the same way."""
    seen: dict[str, str] = {}
    for row in CHECKPOINTS.values():
        sizes = {key: value for key, value in row.released_config.items() if key != "problem_type"}
        seen.setdefault(repr((row.method, sizes, dict(row.preprocessing))), row.name)
    return list(seen.values())


def measure(row: Checkpoint, repeats: int, config: dict[str, Any]) -> Row:
    """Forward passes of one record, the ways of its attention side by side where it has several."""
    torch.manual_seed(0)
    method = get_method(row.method)
    model = (
        method.model_classes["base"](method.config_class(**{**row.released_config, **config}))
        .eval()
        .requires_grad_(False)
    )
    inputs = record(row)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(inputs)
    seconds = rotate({"forward": forward(model, inputs), "gemm": gemm()}, repeats)
    share = share_of_peak(counter.get_total_flops(), seconds["forward"], seconds["gemm"])
    millions = model.num_parameters() / 1e6
    name = f"embeddings of {row.name} ({millions:.0f} M parameters): share of GEMM peak"
    return {"name": name, "forms": {"records per second": 1 / seconds["forward"]}, "ratio": share, "goal": None}


def record(row: Checkpoint) -> torch.Tensor:
    """The windows of one record `(k, L, T)`."""
    extractor = published_extractor(row)
    rate = 500
    signal = np.random.default_rng(0).standard_normal((int(SECONDS * rate), len(extractor.lead_names)))
    values = extractor(signal, sampling_rate=rate, lead_names=extractor.lead_names, return_tensors="pt")["input_values"]
    return values.flatten(0, 1) if values.ndim == 4 else values


def forward(model: Any, inputs: torch.Tensor) -> Form:
    @torch.inference_mode()
    def run() -> None:
        model(inputs)

    return run


if __name__ == "__main__":
    for line in rows():
        print(f"{line['name']}: {line['ratio']:.2f}, {line['forms']['records per second']:.2f} records per second")
