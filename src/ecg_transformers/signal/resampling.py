"""Change of the sampling rate: the Fourier method, a polyphase filter, a windowed sinc, or straight lines."""

import math
from fractions import Fraction
from typing import Literal, get_args

import numpy as np
import scipy.fft

from ecg_transformers.signal.sinc_resampling import sinc_resample

ResampleMethod = Literal["fourier", "polyphase", "linear", "resampy"]

RESAMPLE_METHODS = get_args(ResampleMethod)
MIN_RATE, MAX_RATE = 1.0, 100_000.0
MAX_FACTOR = 100.0
_ROWS_PER_BLOCK = 96


def check_rate(rate: float, name: str = "sampling_rate") -> float:
    """`rate` as a float.

    Raises:
        ValueError: it is no number between 1 and 100,000 Hz.
    """
    try:
        value = float(rate)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number in Hz, got {rate!r}.") from None
    if not math.isfinite(value) or not MIN_RATE <= value <= MAX_RATE:
        raise ValueError(f"{name} must lie between {MIN_RATE:g} and {MAX_RATE:g} Hz, got {value:g}.")
    return value


def resampled_length(length: int, from_rate: float, to_rate: float, rounding: str = "truncate") -> int:
    """Samples after resampling, by one of three published rules: "truncate" `int(length · to_rate / from_rate)`,
    "round" the nearest whole number (half to even), "ratio_first" `int(to_rate / from_rate · length)`, which may give
    one sample less.

    Raises:
        ValueError: another rule, an absurd rate, or a factor over 100.
    """
    source, target = check_rate(from_rate, "from_rate"), check_rate(to_rate, "to_rate")
    if max(source / target, target / source) > MAX_FACTOR:
        raise ValueError(f"resampling from {source:g} to {target:g} Hz changes the rate by more than {MAX_FACTOR:g}.")
    if rounding == "truncate":
        return int(length * to_rate / from_rate)
    if rounding == "round":
        return round(length * to_rate / from_rate)
    if rounding == "ratio_first":
        return int(to_rate / from_rate * length)
    raise ValueError(f'rounding must be "truncate", "round" or "ratio_first", got {rounding!r}.')


def resample(
    signal: np.ndarray,
    from_rate: float,
    to_rate: float,
    method: str = "fourier",
    axis: int = 0,
    rounding: str = "truncate",
) -> np.ndarray:
    """`signal` at another rate, time on `axis` (0: a record `(T, L)`), `resampled_length(…)` samples long.

    "fourier" cuts or zero-pads the spectrum (a brick wall at the lower Nyquist frequency;
    `scipy.signal.resample` without a window, to rounding), "polyphase" filters with a Kaiser window
    (`scipy.signal.resample_poly`): a little slower, without the ringing at the ends; "linear" draws straight lines
    (see `linear_resample`), "resampy" filters with that package's windowed sinc (see `sinc_resample`). float32 stays
    float32, other dtypes become float64. Equal rates give the signal back unchanged.

    Raises:
        ValueError: an absurd rate, a factor over 100, an unknown method, or nothing left.

    >>> resample(np.zeros((5000, 12)), 500, 250).shape
    (2500, 12)
    """
    source, target = check_rate(from_rate, "from_rate"), check_rate(to_rate, "to_rate")
    if method not in RESAMPLE_METHODS:
        raise ValueError(f"resample method must be one of {', '.join(RESAMPLE_METHODS)}, got {method!r}.")
    if source == target:
        return signal
    length = resampled_length(signal.shape[axis], source, target, rounding)
    if length < 1:
        raise ValueError(f"{signal.shape[axis]} samples at {source:g} Hz leave none at {target:g} Hz.")
    if signal.dtype != np.float32:
        signal = signal.astype(np.float64, copy=False)
    if method == "fourier":
        return fourier_resample(signal, length, axis)
    if method == "linear":
        return linear_resample(signal, length, axis)
    if method == "resampy":
        return sinc_resample(signal, source, target, length, axis)
    return _polyphase(signal, source, target, length, axis)


def fourier_resample(signal: np.ndarray, length: int, axis: int = 0) -> np.ndarray:
    """`signal` with `length` samples along `axis`, by cutting or zero-padding its spectrum; the real dtype is kept."""
    old = signal.shape[axis]
    if length == old:
        return signal
    moved = np.moveaxis(signal, axis, -1)
    rows = np.ascontiguousarray(moved).reshape(-1, old)
    result = np.empty((len(rows), length), dtype=signal.dtype)
    shortest = min(old, length)
    kept, scale = shortest // 2 + 1, signal.dtype.type(length / old)
    # One padded spectrum is used again for every block of rows: large temporaries cost more than the transforms.
    spectrum = np.zeros((min(_ROWS_PER_BLOCK, len(rows)), length // 2 + 1), np.result_type(signal.dtype, np.complex64))
    for start in range(0, len(rows), _ROWS_PER_BLOCK):
        block = rows[start : start + _ROWS_PER_BLOCK]
        padded = spectrum[: len(block)]
        source = scipy.fft.rfft(block, axis=-1)[:, :kept]
        np.multiply(source.view(signal.dtype), scale, out=padded.view(signal.dtype)[:, : 2 * kept])
        if shortest % 2 == 0:
            # The bin at the shorter signal's Nyquist frequency stands for two bins of the longer one.
            padded[:, shortest // 2] *= 2.0 if length < old else 0.5
        np.fft.irfft(padded, n=length, axis=-1, out=result[start : start + len(block)])
    shaped = result.reshape((*moved.shape[:-1], length))
    return shaped if axis in (-1, signal.ndim - 1) else np.ascontiguousarray(np.moveaxis(shaped, -1, axis))


def linear_resample(signal: np.ndarray, length: int, axis: int = 0) -> np.ndarray:
    """`signal` with `length` samples along `axis`, by straight lines, first and last sample kept.

    New sample j lies at the old position `j · (T - 1) / (length - 1)`. Both ends being kept, the time axis is stretched
    a little against true resampling; nothing is filtered first, so a lower rate aliases.
    """
    old = signal.shape[axis]
    if length == old:
        return signal
    position = np.linspace(0.0, old - 1, length)
    left = np.minimum(position.astype(np.int64), max(old - 2, 0))
    weight = (position - left).astype(signal.dtype)
    moved = np.moveaxis(signal, axis, -1)
    start = moved[..., left]
    result = start + (moved[..., np.minimum(left + 1, old - 1)] - start) * weight
    return np.ascontiguousarray(np.moveaxis(result, -1, axis))


def _polyphase(signal: np.ndarray, source: float, target: float, length: int, axis: int) -> np.ndarray:
    from scipy.signal import resample_poly

    ratio = Fraction(target / source).limit_denominator(10_000)
    # The ends are continued by a line: zeros would pull a signal with an offset to zero there.
    result = resample_poly(signal, ratio.numerator, ratio.denominator, axis=axis, padtype="line")
    trimmed: list[slice] = [slice(None)] * signal.ndim
    trimmed[axis] = slice(0, length)
    result = result[tuple(trimmed)]
    if result.shape[axis] < length:  # a rounded ratio may miss the last sample
        widths = [(0, 0)] * signal.ndim
        widths[axis] = (0, length - result.shape[axis])
        result = np.pad(result, widths, mode="edge")
    return result.astype(signal.dtype, copy=False)
