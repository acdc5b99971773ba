"""Missing samples of a lead, and stretches in which its electrode was off, bridged by straight lines."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]

REST_S = 1.0


def bridge_missing(signal: ArrayLike) -> Float:
    """A float64 copy of one lead, missing and infinite samples interpolated linearly (zeros when all are missing)."""
    x = np.array(signal, dtype=np.float64)
    missing = ~np.isfinite(x)
    if missing.all():
        return np.zeros_like(x)
    if missing.any():
        index = np.arange(x.size)
        x[missing] = np.interp(index[missing], index[~missing], x[~missing])
    return x


def bridge_rests(lead: Float, sampling_rate: float) -> Float:
    """The lead with a straight line where it holds one value for a second or longer, and nowhere else such values.

    So long nothing of a patient rests: the electrode is off, and the steps to its value and back are no beats.
    """
    ends = np.flatnonzero(lead[1:] != lead[:-1])
    bounds = np.concatenate(([-1], ends, [lead.size - 1]))  # a run is bounds[i] + 1 to bounds[i + 1]
    long = np.flatnonzero(np.diff(bounds) > REST_S * sampling_rate)
    if not long.size:
        return lead
    resting = np.zeros(lead.size, dtype=bool)
    for run in long:
        resting[bounds[run] + 1 : bounds[run + 1] + 1] = True
    if resting.all():
        return lead
    low, high = np.percentile(lead[~resting], (1, 99))
    return bridge_missing(np.where(resting & ((lead < low) | (lead > high)), np.nan, lead))
