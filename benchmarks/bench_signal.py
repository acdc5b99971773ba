"""Speed of the extractor's chain and of resampling, as ratios within one run.

python benchmarks/bench_signal.py          # one thread; about a minute of CPU
"""

import numpy as np
import scipy.signal
from timing import Row, rotate, row

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.signal.filtering import fast_filter, zero_phase_filter
from ecg_transformers.signal.normalization import standardize
from ecg_transformers.signal.resampling import resample

RECORDS, LEADS, LENGTH, RATE = 32, 12, 2250, 250.0
HIGHPASS, LOWPASS, ORDER = 0.67, 40.0, 5
CHAIN = (("highpass", HIGHPASS, ORDER), ("lowpass", LOWPASS, ORDER))


def rows(repeats: int = 7) -> list[Row]:
    """One dictionary a comparison: `name`, `forms` (median CPU seconds), `ratio` and `goal` (None: for information)."""
    return [*filter_rows(repeats), *resampling_rows(repeats), *extractor_rows(repeats)]


def records(length: int, seed: int = 0) -> np.ndarray:
    """Records `(RECORDS, LEADS, length)` float32 with drift, noise and an offset."""
    generator = np.random.default_rng(seed)
    drift = np.cumsum(generator.standard_normal((RECORDS, LEADS, length)), axis=-1) * 0.01
    return (drift + 0.2 * generator.standard_normal((RECORDS, LEADS, length)) + 0.5).astype(np.float32)


def filter_rows(repeats: int) -> list[Row]:
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

    seconds = rotate(
        {
            "scipy per record": lambda: [scipy_chain(crop) for crop in crops],
            "scipy batched": lambda: scipy_chain(crops),
            "exact per record": lambda: [exact_chain(crop) for crop in crops],
            "exact batched": lambda: exact_chain(crops),
            "FFT + low rank": lambda: standardize(fast(crops)),
        },
        repeats,
    )
    error = float(np.abs(standardize(fast(crops)) - scipy_chain(crops.astype(np.float64))).max())
    name = f"filter chain 12 x {LENGTH}"
    return [
        compare(name, seconds, "scipy per record", "FFT + low rank", 3.5),
        compare(name, seconds, "scipy batched", "FFT + low rank", 1.7),
        compare(name, seconds, "scipy per record", "exact per record", 1.25),
        compare(name, seconds, "scipy batched", "exact batched", None),
        {
            "name": f"{name}: FFT + low rank, 1e-5 over its error",
            "forms": {"error": error},
            "ratio": 1e-5 / error,
            "goal": 1.0,
        },
    ]


def resampling_rows(repeats: int) -> list[Row]:
    """Fourier resampling of float32 batches, against scipy on each record as wfdb reads it (float64) or float32."""
    result = []
    for source, goal in ((500, 1.2), (100, 2.0)):
        single = records(10 * source)
        double = single.astype(np.float64)
        seconds = rotate(
            {
                "scipy per record": lambda double=double: [scipy.signal.resample(one, 2500, axis=-1) for one in double],
                "scipy float32": lambda single=single: [scipy.signal.resample(one, 2500, axis=-1) for one in single],
                "float32 batched": lambda single=single, source=source: resample(single, source, 250, axis=-1),
            },
            repeats,
        )
        name = f"resampling {source} -> 250 Hz"
        result.append(compare(name, seconds, "scipy per record", "float32 batched", goal))
        result.append(compare(name, seconds, "scipy float32", "float32 batched", None))
    return result


def extractor_rows(repeats: int) -> list[Row]:
    """Whole extractor calls on records of 10 s at 500 Hz, checks and lead selection included."""
    signals = [np.ascontiguousarray(record.T) for record in records(5000)]
    exact, fast = ECGFeatureExtractor.for_method("st_mem"), ECGFeatureExtractor.for_method("st_mem", fast=True)
    seconds = rotate(
        {
            "exact one by one": lambda: [exact(signal, sampling_rate=500) for signal in signals],
            "exact batch": lambda: exact(signals, sampling_rate=500),
            "fast batch": lambda: fast(signals, sampling_rate=500),
        },
        repeats,
    )
    name = "extractor, 12 x 10 s at 500 Hz"
    return [
        compare(name, seconds, "exact batch", "fast batch", None),
        compare(name, seconds, "exact one by one", "exact batch", None),
    ]


def compare(name: str, seconds: dict[str, float], slow: str, fast: str, goal: float | None) -> Row:
    """The row of two of the forms that were timed together."""
    return row(f"{name}: {fast} over {slow}", {form: seconds[form] for form in (slow, fast)}, slow, fast, goal)


if __name__ == "__main__":
    from run import main

    raise SystemExit(main(["--only", "signal"]))
