"""Plain figures of an ECG: what logistic regression reads, and what normalisation takes away from a network.

All functions take one record in millivolts with time on axis 0, `(samples, leads)`, and treat missing samples (NaN)
as the median of their lead.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.signal.beats import detect_r_peaks
from ecg_transformers.signal.filtering import zero_phase_band_pass

Array = NDArray[np.float64]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
BAND_EDGES_HZ = (0.5, 1.5, 3.0, 5.0, 8.0, 12.0, 18.0, 25.0, 40.0)
FEATURES_PER_LEAD = len(PERCENTILES) + 6 + len(BAND_EDGES_HZ) - 1
RHYTHM_FEATURES = 7


def simple_features(signal: ArrayLike, sampling_rate: float) -> Array:
    """21 figures a lead and 7 of the rhythm: `(21 · leads + 7,)`; 259 for twelve leads.

    A lead, on 0.5–40 Hz: seven percentiles, SD, maximum, minimum, skewness, excess kurtosis, mean absolute difference
    of neighbouring samples, and the logarithm of the power in eight bands from 0.5 to 40 Hz (Welch).
    """
    filtered = band_pass(signal, sampling_rate)
    deviation = filtered.std(axis=0)
    scaled = filtered / np.maximum(deviation, 1e-6)
    shape = [
        *np.percentile(filtered, PERCENTILES, axis=0),
        deviation,
        filtered.max(axis=0),
        filtered.min(axis=0),
        (scaled**3).mean(axis=0),
        (scaled**4).mean(axis=0) - 3.0,
        np.abs(np.diff(filtered, axis=0)).mean(axis=0),
    ]
    per_lead = np.concatenate([np.stack(shape), _log_band_powers(filtered, sampling_rate)])  # (21, leads)
    return np.concatenate([per_lead.T.ravel(), rhythm_features(filtered, sampling_rate)])


def amplitude_features(signal: ArrayLike, sampling_rate: float) -> Array:
    """Log SD, maximum and minimum of each lead on 0.5–40 Hz, in millivolts: `(3 · leads,)`.

    A crop that is divided by its own SD no longer holds the voltage, which hypertrophy is read from; these figures
    give it back to a readout.
    """
    filtered = band_pass(signal, sampling_rate)
    log_sd = np.log(np.maximum(filtered.std(axis=0), 1e-4))
    return np.concatenate([log_sd, filtered.max(axis=0), filtered.min(axis=0)])


def rhythm_features(filtered: Array, sampling_rate: float) -> Array:
    """Beats a second, and mean, SD, minimum, maximum, median and RMS difference of the RR intervals in seconds.

    Beats are found in the lead with the largest range of slopes; a record with fewer than three beats gives zeros in
    all but the first.
    """
    slopes = np.percentile(np.abs(np.diff(filtered, axis=0)), 99, axis=0)
    peaks = detect_r_peaks(filtered[:, int(slopes.argmax())], sampling_rate)
    beats_per_second = len(peaks) / (len(filtered) / sampling_rate)
    intervals = np.diff(peaks) / sampling_rate
    if len(intervals) < 2:
        return np.array([beats_per_second, *[0.0] * (RHYTHM_FEATURES - 1)])
    successive = float(np.sqrt((np.diff(intervals) ** 2).mean()))
    figures = (intervals.mean(), intervals.std(), intervals.min(), intervals.max(), np.median(intervals), successive)
    return np.array([beats_per_second, *figures], dtype=np.float64)


def median_beat(signal: ArrayLike, sampling_rate: float, points: int = 26) -> Array:
    """The median beat of each lead, 0.25 s before to 0.45 s after R, at `points` instants: `(points · leads,)`.

    Zeros where no whole beat is found.
    """
    filtered = band_pass(signal, sampling_rate)
    slopes = np.percentile(np.abs(np.diff(filtered, axis=0)), 99, axis=0)
    peaks = detect_r_peaks(filtered[:, int(slopes.argmax())], sampling_rate)
    before, after = round(0.25 * sampling_rate), round(0.45 * sampling_rate)
    whole = peaks[(peaks >= before) & (peaks + after < len(filtered))]
    if len(whole) == 0:
        return np.zeros(points * filtered.shape[1])
    beats = filtered[whole[:, None] + np.arange(-before, after + 1)]  # (beats, window, leads)
    middle = np.median(beats, axis=0)
    at = np.linspace(0, len(middle) - 1, points)
    return np.concatenate([np.interp(at, np.arange(len(middle)), lead) for lead in middle.T])


def band_pass(signal: ArrayLike, sampling_rate: float, low_hz: float = 0.5, high_hz: float = 40.0) -> Array:
    """Second-order Butterworth band-pass, forward and backward; the upper edge stays below half the rate."""
    values = np.asarray(signal, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2 * sampling_rate:
        raise ValueError(f"Features need a record (samples, leads) of 2 s or more, not shape {values.shape}.")
    if not np.isfinite(values).all():
        values = _fill_missing(values)
    high_hz = min(high_hz, 0.45 * sampling_rate)
    # leads in rows while it is filtered: sums over time then keep their order, and figures their last digit
    return zero_phase_band_pass(values.T, low_hz, high_hz, sampling_rate, order=2, axis=-1).T


def _fill_missing(values: Array) -> Array:
    known = np.isfinite(values)
    filled = values.copy()
    for lead in range(values.shape[1]):
        present = values[known[:, lead], lead]
        filled[~known[:, lead], lead] = np.median(present) if present.size else 0.0
    return filled


def _log_band_powers(filtered: Array, sampling_rate: float) -> Array:
    from scipy.signal import welch

    frequency, power = welch(filtered, fs=sampling_rate, nperseg=min(256, len(filtered)), axis=0)
    width = frequency[1] - frequency[0]
    bands = [
        power[(frequency >= low) & (frequency < high)].sum(axis=0) * width
        for low, high in itertools.pairwise(BAND_EDGES_HZ)
    ]
    return np.asarray(np.log(np.stack(bands) + 1e-8))
