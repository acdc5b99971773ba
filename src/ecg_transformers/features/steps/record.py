"""Record steps: one record `(T, L)` with its names and units, until every record has the same leads in millivolts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ecg_transformers.features.steps.base import RecordState, RecordStep
from ecg_transformers.signal import leads, quality, units


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
            if disagreement := leads.limb_leads_disagree(signal, state.lead_names):
                state.report.suspicions.append(
                    f"its columns have no names and were taken as the standard leads, but {disagreement}"
                )
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


def note_amplitudes(signal: np.ndarray, state: RecordState, ends: tuple[np.ndarray, np.ndarray] | None = None) -> None:
    """Put flat leads and amplitudes of another unit into the report of a record `(T, L)` in millivolts.

    `ends`: the lowest and the highest value of each lead `(L,)`, where they are known already.
    """
    lowest, highest = ends or (signal.min(axis=0), signal.max(axis=0)) if len(signal) else (np.full(1, np.nan),) * 2
    if np.isfinite(lowest + highest).all():  # nearly every record: these two passes over it are enough
        flat = np.flatnonzero(lowest == highest).tolist()
    else:
        flat = [column for column in range(signal.shape[1]) if _is_flat(signal[:, column])]
        signal = signal[np.isfinite(signal).all(axis=1)]
        lowest, highest = (signal.min(axis=0), signal.max(axis=0)) if len(signal) else (lowest, highest)
    state.report.flat_leads = [state.lead(column) for column in flat]
    known = len(signal) and len(flat) < signal.shape[1]
    suspicion = units.range_suspicion(lowest, highest) if known else None
    if suspicion:
        state.report.suspicions.append(suspicion)


def _is_flat(lead: np.ndarray) -> bool:
    known = lead[np.isfinite(lead)]
    return len(known) == 0 or bool(known.min() == known.max())


@dataclass
class CheckSignal(RecordStep):
    """Refuses what cannot be processed (Inf, NaN, nothing but flat leads), repairs short NaN gaps on request, notes
    the rest.

    `nan` "error", "interpolate" (gaps up to `max_gap` seconds, straight lines), "zero" (every NaN becomes 0 mV) or
    "zero_lead" (a lead with a NaN becomes 0 mV throughout); `flat` says what a record without any deflection is: an
    "error", or "zero" (it then becomes all zeros).
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
        given = signal
        if np.isnan(lowest).any():
            signal = self._repair(signal, state, np.flatnonzero(np.isnan(lowest)))
            lowest, highest = signal.min(axis=0), signal.max(axis=0)
        flat = np.flatnonzero(lowest == highest)
        if len(flat) == signal.shape[1] and self.flat == "error":
            raise ValueError(self._why_flat(given, state, float(lowest[0])))
        note_amplitudes(signal, state, (lowest, highest))
        return signal

    def _why_flat(self, given: np.ndarray, state: RecordState, value: float) -> str:
        for column in np.flatnonzero(np.isnan(given).any(axis=0)):  # then the zeros are ours and not the recorder's
            start, size = quality.nan_gaps(given[:, column])[0]
            gap = f"lead {state.lead(int(column))} has {size} NaN samples from sample {start} on"
            return f"{gap}, and with zeros in place of its NaN every lead is flat: nothing is left."
        return f"every lead is flat (lead {state.lead(0)} is {value:g} throughout): nothing was recorded."

    def _repair(self, signal: np.ndarray, state: RecordState, columns: np.ndarray) -> np.ndarray:
        if self.nan in ("zero", "zero_lead"):
            repaired, zeroed = quality.zero_gaps(signal, whole_leads=self.nan == "zero_lead")
            state.report.zeroed_samples = {state.lead(i): count for i, count in enumerate(zeroed) if count}
            return repaired
        limit = int(self.max_gap * state.sampling_rate) if self.nan == "interpolate" else 0
        for column in columns:
            for start, size in quality.nan_gaps(signal[:, column]):
                if size > limit or size == len(signal):
                    allowed = (
                        f"longer than max_gap={self.max_gap:g} s" if limit else 'nan="interpolate" fills short gaps'
                    )
                    if size == len(signal):
                        allowed = "it holds no value at all"
                    parts = f"; {quality.BY_PARTS}" if state.discontinuous else ""
                    raise ValueError(
                        f"lead {state.lead(int(column))} has {size} NaN samples from sample {start} on: {allowed}{parts}."
                    )
        repaired, filled = quality.interpolate_gaps(signal, limit)
        state.report.interpolated_samples = {state.lead(i): count for i, count in enumerate(filled) if count}
        return repaired
