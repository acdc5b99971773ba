"""Lower rates by keeping every k-th sample, after a low-pass over the joined leads or without any."""

import numpy as np


def decimate_flattened(signal: np.ndarray, factor: int) -> np.ndarray:
    """`signal (…, L, T)` joined lead by lead to one series of L·T samples, low-passed and decimated: `(…, L, T / factor)`.

    Chebyshev filter of type I, order 8, ripple 0.05 dB, at 0.8 of the new Nyquist frequency, forward and backward
    (scipy's `decimate`). As in HuBERT-ECG's code the filter runs over the seams, so leads mix there: about ten new
    samples on each side differ from those of a lead that is decimated alone.

    Raises:
        ValueError: a number of samples that is no multiple of the factor.
    """
    from scipy.signal import decimate

    if factor < 1 or signal.shape[-1] % factor:
        raise ValueError(
            f"{signal.shape[-1]} samples of a lead cannot be decimated by {factor}: it does not divide them."
        )
    if factor == 1:
        return signal
    flat = signal.reshape(*signal.shape[:-2], -1).astype(np.float64, copy=False)
    return np.asarray(decimate(flat, factor, axis=-1)).reshape(*signal.shape[:-1], signal.shape[-1] // factor)


def keep_every(signal: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th sample on the last axis, the first one kept; nothing is filtered, so what is above the new Nyquist
    frequency aliases (DeepECG-SSL's files come about so).

    Raises:
        ValueError: a step below 1.
    """
    if step < 1:
        raise ValueError(f"every {step}-th sample cannot be kept: the step is a positive whole number.")
    return signal[..., ::step]
