"""Stored integers to millivolt and back: `millivolt = (digital - offset) / gain`, one gain and offset a lead."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from ecg_transformers.data.errors import SignalError

INVALID = np.int16(-32768)
"""The digital value that means "no value" in a row, as in WFDB format 16."""

_BLOCK = 64
_CHUNK = 2**18


def to_millivolt(samples: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Digital samples `(T, L)` to float32 millivolt: `(digital - offset) / gain`, the lowest number becomes NaN.

    Bit-equal to computing in float64 and rounding at the end, as wfdb does. When gain and offset are exact in float32,
    subtracting and dividing in float32 already gives that result (a correctly rounded quotient survives the double
    rounding); other gains take the float64 way. Multiplying by 1/gain would not be exact.
    """
    gain, offset = np.asarray(gain, dtype=np.float64), np.asarray(offset, dtype=np.float64)
    if samples.dtype != np.int16:
        return _wide_to_millivolt(samples, gain, offset)
    exact = _exact_in_float32(tuple(set(gain.tolist())), tuple(set(offset.tolist())))
    rows = _CHUNK // max(1, samples.shape[1])
    if exact or len(samples) <= rows:
        return _narrow_to_millivolt(samples, gain, offset, exact)
    signal = np.empty(samples.shape, dtype=np.float32)
    for start in range(0, len(samples), rows):  # float64 of what fits into a cache, never of a whole day
        signal[start : start + rows] = _narrow_to_millivolt(samples[start : start + rows], gain, offset, exact)
    return signal


def quantize(
    signal: np.ndarray, lead_names: Sequence[str], record_id: str = ""
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Millivolt `(T, L)` to int16 samples, gain and offset per lead; NaN becomes -32768, Inf is an error.

    The gain of a lead is the largest power of two that fits its range into 16 bits, so the error is at most half a
    digital unit, 1/64000 of the range (2**24 units per millivolt at most).
    """
    signal = np.asarray(signal, dtype=np.float64)
    infinite = np.isinf(signal).any(axis=0)
    if infinite.any():
        lead = lead_names[int(np.argmax(infinite))]
        raise SignalError("the signal holds infinite values; repair or remove them.", record=record_id, lead=lead)
    missing = np.isnan(signal)
    values = np.where(missing, 0.0, signal)
    low = np.where(missing, np.inf, signal).min(axis=0, initial=np.inf)
    high = np.where(missing, -np.inf, signal).max(axis=0, initial=-np.inf)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    half_range = np.maximum((high - low) / 2, np.maximum(np.abs(low), np.abs(high)) * 2.0**-20)
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log2(32000.0 / half_range))
    gain = np.exp2(np.clip(exponent, -100, 24))
    offset = -np.rint((high + low) / 2 * gain)
    samples = np.rint(values * gain + offset)
    samples = np.clip(samples, -32767, 32767).astype(np.int16)
    samples[missing] = INVALID
    return samples, gain, offset


def _narrow_to_millivolt(samples: np.ndarray, gain: np.ndarray, offset: np.ndarray, exact: bool) -> np.ndarray:
    gains, offsets = set(gain.tolist()), set(offset.tolist())
    dtype = np.float32 if exact else np.float64
    signal: Any = samples.astype(dtype)
    if offsets != {0.0}:
        _by_lead(np.subtract, signal, offset.astype(dtype))
    if len(gains) == 1:
        signal /= dtype(gains.pop())
    else:
        _by_lead(np.divide, signal, gain.astype(dtype))
    if samples.size and np.minimum.reduce(samples, axis=None) == INVALID:
        signal[samples == INVALID] = np.nan
    return signal if exact else signal.astype(np.float32)


def _wide_to_millivolt(samples: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    signal = np.empty(samples.shape, dtype=np.float32)
    gain, offset = (np.broadcast_to(values, samples.shape[1:]) for values in (gain, offset))
    for lead in range(samples.shape[1]):  # one lead in float64 at a time: a day of BDF is large
        signal[:, lead] = (samples[:, lead] - offset[lead]) / gain[lead]
    signal[samples == np.iinfo(samples.dtype).min] = np.nan
    return signal


@lru_cache(maxsize=1024)
def _exact_in_float32(gains: tuple[float, ...], offsets: tuple[float, ...]) -> bool:
    return all(float(np.float32(g)) == g for g in gains) and all(abs(o) < 2**23 and o == int(o) for o in offsets)


def _by_lead(operation: np.ufunc, signal: np.ndarray, values: np.ndarray) -> None:
    """`signal (T, L) = operation(signal, values (L,))` in place, with long inner loops.

    numpy's inner loop over a handful of leads costs more than the arithmetic: equal values are used as one number,
    others are repeated over a block of samples.
    """
    if np.all(values == values.flat[0]):
        operation(signal, values.flat[0], out=signal)
        return
    length, leads = signal.shape
    block = min(length, _BLOCK)
    whole = length // block * block
    folded = signal[:whole].reshape(whole // block, block * leads)
    operation(folded, np.tile(values, block), out=folded)
    operation(signal[whole:], values, out=signal[whole:])
