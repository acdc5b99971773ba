"""DICOM waveforms: 12-lead, general, general 32-bit and ambulatory ECG (PS3.3 A.34, C.10.9), parsed by pydicom.

pydicom parses the data set; the samples are taken here, because `waveform_array` neither honours the padding value nor
the byte order, and inflates what is deflated without a limit. A value in millivolts is count times sensitivity times
correction factor, plus the baseline, which is in the unit of the sensitivity and not in counts.
"""

from __future__ import annotations

import mmap
import re
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from ecg_transformers.data.errors import (
    HeaderError,
    LimitError,
    MissingDependencyError,
    TruncatedError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.dicom_groups import Group, assemble, choose_groups, is_voltage
from ecg_transformers.data.readers.clinical.dicom_identity import others_of, places_of
from ecg_transformers.data.readers.clinical.dicom_parts import Split, content_of, without_samples
from ecg_transformers.data.readers.clinical.identity import Patient, day_of_digits, sex_of, time_of_digits
from ecg_transformers.data.readers.clinical.leads import is_ecg_lead
from ecg_transformers.data.readers.clinical.record import MAX_TEXTS, Sheet, make_record
from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_DEFLATED = b"1.2.840.10008.1.2.1.99"
MAX_INFLATED = 2**26
MAX_GROUPS = 64
_LEAST_UNLABELLED = 2.0
_WAVEFORM_CLASS = "1.2.840.10008.5.1.4.1.1.9."
_OTHER_CLASSES = {
    "2": "a hemodynamic recording",
    "3": "a recording of cardiac electrophysiology",
    "4": "a sound recording",
    "5": "a recording of the arterial pulse",
    "6": "a recording of respiration",
    "7": "an EEG, EMG or EOG",
    "8": "a recording of the body's position",
}
"""What the waveforms of a class are, by the number behind `_WAVEFORM_CLASS`, but for 1 (ECG)."""
_WITH_ECG = ("2", "3")
"""Classes whose voltages are of the heart, whatever their channels are called."""
_SAYS_ECG = re.compile(r"(?i)\be[ck]g\b|electrocardio")
_TIMES = (
    ("AcquisitionDateTime", ""),
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("StudyDate", "StudyTime"),
)


def read_dicom(path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> DigitalRecord | ECGRecord:
    """The rhythm of a DICOM waveform file; a median beat is never handed out as the record.

    Raises:
        ECGDataError: no waveform in it, sizes that do not fit the file, no ECG channel, an unknown compression.
    """
    parts = without_samples(_inflated(content_of(path, hints, limits), path, limits), path)
    if parts.missing and not hints.allow_truncated:
        raise TruncatedError(
            f"the waveform sequence ends {parts.missing} bytes before its stated end; pass allow_truncated=True to read "
            "what is there.",
            path=path,
        )
    sheet.flags = [*parts.flags, "truncated"] if parts.missing else parts.flags
    with warnings.catch_warnings():  # pydicom's warnings quote the values they complain of
        warnings.simplefilter("ignore")
        data = _dataset(parts.rest, path)
        sheet.patient, sheet.acquired = _patient(data), _time(data)
        is_whole = hints.start is None and hints.stop is None
        groups = _groups(data, parts, path, limits if is_whole else limits.for_parts())
        _refuse_other_waveforms(data, groups, path)
        _annotations(data, sheet)
    chosen = choose_groups(groups, hints.lead_names, path, sheet.flags)
    samples = assemble(chosen, hints, parts.little_endian, path, limits, sheet.flags)
    return make_record(path, hints, limits, samples, sheet)


def _groups(data: Any, parts: Split, path: Path, limits: Limits) -> list[Group]:
    """The heads of all multiplex groups; of a file that is cut, those that are whole up to their samples."""
    items = _sequence(data, "WaveformSequence")
    if not items:
        raise _without_waveform(data, path)
    if len(items) > MAX_GROUPS:
        raise LimitError(f"{len(items)} multiplex groups are more than {MAX_GROUPS}.", path=path)
    groups, cut = [], bool(parts.missing)
    for number, (item, content) in enumerate(zip(items, parts.samples), 1):
        try:
            groups.append(Group.read(item, content, number, path, limits))
        except HeaderError:
            if not cut or number < len(items) or not groups:
                raise
    if cut and not any(group.label for group in groups) and max(group.seconds for group in groups) < _LEAST_UNLABELLED:
        raise TruncatedError("what is left of the file may be a median beat: its groups have no labels.", path=path)
    return groups


def _refuse_other_waveforms(data: Any, groups: list[Group], path: Path) -> None:
    """Name a waveform of another class that holds no ECG: the leads decide, as a sleep EEG may have one beside others."""
    family = _text(data, "SOPClassUID").removeprefix(_WAVEFORM_CLASS)[:1]
    if family not in _OTHER_CLASSES:
        return
    voltages = [channel for group in groups for channel in group.channels if is_voltage(channel)]
    is_ecg = any(is_ecg_lead(channel.lead) or _SAYS_ECG.search(channel.lead) for channel in voltages)
    if not (is_ecg or (voltages and family in _WITH_ECG)):
        raise UnsupportedFormatError(
            f"this DICOM file is {_OTHER_CLASSES[family]} without an ECG lead; only ECG waveforms are read.", path=path
        )


def _dataset(content: bytes, path: Path) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise MissingDependencyError(
            "this is a DICOM file: install ecg_transformers[clinical] to read it.", path=path
        ) from error
    try:
        return pydicom.dcmread(BytesIO(content), force=content[128:132] != b"DICM")
    except (Exception, RecursionError) as error:  # pydicom raises whatever its parsing trips over
        raise HeaderError(
            f"the DICOM data set is damaged ({type(error).__name__} while it was parsed).", path=path
        ) from error


def _inflated(content: bytes | mmap.mmap, path: Path, limits: Limits) -> bytes | mmap.mmap:
    """A deflated data set as a plain one (explicit, little endian), inflated in pieces within a limit."""
    at = content.find(_DEFLATED, 132, 1024)
    if content[128:132] != b"DICM" or at < 0:
        return content
    if content[132:136] != b"\x02\0\0\0" or content[136:138] != b"UL":
        raise HeaderError("the file meta group of a deflated DICOM file does not begin with its length.", path=path)
    start = 144 + int.from_bytes(content[140:144], "little")
    most = min(MAX_INFLATED, 2 * limits.room(len(content)))
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(content[start:], most)
    except zlib.error as error:
        raise HeaderError("the deflated DICOM data set is damaged.", path=path) from error
    if inflater.unconsumed_tail:
        raise LimitError(f"the deflated DICOM data set of {len(content)} bytes grows beyond {most} bytes.", path=path)
    if not inflater.eof:
        raise TruncatedError("the deflated DICOM data set ends early.", path=path)
    plain_syntax = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\0")
    return content[:start].replace(_DEFLATED, plain_syntax, 1) + plain


def _without_waveform(data: Any, path: Path) -> Exception:
    if not len(data) and not len(getattr(data, "file_meta", ())):
        return HeaderError("the DICOM data set is empty or damaged.", path=path)
    if _text(data, "SOPClassUID").startswith(_WAVEFORM_CLASS):
        return HeaderError("this DICOM waveform file has no waveform sequence: it ends early or is damaged.", path=path)
    modality = _text(data, "Modality")[:16]
    what = f" (modality {modality})" if modality.isalnum() else ""
    return UnsupportedFormatError(f"this DICOM file{what} holds no waveform; only ECG waveforms are read.", path=path)


def _sequence(data: Any, keyword: str) -> list[Any]:
    """The items of a sequence, [] where it is missing or damaged."""
    try:
        value = data.get(keyword)
        return list(value) if value is not None and not isinstance(value, (bytes, str)) else []
    except Exception:  # pydicom converts a value when it is first asked for
        return []


def _text(data: Any, keyword: str) -> str:
    try:
        value = data.get(keyword)
    except Exception:
        return ""
    if value is None or isinstance(value, bytes):
        return ""
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _patient(data: Any) -> Patient:
    name = _text(data, "PatientName")
    age = _text(data, "PatientAge").strip()
    years = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}.get(age[-1:].upper())
    return Patient(
        id=_text(data, "PatientID"),
        names=[part for part in name.replace("=", "^").split("^") if part.strip()],
        birth_date=day_of_digits(_text(data, "PatientBirthDate")),
        age=int(age[:-1]) * years if years is not None and age[:-1].isdecimal() and len(age) < 6 else None,
        sex=sex_of(_text(data, "PatientSex")),
        others=others_of(data),
        places=places_of(data),
    )


def _time(data: Any) -> str:
    for day, clock in _TIMES:
        date = re.sub(r"^\s*(\d{4})[-:.](\d\d)[-:.](\d\d)", r"\1\2\3", _text(data, day))  # old files part the digits
        found = time_of_digits(date + _text(data, clock).replace(":", ""))
        if found:
            return found
    return ""


def _annotations(data: Any, sheet: Sheet) -> None:
    """Statements (free texts, coded findings) and measurements of WaveformAnnotationSequence."""
    measurements: dict[str, str] = {}
    for item in _sequence(data, "WaveformAnnotationSequence")[:MAX_TEXTS]:
        text = _text(item, "UnformattedTextValue")
        if text.strip():
            sheet.statements.append(text)
            continue
        name = next(_meanings(item, "ConceptNameCodeSequence"), "")
        value = _text(item, "NumericValue")
        if name and value:
            unit = next(_meanings(item, "MeasurementUnitsCodeSequence", "CodeValue"), "")
            measurements.setdefault(name, f"{value} {unit}".strip())
        elif name:
            finding = next(_meanings(item, "ConceptCodeSequence"), "")
            if finding:
                sheet.statements.append(f"{name}: {finding}")
    sheet.facts["measurements"] = measurements


def _meanings(item: Any, keyword: str, field: str = "CodeMeaning") -> Iterator[str]:
    for code in _sequence(item, keyword):
        text = _text(code, field).strip()
        if text:
            yield text[:200]
