"""Where the samples of a DICOM waveform are padding: values that say that nothing was recorded."""

from __future__ import annotations

import math

import numpy as np

_BLOCK = 2**18


def padded(counts: np.ndarray, padding: int, bits: int, start: int, stop: int) -> np.ndarray:
    """Where a channel, from `start` to `stop`, has the padding value because it has no sample there.

    A value at the edge of the number range is always believed, another only in runs or far from all other samples of
    the channel: a widely used toolkit states the padding value 0, which is also what 0 mV is stored as.
    """
    info = np.iinfo(counts.dtype)
    edges = {info.min, info.max}
    if 1 < bits < 8 * counts.dtype.itemsize:
        edges |= {-(2 ** (bits - 1)), 2 ** (bits - 1) - 1} if info.min < 0 else {2**bits - 1}
    hit = counts[start:stop] == padding
    if padding in edges or not hit.any() or _is_far(counts, padding):
        return hit
    before = max(0, start - MIN_RUN)
    around = in_runs(counts[before : stop + MIN_RUN] == padding, MIN_RUN)
    return around[start - before : stop - before]


def _is_far(counts: np.ndarray, padding: int) -> bool:
    """Whether a value lies further from all other samples than these from each other; looked at in pieces."""
    low, high = math.inf, -math.inf
    for start in range(0, len(counts), _BLOCK):
        block = counts[start : start + _BLOCK]
        others = block[block != padding]
        if others.size:
            low, high = min(low, int(others.min())), max(high, int(others.max()))
    return low > high or padding < low - (high - low) - 1 or padding > high + (high - low) + 1


MIN_RUN = 20
"""Samples of the padding value in a row that are no coincidence."""


def in_runs(hit: np.ndarray, least: int) -> np.ndarray:
    """The same mask, without runs of fewer than `least`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hit, [False]]).astype(np.int8))).reshape(-1, 2)
    long = edges[edges[:, 1] - edges[:, 0] >= least]
    steps = np.zeros(len(hit) + 1, dtype=np.int8)
    steps[long[:, 0]], steps[long[:, 1]] = 1, -1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool)
