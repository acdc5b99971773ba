"""How every bench measures: forms side by side in one process, in rotating order, CPU time, median.

Only ratios within one run mean anything on a shared machine, and differences under about a tenth mean nothing.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Form = Callable[[], Any]
Row = dict[str, Any]
GEMM_SIZE = 1024


def rotate(forms: Mapping[str, Form], repeats: int = 7) -> dict[str, float]:
    """Median CPU seconds of each form.

    Every form runs once before anything counts (caches filled, pages touched), and every repetition begins with another
    form, so that none always runs cold or hot.
    """
    names = list(forms)
    for form in forms.values():
        form()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repetition in range(repeats):
        for offset in range(len(names)):
            name = names[(repetition + offset) % len(names)]
            started = time.process_time()
            forms[name]()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def row(name: str, seconds: Mapping[str, float], slow: str, fast: str, goal: float | None) -> Row:
    """One row of the table: how many times faster `fast` is than `slow`; no goal where the row is for information."""
    return {"name": name, "forms": dict(seconds), "ratio": seconds[slow] / seconds[fast], "goal": goal}


def gemm() -> Form:
    """A float32 matrix product of 1024 x 1024 x 1024: the machine's matmul rate, to be rotated among the forms."""
    import torch

    left, right = torch.randn(2, GEMM_SIZE, GEMM_SIZE)
    return lambda: left @ right


def share_of_peak(flops: float, seconds: float, gemm_seconds: float) -> float:
    """Share of the matmul rate that a form reached; figures above 1 show the error of the measurement."""
    return flops / seconds / (2.0 * GEMM_SIZE**3 / gemm_seconds)
