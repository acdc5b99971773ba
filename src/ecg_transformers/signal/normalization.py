"""Standardisation of signals with time on the last axis: `(…, L, T)`."""

from collections.abc import Sequence

import numpy as np

from ecg_transformers.signal.quality import flat_leads


def standardize(signal: np.ndarray, mode: str = "joint", eps: float = 0.0) -> np.ndarray:
    """`(signal - mean) / (std + eps)` with the population standard deviation (ddof 0).

    "joint" takes one mean and one deviation over leads and time together, as ST-MEM does; "per_lead" one pair for each
    lead. A deviation of exactly zero gives zeros, not NaN.

    Raises:
        ValueError: an unknown mode.
    """
    if mode not in ("joint", "per_lead"):
        raise ValueError(f'standardisation is "joint" or "per_lead", got {mode!r}.')
    rows = signal.reshape(-1, signal.shape[-1] * (signal.shape[-2] if mode == "joint" else 1))
    mean = rows.mean(axis=1, keepdims=True)
    deviation = rows.std(axis=1, keepdims=True)
    flat = (deviation == 0) | flat_leads(rows)[:, None]  # the rounded mean of a constant may differ from it
    result = (rows - mean) / np.where(flat, 1.0, deviation + eps)
    if flat.any():
        result[flat[:, 0]] = 0
    return result.reshape(signal.shape)


def standardize_fixed(signal: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """`(signal - mean) / std` with given statistics, one pair for each lead (or one for all); float32 stays float32.

    Raises:
        ValueError: a number of statistics that is not the number of leads, or a deviation that is not positive.
    """
    means, deviations = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (mean, std))
    for name, values in (("mean", means), ("std", deviations)):
        if values.size not in (1, signal.shape[-2]):
            raise ValueError(f"{name} holds {values.size} values for {signal.shape[-2]} leads: give one for each lead.")
    if not (deviations > 0).all():
        raise ValueError("every std of a fixed normalisation must be positive.")
    return (signal - means.astype(signal.dtype)[:, None]) / deviations.astype(signal.dtype)[:, None]


def min_max(
    signal: np.ndarray, scope: str = "joint", low: float = 0.0, high: float = 1.0, eps: float = 0.0
) -> np.ndarray:
    """`low + (high - low) · (signal - min) / (max - min + eps)`; what is flat becomes `low`.

    "joint" takes one least and one greatest value over leads and time together, "per_lead" one pair for each lead.

    Raises:
        ValueError: an unknown scope.
    """
    if scope not in ("joint", "per_lead"):
        raise ValueError(f'the scope of a min-max scaling is "joint" or "per_lead", got {scope!r}.')
    axes = (-2, -1) if scope == "joint" else (-1,)
    least, greatest = signal.min(axis=axes, keepdims=True), signal.max(axis=axes, keepdims=True)
    distance = greatest - least
    unit = (signal - least) / np.where(distance == 0, 1.0, distance + eps).astype(signal.dtype)
    return np.asarray(unit * signal.dtype.type(high - low) + signal.dtype.type(low))
