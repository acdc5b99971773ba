"""Waves of one lead: an expert's marks, a class for every sample, and the way between the two.

P, QRS and T have an onset, a peak and an offset, in seconds from the start of the record. A mark stands on the first or
the last sample of its wave: both belong to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import ceil, floor

import numpy as np
from numpy.typing import ArrayLike, NDArray

WAVES = ("P", "QRS", "T")
CLASSES = ("none", *WAVES)
IGNORED = -100
"""The class of a sample that nobody has judged."""

PEAK_SYMBOLS = {"p": "P", "N": "QRS", "t": "T"}
OTHER_PEAK = "u"
"""Marked in some corpora, and none of the waves here: U."""
SPARSE_GAP_S = 2.0
"""Between waves further apart than this an expert may have left out beats: what lies there is not known."""
SHORTEST_S = {"P": 0.03, "QRS": 0.03, "T": 0.04}
BRIDGED_S = 0.02
_OUTSIDE = 1e-9

Float = NDArray[np.float64]
Int = NDArray[np.int64]


@dataclass(frozen=True)
class Wave:
    """One wave: its name (P, QRS or T) and its times in seconds, None where they are not known."""

    wave: str
    onset_s: float | None
    peak_s: float | None
    offset_s: float | None

    def to_dict(self) -> dict[str, str | float | None]:
        """As pipelines and tables give it."""
        return dict(vars(self))

    @property
    def times(self) -> list[float]:
        """The times that are known, in their order."""
        return [time for time in (self.onset_s, self.peak_s, self.offset_s) if time is not None]


def waves_from_marks(samples: Sequence[int], symbols: Sequence[str], sampling_rate: float) -> list[Wave]:
    """The waves of one lead from its marks: `(` onset, `p` `N` `t` peak, `)` offset; an onset or offset may be missing.

    The brackets of a peak of another kind (`u`), and those around none, belong to no wave.
    """
    waves: list[Wave] = []
    onset: float | None = None
    is_open = False  # whether the next `)` ends the last wave
    for sample, symbol in sorted(zip(samples, symbols), key=lambda mark: mark[0]):
        time = int(sample) / sampling_rate
        if symbol in PEAK_SYMBOLS:
            waves.append(Wave(PEAK_SYMBOLS[symbol], onset, time, None))
        elif symbol == ")" and is_open:
            waves[-1] = replace(waves[-1], offset_s=time)
        if symbol in ("(", ")", *PEAK_SYMBOLS, OTHER_PEAK):
            onset, is_open = time if symbol == "(" else None, symbol in PEAK_SYMBOLS
    return waves


def wave_classes(waves: Iterable[Wave], places_per_second: float, shift: float, length: int) -> Int:
    """A class for each of `length` places, the wave at time t lying at place `places_per_second · t + shift`.

    What comes before the first and after the last mark is `IGNORED` (experts often leave out the first and last beat),
    and so are stretches of more than `SPARSE_GAP_S` without a wave, and the sides of a wave that lack their border.
    """
    labels = np.full(length, IGNORED, dtype=np.int64)
    before: Wave | None = None
    for wave in waves:
        first, last = (round(places_per_second * time + shift) for time in (wave.times[0], wave.times[-1]))
        ended = None if before is None else before.offset_s
        if ended is not None and wave.onset_s is not None and wave.onset_s - ended <= SPARSE_GAP_S:
            gap = round(places_per_second * ended + shift) + 1
            labels[max(gap, 0) : max(first, 0)] = 0
        labels[max(first, 0) : max(last + 1, 0)] = CLASSES.index(wave.wave)
        before = wave
    return labels


def patch_classes(labels: ArrayLike, patch_size: int) -> Int:
    """The class that most judged samples of each patch have: `(…, T)` to `(…, T / patch_size)`; `IGNORED` without any."""
    patches = np.asarray(labels).reshape(*np.shape(labels)[:-1], -1, patch_size)
    counts = np.stack([(patches == index).sum(axis=-1) for index in range(len(CLASSES))], axis=-1)
    return np.where(counts.any(axis=-1), counts.argmax(axis=-1), IGNORED)


def delineate(
    probabilities: ArrayLike,
    signals: ArrayLike,
    starts: Sequence[float],
    length: int,
    places_per_second: float,
    shift: float = 0.0,
    last_s: float | None = None,
    stretch: float = 1.0,
) -> tuple[list[list[Wave]], Float]:
    """The waves of every lead from overlapping windows of a record, and the voted probabilities `(L, length, C)`.

    Where a lead does not move at all there is no wave.

    Args:
        probabilities: of the places of k windows, `(k, L, w, C)`.
        signals: the windows themselves, `(k, L, w)`: peaks are looked for in them.
        starts: the place at which each window starts.
        length: places of the whole record.
        places_per_second, shift: a time t lies at place `places_per_second · t + shift`.
        last_s: time of the record's last sample, see `find_waves`.
        stretch: places of the record from one place of a window to the next, see `vote`.
    """
    voted = vote(probabilities, starts, length, stretch)
    signal = vote(np.asarray(signals)[..., None], starts, length, stretch)[..., 0]
    leads = [
        place_peaks(find_waves(of_lead, places_per_second, shift, last_s), values, places_per_second, shift)
        for of_lead, values in zip(voted, signal, strict=True)
    ]
    return leads, voted


def vote(windows: ArrayLike, starts: Sequence[float], length: int, stretch: float = 1.0) -> Float:
    """One value for each place of a record from overlapping windows: `(k, L, w, C)` to `(L, length, C)`.

    Place q of a window is place `start + stretch · q` of the record; what lies between two places of a window is on the
    straight line between them. A window's vote counts by the distance from its ends, where it sees one side only. Places
    that no window reaches are 0.
    """
    values = np.asarray(windows)
    width = values.shape[2]
    total = np.zeros((values.shape[1], length, values.shape[3]))
    seen = np.zeros((length, 1))
    for window, start in zip(values, starts, strict=True):
        first, stop = max(0, floor(start)), min(length, ceil(start + stretch * (width - 1)) + 1)
        own = (np.arange(first, stop) - start) / stretch
        inside = np.clip(own, 0, width - 1)
        left = inside.astype(np.int64)
        part, weight = (inside - left)[:, None], np.minimum(inside + 1, width - inside)[:, None]
        weight[own != inside] = _OUTSIDE  # a fraction beyond the end: its value, where no other window has one
        line = window[:, left]
        if part.any():
            line = line + (window[:, np.minimum(left + 1, width - 1)] - line) * part
        total[:, first:stop] += line * weight
        seen[first:stop] += weight
    return total / np.where(seen > 0, seen, 1)


def find_waves(
    probabilities: ArrayLike, places_per_second: float, shift: float = 0.0, last_s: float | None = None
) -> list[Wave]:
    """The waves of one lead from the class probabilities `(T, C)` of its places, peaks not yet placed.

    The most probable class of every place; gaps of up to `BRIDGED_S` within a wave are bridged, and what is then shorter
    than `SHORTEST_S` is no wave. Nor is what the start or the end of the record cuts, whose border nobody can see.

    Args:
        last_s: time of the record's last sample, where places before its first or after its last are padding.
    """
    classes = np.asarray(probabilities).argmax(axis=-1)
    start, stop = 0, len(classes)
    if last_s is not None:
        start, stop = max(0, ceil(shift - 1e-6)), min(stop, floor(places_per_second * last_s + shift + 1e-6) + 1)
    classes = classes[start:stop]
    for index in range(1, len(CLASSES)):
        places = np.flatnonzero(classes == index)
        gaps = np.diff(places)
        for gap in np.flatnonzero((gaps > 1) & (gaps - 1 <= round(BRIDGED_S * places_per_second))):
            classes[places[gap] : places[gap + 1]] = index
    edges = np.flatnonzero(np.diff(classes)) + 1  # what touches the first or the last place is cut
    found = []
    for first, after in zip(edges[:-1].tolist(), edges[1:].tolist()):
        wave = CLASSES[classes[first]]
        if wave in WAVES and (after - first) / places_per_second >= SHORTEST_S[wave]:
            onset, offset = ((place + start - shift) / places_per_second for place in (first, after - 1))
            found.append(Wave(wave, onset, None, offset))
    return found


def place_peaks(waves: Iterable[Wave], signal: ArrayLike, places_per_second: float, shift: float = 0.0) -> list[Wave]:
    """The waves with their peaks: where `signal (T,)` is farthest from the line between a wave's onset and offset.

    Without those in which it does not move at all: a lead that was not connected has no waves.
    """
    values = np.asarray(signal, dtype=np.float64)
    placed = []
    for wave in waves:
        ends = (round(time * places_per_second + shift) for time in (wave.times[0], wave.times[-1]))
        first, last = (min(max(end, 0), len(values) - 1) for end in ends)
        part = values[first : last + 1]
        if (part == part[0]).all():
            continue
        height = np.nan_to_num(np.abs(part - np.linspace(part[0], part[-1], len(part))))
        placed.append(replace(wave, peak_s=(first + int(height.argmax()) - shift) / places_per_second))
    return placed
