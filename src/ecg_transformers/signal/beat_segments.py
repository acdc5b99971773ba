"""From R peaks to fixed-length beats: cutting, linear resampling, amplitude scale and RR features.

Cutting depends on the samples around a peak only: positions are kept relative to the peak, so a shifted record with
shifted peaks gives bitwise the same beats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.signal.bridging import bridge_missing
from ecg_transformers.words import check_choice

Float = NDArray[np.float64]
Int = NDArray[np.int64]

MODES = ("window", "cycle")
NORMS = ("record", "beat", "none")
CYCLE_SHARE_BEFORE = 0.35
TYPICAL_RR_S = 0.8
MAX_LOG_RR = 2.0
SCALE_FLOOR, RELATIVE_SCALE_FLOOR = 1e-6, 0.02
_CHUNK = 4096


@dataclass(frozen=True)
class BeatSegments:
    """The beats of one record.

    Attributes:
        beats: `(N, L, beat_len)` float32.
        rr: `(N, 2)` float32, log seconds to the previous and to the next peak, see `rr_features`.
        samples: `(N,)` int64, the R peaks in samples of the record.
        edge: `(N,)` bool, the beat reaches over an end of the record and was filled with the edge value.
        scale: `(L,)` what the beats were divided by (ones unless `norm="record"`).
    """

    beats: NDArray[np.float32]
    rr: NDArray[np.float32]
    samples: Int
    edge: NDArray[np.bool_]
    scale: Float

    def __len__(self) -> int:
        return int(self.samples.size)


def segment_beats(
    signal: ArrayLike,
    peaks: ArrayLike,
    sampling_rate: float,
    *,
    mode: str = "window",
    beat_len: int = 128,
    before_s: float = 0.25,
    after_s: float = 0.45,
    norm: str = "record",
    drop_edge: bool = False,
) -> BeatSegments:
    """Cut one beat per R peak and resample each linearly to `beat_len` points.

    Args:
        signal: `(T,)` or `(T, L)`, millivolt; missing samples are bridged.
        peaks: R peaks in samples, increasing; used as they are.
        sampling_rate: in Hz.
        mode: `"window"`: `before_s` before to `after_s` after the peak. `"cycle"`: from 35 % of an RR interval
            before the peak to 35 % of the next one before the next peak, so that beats keep their form when the
            heart beats faster (the first and the last beat use the median interval).
        beat_len: points of a beat; the end of the window is not one of them.
        before_s, after_s: window in seconds.
        norm: every beat loses its mean; `"record"` divides by one robust scale of the record and lead
            (1.4826 · median absolute deviation over the samples of all complete beats), so relative amplitudes
            survive; `"beat"` divides each beat by its own standard deviation; `"none"` leaves millivolts.
        drop_edge: leave out beats that reach over an end of the record.

    Returns:
        `BeatSegments`, one entry per peak, in order.

    Raises:
        ValueError: unknown mode or norm, or peaks that are not increasing samples of the record.
    """
    check_choice("mode", mode, MODES)
    check_choice("norm", norm, NORMS)
    x = np.asarray(signal)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2:
        raise ValueError(f"segment_beats takes a signal (T,) or (T, L), but got shape {np.shape(signal)}.")
    r = check_peaks(peaks, x.shape[0])
    leads = np.stack([bridge_missing(x[:, lead]) for lead in range(x.shape[1])])
    starts, lengths = relative_bounds(r, sampling_rate, mode=mode, before_s=before_s, after_s=after_s)
    beats = np.empty((r.size, x.shape[1], beat_len), dtype=np.float32)
    grid = np.arange(beat_len) / beat_len
    for first in range(0, r.size, _CHUNK):
        part = slice(first, first + _CHUNK)
        cut = _interpolate(leads, r[part], starts[part, None] + lengths[part, None] * grid)
        beats[part] = cut - cut.mean(axis=2, keepdims=True)
    last = starts + lengths * grid[-1]
    edge = (r + np.floor(starts) < 0) | (r + np.ceil(last) > x.shape[0] - 1)
    beats, scale = _normalise(beats, edge, norm)
    segments = BeatSegments(beats, rr_features(r, sampling_rate), r, edge, scale)
    return select_beats(segments, ~edge) if drop_edge else segments


def select_beats(segments: BeatSegments, keep: NDArray[np.bool_] | slice) -> BeatSegments:
    """The chosen beats with all that belongs to them."""
    return BeatSegments(
        segments.beats[keep], segments.rr[keep], segments.samples[keep], segments.edge[keep], segments.scale
    )


def rr_features(peaks: ArrayLike, sampling_rate: float) -> NDArray[np.float32]:
    """`(N, 2)`: log of the seconds to the previous and to the next peak, clipped to ±2, 0 where there is none."""
    r = np.asarray(peaks, dtype=np.int64)
    features = np.zeros((r.size, 2), dtype=np.float32)
    if r.size > 1:
        seconds = np.maximum(np.diff(r), 0.5) / sampling_rate
        logs = np.clip(np.log(seconds), -MAX_LOG_RR, MAX_LOG_RR)
        features[1:, 0] = logs
        features[:-1, 1] = logs
    return features


def relative_bounds(
    peaks: Int, sampling_rate: float, *, mode: str = "window", before_s: float = 0.25, after_s: float = 0.45
) -> tuple[Float, Float]:
    """Start relative to the peak and length of every beat, in samples: two `(N,)` float64 arrays."""
    if mode == "window":
        before, after = round(before_s * sampling_rate), round(after_s * sampling_rate)
        return np.full(peaks.size, -float(before)), np.full(peaks.size, float(max(before + after, 1)))
    rr = np.maximum(np.diff(peaks), 1).astype(np.float64)
    usual = float(np.median(rr)) if rr.size else TYPICAL_RR_S * sampling_rate
    rr_before = np.concatenate([[usual], rr])[: peaks.size]
    rr_after = np.concatenate([rr, [usual]])[: peaks.size]
    starts = -CYCLE_SHARE_BEFORE * rr_before
    return starts, np.maximum(rr_after - CYCLE_SHARE_BEFORE * rr_after - starts, 1.0)


def check_peaks(peaks: ArrayLike, num_samples: int) -> Int:
    """Peaks as int64.

    Raises:
        ValueError: when they are not whole, not increasing, or outside the record.
    """
    given = np.asarray(peaks)
    r = given.astype(np.int64)
    if given.ndim != 1 or (given.size and not np.array_equal(given, r)):
        raise ValueError("R peaks must be one list of whole sample indices.")
    if r.size and (r[0] < 0 or r[-1] >= num_samples or np.any(np.diff(r) <= 0)):
        raise ValueError(
            f"R peaks must increase strictly and lie in 0 … {num_samples - 1}, the samples of the record; "
            f"got {r.size} peaks from {r.min()} to {r.max()}."
        )
    return r


def _interpolate(leads: Float, peaks: Int, relative: Float) -> Float:
    """Values `(n, L, beat_len)` at `peaks + relative`; outside the record the edge value."""
    whole = np.floor(relative)
    fraction = relative - whole
    left = peaks[:, None] + whole.astype(np.int64)
    last = leads.shape[1] - 1
    low, high = leads[:, np.clip(left, 0, last)], leads[:, np.clip(left + 1, 0, last)]
    return np.moveaxis(low + (high - low) * fraction, 0, 1)


def _normalise(beats: NDArray[np.float32], edge: NDArray[np.bool_], norm: str) -> tuple[NDArray[np.float32], Float]:
    scale = np.ones(beats.shape[1])
    if norm == "beat":
        spread = beats.std(axis=2, keepdims=True)
        return beats / np.maximum(spread, np.float32(SCALE_FLOOR)), scale
    if norm == "record" and beats.shape[0]:
        complete = beats[~edge] if not edge.all() else beats
        scale = np.asarray([_robust_scale(complete[:, lead]) for lead in range(beats.shape[1])])
        beats = (beats / scale[None, :, None]).astype(np.float32)
    return beats, scale


def _robust_scale(values: NDArray[np.float32]) -> float:
    deviation = np.abs(values - np.median(values))
    typical, high = np.percentile(deviation, (50, 99))
    return float(max(1.4826 * typical, RELATIVE_SCALE_FLOOR * high, SCALE_FLOOR))
