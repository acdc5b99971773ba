"""Embeddings per second of every published network at its released size, with random weights.

python benchmarks/bench_embeddings.py          # one thread; some minutes of CPU

A record is ten seconds as the authors feed it, its windows in one forward pass, preprocessing not counted. The share is
that of the matmul rate, from the operations that torch counts (products and convolutions). An encoder whose attention has
several forms has a row that compares the one it takes with torch's own.
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
FORM_OF_ATTENTION = "cross_pattern_implementation"  # a field of configs whose attention has several forms


def rows(names: Sequence[str] | None = None, repeats: int = 3, **config: Any) -> list[Row]:
    """One dictionary a network: `name`, `forms` (embeddings per second), `ratio` (share of the matmul rate); no goals."""
    torch.set_num_threads(1)
    chosen = [CHECKPOINTS[name] for name in names or distinct_networks()]
    table = [measure(row, repeats, config) for row in chosen]
    several = [row for row in chosen if hasattr(get_method(row.method).config_class, FORM_OF_ATTENTION)]
    return table + [forms_of_attention(row, repeats, config) for row in several]


def distinct_networks() -> list[str]:
    """The checkpoints of the table, one of those that are the same network fed in the same way."""
    seen: dict[str, str] = {}
    for row in CHECKPOINTS.values():
        sizes = {key: value for key, value in row.released_config.items() if key != "problem_type"}
        seen.setdefault(repr((row.method, sizes, dict(row.preprocessing))), row.name)
    return list(seen.values())


def measure(row: Checkpoint, repeats: int, config: dict[str, Any]) -> Row:
    """Forward passes of one record beside a matrix product; `config` changes fields of the released network."""
    model, inputs = network(row, config), record(row)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(inputs)
    seconds = rotate({"forward": forward(model, inputs), "gemm": gemm()}, repeats)
    share = share_of_peak(counter.get_total_flops(), seconds["forward"], seconds["gemm"])
    millions = model.num_parameters() / 1e6
    name = f"embeddings of {row.name} ({millions:.0f} M parameters): share of GEMM peak"
    return {"name": name, "forms": {"records per second": 1 / seconds["forward"]}, "ratio": share, "goal": None}


def forms_of_attention(row: Checkpoint, repeats: int, config: dict[str, Any]) -> Row:
    """The same encoder with torch's masked attention, beside the form that it takes by itself."""
    inputs = record(row)
    forms = {form: forward(network(row, {**config, FORM_OF_ATTENTION: form}), inputs) for form in ("sdpa", "auto")}
    seconds = rotate(forms, repeats)
    name = f"embeddings of {row.name}: its own attention over torch's"
    return {"name": name, "forms": {f"{form}, records per second": 1 / value for form, value in seconds.items()}} | {
        "ratio": seconds["sdpa"] / seconds["auto"],
        "goal": None,
    }


def network(row: Checkpoint, config: dict[str, Any]) -> Any:
    """The released network with random weights; `config` changes its fields."""
    torch.manual_seed(0)
    method = get_method(row.method)
    model = method.model_classes["base"](method.config_class(**{**row.released_config, **config}))
    return model.eval().requires_grad_(False)


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
        figures = ", ".join(f"{name} {value:.2f}" for name, value in line["forms"].items())
        print(f"{line['name']}: {line['ratio']:.2f} ({figures})")
