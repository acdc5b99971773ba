"""Beats that a pacemaker starts: finding its spikes, and where the R peak of such a beat is marked.

A spike lasts a few milliseconds and comes 0 to 150 ms before the widest deflection of the wide complex it starts. It
harms a detector in two ways. A tall spike draws the mark to itself, away from the complex (it is bridged, and the beat
searched again). And where the complex is negative (QS), experts mark its beginning (MIT-BIH 107, LUDB 34 and 95: 0 to
35 ms after the spike), while its lowest point comes 60 to 130 ms after the spike: there the mark is moved half of the
way back to the spike, so that both readings lie within 75 ms. A positive complex keeps its mark at the R peak.

A beat counts as paced when the beats around it have spikes too, so that neither a notch nor one artefact moves a mark.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

SPIKE_S = 0.008  # a spike is over within this time; an R peak is about three times as wide
LEAD_S = (0.045, 0.170)  # from the spike to the largest deflection of the complex
QUIET_S = (0.16, 0.04)  # before the spike, where the noise is measured: clear of its ringing in a slowly sampled lead
LARGEST_SHIFT_S = 0.065
NEIGHBOURS = 33
PACED_SHARE = 0.3  # of the neighbours: spikes are believed, and one that drowned is inferred
STEEPNESS, HEIGHT_SHARE, NOISE_FACTOR, WIDENING = 0.8, 0.1, 6.0, 1.8
CAPTURED_HEIGHT, COMPANION_HEIGHT, CAPTURED_REACH_S = 2.2, 1.3, 0.025  # an R peak reaches 1.2


def sharpness(lead: Float, sampling_rate: float) -> Float:
    """How far each sample `(T,)` of a finite lead stands out from those 8 ms before and after it."""
    reach = _samples(SPIKE_S, sampling_rate)
    sharp = np.zeros_like(lead)
    middle = sharp[reach:-reach]
    np.add(lead[: -2 * reach], lead[2 * reach :], out=middle)
    middle *= -0.5
    middle += lead[reach:-reach]
    np.abs(middle, out=middle)
    return sharp


def captured_spikes(lead: Float, sharp: Float, peaks: Int, wide: Float, sampling_rate: float) -> Int:
    """The spikes that drew marks to themselves: far taller than the band-passed lead `wide` where they are.

    Args:
        lead: finite samples `(T,)`, and their `sharpness`.
        peaks: the marks, increasing sample indices.
        wide: the lead in the band in which marks are refined, `(T,)`.
        sampling_rate: in Hz.

    Returns:
        Their samples; empty unless several neighbouring marks are drawn.
    """
    if peaks.size < 3:
        return np.empty(0, dtype=np.int64)
    reach = _samples(CAPTURED_REACH_S, sampling_rate)
    window = np.clip(peaks[:, None] + np.arange(-reach, reach + 1), 0, lead.size - 1)
    spikes = window[np.arange(peaks.size), np.argmax(sharp[window], axis=1)]
    height, usual = sharp[spikes], np.abs(wide[peaks])
    captured = height > CAPTURED_HEIGHT * usual
    if not captured.any():
        return np.empty(0, dtype=np.int64)
    narrow = _is_narrow(lead, spikes, sampling_rate)
    captured &= narrow
    return spikes[narrow & (height > COMPANION_HEIGHT * usual) & (_neighbour_share(captured) >= PACED_SHARE)].astype(
        np.int64
    )


def bridge_spikes(lead: Float, spikes: Int, sampling_rate: float) -> Float:
    """A copy of the lead with a straight line through every spike."""
    reach = _samples(SPIKE_S, sampling_rate)
    hidden = np.zeros(lead.size, dtype=bool)
    hidden[np.clip(spikes[:, None] + np.arange(-reach, reach + 1), 0, lead.size - 1)] = True
    if hidden.all():
        return np.zeros_like(lead)
    index = np.arange(lead.size)
    bridged = lead.copy()
    bridged[hidden] = np.interp(index[hidden], index[~hidden], lead[~hidden])
    return bridged


def mark_paced_beats(lead: Float, sharp: Float, peaks: Int, wide: Float, sampling_rate: float) -> Int:
    """The marks of negative paced beats moved half of the way to their spike; all others as they are."""
    negative = wide[peaks] < 0
    if not negative.any():
        return peaks
    delay = np.zeros(peaks.size, dtype=np.int64)
    delay[negative] = _spike_delays(lead, sharp, peaks[negative], wide, sampling_rate)
    paced = delay > 0
    if not paced.any():
        return peaks
    share = _neighbour_share(paced)
    paced &= share >= PACED_SHARE
    if not paced.any():
        return peaks
    nearest = np.searchsorted(np.flatnonzero(paced), np.arange(peaks.size)).clip(max=int(paced.sum()) - 1)
    usual = _running_median(delay[paced])[nearest].astype(np.int64)
    height = np.abs(wide[peaks])
    alike = np.abs(height / np.maximum(_running_median(height[paced])[nearest], 1e-300) - 1) < 0.5
    inferred = negative & ~paced & alike & (share >= PACED_SHARE)
    delay = np.where(paced, delay, np.where(inferred, usual, 0))
    return np.maximum(peaks - np.minimum(delay // 2, _samples(LARGEST_SHIFT_S, sampling_rate)), 0)


def _spike_delays(lead: Float, sharp: Float, peaks: Int, wide: Float, sampling_rate: float) -> Int:
    """Samples from the spike before each mark to the mark, 0 where there is none.

    A spike is sharper than the complex, at least a tenth as high, above the noise around it and narrow.
    """
    near, far = (_samples(seconds, sampling_rate) for seconds in LEAD_S)
    before = np.clip(peaks[:, None] + np.arange(-far, -near + 1), 0, lead.size - 1)
    within = np.clip(peaks[:, None] + np.arange(-round(0.6 * near), near + 1), 0, lead.size - 1)
    heights = sharp[before]
    best = np.argmax(heights, axis=1)
    spikes = before[np.arange(peaks.size), best]
    height = sharp[spikes]
    found = (height > STEEPNESS * np.max(sharp[within], axis=1)) & (height > HEIGHT_SHARE * np.abs(wide[peaks]))
    if not found.any():
        return np.zeros(peaks.size, dtype=np.int64)
    far, near = (_samples(seconds, sampling_rate) for seconds in QUIET_S)
    quiet = np.clip(spikes[found, None] + np.arange(-far, -near + 1), 0, lead.size - 1)
    found[found] = height[found] > NOISE_FACTOR * np.median(sharp[quiet], axis=1)
    found[found] = _is_narrow(lead, spikes[found], sampling_rate)
    return np.where(found, peaks - spikes, 0)


def _is_narrow(lead: Float, spikes: Int, sampling_rate: float) -> Bool:
    """Whether the pulse hardly grows when it is looked at three times as widely (a smooth wave grows ninefold)."""
    reach = _samples(SPIKE_S, sampling_rate)
    narrow, broad = (_pulse_at(lead, spikes, width) for width in (reach, 3 * reach))
    return ((narrow > 0) == (broad > 0)) & (np.abs(broad) < WIDENING * np.abs(narrow))


def _pulse_at(lead: Float, samples: Int, reach: int) -> Float:
    left, right = (lead[np.clip(samples + step, 0, lead.size - 1)] for step in (-reach, reach))
    return lead[samples] - 0.5 * (left + right)


def _neighbour_share(flags: Bool) -> Float:
    """Of the up to 33 beats around each one, the share that is flagged."""
    window = np.ones(min(NEIGHBOURS, flags.size))
    share: Float = np.convolve(flags, window, "same") / np.convolve(np.ones(flags.size), window, "same")
    return share


def _running_median(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """The median of the up to 33 values around each one (the nearest full window at the ends)."""
    count = min(NEIGHBOURS, values.size)
    medians = np.median(np.lib.stride_tricks.sliding_window_view(values, count), axis=1)
    kept: NDArray[np.generic] = medians[np.clip(np.arange(values.size) - count // 2, 0, medians.size - 1)]
    return kept


def _samples(seconds: float, sampling_rate: float) -> int:
    return max(1, round(seconds * sampling_rate))
