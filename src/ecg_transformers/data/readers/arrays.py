"""What the readers of plain arrays share: hints from the caller, and an array turned into a record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ecg_transformers.data.errors import (
    DuplicateLeadError,
    LeadNotFoundError,
    LimitError,
    MissingHintError,
    OptionError,
    SignalError,
    UnitError,
)
from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.record import ECGRecord, standard_lead_names

_BLOCK = 2**16
_MOST_TOLD = 600
"""Characters of names in a sentence: an EDF file may have thousands of signals."""


@dataclass(frozen=True)
class Hints:
    """What the caller says about a file.

    Attributes:
        sampling_rate: Hz; needed for formats that do not state it, and refused when it contradicts the file.
        lead_names: for formats that do not name their leads, the names of the columns; for the others, the leads to
            read. Of a file whose one lead is called as no lead is (`ECG`), which lead it is.
        units: "mV", "uV", "V" or "nV"; needed for integer arrays, overrides a wrong header.
        checksum, allow_truncated, strict: see the WFDB reader.
        root, follow_links: the folder that no file may leave.
        keep_identity: hand out the file's own patient id, names and birth date (hospital formats, NPZ); hidden by default.
        variable: which array of a MATLAB or NPZ file holds the samples.
        start, stop: the samples to read, counted from 0, `stop` exclusive; both may be left out.
    """

    sampling_rate: float | None = None
    lead_names: list[str] | None = None
    units: str | None = None
    checksum: Literal["error", "warn", "ignore"] = "error"
    allow_truncated: bool = False
    strict: bool = False
    root: Path | None = None
    follow_links: bool = False
    keep_identity: bool = False
    start: int | None = None
    stop: int | None = None
    variable: str | None = None

    def __post_init__(self) -> None:
        if self.units is not None and units_per_millivolt(self.units) is None:
            raise UnitError(f"the unit {self.units!r} is not known; use 'mV', 'uV', 'V' or 'nV'.")
        if self.checksum not in ("error", "warn", "ignore"):
            raise OptionError(f"checksum={self.checksum!r} does not exist; use 'error', 'warn' or 'ignore'.")
        for name, value in (("start", self.start), ("stop", self.stop)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0):
                raise OptionError(f"{name}={value!r} is no number of samples: a whole number from 0 on is meant.")


def record_from_array(
    signal: np.ndarray,
    path: Path,
    hints: Hints,
    limits: Limits,
    *,
    own_names: list[str] | None = None,
    metadata: dict[str, Any] | None = None,
    counts: bool = False,
) -> ECGRecord:
    """A record from values `(T, L)` in `hints.units` (floats default to millivolt, `counts` and integers need one).

    Raises:
        MissingHintError: what neither the file nor the caller says, all of it at once.
    """
    signal = _two_axes(signal, path, limits)
    check_layout(signal.shape[0], signal.shape[1], path, limits)
    names = own_names or hints.lead_names
    _ask_for_what_is_missing(signal, names, path, hints, counts or signal.dtype.kind in "iu")
    assert names is not None
    assert hints.sampling_rate is not None
    if len(names) != signal.shape[1]:
        turned = " It looks like (leads, samples): transpose it." if signal.shape[0] == len(names) else ""
        raise SignalError(
            f"the array of shape {signal.shape} has {signal.shape[1]} leads, but {len(names)} names are given.{turned}",
            path=path,
        )
    record = ECGRecord(
        signal=_in_millivolts(signal, hints.units or "mV"),
        sampling_rate=float(hints.sampling_rate),
        lead_names=standard_lead_names(names),
        record_id=path.stem,
        source=str(path),
        metadata=metadata or {},
    )
    if own_names is not None and hints.lead_names is not None:
        chosen = pick(record.lead_names, hints.lead_names, path, record.record_id)
        record.signal = np.ascontiguousarray(record.signal[:, chosen])
        record.lead_names = [record.lead_names[index] for index in chosen]
    return record


def _two_axes(signal: np.ndarray, path: Path, limits: Limits) -> np.ndarray:
    """The array as `(T, L)`; what is no record by its shape or type is refused."""
    if signal.ndim == 1:
        signal = signal[:, None]
    if signal.ndim == 3 and (signal.shape[0] == 1 or (signal.shape[2] == 1 and signal.shape[1] <= limits.max_leads)):
        raise SignalError(
            f"the array of shape {signal.shape} has an axis of length 1 too many; save it as (samples, leads).",
            path=path,
        )
    if signal.ndim == 3:
        raise SignalError(
            f"the array of shape {signal.shape} holds {signal.shape[0]} records; save each in a file of its own, "
            "(samples, leads).",
            path=path,
        )
    if signal.ndim != 2:
        raise SignalError(f"an array of shape {signal.shape} is no record (samples, leads).", path=path)
    if not signal.size:
        raise SignalError(f"the array of shape {signal.shape} holds no sample.", path=path)
    if signal.dtype.kind not in "iuf":
        raise SignalError(f"an array of type {signal.dtype} holds no samples.", path=path)
    return signal


def _in_millivolts(signal: np.ndarray, units: str) -> np.ndarray:
    """The signal in float32, block by block."""
    factor = units_per_millivolt(units)
    assert factor is not None
    values = np.empty(signal.shape, dtype=np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(signal), _BLOCK):  # float64 of all of them would be twice the result
            values[start : start + _BLOCK] = signal[start : start + _BLOCK].astype(np.float64) / factor
    return values


def columns_in_millivolts(
    values: np.ndarray, units: Sequence[str], names: Sequence[str] | None, path: Path, hints: Hints
) -> tuple[np.ndarray, Hints]:
    """Values `(T, L)` whose columns name their own units in millivolts, and the hints that go with them.

    Raises:
        UnitError: the unit of a lead that is asked for is no voltage.
    """
    wanted: Sequence[int] = range(values.shape[1])
    if names is not None and hints.lead_names is not None:
        wanted = pick(list(names), hints.lead_names, path, path.stem)
    names = names or hints.lead_names or []
    scaled = values if values.dtype == np.float64 and values.flags.writeable else values.astype(np.float64)
    for column in wanted:
        unit = units[column] or "mV"
        factor = units_per_millivolt(unit)
        if factor is None:
            raise UnitError(
                f"the unit {unit!r} is not a voltage; pass lead_names=[…] to read only the ECG leads, or units='mV' if "
                "it is one.",
                path=path,
                lead=names[column] if column < len(names) else None,
            )
        scaled[:, column] /= factor
    return scaled, replace(hints, units="mV")


def check_layout(num_samples: int, num_leads: int, path: Path, limits: Limits) -> None:
    """Refuse what is too large for a record, and say so of one that lies the other way.

    Raises:
        SignalError: more columns than a record has leads, and few rows; LimitError: too many of either.
    """
    if num_leads > limits.max_leads >= num_samples:
        raise SignalError(
            f"the array of shape {(num_samples, num_leads)} looks like (leads, samples): transpose it to (samples, leads).",
            path=path,
        )
    if num_leads > limits.max_leads:
        raise LimitError(
            f"{num_leads} leads are declared, more than the {limits.max_leads} allowed; where every row is a record or a "
            "beat of its own, save each in a file, with one column a lead.",
            path=path,
        )
    limits.check_shape(num_samples, num_leads, path=path)


def _ask_for_what_is_missing(
    signal: np.ndarray, names: list[str] | None, path: Path, hints: Hints, counts: bool
) -> None:
    lacks, needed = [], []
    if hints.sampling_rate is None:
        lacks.append("does not say its sampling rate")
        needed.append("sampling_rate=…")
    if counts and hints.units is None:
        lacks.append(f"holds whole numbers ({signal.dtype}) without a scale")
        needed.append("units='uV' (or 'mV', …)")
    if names is None:
        lacks.append(f"does not name its {signal.shape[1]} leads")
        needed.append("lead_names=[…]")
    if lacks:
        raise MissingHintError(f"the file {' and '.join(lacks)}; pass {', '.join(needed)}.", path=path)


_OTHER_NAMES = {
    "sampling_rate": {"fs", "freq", "frequency", "rate", "sample_rate", "samplerate", "sampling_frequency", "sfreq"},
    "units": {"unit", "signal_unit", "signal_units"},
    "lead_names": {"ch_names", "channel_names", "channels", "lead", "leads", "sig_name", "sig_names"},
}


def refuse_facts_under_other_names(stored: Iterable[str], own: Sequence[str], path: Path, hints: Hints) -> None:
    """A rate, a unit or leads that a file holds under a name that is not read are not passed over in silence.

    Args:
        stored: names of what lies in the file.
        own: the facts that the format has a name for.

    Raises:
        SignalError: one was found, and the caller does not say the fact.
    """
    for fact, names in _OTHER_NAMES.items():
        found = next((name for name in sorted(stored) if name.lower() in names), None)
        if found is not None and fact not in stored and getattr(hints, fact) is None:
            way_out = f"save it under the name {fact!r}, or pass" if fact in own else "pass"
            raise SignalError(f"the file holds {found!r}, which is not read: {way_out} {fact}=….", path=path)


def pick(names: list[str], wanted: list[str], path: Path, record: str) -> list[int]:
    """Positions of some leads by name."""
    known = [name.lower() for name in standard_lead_names(names)]
    asked = [name.lower() for name in standard_lead_names(wanted)]
    for place, name in enumerate(asked):  # `C3` of a file whose C1 to C6 are chest leads
        if name not in known and re.fullmatch("c[1-6]", name) and f"v{name[1]}" in known:
            asked[place] = f"v{name[1]}"
    for name, original in zip(asked, wanted):
        if name not in known:
            listed = str(names)
            if len(listed) > _MOST_TOLD:
                listed = f"{listed[:_MOST_TOLD].rpartition(',')[0]}, …], {len(names)} in all"
            raise LeadNotFoundError(f"the record has the leads {listed}.", path=path, record=record, lead=original)
        if asked.count(name) > 1:
            raise DuplicateLeadError("this lead is asked for twice.", path=path, record=record, lead=original)
    return [known.index(name) for name in asked]


def agreed_rate(hints: Hints, own: float | None, path: str | Path) -> float | None:
    """The rate of the file, or the hint where it has none; a contradiction is an error."""
    if own is not None and hints.sampling_rate is not None and abs(own - hints.sampling_rate) > 1e-6 * own:
        raise OptionError(
            f"the file states {own} Hz, but sampling_rate={hints.sampling_rate} was given; leave it out, or correct "
            "the file.",
            path=path,
        )
    return own if own is not None else hints.sampling_rate
