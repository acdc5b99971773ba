"""HL7 annotated ECG (aECG, HL7 v3 PORT_MT020001): `origin + scale * digit`, each in its own unit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ecg_transformers.data.errors import HeaderError, LimitError, MissingHintError, SignalError, UnitError
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.identity import Patient, clean, day_of_digits, sex_of, time_of_digits
from ecg_transformers.data.readers.clinical.kinds import AECG
from ecg_transformers.data.readers.clinical.leads import lead_of_code
from ecg_transformers.data.readers.clinical.record import MAX_TEXTS, Samples, Sheet, make_record
from ecg_transformers.data.readers.clinical.xml import number_of, numbers_in, read_xml, text_of, texts_within
from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_MAX_PARTS = 20
_PERIODIC = 5
"""Digits of an increment from which on they are the beginning of a number that does not end."""
MAX_DIGITS = 2**23  # characters a lead, an hour and more at 500 Hz
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SUBJECT = "componentOf/timepointEvent/componentOf/subjectAssignment/subject/trialSubject"
_PLACE = re.compile(r"organization|location|place|facility|site")
_MEASURED = ("MDC_ECG_TIME_PD_", "MDC_ECG_HEART_RATE", "MDC_ECG_ANGLE_")


@dataclass
class _Lead:
    name: str
    digits: np.ndarray
    step: float
    origin: float


@dataclass
class _Set:
    """One sequence set: leads over one time axis, `start` as the file writes it."""

    rate: float
    start: str
    leads: list[_Lead]


def read_aecg(path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> DigitalRecord | ECGRecord:
    """The rhythm series; a representative beat, also a derived one, is never handed out as the record.

    Raises:
        ECGDataError: no rhythm, no scale, digits that are no finite numbers, leads of unequal length.
    """
    root, flags = read_xml(path, AECG, hints, limits)
    sheet.patient, sheet.flags = _patient(root), flags
    series = _rhythm(root, path, flags)
    sets = [_sequence_set(node, hints, path, limits, flags) for node in series.findall("component/sequenceSet")]
    sets = [found for found in sets if found.leads]
    if not sets:
        raise SignalError("the rhythm series holds no lead.", path=path)
    first = _joined(sets, flags)
    lengths = {lead.digits.size for lead in first.leads}
    if len(lengths) > 1:
        raise SignalError(f"the leads have unequal lengths ({sorted(lengths)} samples).", path=path)
    samples = Samples(
        counts=np.stack([lead.digits for lead in first.leads], axis=1),
        step=np.array([lead.step for lead in first.leads]),
        baseline=np.array([lead.origin for lead in first.leads]),
        names=[lead.name for lead in first.leads],
        rate=first.rate,
    )
    sheet.acquired = _time(root, series)
    _annotations(series, sheet)
    return make_record(path, hints, limits, samples, sheet)


def _rhythm(root: Element, path: Path, flags: list[str]) -> Element:
    series = [(_code(node), node) for node in root.findall("component/series")]
    rhythm = [node for code, node in series if code == "RHYTHM"]
    if not rhythm:
        rhythm = [node for code, node in series if not code]
        if rhythm:
            flags.append("series_without_code")
    if not rhythm:
        codes = ", ".join(code[:30] for code, _ in series[:5]) or "none"
        raise SignalError(f"the file holds no series of the code RHYTHM (its series: {codes}).", path=path)
    if len(rhythm) > 1:
        flags.append("further_rhythm_series_left_out")
    return rhythm[0]


def _code(node: Element) -> str:
    code = node.find("code")
    return "" if code is None else code.get("code", "").strip()


def _sequence_set(node: Element, hints: Hints, path: Path, limits: Limits, flags: list[str]) -> _Set:
    result = _Set(0.0, "", [])
    sequences = node.findall("component/sequence")
    limits.check_shape(0, max(len(sequences) - 1, 0), path=path)
    for sequence in sequences:
        code, value = _code(sequence), sequence.find("value")
        if code in ("TIME_ABSOLUTE", "TIME_RELATIVE"):
            result.rate, result.start = _rate(value, path)
        elif value is not None:
            name = lead_of_code(code)
            if name is None:
                flags.append("sequence_without_lead_left_out")
                continue
            lead = _lead(name, value, hints, path, limits)
            if lead is None:
                flags.append("channel_without_voltage_left_out")
            else:
                result.leads.append(lead)
    if not result.rate and result.leads:
        if hints.sampling_rate is None:
            raise MissingHintError("the file has no sequence of times; pass sampling_rate=….", path=path)
        result.rate = float(hints.sampling_rate)
    return result


def _rate(value: Element | None, path: Path) -> tuple[float, str]:
    increment = None if value is None else value.find("increment")
    if value is None or increment is None:
        raise HeaderError("the sequence of times has no increment.", path=path)
    unit = increment.get("unit", "").strip()
    if unit not in _SECONDS:
        raise HeaderError(f"the increment of time has the unit {unit[:20]!r}, not s, ms or us.", path=path)
    step = number_of(increment.get("value"), "the increment of time", path) * _SECONDS[unit]
    if step <= 0:
        raise HeaderError(f"the increment of time is {step:g} s.", path=path)
    head = value.find("head")
    return _rate_of(step, increment.get("value", "")), "" if head is None else head.get("value", "")


def _rate_of(step: float, written: str) -> float:
    """Hz of an increment of `step` seconds; a whole number where the increment of that is written so.

    0.00333333333 s are 300 Hz and not 300.00000030; of few digits (0.003) nothing is guessed.
    """
    digits = written.strip().lower().partition("e")[0].replace(".", "").lstrip("+0")
    last = step / int(digits)  # what one more in the last digit is worth
    whole = round(min(1 / step, 1e6))
    if abs(whole * step - 1) < 1e-9 or (whole and len(digits) >= _PERIODIC and abs(1 / whole - step) < last):
        return float(whole)
    return 1 / step


def _lead(name: str, value: Element, hints: Hints, path: Path, limits: Limits) -> _Lead | None:
    """One lead in millivolts; None for what is no voltage."""
    scale, origin = value.find("scale"), value.find("origin")
    if scale is None:
        raise UnitError("the lead has no scale: its digits mean nothing.", path=path, lead=name)
    unit = scale.get("unit", "").strip() or hints.units
    if not unit:
        raise UnitError("the scale has no unit; pass units='uV' (or 'mV', …) if it is known.", path=path, lead=name)
    per_millivolt = units_per_millivolt(unit)
    if per_millivolt is None:
        return None
    step = number_of(scale.get("value"), "the scale", path, name) / per_millivolt
    if step == 0:
        raise UnitError("the scale is 0: all samples would be the same.", path=path, lead=name)
    offset = 0.0
    if origin is not None and origin.get("value", "0").strip() not in ("", "0"):
        own = units_per_millivolt(origin.get("unit", "").strip() or unit)
        if own is None:
            raise UnitError(f"the origin has the unit {origin.get('unit', '')[:20]!r}.", path=path, lead=name)
        offset = number_of(origin.get("value"), "the origin", path, name) / own
    return _Lead(name, _digits(text_of(value, "digits"), name, path, limits), step, offset)


def _digits(text: str, name: str, path: Path, limits: Limits) -> np.ndarray:
    if len(text) > min(MAX_DIGITS, 24 * limits.max_samples):
        raise LimitError("the lead has more digits than samples are allowed.", path=path, lead=name)
    try:
        values = numbers_in(text)
    except ValueError as error:
        raise HeaderError("the digits hold something that is no number.", path=path, lead=name) from error
    if not np.isfinite(values).all():
        raise HeaderError("the digits hold a number that is not finite.", path=path, lead=name)
    limits.check_shape(values.size, 1, path=path)
    return values


def _joined(sets: list[_Set], flags: list[str]) -> _Set:
    """The first set, with those of the same times and other leads; what does not fit is left out and flagged."""
    first = sets[0]
    for other in sets[1:]:
        names = {lead.name for lead in first.leads}
        same = (other.rate, other.start) == (first.rate, first.start)
        same = same and {lead.digits.size for lead in other.leads} == {lead.digits.size for lead in first.leads}
        if same and not names & {lead.name for lead in other.leads}:
            first = _Set(first.rate, first.start, first.leads + other.leads)
        else:
            flags.append("further_sequence_sets_left_out")
    return first


def _time(root: Element, series: Element) -> str:
    for node in (root.find("effectiveTime"), series.find("effectiveTime")):
        for part in ("center", "low", "high"):
            found = None if node is None else node.find(part)
            time = "" if found is None else time_of_digits(found.get("value", ""))
            if time:
                return time
        if node is not None and time_of_digits(node.get("value", "")):
            return time_of_digits(node.get("value", ""))
    return ""


def _patient(root: Element) -> Patient:
    others, places = _others(root)
    subject = root.find(_SUBJECT)
    if subject is None:
        return Patient(others=others, places=places)
    own = subject.find("id")
    number = "" if own is None else own.get("extension", "").strip()
    person = subject.find("subjectDemographicPerson")
    if person is None:
        return Patient(id=number, others=others, places=places)
    other = person.find("PatientID")  # Mindray puts the id into an element of its own
    if not number and other is not None:
        number = (other.get("extension") or other.get("value") or other.text or "").strip()
    name, birth, sex = person.find("name"), person.find("birthTime"), person.find("administrativeGenderCode")
    return Patient(
        id=number,
        names=[] if name is None else texts_within(name, MAX_TEXTS),
        birth_date="" if birth is None else day_of_digits(birth.get("value", "")),
        sex="" if sex is None else sex_of(sex.get("code", "")),
        others=others,
        places=places,
    )


def _others(root: Element) -> tuple[dict[str, str], dict[str, str]]:
    """Names of other persons (authors, investigators) and further ids, and names of places, wherever the file has them."""
    persons: list[str] = []
    ids: list[str] = []
    places: list[str] = []
    for node in root.iter():
        tag = node.tag.lower()
        if tag == "id" and len(node.get("extension", "")) > 3:
            ids.append(node.get("extension", ""))
        elif tag.endswith("person") and node.tag != "subjectDemographicPerson":
            persons += [text for name in node.findall("name") for text in texts_within(name, _MAX_PARTS)]
        elif _PLACE.search(tag):
            places += [
                " ".join(texts_within(part, _MAX_PARTS)) for part in (*node.findall("name"), *node.findall("addr"))
            ]
    return {**_numbered("person", persons), **_numbered("id", ids)}, _numbered("place", places)


def _numbered(what: str, texts: list[str]) -> dict[str, str]:
    found = list(dict.fromkeys(text for text in map(clean, texts) if text))[:MAX_TEXTS]
    return {f"{what} {number}": text for number, text in enumerate(found, 1)}


def _annotations(series: Element, sheet: Sheet) -> None:
    """Statements, and global measurements with their units; marks of single waves are left out."""
    measurements: dict[str, str] = {}
    for holder in series.findall("subjectOf/annotationSet"):
        for node in list(holder.iter("annotation"))[:MAX_TEXTS]:
            code, value = _code(node), node.find("value")
            if value is None:
                continue
            if code.startswith("MDC_ECG_INTERPRETATION"):
                said = texts_within(value, _MAX_PARTS) or [value.get("value", "") or value.get("displayName", "")]
                if said[0]:
                    sheet.statements.append(" ".join(said))
            elif code.startswith(_MEASURED) and value.get("value"):
                measurements.setdefault(code, f"{value.get('value', '')} {value.get('unit', '')}".strip()[:40])
    sheet.facts["measurements"] = measurements
