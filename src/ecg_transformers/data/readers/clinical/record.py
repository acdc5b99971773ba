"""A record of what a hospital file holds: samples with the file's own scale, and what it says beside them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import HeaderError, OptionError, SignalError
from ecg_transformers.data.readers.arrays import Hints, agreed_rate, pick
from ecg_transformers.data.readers.clinical.identity import Patient
from ecg_transformers.data.readers.clinical.kinds import name_of
from ecg_transformers.data.readers.clinical.leads import distinct_names
from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.signal.leads import STANDARD_LEADS

MAX_TEXTS = 2000
MAX_TEXT = 4000
MAX_OF_ALL = 2**16
"""Statements and measurements of a file: their number, the characters of each, and of all together."""


@dataclass
class Samples:
    """Leads of one length and rate.

    Attributes:
        counts: integers (or decimals, where the file has such) `(T, L)`.
        step: millivolts a count, `(L,)`; negative where the file says so.
        baseline: millivolts of the count 0, `(L,)`.
        names: L lead names.
        rate: Hz.
        missing: True where the file says "no value", `(T, L)`, or None.
    """

    counts: np.ndarray
    step: np.ndarray
    baseline: np.ndarray
    names: list[str]
    rate: float
    missing: np.ndarray | None = None


@dataclass
class Sheet:
    """What a file says beside its samples: `acquired` as `YYYY-MM-DDTHH:MM:SS`, `facts` as plain data."""

    patient: Patient = field(default_factory=Patient)
    acquired: str = ""
    statements: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    annotations: dict[str, np.ndarray] | None = None


def make_record(path: Path, hints: Hints, limits: Limits, samples: Samples, sheet: Sheet) -> DigitalRecord | ECGRecord:
    """The record: integers of 16 or 32 bits with their scale where the samples are such, float32 millivolt otherwise.

    Raises:
        ECGDataError: no sample, an impossible rate or scale, a lead that is asked for and not there.
    """
    if not samples.counts.size:
        raise SignalError("the file holds no sample of an ECG.", path=path)
    limits.check_shape(*samples.counts.shape, path=path)
    if not 1 <= samples.rate <= 100_000:
        raise HeaderError(f"the sampling rate {samples.rate} Hz lies outside 1 to 100,000 Hz.", path=path)
    for name, step in zip(samples.names, samples.step):
        if not 1e-12 <= abs(step) <= 1e6:  # also refuses NaN
            raise HeaderError(f"a count of {step} mV is no scale of an ECG.", path=path, lead=name)
    if (samples.step < 0).any():
        sheet.flags.append("inverted_gain")
    names = names_without_identity(samples.names, sheet.patient, hints.keep_identity)
    names = distinct_names(names, sheet.flags)
    chosen = pick(names, hints.lead_names, path, name_of(path)) if hints.lead_names else None
    if chosen is not None:
        samples = _some_leads(samples, chosen)
        names = [names[index] for index in chosen]
    common: dict[str, Any] = {
        "sampling_rate": agreed_rate(hints, samples.rate, path) or samples.rate,
        "lead_names": names,
        "record_id": name_of(path),
        "patient_id": sheet.patient.patient_id(hints.keep_identity),
        "source": str(path),
        "annotations": sheet.annotations,
        "metadata": metadata_of(sheet, hints.keep_identity),
    }
    whole = _as_integers(samples)
    if whole is not None:
        return DigitalRecord(samples=whole, gain=1 / samples.step, offset=-samples.baseline / samples.step, **common)
    signal = (samples.counts.astype(np.float64) * samples.step + samples.baseline).astype(np.float32)
    if not np.isfinite(signal).all():
        raise SignalError("the samples hold values that are no finite numbers.", path=path)
    if samples.missing is not None:
        signal[samples.missing] = np.nan
    return ECGRecord(signal=signal, **common)


def metadata_of(sheet: Sheet, keep_identity: bool) -> dict[str, Any]:
    """Plain data: time, age, sex, statements, measurements, flags; free texts without the patient's name and id."""
    facts: dict[str, Any] = {}
    if sheet.acquired:
        facts["acquired"] = sheet.acquired
    facts |= sheet.patient.metadata(keep_identity, sheet.acquired)
    texts, shortened = bounded({"statements": tidy(sheet.statements), **sheet.facts})
    texts = {key: value for key, value in texts.items() if value not in (None, "", [], {})}
    if texts and not keep_identity:
        texts = dict(zip(texts, sheet.patient.hide_in(list(texts.values()))))
    facts |= texts
    if shortened or len(sheet.statements) > MAX_TEXTS:
        sheet.flags.append("texts_shortened")
    if sheet.flags:
        facts["flags"] = list(dict.fromkeys(sheet.flags))
    return facts


def tidy(texts: list[str]) -> list[str]:
    """Texts as written, without blanks around them and empty ones."""
    found = [" ".join(text.replace("\0", " ").split()) for text in texts[:MAX_TEXTS]]
    return [text for text in found if text]


def bounded(texts: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Texts, lists and dictionaries of bounded number and length, and whether something was left out for it."""
    left, shortened = MAX_OF_ALL, False

    def cut(value: Any) -> Any:
        nonlocal left, shortened
        if isinstance(value, list) and value and not isinstance(value[0], str):  # places of gaps: no texts
            return value
        if isinstance(value, (list, dict)):
            shortened = shortened or len(value) > MAX_TEXTS
            if isinstance(value, dict):
                return {cut(key): cut(part) for key, part in islice(value.items(), MAX_TEXTS)}
            return [cut(part) for part in value[:MAX_TEXTS]]
        if not isinstance(value, str):
            return value
        most = min(MAX_TEXT, left)
        shortened, left = shortened or len(value) > most, left - min(len(value), most)
        return value[:most]

    return cut(texts), shortened


def names_without_identity(names: list[str], patient: Patient, keep_identity: bool) -> list[str]:
    """Lead names as a file has them; of those that are no usual ones, what identifies the patient is hidden."""
    if keep_identity or all(name in STANDARD_LEADS for name in names):
        return names
    hidden = patient.hide_in(names, may_be_cut=True)
    return [own if own in STANDARD_LEADS else name for own, name in zip(names, hidden)]


def window(hints: Hints, length: int, path: Path) -> tuple[int, int]:
    """First and last (exclusive) sample that `start` and `stop` ask for; a stop beyond the end means the end.

    Raises:
        OptionError: a start behind the end, a negative number, nothing between them.
    """
    start, stop = hints.start or 0, length if hints.stop is None else min(hints.stop, length)
    if start < 0 or start >= stop:
        raise OptionError(
            f"start={hints.start}, stop={hints.stop} hold no sample: the record has {length} samples.", path=path
        )
    return start, stop


def cut(record: DigitalRecord | ECGRecord, hints: Hints, path: Path) -> DigitalRecord | ECGRecord:
    """The samples that `start` and `stop` ask for of a record that was read whole."""
    if isinstance(record, DigitalRecord):
        start, stop = window(hints, len(record.samples), path)
        samples = np.ascontiguousarray(record.samples[start:stop])
        return replace(record, samples=samples, annotations=beats_within(record.annotations, start, stop))
    start, stop = window(hints, record.num_samples, path)
    signal = np.ascontiguousarray(record.signal[start:stop])
    return replace(record, signal=signal, annotations=beats_within(record.annotations, start, stop))


def beats_within(annotations: dict[str, np.ndarray] | None, start: int, stop: int) -> dict[str, np.ndarray] | None:
    """The beats between two samples, counted from the first of them."""
    if annotations is None or "beat_samples" not in annotations:
        return annotations
    here = (annotations["beat_samples"] >= start) & (annotations["beat_samples"] < stop)
    beats = {key: values[here] if key.startswith("beat_") else values for key, values in annotations.items()}
    return {**beats, "beat_samples": beats["beat_samples"] - start}


def _some_leads(samples: Samples, chosen: list[int]) -> Samples:
    missing = None if samples.missing is None else samples.missing[:, chosen]
    return Samples(
        np.ascontiguousarray(samples.counts[:, chosen]),
        samples.step[chosen],
        samples.baseline[chosen],
        [samples.names[index] for index in chosen],
        samples.rate,
        missing,
    )


def _as_integers(samples: Samples) -> np.ndarray | None:
    """The counts as int16 or int32, whose lowest number is "no value"; None where they are decimals or do not fit."""
    counts, missing = samples.counts, samples.missing
    if counts.dtype.kind not in "iu" and (not np.isfinite(counts).all() or (counts != np.rint(counts)).any()):
        return None
    present = counts if missing is None else np.where(missing, 0, counts)
    for dtype in (np.int16, np.int32):
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
        if present.min() > lowest and present.max() <= highest:
            whole = present.astype(dtype)
            if missing is not None:
                whole[missing] = lowest
            return whole
    return None
