"""Speed of the extractor's chain and of resampling, as ratios within one run.

`rows()` gives one dictionary a row: `name`, `forms` (what is compared), `ratio` (how many times faster the first form
is), and `goal` (the ratio that must be reached, None where a row is for information). Run alone: `python
benchmarks/bench_signal.py`.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.signal

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.signal.filtering import fast_filter, zero_phase_filter
from ecg_transformers.signal.normalization import standardize
from ecg_transformers.signal.resampling import resample

RECORDS, LEADS, LENGTH, RATE = 32, 12, 2250, 250.0
HIGHPASS, LOWPASS, ORDER = 0.67, 40.0, 5
CHAIN = (("highpass", HIGHPASS, ORDER), ("lowpass", LOWPASS, ORDER))


def rows(repeats: int = 7) -> list[dict[str, Any]]:
    """All rows; `repeats` interleaved rounds each, of which the least time counts."""
    return [*filter_rows(repeats), *resampling_rows(repeats), *extractor_rows(repeats)]


def records(length: int, seed: int = 0) -> np.ndarray:
    """Records `(RECORDS, LEADS, length)` float32 with drift, noise and an offset."""
    generator = np.random.default_rng(seed)
    drift = np.cumsum(generator.standard_normal((RECORDS, LEADS, length)), axis=-1) * 0.01
    return (drift + 0.2 * generator.standard_normal((RECORDS, LEADS, length)) + 0.5).astype(np.float32)


def filter_rows(repeats: int) -> list[dict[str, Any]]:
    """High-pass, low-pass and joint standardisation of crops of 9 s."""
    crops = records(LENGTH)
    sections = [scipy.signal.butter(ORDER, cut, kind, fs=RATE, output="sos") for kind, cut, _ in CHAIN]
    fast = fast_filter(CHAIN, LENGTH, RATE)

    def scipy_chain(signal: np.ndarray) -> np.ndarray:
        for sos in sections:
            signal = scipy.signal.sosfiltfilt(sos, signal, axis=-1)
        axes = (-2, -1)
        mean, deviation = signal.mean(axes, keepdims=True), signal.std(axes, keepdims=True)
        return ((signal - mean) / deviation).astype(np.float32)

    def exact_chain(signal: np.ndarray) -> np.ndarray:
        for kind, cut, order in CHAIN:
            signal = zero_phase_filter(signal, kind, cut, RATE, order, axis=-1)
        return standardize(signal).astype(np.float32)

    times = timed(
        {
            "per record": lambda: [scipy_chain(crop) for crop in crops],
            "batched": lambda: scipy_chain(crops),
            "exact per record": lambda: [exact_chain(crop) for crop in crops],
            "exact batched": lambda: exact_chain(crops),
            "fast": lambda: standardize(fast(crops)),
        },
        repeats,
    )
    error = float(np.abs(standardize(fast(crops)) - scipy_chain(crops.astype(np.float64))).max())
    name = f"filter chain 12 x {LENGTH}"
    low_rank = "FFT + low rank float32 / scipy"
    return [
        row(f"{name}, fast", f"{low_rank} per record", times, "per record", "fast", 3.5),
        row(f"{name}, fast, batch", f"{low_rank} batched", times, "batched", "fast", 1.7),
        row(f"{name}, exact", "cached / scipy, per record", times, "per record", "exact per record", 1.25),
        row(f"{name}, exact, batch", "cached / scipy, batched", times, "batched", "exact batched", None),
        {"name": f"{name}, fast, exactness", "forms": "1e-5 over its error", "ratio": 1e-5 / error, "goal": 1.0},
    ]


def resampling_rows(repeats: int) -> list[dict[str, Any]]:
    """Fourier resampling of float32 batches, against scipy on each record as wfdb reads it (float64) or float32."""
    result = []
    for source, goal in ((500, 1.2), (100, 2.0)):
        single = records(10 * source)
        double = single.astype(np.float64)
        times = timed(
            {
                "float64": lambda double=double: [scipy.signal.resample(one, 2500, axis=-1) for one in double],
                "float32": lambda single=single: [scipy.signal.resample(one, 2500, axis=-1) for one in single],
                "ours": lambda single=single, source=source: resample(single, source, 250, axis=-1),
            },
            repeats,
        )
        name = f"resampling {source} -> 250 Hz"
        result.append(row(name, "batched float32 / scipy per record as read", times, "float64", "ours", goal))
        result.append(row(name, "batched float32 / scipy per float32 record", times, "float32", "ours", None))
    return result


def extractor_rows(repeats: int) -> list[dict[str, Any]]:
    """Whole extractor calls on records of 10 s at 500 Hz, checks and lead selection included."""
    signals = [np.ascontiguousarray(record.T) for record in records(5000)]
    exact, fast = ECGFeatureExtractor.for_method("st_mem"), ECGFeatureExtractor.for_method("st_mem", fast=True)
    times = timed(
        {
            "exact one by one": lambda: [exact(signal, sampling_rate=500) for signal in signals],
            "exact batch": lambda: exact(signals, sampling_rate=500),
            "fast batch": lambda: fast(signals, sampling_rate=500),
        },
        repeats,
    )
    name = "extractor, 12 x 10 s at 500 Hz"
    return [
        row(name, "fast batch / exact batch", times, "exact batch", "fast batch", None),
        row(name, "exact batch / exact one by one", times, "exact one by one", "exact batch", None),
    ]


def timed(forms: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of every form in interleaved rounds, so that a busy moment hits all of them alike."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        form()  # caches filled, pages touched
    for _ in range(repeats):
        for name, form in forms.items():
            started = time.process_time()
            form()
            times[name].append(time.process_time() - started)
    return times


def row(
    name: str, forms: str, times: dict[str, list[float]], slow: str, quick: str, goal: float | None
) -> dict[str, Any]:
    """One row: the least time of `slow` over the least time of `quick`."""
    ratio = min(times[slow]) / min(times[quick])
    return {"name": name, "forms": forms, "ratio": ratio, "goal": goal}


if __name__ == "__main__":
    for one in rows():
        goal = "" if one["goal"] is None else f"   goal {one['goal']:g}"
        print(f"{one['ratio']:6.2f}   {one['name']}: {one['forms']}{goal}")
