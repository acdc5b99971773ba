"""A second witness of a delineation: whether a signal can hold the QRS complexes that a model found in it.

A model of heartbeats finds some in noise and hum too, and is as sure of them as in an ECG. Two measures of the signal, which
hardly depend on the model, tell most of that apart. Their bounds come from 12,570 delineations of real records, also of one
lead, with noise added, paced, or played up to 2.5 times as fast; in 11,667 the rate was that of a detector of R peaks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.signal.resampling import resample
from ecg_transformers.signal.waves import Wave

MANY_LEADS = 3
LEAST_KURTOSIS, LEAST_IN_MANY = 3.7, 4.3
"""Of slopes in the lead that has most: 1.5 in a sine, about 3 in noise, at least 4.3 in the real records, 5.2 in those of
many leads, among which noise has one of more than 3, too."""
MOST_STEP = 0.5
"""Share of a QRS complex by which a lead does not come back, in the lead with least: 1 at an edge, at most 0.22 in records of
many leads. One or two leads are not asked: their ST segment may be as high as their QRS complexes."""

_SLOPE_RATE = 100.0  # in Hz: slopes over 20 ms
_ENDS_S = 0.3  # where resampling and filters ring
_NEAR_S, _FAR_S = 0.02, 0.08  # what is before and after a complex: from its border
_ENOUGH = 1000

Array = NDArray[np.float64]


def doubt_of_qrs(
    waves: Mapping[str, Sequence[Wave]],
    signals: Mapping[str, ArrayLike],
    places_per_second: float,
    shift: float = 0.0,
    last_s: float | None = None,
) -> str | None:
    """A sentence where what was taken for QRS complexes cannot be such; None where nothing speaks against them.

    In an ECG something short and steep stands out, at least in one lead, and a lead comes back from it to where it was.
    Trains of short pulses do the same: they are told from an ECG by nothing here.

    Args:
        waves: by lead.
        signals: `(T,)` by lead, as the model saw them.
        places_per_second, shift: a time t lies at place `places_per_second · t + shift` of the signals.
        last_s: time of the record's last sample, where places before its first or after its last are padding.
    """
    slopes, steps = [], []
    for lead, of_lead in waves.items():
        complexes = [wave for wave in of_lead if wave.wave == "QRS"]
        if not complexes:
            continue
        values = np.asarray(signals[lead], dtype=np.float64)
        start = max(0, ceil(shift - 1e-6))
        stop = len(values) if last_s is None else floor(places_per_second * last_s + shift + 1e-6) + 1
        slopes.append(_kurtosis_of_slopes(values[start:stop], places_per_second))
        step = _median_step(values, complexes, places_per_second, shift)
        steps += [] if step is None else [step]
    known = [value for value in slopes if value is not None]
    if known and max(known) < (LEAST_IN_MANY if len(known) >= MANY_LEADS else LEAST_KURTOSIS):
        return (
            "What was taken for QRS complexes does not stand out by its slope in any lead, as in noise, hum and slow waves, "
            "so there is no interval to give."
        )
    if len(steps) >= MANY_LEADS and min(steps) > MOST_STEP:
        return (
            "What was taken for QRS complexes are steps: no lead comes back after them to where it was before, so there is "
            "no interval to give."
        )
    return None


def _kurtosis_of_slopes(values: Array, rate: float) -> float | None:
    """Without the ends; None of a few samples."""
    even = resample(values, rate, _SLOPE_RATE, "polyphase") if len(values) else values
    ends = round(_ENDS_S * _SLOPE_RATE)
    slopes = np.gradient(even)[ends:-ends] if len(even) > 3 * ends else np.zeros(0)
    variance = float(slopes.var()) if len(slopes) else 0.0
    return float(((slopes - slopes.mean()) ** 4).mean()) / variance**2 if variance > 0 else None


def _median_step(values: Array, complexes: Sequence[Wave], rate: float, shift: float) -> float | None:
    """Median over the complexes of how far the lead has moved after one, as a share of the complex's height."""
    near, far = round(_NEAR_S * rate), round(_FAR_S * rate)
    steps = []
    for wave in complexes[:: 1 + len(complexes) // _ENOUGH]:  # of a day of beats evenly spread ones
        first, last = (round(time * rate + shift) for time in (wave.times[0], wave.times[-1]))
        if first - far < 0 or last + far >= len(values):
            continue
        height = float(np.ptp(values[first - 2 * near : last + 2 * near + 1]))
        before, after = values[first - far : first - near + 1].mean(), values[last + near : last + far + 1].mean()
        if height > 0:
            steps.append(abs(float(after - before)) / height)
    return float(np.median(steps)) if steps else None
