"""R-peak detection: the package's own zero-phase detector, and adapters to installed libraries.

The detector needs numpy and scipy only and works offline (it may look ahead): a band-passed slope energy curve, its
local maxima, a threshold relative to the heights of the neighbouring maxima, a search-back in long gaps and a
refinement to the largest band-passed magnitude (of a paced beat: see `pacing.py`). Every statistic is local in time,
so an overnight record is processed in overlapping blocks with bounded memory.
`python benchmarks/beat_detection.py` prints its accuracy and speed on annotated records.

What was chosen on which records: band, thresholds and refinement on 8 records of MIT-BIH and 32 subjects of LUDB; the
level in pauses, the search-back's comparison with its beats, the rules for pacing and those for small waves on both
leads of these, on MIT-BIH 107 and 232, LUDB 34 and 95, and on synthetic leads;
fast rhythms and rests on synthetic leads only. No other annotated record was looked at.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter1d, uniform_filter1d

from ecg_transformers.signal.bridging import bridge_missing, bridge_rests
from ecg_transformers.signal.fast_rhythms import fast_beats
from ecg_transformers.signal.pacing import bridge_spikes, captured_spikes, mark_paced_beats, sharpness

Float = NDArray[np.float64]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]

METHODS = ("zero_phase", "sleepecg", "neurokit")
MIN_DURATION_S = 1.0
BLOCK_S, MARGIN_S = 1200.0, 60.0

DETECTION_BAND_HZ = (5.0, 20.0)
REFINEMENT_BAND_HZ = (1.5, 30.0)  # wide enough that the largest lobe of a wide beat is the one experts mark
SMOOTHING_S = 0.10
CANDIDATE_HALF_WINDOW_S = 0.25
REFRACTORY_S, FAST_REFRACTORY_S = 0.25, 0.12
REFINEMENT_S = {"zero_phase": 0.08, "sleepecg": 0.10, "neurokit": 0.10}
REFINEMENT_WIDTH_S = 0.06
NEIGHBOURS = 17
LEVEL_SHARE, FLOOR_FACTOR = 0.30, 2.0
CLEAR_SHARE, CLEAR_FLOOR_FACTOR, CLEAR_WAVE_FACTOR = 0.20, 8.0, 2.0
SMALL_SHARE, NOISE_REACH_S, NOISE_CONTRAST = 0.50, 0.5, 1.5
WAVE_NEIGHBOURS, WAVE_RANK, WAVE_FACTOR, WAVE_SHARPNESS = 33, 0.15, 1.4, 1.1
NOISE_FACTOR = 2.8  # white or brown noise rarely has level / floor above 2.8 in 10 s; 99 % of real leads are above 4.5
PAUSE_BIN_S, PAUSE_BINS, PAUSE_SHARE, PAUSE_ALONE_S = 2.0, 9, 0.6, 0.5
SEARCH_BACK_GAP, SEARCH_BACK_LEVEL_SHARE, SEARCH_BACK_FLOOR_FACTOR, SEARCH_BACK_DISTANCE_S = 1.66, 0.15, 1.5, 0.36
SEARCH_BACK_BEAT_SHARE, SEARCH_BACK_RANK = 0.35, 10
FLOOR_WINDOW_S, FLOOR_PERCENTILE = 10.0, 25.0


def detect_r_peaks(signal: ArrayLike, sampling_rate: float, method: str = "zero_phase") -> Int:
    """R peaks of one lead, as strictly increasing int64 sample indices.

    Args:
        signal: one lead, shape `(T,)`, any unit and polarity; NaN and infinite samples are bridged.
        sampling_rate: in Hz, at least 25.
        method: `"zero_phase"` (no dependency), or `"sleepecg"` / `"neurokit"` when that library is installed; a
            library's peaks are moved to the largest band-passed magnitude within 100 ms (and back, as ours, where a
            pacing spike starts a negative complex).

    Returns:
        The peaks; an empty array for flat, all-missing or shorter-than-one-second input. Never raises because of what
        the samples look like.

    Raises:
        ValueError: unknown method, a signal that is not one-dimensional, or a sampling rate below 25 Hz.
        ImportError: the library of the chosen method is not installed.

    Example:
        >>> import numpy as np
        >>> detect_r_peaks(np.zeros(5000), 500).size
        0
    """
    if method not in METHODS:
        raise ValueError(f"Unknown R-peak method {method!r}; the methods are {', '.join(METHODS)}.")
    x = np.asarray(signal)  # converted block by block: an overnight record stays in its own type
    if x.ndim != 1:
        raise ValueError(f"detect_r_peaks takes one lead of shape (T,), but the signal has shape {x.shape}.")
    if not np.isfinite(sampling_rate) or sampling_rate < 25:
        raise ValueError(f"R-peak detection needs a sampling rate of at least 25 Hz, but got {sampling_rate!r}.")
    finder = _finder(method)
    if x.size < MIN_DURATION_S * sampling_rate:
        return np.empty(0, dtype=np.int64)
    block, margin = int(BLOCK_S * sampling_rate), int(MARGIN_S * sampling_rate)
    if x.size <= block:
        return _detect_block(x, sampling_rate, method, finder)
    kept = []
    for start in range(0, x.size, block):
        first, last = max(0, start - margin), min(x.size, start + block + margin)
        peaks = first + _detect_block(x[first:last], sampling_rate, method, finder)
        kept.append(peaks[(peaks >= start) & (peaks < start + block)])
    return _keep_distance(np.concatenate(kept), None, 0.5 * REFRACTORY_S * sampling_rate)


def band_pass(signal: ArrayLike, sampling_rate: float, band_hz: tuple[float, float] = DETECTION_BAND_HZ) -> Float:
    """One lead `(T,)` in a band (QRS: 5-20 Hz), zero phase, order 2, float64, missing samples bridged."""
    x = bridge_missing(signal)
    return _band_pass_centred(x - np.median(x) if x.size else x, sampling_rate, band_hz)


def _band_pass_centred(x: Float, sampling_rate: float, band_hz: tuple[float, float]) -> Float:
    from scipy.signal import sosfilt

    pad = min(x.size - 1, int(0.5 * sampling_rate))
    if pad < 1:
        return np.zeros_like(x)
    sections, steady = _band_pass_sections(*band_hz, float(sampling_rate))
    y = np.concatenate((2 * x[0] - x[pad:0:-1], x, 2 * x[-1] - x[-2 : -pad - 2 : -1]))
    for _ in range(2):  # forwards and backwards, as sosfiltfilt, which works out the steady state anew at every call
        y = sosfilt(sections, y, zi=steady * y[0])[0][::-1]
    filtered = y[pad:-pad]
    tiny = 1e-9 * max(np.max(x), -np.min(x))  # what is left of a constant is rounding, not signal
    return np.where(np.abs(filtered) > tiny, filtered, 0.0)


@lru_cache(maxsize=64)
def _band_pass_sections(low_hz: float, high_hz: float, sampling_rate: float) -> tuple[Float, Float]:
    from scipy.signal import butter, sosfilt_zi

    edges = (low_hz, min(high_hz, 0.45 * sampling_rate))
    sections: Float = butter(2, edges, btype="bandpass", fs=sampling_rate, output="sos")
    return sections, sosfilt_zi(sections)


def refine_r_peaks(filtered: Float, peaks: Int, sampling_rate: float, tolerance_s: float = 0.08) -> Int:
    """Each peak moved to the largest magnitude of the band-passed lead `filtered` within `tolerance_s` seconds.

    Magnitudes are weighted by a Gaussian of the distance: of two lobes of a wide beat that are nearly as large, the
    one in the middle of the complex is where experts put the mark (and the choice depends less on noise).
    """
    if peaks.size == 0:
        return peaks.astype(np.int64)
    reach = max(1, round(tolerance_s * sampling_rate))
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / (REFINEMENT_WIDTH_S * sampling_rate)) ** 2)
    window = np.clip(peaks[:, None] + offsets, 0, filtered.size - 1)
    best = np.argmax(np.abs(filtered)[window] * weights, axis=1)
    return window[np.arange(peaks.size), best].astype(np.int64)


def _detect_block(
    x: NDArray[Any], sampling_rate: float, method: str, finder: Callable[[Float, float], Any] | None
) -> Int:
    lead = bridge_rests(bridge_missing(x), sampling_rate)
    lead -= np.median(lead)
    peaks, wide = _find_peaks(lead, sampling_rate, method, finder)
    sharp = sharpness(lead, sampling_rate)
    spikes = captured_spikes(lead, sharp, peaks, wide, sampling_rate)
    if spikes.size:
        bridged = bridge_spikes(lead, spikes, sampling_rate)
        peaks, wide = _find_peaks(bridged, sampling_rate, method, finder)
    return mark_paced_beats(lead, sharp, peaks, wide, sampling_rate)


def _find_peaks(
    lead: Float, sampling_rate: float, method: str, finder: Callable[[Float, float], Any] | None
) -> tuple[Int, Float]:
    """The refined peaks of a finite lead, and the lead in the band of the refinement."""
    filtered = _band_pass_centred(lead, sampling_rate, DETECTION_BAND_HZ)
    if not filtered.any():
        return np.empty(0, dtype=np.int64), filtered
    fast: list[Int] = []
    if finder is None:
        filtered /= np.max(np.abs(filtered))  # any unit: squares neither overflow nor vanish
        peaks, fast = _zero_phase(filtered, sampling_rate)
    else:
        found = np.asarray(finder(lead, sampling_rate), dtype=np.int64)
        peaks = np.unique(found[(found >= 0) & (found < lead.size)])
    wide = _band_pass_centred(lead, sampling_rate, REFINEMENT_BAND_HZ)
    distance = np.full(peaks.size, REFRACTORY_S * sampling_rate)
    for run in fast:
        distance[np.searchsorted(peaks, run)] = FAST_REFRACTORY_S * sampling_rate
    peaks = refine_r_peaks(wide, peaks, sampling_rate, REFINEMENT_S[method])
    return _keep_distance(peaks, np.abs(wide), distance), wide


def _zero_phase(filtered: Float, sampling_rate: float) -> tuple[Int, list[Int]]:
    """The beats, and which of them are runs of a fast rhythm."""
    curve = _slope_energy(filtered, sampling_rate)
    candidates = _local_maxima(curve, round(CANDIDATE_HALF_WINDOW_S * sampling_rate))
    if candidates.size == 0:
        return candidates, []
    height = curve[candidates]
    level = np.maximum(
        _neighbour_level(height), PAUSE_SHARE * _level_across_pauses(candidates, height, curve.size, sampling_rate)
    )
    floor = _local_floor(curve, candidates, sampling_rate)
    peaky = level > NOISE_FACTOR * floor
    noisy = _in_noise(curve, candidates, level, sampling_rate)
    high = _stands_out(filtered, curve, candidates, level, floor, sampling_rate)
    strong = peaky & high & (height > FLOOR_FACTOR * floor) & ~noisy
    weak = (height > SEARCH_BACK_LEVEL_SHARE * level) & (height > SEARCH_BACK_FLOOR_FACTOR * floor) & ~strong & ~noisy
    beats = _search_back(candidates, height, strong, weak, sampling_rate)
    fast = fast_beats(curve, filtered, candidates, level, sampling_rate)
    for run in fast:
        reach = REFRACTORY_S * sampling_rate
        outside = (beats < run[0] - reach) | (beats > run[-1] + reach)
        beats = np.sort(np.concatenate([beats[outside], run]))
    return beats, fast


def _slope_energy(filtered: Float, sampling_rate: float) -> Float:
    """Root of the mean squared slope in a centred window of 0.1 s."""
    slope = np.diff(filtered, prepend=filtered[:1])
    curve = np.sqrt(_moving_mean(slope * slope, SMOOTHING_S * sampling_rate))
    # behind a large artefact the running sum leaves rounding, which is not a signal
    return np.where(curve > 1e-6 * np.max(curve), curve, 0.0)


def _moving_mean(values: Float, width: float) -> Float:
    mean: Float = np.maximum(uniform_filter1d(values, max(1, round(width)), mode="constant"), 0.0)
    return mean


def _local_maxima(curve: Float, half_window: int) -> Int:
    top = maximum_filter1d(curve, 2 * half_window + 1, mode="nearest")
    candidates = np.flatnonzero((curve >= top) & (curve > 0)).astype(np.int64)
    return _keep_distance(candidates, curve, half_window)  # a plateau counts once


def _neighbour_level(height: Float) -> Float:
    """For each candidate the median of the higher two thirds of the 17 heights around it (fewer in short records)."""
    windows = np.sort(_around(height, NEIGHBOURS), axis=1)
    level: Float = np.median(windows[:, windows.shape[1] // 3 :], axis=1)
    return level


def _level_across_pauses(candidates: Int, height: Float, size: int, sampling_rate: float) -> Float:
    """For each candidate a high one of the largest heights in two-second bins around it.

    In a slow rhythm or a pause most candidates are no beats, so that the level of the neighbours sinks to the noise;
    the bins still hold a beat each, or more than a third of them do. Close maxima of like height are left out: they
    are a fast rhythm, whose neighbours are beats, or a burst of noise.
    """
    low, high = np.sort([height[:-1], height[1:]], axis=0)
    close = (np.diff(candidates) < PAUSE_ALONE_S * sampling_rate) & (low > 0.5 * high)
    alone = ~(np.append(close, False) | np.append(False, close))
    bins = max(1, round(size / (PAUSE_BIN_S * sampling_rate)))
    bin_of = candidates * bins // size
    largest = np.zeros(bins)
    np.maximum.at(largest, bin_of[alone], height[alone])
    count = min(PAUSE_BINS, bins)
    rank = min(count, 1 + round(count / 3))
    level = np.sort(np.lib.stride_tricks.sliding_window_view(largest, count), axis=1)[:, -rank]
    return level[np.clip(bin_of - count // 2, 0, level.size - 1)]


def _stands_out(filtered: Float, curve: Float, candidates: Int, level: Float, floor: Float, fs: float) -> Bool:
    """Whether each candidate is high enough for a beat: nearly a third of the level, as a rule.

    A lower one is a beat in a clean lead, far above both the floor and the P and T waves around it (a small ectopic
    beat). A somewhat higher one is none where many lower ones are nearly as high, unless it is sharper than the beats
    (a tall P wave among P waves, in a block).
    """
    height = curve[candidates]
    share = height / level
    lower = np.sort(_around(np.where(share > LEVEL_SHARE, 0.0, share), WAVE_NEIGHBOURS), axis=1)
    wave = lower[:, -max(1, round(WAVE_RANK * lower.shape[1]))]
    edge = SEARCH_BACK_DISTANCE_S * fs  # where the T wave of a beat outside may lie
    clear = (candidates > edge) & (candidates < curve.size - edge)
    clear &= (share > CLEAR_SHARE) & (height > CLEAR_FLOOR_FACTOR * floor) & (share > CLEAR_WAVE_FACTOR * wave)
    high = share > LEVEL_SHARE
    like_waves = high & (share < WAVE_FACTOR * wave)
    usual = high & ~like_waves
    if like_waves.any() and usual.any():
        size = np.sqrt(_moving_mean(filtered * filtered, SMOOTHING_S * fs)[candidates])
        sharp = height / np.maximum(size, 1e-300)
        high = usual | (like_waves & (sharp > WAVE_SHARPNESS * np.median(sharp[usual])))
    return clear | high


def _in_noise(curve: Float, candidates: Int, level: Float, sampling_rate: float) -> Bool:
    """Which small candidates are hardly higher than half of the second around them: a burst of muscle noise.

    The curve is mirrored at its ends, where a beat that the record cuts would else be compared with itself.
    """
    reach = NOISE_REACH_S * sampling_rate
    noisy = curve[candidates] < SMALL_SHARE * level
    small = candidates[noisy]
    places = np.abs(small[:, None] + np.linspace(-reach, reach, 51).astype(np.int64))
    last = curve.size - 1
    usual = np.median(curve[last - np.abs(last - places)], axis=1)
    noisy[noisy] = curve[small] < NOISE_CONTRAST * usual
    return noisy


def _around(values: NDArray[Any], count: int) -> NDArray[Any]:
    """For each value the `count` around it (fewer where there are fewer; at the ends the nearest full window)."""
    count = min(count, values.size)
    windows = np.lib.stride_tricks.sliding_window_view(values, count)
    return windows[np.clip(np.arange(values.size) - count // 2, 0, values.size - count)]


def _local_floor(curve: Float, candidates: Int, sampling_rate: float) -> Float:
    """The 25th percentile of the curve in windows of about ten seconds, interpolated at the candidates."""
    pieces = max(1, int(curve.size / (FLOOR_WINDOW_S * sampling_rate)))
    width = curve.size // pieces
    whole = curve[: pieces * width].reshape(pieces, width)
    floors = np.percentile(whole, FLOOR_PERCENTILE, axis=1)
    return np.interp(candidates, (np.arange(pieces) + 0.5) * width, floors)


def _search_back(candidates: Int, height: Float, strong: Bool, weak: Bool, fs: float) -> Int:
    """Weaker candidates in gaps longer than 1.66 median RR, the highest first, not close to any beat.

    A candidate must reach a third of the smallest beats around the gap (the second smallest of 17): where all beats are
    alike, P waves and noise in a true pause do not pass for beats; where heights vary, small beats are found.
    """
    beats = candidates[strong]
    if beats.size < 3 or not weak.any():
        return beats
    windows = np.sort(_around(height[strong], NEIGHBOURS), axis=1)
    smallest = windows[:, windows.shape[1] // SEARCH_BACK_RANK]
    weak = weak & (height > SEARCH_BACK_BEAT_SHARE * np.interp(candidates, beats, smallest))
    rr = np.diff(beats)
    usual = np.median(_around(rr, NEIGHBOURS), axis=1)
    distance = SEARCH_BACK_DISTANCE_S * fs
    added: list[int] = []
    for gap in np.flatnonzero(rr > SEARCH_BACK_GAP * usual):
        left, right = beats[gap], beats[gap + 1]
        inside = np.flatnonzero(weak & (candidates > left + distance) & (candidates < right - distance))
        for index in inside[np.argsort(-height[inside], kind="stable")]:
            if all(abs(candidates[index] - other) >= distance for other in added[-8:]):
                added.append(int(candidates[index]))
    return np.sort(np.concatenate([beats, np.asarray(added, dtype=np.int64)]))


def _keep_distance(peaks: Int, strength: Float | None, distance: float | Float) -> Int:
    """Peaks at least `distance` apart: of two closer ones the stronger stays (the earlier one on a tie)."""
    order = np.argsort(peaks, kind="stable")
    apart = np.broadcast_to(np.asarray(distance, dtype=np.float64), peaks.shape)[order]
    peaks = peaks[order]
    if (np.diff(peaks) >= apart[1:]).all():
        return peaks.astype(np.int64)
    kept: list[int] = []
    for peak, least in zip(peaks.tolist(), apart.tolist()):
        if kept and peak - kept[-1] < least:
            if strength is not None and strength[peak] > strength[kept[-1]]:
                kept[-1] = peak
            continue
        kept.append(peak)
    return np.asarray(kept, dtype=np.int64)


def _finder(method: str) -> Callable[[Float, float], Any] | None:
    """A library's detector; None for our own.

    Raises:
        ImportError: the library is not installed.
    """
    if method == "zero_phase":
        return None
    name = {"sleepecg": "sleepecg", "neurokit": "neurokit2"}[method]
    try:
        library = importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"R-peak method {method!r} needs the package {name}: pip install {name}.") from error
    if method == "sleepecg":
        return lambda x, sampling_rate: library.detect_heartbeats(x, sampling_rate)

    def neurokit(x: Float, sampling_rate: float) -> Any:
        cleaned = library.ecg_clean(x, sampling_rate=sampling_rate, method="neurokit")
        return library.ecg_peaks(cleaned, sampling_rate=sampling_rate, method="neurokit")[1]["ECG_R_Peaks"]

    return neurokit
