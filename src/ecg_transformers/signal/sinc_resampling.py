"""Resampling with a windowed sinc from a table, as the resampy package 0.4.3 does with its "kaiser_best" filter.

Its table steps are truncated to whole entries, so that taps drift a little from their true places; models that were
trained on its output see that drift, so it is kept. Written from the formulas of specification `zoo/ai4health_s4.md`, 3.2.
"""

import functools

import numpy as np

ENTRIES_PER_CROSSING = 8192
CROSSINGS = 50
ROLLOFF = 0.91734737
KAISER_BETA = 12.9846
_BLOCK = 640  # output samples whose weights are made at once


def sinc_resample(signal: np.ndarray, from_rate: float, to_rate: float, length: int, axis: int = 0) -> np.ndarray:
    """`signal` with `length` samples along `axis`, sample t at the time `t · from_rate / to_rate` of the old ones.

    Beyond its ends the signal is taken as zero. The real dtype is kept, and sums are made in it.
    """
    moved = np.ascontiguousarray(np.moveaxis(signal, axis, -1))
    old = moved.shape[-1]
    result = np.empty((*moved.shape[:-1], length), dtype=signal.dtype)
    for start in range(0, length, _BLOCK):
        first, weights = _weights(start, min(_BLOCK, length - start), old, to_rate / from_rate, signal.dtype.str)
        result[..., start : start + weights.shape[1]] = moved[..., first : first + weights.shape[0]] @ weights
    return np.ascontiguousarray(np.moveaxis(result, -1, axis))


@functools.lru_cache(maxsize=16)
def _weights(start: int, count: int, old: int, ratio: float, dtype: str) -> tuple[int, np.ndarray]:
    """What `count` new samples from `start` on take of the old ones: the first that is used, and `(used, count)`."""
    scale = min(1.0, ratio)
    step = int(scale * ENTRIES_PER_CROSSING)
    time = np.arange(start, start + count) / ratio
    nearest = time.astype(np.int64)  # the old sample at or before each new one
    share = scale * (time - nearest)
    left, left_ends = _wing(share, step, nearest + 1, scale)
    right, right_ends = _wing(scale - share, step, old - nearest - 1, scale)
    first = max(0, int((nearest - left_ends).min()) + 1)
    last = min(old, int((nearest + right_ends).max()) + 1)
    weights = np.zeros((last - first, count))
    for values, ends, side in ((left, left_ends, -1), (right, right_ends, 1)):
        taps = np.arange(values.shape[1])
        nearest_on_side = nearest if side < 0 else nearest + 1
        rows = nearest_on_side[:, None] + side * taps - first
        used = taps[None, :] < ends[:, None]
        columns = np.broadcast_to(np.arange(count)[:, None], used.shape)
        np.add.at(weights, (rows[used], columns[used]), values[used])
    return first, weights.astype(dtype)


def _wing(share: np.ndarray, step: int, available: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights `(samples, taps)` of one side of the filter, and how many of them each new sample uses.

    Args:
        share: distance of the nearest old sample on this side, in zero crossings.
        step: entries of the table between two taps.
        available: old samples on this side.
        scale: of the filter, below 1 where the rate falls.
    """
    table = _table()
    place = share * ENTRIES_PER_CROSSING
    offset = np.floor(place).astype(np.int64)
    between = (place - offset)[:, None]
    ends = np.maximum(np.minimum(available, (len(table) - offset) // step), 0)
    index = offset[:, None] + np.arange(int(ends.max(initial=0))) * step
    index = np.minimum(index, len(table) - 1)  # beyond `ends`, unused
    following = table[np.minimum(index + 1, len(table) - 1)]
    following = np.where(index + 1 < len(table), following, table[index])
    return scale * (table[index] + between * (following - table[index])), ends


@functools.cache
def _table() -> np.ndarray:
    """The right half of the filter: a sinc under the right half of a Kaiser window."""
    count = ENTRIES_PER_CROSSING * CROSSINGS
    crossings = np.arange(count + 1) / ENTRIES_PER_CROSSING
    window = np.i0(KAISER_BETA * np.sqrt(1.0 - (crossings / CROSSINGS) ** 2)) / np.i0(KAISER_BETA)
    table: np.ndarray = ROLLOFF * np.sinc(ROLLOFF * crossings) * window
    return table
