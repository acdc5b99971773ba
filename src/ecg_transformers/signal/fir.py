"""A zero-phase FIR band-pass whose length is given in seconds."""

import numpy as np


def fir_band_pass(
    signal: np.ndarray, low: float, high: float, sampling_rate: float, taps_s: float = 0.3, axis: int = 0
) -> np.ndarray:
    """`signal` filtered forward and backward by a window-method FIR band-pass (Hamming), float64.

    The filter has `int(taps_s · rate)` taps, one more where that is even, and unit gain in the middle of the band. Its
    resolution is about `1 / taps_s` Hz: a lower edge below that removes hardly any baseline wander (HuBERT-ECG's
    0.05 Hz passes 0.96 of a constant). The odd extension has three times as many samples as the filter has taps
    (scipy's `firwin` and `filtfilt`).

    Raises:
        ValueError: limits out of range, or a signal that is no longer than the extension.
    """
    from scipy.signal import filtfilt, firwin

    if not 0 < low < high < sampling_rate / 2:
        raise ValueError(
            f"a band-pass needs 0 < low < high < {sampling_rate / 2:g} Hz, half the rate: got {low:g} and {high:g}."
        )
    taps = int(taps_s * sampling_rate)
    taps += 1 - taps % 2
    if signal.shape[axis] <= 3 * taps:
        raise ValueError(
            f"a band-pass of {taps} taps needs more than {3 * taps} samples, {3 * taps / sampling_rate:.2g} s; "
            f"the record has {signal.shape[axis]}."
        )
    nyquist = sampling_rate / 2
    coefficients = firwin(taps, [low / nyquist, high / nyquist], pass_zero=False)
    return np.asarray(filtfilt(coefficients, [1.0], signal.astype(np.float64, copy=False), axis=axis))
