"""Beats that follow each other so closely (180 to 350 a minute) that a window of half a second holds two of them.

A detector that keeps the largest maximum within a quarter of a second on each side drops every other beat there. Close
maxima are beats, and not the T waves of a slower rhythm, when many of them in a row keep the same distance, reach half
of the usual height and have the same shape as their neighbour.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d, uniform_filter1d

Float = NDArray[np.float64]
Int = NDArray[np.int64]

SHORTEST_S, LONGEST_S = 0.17, 0.34
SMOOTHING_S, HALF_WINDOW_S = 0.06, 0.08
RUN = 6  # intervals in a row
SPREAD = 0.2  # of the median of five intervals
LEVEL_SHARE = 0.5
SHAPE_S, CORRELATION, CORRELATION_LOSS = 0.05, 0.5, 0.2
GAP_S, GAP_RUN = 0.9, 3


def fast_beats(curve: Float, filtered: Float, coarse: Int, level: Float, sampling_rate: float) -> list[Int]:
    """Runs of close beats, each an increasing array of samples of `curve`.

    Args:
        curve: the height of the detector's curve, `(T,)`.
        filtered: the lead in the QRS band, `(T,)`.
        coarse: the maxima found with a wide window, increasing samples, and `level`, the usual height at each.
        sampling_rate: in Hz.
    """
    if not _may_be_fast(curve, coarse, level, sampling_rate):
        return []
    reach = max(1, round(HALF_WINDOW_S * sampling_rate))
    smooth = uniform_filter1d(curve, max(1, round(SMOOTHING_S * sampling_rate)), mode="nearest")
    fine = np.flatnonzero((smooth >= maximum_filter1d(smooth, 2 * reach + 1, mode="nearest")) & (smooth > 0))
    fine = fine[curve[fine] > LEVEL_SHARE * np.interp(fine, coarse, level)].astype(np.int64)
    fine = fine[np.diff(fine, prepend=-reach) > 1]  # a plateau counts once
    if fine.size <= RUN:
        return []
    interval = np.diff(fine)
    usual = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(interval, 2, mode="edge"), 5), axis=1)
    steady = (interval >= SHORTEST_S * sampling_rate) & (interval <= LONGEST_S * sampling_rate)
    steady &= np.abs(interval - usual) <= SPREAD * usual
    edges = np.flatnonzero(np.diff(np.concatenate(([False], steady, [False])).astype(np.int8)))
    runs = [fine[first : last + 1] for first, last in zip(edges[::2], edges[1::2]) if last - first >= RUN]
    return [run for run in runs if _same_shape(filtered, run, sampling_rate)]


def _may_be_fast(curve: Float, coarse: Int, level: Float, sampling_rate: float) -> bool:
    """Whether short gaps in a row are high inside: a look at five places of each, before the search."""
    if coarse.size <= GAP_RUN:
        return False
    gap = np.diff(coarse)
    inside = coarse[:-1, None] + (gap[:, None] * np.array([0.33, 0.42, 0.5, 0.58, 0.67])).astype(np.int64)
    high = (np.max(curve[inside], axis=1) > LEVEL_SHARE * level[:-1]) & (gap < GAP_S * sampling_rate)
    close = high | (gap <= LONGEST_S * sampling_rate)
    in_a_row = np.ones(GAP_RUN)
    return bool(((np.convolve(close, in_a_row, "valid") == GAP_RUN) & (np.convolve(high, in_a_row, "valid") > 0)).any())


def _same_shape(filtered: Float, run: Int, sampling_rate: float) -> bool:
    """Whether neighbours correlate, and hardly less than every other beat does (QRS and T would alternate)."""
    reach = max(1, round(SHAPE_S * sampling_rate))
    shapes = filtered[np.clip(run[:, None] + np.arange(-reach, reach + 1), 0, filtered.size - 1)]
    shapes = shapes - shapes.mean(axis=1, keepdims=True)
    shapes /= np.maximum(np.linalg.norm(shapes, axis=1, keepdims=True), 1e-300)
    next_one, next_but_one = (np.mean(np.sum(shapes[step:] * shapes[:-step], axis=1)) for step in (1, 2))
    return bool(next_one >= max(CORRELATION, next_but_one - CORRELATION_LOSS))
