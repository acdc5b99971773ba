"""GE MUSE XML (`RestingECG`): Base64 samples a lead, eight leads stored, the rhythm beside a median beat."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ecg_transformers.data.errors import (
    ChecksumError,
    HeaderError,
    SignalError,
    TruncatedError,
    UnitError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.base64 import base64_bytes
from ecg_transformers.data.readers.clinical.identity import (
    AGE_UNITS,
    Patient,
    add_text,
    iso_date,
    iso_time,
    sex_of,
)
from ecg_transformers.data.readers.clinical.kinds import MUSE
from ecg_transformers.data.readers.clinical.leads import is_ecg_lead, lead_of_text
from ecg_transformers.data.readers.clinical.record import MAX_TEXTS, Samples, Sheet, make_record
from ecg_transformers.data.readers.clinical.xml import number_of, read_xml, text_of
from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_NAMES = ("PatientLastName", "PatientFirstName", "PatientMiddleName")
_PERSON = re.compile(
    r"(Last|First|Middle|Maiden|Full|MD|Tech|Technician|Physician|Operator|User|Nurse)Name|SecondName", re.I
)
_NUMBER = re.compile(
    r"(Patient|Secondary|Admission|Encounter|Visit|HIS|User|MD|Tech|Order|Account)\w*(ID|Num|Number)$|SSN|MRN", re.I
)
_PLACE = re.compile(
    r"(Site|Location|Facility|Institution|Department|Ward|Clinic)Name|RoomID|Bed|Address|City|Phone", re.I
)
_WITHOUT_PERSONS = ("Waveform", "Diagnosis", "OriginalDiagnosis", "QRSTimesTypes", "PharmaData")


@dataclass
class _Lead:
    name: str
    counts: np.ndarray
    declared: int
    step: float


@dataclass
class _Wave:
    rate: float
    leads: list[_Lead]


def read_muse(path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> DigitalRecord | ECGRecord:
    """The waveforms of type Rhythm; leads that are not stored are left to the extractor.

    Raises:
        ECGDataError: only a median beat, no amplitude unit, a lead that is cut or does not fit its CRC.
    """
    root, flags = read_xml(path, MUSE, hints, limits)
    sheet.patient, sheet.flags = _patient(root), flags
    waves = [_wave(node, hints, path, limits, flags) for node in _rhythms(root, path)]
    waves = [wave for wave in waves if wave.leads]
    if not waves:
        raise SignalError("the rhythm waveform holds no lead.", path=path)
    wave = _joined(waves, flags)
    length = max(max(lead.declared, lead.counts.size) for lead in wave.leads)
    if {lead.declared for lead in wave.leads} != {length}:
        raise SignalError(
            f"the leads have unequal lengths ({sorted({lead.declared for lead in wave.leads})}).", path=path
        )
    limits.check_growth(length, len(wave.leads), sum(lead.counts.nbytes for lead in wave.leads), path=path)
    counts = np.zeros((length, len(wave.leads)), dtype=np.int16)
    missing = np.zeros(counts.shape, dtype=bool)
    for column, lead in enumerate(wave.leads):
        counts[: lead.counts.size, column] = lead.counts
        missing[lead.counts.size :, column] = True
    samples = Samples(
        counts=counts,
        step=np.array([lead.step for lead in wave.leads]),
        baseline=np.zeros(len(wave.leads)),
        names=[lead.name for lead in wave.leads],
        rate=wave.rate,
        missing=missing if missing.any() else None,
    )
    _fill_sheet(root, sheet)
    return make_record(path, hints, limits, samples, sheet)


def _rhythms(root: Element, path: Path) -> list[Element]:
    waves = root.findall("Waveform")
    rhythm = [wave for wave in waves if text_of(wave, "WaveformType").lower() == "rhythm"]
    if not rhythm:
        types = ", ".join(text_of(wave, "WaveformType")[:20] or "without type" for wave in waves[:5]) or "none"
        raise SignalError(f"the file holds no waveform of type Rhythm (waveforms: {types}).", path=path)
    return rhythm


def _wave(node: Element, hints: Hints, path: Path, limits: Limits, flags: list[str]) -> _Wave:
    exponent = number_of(text_of(node, "SampleExponent") or "0", "SampleExponent", path)
    if not -12 <= exponent <= 12:
        raise HeaderError(f"SampleExponent is {exponent:g}.", path=path)
    rate = number_of(text_of(node, "SampleBase"), "SampleBase", path) * 10.0**exponent
    nodes = node.findall("LeadData")
    limits.check_shape(0, len(nodes), path=path)
    wave = _Wave(rate, [])
    for part in nodes:
        name = lead_of_text(text_of(part, "LeadID"))
        if not is_ecg_lead(name):
            flags.append("waveform_without_lead_left_out")
            continue
        wave.leads.append(_lead(part, name, hints, path, limits, flags))
    return wave


def _lead(node: Element, name: str, hints: Hints, path: Path, limits: Limits, flags: list[str]) -> _Lead:
    size = text_of(node, "LeadSampleSize")
    if size not in ("", "2"):
        raise UnsupportedFormatError(f"samples of {size[:10]} bytes are not read, only of 2.", path=path, lead=name)
    content = base64_bytes(text_of(node, "WaveFormData"), path, name)
    declared = _declared(node, len(content), name, path)
    limits.check_shape(declared, 1, path=path)
    if declared * 2 > len(content):
        if not hints.allow_truncated:
            raise TruncatedError(
                f"the lead declares {declared} samples, {len(content) // 2} follow; pass allow_truncated=True to read "
                "what is there.",
                path=path,
                lead=name,
            )
        flags.append("truncated")
    elif declared * 2 < len(content):
        raise HeaderError(f"the lead declares {declared} samples, {len(content) / 2:g} follow.", path=path, lead=name)
    else:
        _check_crc(text_of(node, "LeadDataCRC32"), content, name, hints, path, flags)
    for field in ("FirstSampleBaseline", "LeadOffsetFirstSample"):
        if text_of(node, field) not in ("", "0"):
            flags.append(f"{field}_not_applied")
    if text_of(node, "LeadOff").upper() == "TRUE":
        flags.append(f"lead_off_{name}")
    counts = np.frombuffer(content, "<i2", min(declared, len(content) // 2)).astype(np.int16)
    return _Lead(name, counts, declared, _step(node, name, hints, path))


def _declared(node: Element, size: int, name: str, path: Path) -> int:
    """Samples of a lead as its two fields say, which must agree."""
    found = set()
    for field, width in (("LeadSampleCountTotal", 1), ("LeadByteCountTotal", 2)):
        text = text_of(node, field)
        if text:
            value = number_of(text, field, path, name)
            if value < 1 or value != int(value) or value % width:
                raise HeaderError(f"{field} is {value:g}.", path=path, lead=name)
            found.add(int(value) // width)
    if len(found) > 1:
        raise HeaderError(f"the lead declares {sorted(found)} samples at once.", path=path, lead=name)
    return found.pop() if found else size // 2


def _check_crc(text: str, content: bytes, name: str, hints: Hints, path: Path, flags: list[str]) -> None:
    if hints.checksum == "ignore" or not text:
        return
    own = zlib.crc32(content)
    if text.removeprefix("-").isdecimal() and len(text) < 12 and int(text) & 0xFFFFFFFF == own:
        return
    if hints.checksum == "warn":
        flags.append("checksum_mismatch")
        return
    raise ChecksumError(
        f"the samples have the CRC32 {own}, the file states {text[:20]}: it is damaged (checksum='ignore' reads it all "
        "the same).",
        path=path,
        lead=name,
    )


def _step(node: Element, name: str, hints: Hints, path: Path) -> float:
    """Millivolts a count."""
    unit = text_of(node, "LeadAmplitudeUnits") or hints.units or ""
    if not unit:
        raise UnitError("the lead has no LeadAmplitudeUnits; pass units='uV' if they are known.", path=path, lead=name)
    per_millivolt = units_per_millivolt(unit)
    if per_millivolt is None:
        raise UnitError(f"the unit {unit[:20]!r} is no voltage.", path=path, lead=name)
    step = number_of(text_of(node, "LeadAmplitudeUnitsPerBit"), "LeadAmplitudeUnitsPerBit", path, name)
    if step == 0:
        raise UnitError("LeadAmplitudeUnitsPerBit is 0: all samples would be the same.", path=path, lead=name)
    return step / per_millivolt


def _joined(waves: list[_Wave], flags: list[str]) -> _Wave:
    """The first rhythm, with leads of others of the same rate and length; what does not fit is flagged."""
    first = waves[0]
    for other in waves[1:]:
        names = {lead.name for lead in first.leads}
        fits = other.rate == first.rate and {lead.declared for lead in first.leads} == {
            lead.declared for lead in other.leads
        }
        new = [lead for lead in other.leads if lead.name not in names] if fits else []
        if len(new) < len(other.leads):
            flags.append("further_rhythm_left_out")
        first = _Wave(first.rate, first.leads + new)
    return first


def _patient(root: Element) -> Patient:
    person = root.find("PatientDemographics")
    age = text_of(person, "PatientAge")
    unit = AGE_UNITS.get(text_of(person, "AgeUnits").lower() or "years")
    return Patient(
        id=text_of(person, "PatientID"),
        names=[name for name in (text_of(person, field) for field in _NAMES) if name],
        birth_date=_american_date(text_of(person, "DateofBirth")),
        age=float(age) * unit if age.isdecimal() and len(age) < 5 and unit else None,
        sex=sex_of(text_of(person, "Gender")),
        others=_texts(root, (_PERSON, _NUMBER)),
        places=_texts(root, (_PLACE,)),
    )


def _fill_sheet(root: Element, sheet: Sheet) -> None:
    test = root.find("TestDemographics")
    clock = re.match(r"(\d{1,2}):(\d{2})(?::(\d{2}))?$", text_of(test, "AcquisitionTime"))
    day = _american_date(text_of(test, "AcquisitionDate"))
    sheet.acquired = iso_time(day, *(int(part or 0) for part in clock.groups())) if clock else day
    sheet.statements = _lines(root.find("Diagnosis"))
    sheet.facts["machine_statements"] = _lines(root.find("OriginalDiagnosis"))
    for key, field in (
        ("measurements", "RestingECGMeasurements"),
        ("machine_measurements", "OriginalRestingECGMeasurements"),
    ):
        found = root.find(field)
        sheet.facts[key] = {} if found is None else {part.tag: text_of(part)[:60] for part in found if text_of(part)}
    if root.find("PaceSpikes") is not None:
        sheet.flags.append("pace_spikes_stated")


def _texts(root: Element, tags: tuple[re.Pattern[str], ...]) -> dict[str, str]:
    """Texts of the elements of some names, but for the patient's own, wherever the file has them."""
    found: dict[str, str] = {}
    for part in root:
        for node in part.iter() if part.tag not in _WITHOUT_PERSONS else ():
            text = text_of(node)
            if text and node.tag not in (*_NAMES, "PatientID") and any(pattern.search(node.tag) for pattern in tags):
                add_text(found, node.tag, text)
    return found


def _lines(diagnosis: Element | None) -> list[str]:
    """Statements of a diagnosis: texts up to the flag ENDSLINE form one line."""
    lines, words = [], []
    for part in ([] if diagnosis is None else diagnosis.findall("DiagnosisStatement"))[:MAX_TEXTS]:
        words.append(text_of(part, "StmtText"))
        if any((flag.text or "").strip() == "ENDSLINE" for flag in part.findall("StmtFlag")):
            lines.append(" ".join(filter(None, words)))
            words = []
    return [line for line in [*lines, " ".join(filter(None, words))] if line]


def _american_date(text: str) -> str:
    """MM-DD-YYYY as `YYYY-MM-DD`, "" for anything else."""
    match = re.match(r"(\d{1,2})[-/](\d{1,2})[-/](\d{4})$", text)
    if match is None:
        return ""
    month, day, year = map(int, match.groups())
    return iso_date(year, month, day)
