"""Signal steps of single published chains; a preset's `chain` places them. Each is a thin face of a leaf in `signal/`."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ecg_transformers.features.steps.base import SignalStep
from ecg_transformers.signal import baseline, decimation, filtering, fir, normalization, quality, resampling


@dataclass
class Notch(SignalStep):
    """A zero-phase second-order notch at `frequency` Hz; `quality_factor` is the frequency over the width at -3 dB."""

    name: ClassVar[str] = "notch"
    frequency: float = 50.0
    quality_factor: float = 30.0

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        return quality.keep_flat(
            signal, filtering.zero_phase_notch(signal, self.frequency, rate, self.quality_factor, axis=-1)
        )


@dataclass
class BandPass(SignalStep):
    """A zero-phase Butterworth band-pass of `order` (so 2 · order poles) between `low` and `high` Hz."""

    name: ClassVar[str] = "band_pass"
    low: float = 0.5
    high: float = 40.0
    order: int = 4

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        result = filtering.zero_phase_band_pass(signal, self.low, self.high, rate, self.order, axis=-1)
        return quality.keep_flat(signal, result, passes_constants=False)


@dataclass
class MedianBaseline(SignalStep):
    """Subtracts the running median over `window_s` seconds, `signal.baseline.subtract_median`."""

    name: ClassVar[str] = "median_baseline"
    window_s: float = 0.4

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        return baseline.subtract_median(signal, rate, self.window_s)


@dataclass
class MinMax(SignalStep):
    """Maps least and greatest value to `low` and `high`: of the whole signal (`scope` "joint") or of each lead
    ("per_lead"); `eps` is added to their distance, so that what is flat becomes `low`."""

    name: ClassVar[str] = "min_max"
    scope: str = "joint"
    low: float = 0.0
    high: float = 1.0
    eps: float = 1e-8

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        return normalization.min_max(signal, self.scope, self.low, self.high, self.eps)


@dataclass
class ResampleWindows(SignalStep):
    """Cuts the record at its own rate into windows that become `window` samples, resamples each alone, and joins them.

    The ends of every window then see zeros, as where a model was fed window by window. What is left over after the last
    whole window is dropped; a record shorter than one is resampled as it is. `method` and `rounding` as in `resample`.
    """

    name: ClassVar[str] = "resample_windows"
    sampling_rate: float = 240.0
    window: int = 600
    method: str = "resampy"
    rounding: str | None = None

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        own, length = self.window_at(rate), signal.shape[-1]
        if length < own:
            return self._resample(signal, rate)
        windows = signal[..., : length // own * own].reshape(*signal.shape[:-1], length // own, own)
        resampled = self._resample(windows, rate)[..., : self.window]
        return np.ascontiguousarray(resampled).reshape(*signal.shape[:-1], -1)

    def window_at(self, rate: float) -> int:
        """Samples of a window at `rate` Hz: truncated, or one more where that would give less than a whole window."""
        own = int(self.window / self.sampling_rate * rate)
        return own if self._length(own, rate) >= self.window else own + 1

    def _resample(self, signal: np.ndarray, rate: float) -> np.ndarray:
        rounding = self.rounding or "truncate"
        return resampling.resample(signal, rate, self.sampling_rate, self.method, axis=-1, rounding=rounding)

    def _length(self, length: int, rate: float) -> int:
        if rate == self.sampling_rate:
            return length
        return resampling.resampled_length(length, rate, self.sampling_rate, self.rounding or "truncate")

    def rate_after(self, rate: float) -> float:
        return self.sampling_rate

    def length_after(self, length: int, rate: float) -> int:
        own = self.window_at(rate)
        return self._length(length, rate) if length < own else length // own * self.window


@dataclass
class FIRBandPass(SignalStep):
    """A zero-phase FIR band-pass of `taps_s` seconds between `low` and `high` Hz, `signal.fir.fir_band_pass`."""

    name: ClassVar[str] = "fir_band_pass"
    low: float = 0.05
    high: float = 47.0
    taps_s: float = 0.3

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        result = fir.fir_band_pass(signal, self.low, self.high, rate, self.taps_s, axis=-1)
        return quality.keep_flat(signal, result, passes_constants=False)


@dataclass
class DecimateFlattened(SignalStep):
    """Leads joined to one series, low-passed and decimated: they mix at their seams, as published.

    See `signal.decimation.decimate_flattened`.
    """

    name: ClassVar[str] = "decimate_flattened"
    factor: int = 5

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        return decimation.decimate_flattened(signal, self.factor)

    def rate_after(self, rate: float) -> float:
        return rate / self.factor

    def length_after(self, length: int, rate: float) -> int:
        return length // self.factor


@dataclass
class KeepEvery(SignalStep):
    """Every k-th sample, unfiltered, where the rate is k times `sampling_rate`; a signal of another rate passes."""

    name: ClassVar[str] = "keep_every"
    sampling_rate: float = 250.0

    def step(self, rate: float) -> int:
        """k, or 1 where the rate is no whole multiple."""
        factor = round(rate / self.sampling_rate)
        return factor if factor >= 1 and factor * self.sampling_rate == rate else 1

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        return decimation.keep_every(signal, self.step(rate))

    def rate_after(self, rate: float) -> float:
        return rate / self.step(rate)

    def length_after(self, length: int, rate: float) -> int:
        return -(-length // self.step(rate))
