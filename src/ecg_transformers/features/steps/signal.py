"""Signal steps that most chains have: resampling, padding, crop, Butterworth filters, standardisation, scale."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ecg_transformers.features.steps.base import SignalStep, Step
from ecg_transformers.signal import cropping, filtering, normalization, quality, resampling


@dataclass
class Resample(SignalStep):
    """To another rate. `from_rate` is given where an earlier step fixed it, else the record's own rate is meant.

    `method` and `rounding` (of the number of samples) as in `signal.resampling.resample`.
    """

    name: ClassVar[str] = "resample"
    sampling_rate: float = 250.0
    method: str = "fourier"
    from_rate: float | None = None
    rounding: str | None = None

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        rounding = self.rounding or "truncate"
        result = resampling.resample(signal, rate, self.sampling_rate, self.method, axis=-1, rounding=rounding)
        return signal if result is signal else quality.keep_flat(signal, result)

    def rate_after(self, rate: float) -> float:
        return self.sampling_rate

    def length_after(self, length: int, rate: float) -> int:
        if rate == self.sampling_rate:
            return length
        return resampling.resampled_length(length, rate, self.sampling_rate, self.rounding or "truncate")


@dataclass
class Pad(SignalStep):
    """Lengthens short signals: at the end with zeros ("zero") or the last sample ("edge"), or on both sides ("both")."""

    name: ClassVar[str] = "pad"
    length: int = 0
    mode: str = "zero"

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        return cropping.pad_to(signal, self.length, self.mode, axis=-1)

    def length_after(self, length: int, rate: float) -> int:
        return max(length, self.length)


@dataclass
class Crop(Step):
    """One crop (or `num_crops`) of `length` samples at `rate` Hz; `mode` "center", "start", "random" or "sliding".

    With `unit` a shorter signal is one crop from its start, of as many whole units as it has; without, it is refused.
    """

    name: ClassVar[str] = "crop"
    length: int = 0
    rate: float = 250.0
    mode: str = "center"
    num_crops: int | None = None
    policy: str = "exact"
    stride: int | None = None
    unit: int | None = None

    def fitting(self, length: int) -> int:
        """Samples of a crop in a signal of `length` samples.

        Raises:
            ValueError: it is shorter than one unit.
        """
        if self.unit is None or length >= self.length:
            return self.length
        if length < self.unit:
            raise ValueError(f"the record has {length} samples, fewer than one patch ({self.unit}).")
        return length - length % self.unit

    def starts(
        self, length: int, num_crops: int | None = None, generator: np.random.Generator | None = None
    ) -> list[int]:
        """Where the crops of `length` samples start. One draw `generator.integers` for each random crop."""
        count = num_crops if num_crops is not None else self.num_crops
        crop = self.fitting(length)
        length = crop if crop < self.length else length  # what is no whole unit is cut off at the end
        if generator is not None:
            return [cropping.random_start(length, crop, generator) for _ in range(count or 1)]
        if count is not None:
            return cropping.evenly_spaced_starts(length, crop, count, self.policy)
        if self.mode == "center":
            return [cropping.center_start(length, crop)]
        if self.mode == "start":
            cropping.check_length(length, crop)
            return [0]
        if self.mode == "sliding":
            return cropping.sliding_starts(length, crop, self.stride or crop)
        raise ValueError("random crops need a generator: pass generator=numpy.random.default_rng(seed).")

    def start_of(self, start: int, sampling_rate: float) -> int:
        """A start counted at `sampling_rate`, at the crop's own rate: the nearest sample."""
        return round(start * self.rate / sampling_rate)

    def starts_room(self, length: int) -> int:
        """The last possible start in a signal of `length` samples; ValueError when the crop does not fit."""
        return 0 if self.fitting(length) < self.length else cropping.check_length(length, self.length)


@dataclass
class Filter(SignalStep):
    """A zero-phase Butterworth filter; a flat lead stays exactly flat."""

    name: ClassVar[str] = "filter"
    kind: str = "highpass"
    cutoff: float = 0.67
    order: int = 5

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        result = filtering.zero_phase_filter(signal, self.kind, self.cutoff, rate, self.order, axis=-1)
        return quality.keep_flat(signal, result, passes_constants=self.kind == "lowpass")


@dataclass
class Normalize(SignalStep):
    """Standardises: mode "joint", "per_lead", or "fixed" with `mean` and `std` of each lead."""

    name: ClassVar[str] = "normalize"
    mode: str = "joint"
    eps: float = 0.0
    mean: list[float] | None = None
    std: list[float] | None = None

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        if self.mode == "fixed":
            return normalization.standardize_fixed(signal, self.mean or [0.0], self.std or [1.0])
        return normalization.standardize(signal, self.mode, self.eps)


@dataclass
class Scale(SignalStep):
    """Multiplies by `factor`, then limits to ±`clip`."""

    name: ClassVar[str] = "scale"
    factor: float = 1.0
    clip: float | None = None

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        scaled = signal if self.factor == 1.0 else signal * self.factor
        return scaled if self.clip is None else np.clip(scaled, -self.clip, self.clip)
