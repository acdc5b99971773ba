"""The steps of a preprocessing chain. One ordered list of them *is* the preprocessor: it is saved, read and executed.

Record steps see one record `(T, L)` with its names and units; after them every record has the same leads. Signal
steps see signals `(…, L, T)`, a whole group of equal shapes at once, and give for each what they would give for it
alone. `crop` is the border between what may be cached (`prepare`) and what is done anew for each crop (`finish`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ecg_transformers.signal import cropping, filtering, leads, normalization, quality, resampling, units


@dataclass
class RecordReport:
    """What was noticed and what was repaired in one record; every entry is empty for a record that needed nothing."""

    record: str = ""
    assumed_leads: list[str] = field(default_factory=list)
    derived_leads: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    zero_filled_leads: list[str] = field(default_factory=list)
    dropped_leads: list[str] = field(default_factory=list)
    interpolated_samples: dict[str, int] = field(default_factory=dict)
    flat_leads: list[str] = field(default_factory=list)
    padded_samples: int = 0
    suspicions: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The entries that are not empty, as plain Python values."""
        return {name: value for name, value in vars(self).items() if value}

    def repairs(self) -> list[str]:
        """One sentence for each kind of repair and suspicion."""
        said = []
        if self.derived_leads:
            said.append(f"Leads {', '.join(self.derived_leads)} were derived from the other limb leads.")
        if self.zero_filled_leads:
            said.append(f"Leads {', '.join(self.zero_filled_leads)} are missing and were filled with zeros.")
        if self.dropped_leads:
            said.append(f"Leads {', '.join(self.dropped_leads)} are missing and were left out.")
        if self.interpolated_samples:
            said.append(f"NaN gaps in leads {', '.join(self.interpolated_samples)} were interpolated.")
        if self.padded_samples:
            said.append("A record shorter than the crop was padded at its end.")
        return said + [f"{self.record}: {text}" for text in self.suspicions]


@dataclass
class RecordState:
    """One record on its way through the record steps."""

    where: str
    lead_names: list[str] | None
    units: str | Sequence[str]
    sampling_rate: float
    report: RecordReport

    def lead(self, column: int) -> str:
        return self.lead_names[column] if self.lead_names else str(column)


class Step:
    """A named, serialisable piece of the chain."""

    name: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """The step as plain data, `{"step": name, …settings that are not None…}`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        return {"step": self.name} | {key: value for key, value in plain.items() if value is not None}


class RecordStep(Step):
    def apply(self, signal: np.ndarray, state: RecordState) -> np.ndarray:
        """`(T, L)` to `(T, L)`; updates `state`."""
        raise NotImplementedError


class SignalStep(Step):
    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        """`(…, L, T)` to `(…, L, T)`."""
        raise NotImplementedError


@dataclass
class SelectLeads(RecordStep):
    """Leads by name, in order; limb leads that are missing are derived, others handled by `missing`."""

    name: ClassVar[str] = "select_leads"
    lead_names: list[str] | None = None
    missing: str = "derive"

    def apply(self, signal: np.ndarray, state: RecordState) -> np.ndarray:
        if self.lead_names is None:
            return signal
        if state.lead_names is None:
            state.lead_names = assumed_lead_names(signal.shape, self.lead_names)
            state.report.assumed_leads = list(state.lead_names)
        names = leads.canonical_leads(state.lead_names)
        plan = leads.plan_leads(names, self.lead_names, self.missing)
        if not isinstance(state.units, str):
            signal, state.units = units.to_millivolts(signal, state.units), "mV"  # before leads are combined
        selected = plan.apply(signal, names)
        state.lead_names = plan.leads
        state.report.derived_leads, state.report.dropped_leads = plan.derived, plan.dropped
        state.report.zero_filled_leads = plan.zero_filled
        return selected


def assumed_lead_names(shape: tuple[int, ...], wanted: Sequence[str]) -> list[str]:
    """Names for the columns of a record without names: the standard twelve in their order, or the extractor's own
    leads.

    Raises:
        ValueError: the number of columns is neither, so that any naming would be a guess.
    """
    if shape[1] == len(leads.STANDARD_LEADS):
        return list(leads.STANDARD_LEADS)
    if shape[1] == len(wanted):
        return list(wanted)
    transposed = shape[0] < shape[1] and (shape[0] in (len(wanted), len(leads.STANDARD_LEADS)) or shape[1] > 100)
    hint = " The shape looks like (num_leads, seq_len): transpose it." if transposed else ""
    raise ValueError(
        f"the record has {shape[1]} leads without names where {len(wanted)} are expected ({', '.join(wanted)}): "
        f"give lead_names=[…].{hint}"
    )


@dataclass
class ConvertUnits(RecordStep):
    """Everything to millivolts."""

    name: ClassVar[str] = "to_millivolts"

    def apply(self, signal: np.ndarray, state: RecordState) -> np.ndarray:
        return units.to_millivolts(signal, state.units)


@dataclass
class CheckSignal(RecordStep):
    """Refuses what cannot be processed (Inf, NaN, nothing but flat leads), repairs short gaps on request, notes the rest.

    `nan` "error" or "interpolate" (gaps up to `max_gap` seconds, straight lines); `flat` says what a record without any
    deflection is: an "error", or "zero" (it then becomes all zeros).
    """

    name: ClassVar[str] = "check"
    nan: str = "error"
    max_gap: float = 0.2
    flat: str = "error"

    def apply(self, signal: np.ndarray, state: RecordState) -> np.ndarray:
        lowest, highest = signal.min(axis=0), signal.max(axis=0)  # both carry a NaN on
        if not np.isfinite(lowest + highest).all() and np.isinf(signal).any():
            column = int(np.flatnonzero(np.isinf(signal).any(axis=0))[0])
            sample = int(np.flatnonzero(np.isinf(signal[:, column]))[0])
            raise ValueError(f"lead {state.lead(column)} is infinite at sample {sample}: repair or remove it.")
        if np.isnan(lowest).any():
            signal = self._repair(signal, state, np.flatnonzero(np.isnan(lowest)))
            lowest, highest = signal.min(axis=0), signal.max(axis=0)
        flat = np.flatnonzero(lowest == highest)
        if len(flat) == signal.shape[1] and self.flat == "error":
            raise ValueError(
                f"every lead is flat (lead {state.lead(0)} is {float(lowest[0]):g} throughout): nothing was recorded."
            )
        state.report.flat_leads = [state.lead(int(column)) for column in flat]
        suspicion = units.unit_suspicion(signal) if len(flat) < signal.shape[1] else None
        if suspicion:
            state.report.suspicions.append(suspicion)
        return signal

    def _repair(self, signal: np.ndarray, state: RecordState, columns: np.ndarray) -> np.ndarray:
        limit = int(self.max_gap * state.sampling_rate) if self.nan == "interpolate" else 0
        for column in columns:
            for start, size in quality.nan_gaps(signal[:, column]):
                if size > limit:
                    allowed = (
                        f"longer than max_gap={self.max_gap:g} s" if limit else 'nan="interpolate" fills short gaps'
                    )
                    raise ValueError(
                        f"lead {state.lead(int(column))} has {size} NaN samples from sample {start} on: {allowed}."
                    )
        repaired, filled = quality.interpolate_gaps(signal, limit)
        state.report.interpolated_samples = {state.lead(i): count for i, count in enumerate(filled) if count}
        return repaired


@dataclass
class Resample(SignalStep):
    """To another rate. `from_rate` is given where an earlier step fixed it, else the record's own rate is meant.

    The Fourier method resamples the whole record to `int(T · rate / from_rate)` samples, as published.
    """

    name: ClassVar[str] = "resample"
    sampling_rate: float = 250.0
    method: str = "fourier"
    from_rate: float | None = None

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        result = resampling.resample(signal, rate, self.sampling_rate, self.method, axis=-1)
        return signal if result is signal else quality.keep_flat(signal, result)


@dataclass
class Pad(SignalStep):
    """Lengthens short signals at their end, with zeros or the last sample."""

    name: ClassVar[str] = "pad"
    length: int = 0
    mode: str = "zero"

    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        return cropping.pad_to(signal, self.length, self.mode, axis=-1)


@dataclass
class Crop(Step):
    """One crop (or `num_crops`) of `length` samples at `rate` Hz; `mode` "center", "start", "random" or "sliding"."""

    name: ClassVar[str] = "crop"
    length: int = 0
    rate: float = 250.0
    mode: str = "center"
    num_crops: int | None = None
    policy: str = "exact"
    stride: int | None = None

    def starts(
        self, length: int, num_crops: int | None = None, generator: np.random.Generator | None = None
    ) -> list[int]:
        """Where the crops of `length` samples start. One draw `generator.integers` for each random crop."""
        count = num_crops if num_crops is not None else self.num_crops
        if generator is not None:
            return [cropping.random_start(length, self.length, generator) for _ in range(count or 1)]
        if count is not None:
            return cropping.evenly_spaced_starts(length, self.length, count, self.policy)
        if self.mode == "center":
            return [cropping.center_start(length, self.length)]
        if self.mode == "start":
            cropping.check_length(length, self.length)
            return [0]
        if self.mode == "sliding":
            return cropping.sliding_starts(length, self.length, self.stride or self.length)
        raise ValueError("random crops need a generator: pass generator=numpy.random.default_rng(seed).")

    def starts_room(self, length: int) -> int:
        """The last possible start in a signal of `length` samples; ValueError when the crop does not fit."""
        return cropping.check_length(length, self.length)


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


STEPS: dict[str, type[Any]] = {
    step.name: step for step in (SelectLeads, ConvertUnits, CheckSignal, Resample, Pad, Crop, Filter, Normalize, Scale)
}


def step_from_dict(data: Mapping[str, Any]) -> Step:
    """The step that `Step.to_dict` wrote.

    Raises:
        ValueError: an unknown step or an unknown setting of it.
    """
    settings = dict(data)
    name = settings.pop("step", None)
    if name not in STEPS:
        raise ValueError(f"unknown preprocessing step {name!r}: the steps are {', '.join(STEPS)}.")
    known = {item.name for item in fields(STEPS[name])}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"the step {name!r} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
    return STEPS[name](**settings)


def run_signal_steps(steps: Sequence[Step], signal: np.ndarray, rate: float, fast: bool = False) -> np.ndarray:
    """The signal steps on signals `(…, L, T)` that come in at `rate` Hz; `fast` merges neighbouring filters."""
    position = 0
    while position < len(steps):
        chain = filter_chain(steps, position) if fast else ()
        if len(chain) and fast_form_fits(signal.shape[-1]):
            fast_form = filtering.fast_filter(chain, signal.shape[-1], float(rate))
            signal = quality.keep_flat(signal, fast_form(signal), all(kind == "lowpass" for kind, _, _ in chain))
            position += len(chain)
            continue
        step = steps[position]
        assert isinstance(step, SignalStep)
        signal = step.apply(signal, rate)
        rate = step.sampling_rate if isinstance(step, Resample) else rate
        position += 1
    return signal


def filter_chain(steps: Sequence[Step], position: int) -> tuple[filtering.FilterSpec, ...]:
    """The filters that follow one another from `position` on."""
    chain: list[filtering.FilterSpec] = []
    while position < len(steps):
        step = steps[position]
        if not isinstance(step, Filter):
            break
        chain.append((step.kind, float(step.cutoff), int(step.order)))
        position += 1
    return tuple(chain)


def fast_form_fits(length: int) -> bool:
    """Whether the filters have a fast form for a length: short signals are all ends, very long ones lose digits."""
    return 100 <= length <= 20_000
