"""Runs the signal steps on groups of signals of equal shape; neighbouring filters may be merged into a fast form."""

from collections.abc import Sequence

import numpy as np

from ecg_transformers.features.steps.base import SignalStep, Step
from ecg_transformers.features.steps.signal import Filter
from ecg_transformers.signal import filtering, quality


def run_signal_steps(steps: Sequence[Step], signal: np.ndarray, rate: float, fast: bool = False) -> np.ndarray:
    """The signal steps on signals `(…, L, T)` that come in at `rate` Hz; `fast` merges neighbouring filters."""
    position = 0
    while position < len(steps):
        chain = filter_chain(steps, position) if fast else ()
        if len(chain) and fast_form_fits(signal.shape[-1]):
            fast_form = filtering.fast_filter(chain, signal.shape[-1], float(rate))
            signal = quality.keep_flat(signal, fast_form(signal), all(kind == "lowpass" for kind, _, _ in chain))
            position += len(chain)
            continue
        step = steps[position]
        assert isinstance(step, SignalStep)
        signal = step.apply(signal, rate)
        rate = step.rate_after(rate)
        position += 1
    return signal


def filter_chain(steps: Sequence[Step], position: int) -> tuple[filtering.FilterSpec, ...]:
    """The filters that follow one another from `position` on."""
    chain: list[filtering.FilterSpec] = []
    while position < len(steps):
        step = steps[position]
        if not isinstance(step, Filter):
            break
        chain.append((step.kind, float(step.cutoff), int(step.order)))
        position += 1
    return tuple(chain)


def fast_form_fits(length: int) -> bool:
    """Whether the filters have a fast form for a length: short signals are all ends, very long ones lose digits."""
    return 100 <= length <= 20_000
