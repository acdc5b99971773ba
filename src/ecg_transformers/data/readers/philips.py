"""Philips ECG XML (Sierra, PageWriter, TraceMasterVue) of the versions 1.03, 1.04, 1.04.01 and 1.04.02."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from ecg_transformers.data.errors import (
    HeaderError,
    LimitError,
    MissingHintError,
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
    sex_of,
    time_of_texts,
)
from ecg_transformers.data.readers.clinical.kinds import PHILIPS
from ecg_transformers.data.readers.clinical.leads import lead_of_text
from ecg_transformers.data.readers.clinical.record import MAX_TEXTS, Samples, Sheet, make_record
from ecg_transformers.data.readers.clinical.xli import restore_limb_leads, unpack_leads
from ecg_transformers.data.readers.clinical.xml import number_of, numbers_in, read_xml, text_of
from ecg_transformers.data.readers.limits import Limits
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.signal.leads import LIMB_LEADS, STANDARD_LEADS

VERSIONS = ("1.03", "1.04", "1.04.01", "1.04.02")
MOST_LEADS = 12
MAX_SAMPLES = 3_000_000
_ALLOCATED = 16  # files have room for so many leads, those beyond the declared ones flat
_SIGNAL = "dataacquisition/signalcharacteristics"
_IDENTIFYING = (
    "dataacquisition/acquirer",
    "orderinfo",
    "documentinfo/editor",
    "patient/generalpatientdata",
    "userdefines",
)
_TELLS_WHO = re.compile(
    r"id$|mrn|ssn|name|number|phone|account|clinician|physician|doctor|operator|technician|nurse|editor|"
    r"institution|facility|department|room|bed|location|address|street|city|zip|ward|site|value$"
)
_OWN = ("patientid", "lastname", "firstname", "middlename")
_PLACE = re.compile(r"institution|facility|department|room|bed|location|address|street|city|zip|ward|site|value$")


@dataclass
class _Layout:
    """What the header says of the samples: `resolution` in millivolts a count."""

    names: list[str]
    rate: float
    length: int
    resolution: float
    coding: str
    compressed: bool

    @property
    def restored(self) -> bool:
        """Whether four of the leads are stored as what is left of them."""
        return self.compressed and tuple(self.names[:6]) == LIMB_LEADS


def read_philips(path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> DigitalRecord | ECGRecord:
    """The parsed waveforms; limb leads stored as residuals are restored, the calibration pulse behind them is cut.

    Raises:
        ECGDataError: another version, coding or compression, data that end early, no resolution.
    """
    root, flags = read_xml(path, PHILIPS, hints, limits)
    sheet.patient, sheet.flags = _patient(root), flags
    layout = _layout(root, hints, path)
    limits.check_shape(layout.length, len(layout.names), path=path)
    if layout.length * len(layout.names) > MAX_SAMPLES:
        raise LimitError(
            f"{layout.length} samples of {len(layout.names)} leads are declared, more than the {MAX_SAMPLES} allowed.",
            path=path,
        )
    text = text_of(root, "waveforms/parsedwaveforms")
    limits.check_growth(layout.length, len(layout.names), len(text), path=path)
    counts, missing = _counts(text, layout, hints, path, flags)
    if layout.restored:
        counts = restore_limb_leads(counts)
        flags.append("limb_leads_restored")
    counts, missing = _without_pulse(counts, missing, layout.resolution, path, flags)
    num_leads = len(layout.names)
    samples = Samples(
        counts, np.full(num_leads, layout.resolution), np.zeros(num_leads), layout.names, layout.rate, missing
    )
    _fill_sheet(root, sheet)
    return make_record(path, hints, limits, samples, sheet)


def _layout(root: Element, hints: Hints, path: Path) -> _Layout:
    version = text_of(root, "documentinfo/documentversion")
    if version not in VERSIONS:
        raise UnsupportedFormatError(
            f"Philips ECG XML of version {version[:20]!r} is not known; read are {', '.join(VERSIONS)}.", path=path
        )
    node = root.find("waveforms/parsedwaveforms")
    if node is None:
        raise SignalError("the file has no parsedwaveforms: it holds no samples.", path=path)
    signal = root.find(_SIGNAL)
    for field, usual in (("signaloffset", "0"), ("signalsigned", "true"), ("bitspersample", "16")):
        stated = (node.get(field) or text_of(signal, field) or usual).strip().lower()
        if stated != usual:
            raise UnsupportedFormatError(
                f"{field} is {stated[:20]!r}; what that means for the samples is not established, only {usual!r} is "
                "read.",
                path=path,
            )
    rate = number_of(node.get("samplespersecond") or text_of(signal, "samplingrate"), "the sampling rate", path)
    duration = number_of(node.get("durationperchannel"), "durationperchannel", path)
    length = duration * rate / 1000
    if not 1 <= length < 2**53 or not 1 <= rate <= 100_000:
        raise HeaderError(f"{duration:g} ms at {rate:g} Hz are no recording.", path=path)
    layout = _Layout(
        names=_names(node, signal, hints, path),
        rate=rate,
        length=int(length),
        resolution=_resolution(node, signal, hints, path),
        coding=(node.get("dataencoding") or "").strip(),
        compressed=_compressed(node, path),
    )
    if layout.compressed and not layout.restored and set(layout.names) & set(LIMB_LEADS[2:]):
        raise UnsupportedFormatError(
            "the leads are compressed by XLI, but do not begin with I, II, III, aVR, aVL, aVF: which of them are stored as "
            "what is left of others is not established.",
            path=path,
        )
    return layout


def _resolution(node: Element, signal: Element | None, hints: Hints, path: Path) -> float:
    """Millivolts a count."""
    stated = node.get("resolution") or text_of(signal, "resolution") or text_of(signal, "signalresolution")
    own = units_per_millivolt(hints.units) if hints.units and not stated else None
    if own is not None:
        return 1 / own
    if not stated:
        raise UnitError("the file states no resolution; pass units='uV' (or 'mV', …) if a count is one.", path=path)
    step = number_of(stated, "the resolution (microvolts a count)", path)
    if step <= 0:
        raise HeaderError(f"the resolution is {step:g} microvolts a count.", path=path)
    return step / 1000


def _compressed(node: Element, path: Path) -> bool:
    method = (node.get("compression") or node.get("compressmethod") or "").strip()
    if (node.get("compressflag") or "").strip().lower() in ("false", "0"):
        return False
    if method.lower() in ("", "none", "uncompressed"):
        if (node.get("compressflag") or "").strip().lower() in ("true", "1"):
            raise UnsupportedFormatError("the samples are compressed by a method that is not stated.", path=path)
        return False
    if method.upper() != "XLI":
        raise UnsupportedFormatError(f"the compression {method[:20]!r} is not known; XLI is.", path=path)
    return True


def _names(node: Element, signal: Element | None, hints: Hints, path: Path) -> list[str]:
    """Lead labels of the file, or the standard order that it refers to."""
    count = (
        node.get("numberofleads")
        or text_of(signal, "numberchannelsallocated")
        or text_of(signal, "numberchannelsvalid")
    )
    labels = (node.get("leadlabels") or "").split()
    number = int(number_of(count or str(len(labels)), "the number of leads", path))
    if number > MOST_LEADS:
        raise UnsupportedFormatError(
            f"the file has {number} leads; where those beyond {MOST_LEADS} lie is not established.", path=path
        )
    if labels and 1 <= number <= len(labels):
        return [lead_of_text(label) for label in labels[:number]]
    kind = text_of(signal, "acquisitiontype") or text_of(signal, "leadset")
    if not labels and number == len(STANDARD_LEADS) and kind in ("STD-12", "10-WIRE"):
        return list(STANDARD_LEADS)
    if hints.lead_names and len(hints.lead_names) == number:
        return list(hints.lead_names)
    raise MissingHintError(f"the file does not name its {number} leads; pass lead_names=[…].", path=path)


def _counts(
    text: str, layout: _Layout, hints: Hints, path: Path, flags: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Integers `(T, L)` as stored, and what is missing at the end of a file that may be cut."""
    num_leads = len(layout.names)
    if layout.coding.lower() == "plain":
        if layout.compressed:
            raise UnsupportedFormatError("plain text cannot be compressed by XLI.", path=path)
        values = _plain(text, path)
    elif layout.coding.lower() == "base64":
        content = base64_bytes(text, path)
        if layout.compressed:
            allow = hints.allow_truncated
            counts, whole = unpack_leads(content, num_leads, layout.length, path, allow_truncated=allow)
            if whole == num_leads:
                return counts, None
            flags.append("truncated")
            return counts, np.broadcast_to(np.arange(num_leads) >= whole, counts.shape).copy()
        values = np.frombuffer(content, "<i2", len(content) // 2)
    else:
        raise UnsupportedFormatError(
            f"the coding {layout.coding[:20]!r} is not known; Base64 and Plain are.", path=path
        )
    needed = num_leads * layout.length
    if values.size > needed and values.size != _ALLOCATED * layout.length:
        raise HeaderError(
            f"{num_leads} leads of {layout.length} samples are declared, {values.size} numbers follow: where a lead "
            "begins is not certain.",
            path=path,
        )
    return _by_lead(values, layout, hints, path, flags)


def _by_lead(
    values: np.ndarray, layout: _Layout, hints: Hints, path: Path, flags: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """Leads one after another as `(T, L)`, and what is missing at the end."""
    num_leads = len(layout.names)
    needed = num_leads * layout.length
    if values.size >= needed:
        return np.ascontiguousarray(values[:needed].reshape(num_leads, layout.length).T), None
    if not hints.allow_truncated or not values.size:
        raise TruncatedError(
            f"{num_leads} leads of {layout.length} samples are declared, {values.size} numbers follow; pass "
            "allow_truncated=True to read what is there.",
            path=path,
        )
    flags.append("truncated")
    filled = np.zeros(needed, dtype=values.dtype)
    filled[: values.size] = values
    missing = np.arange(needed) >= values.size
    shape = (num_leads, layout.length)
    return np.ascontiguousarray(filled.reshape(shape).T), np.ascontiguousarray(missing.reshape(shape).T)


def _plain(text: str, path: Path) -> np.ndarray:
    try:
        values = numbers_in(text.replace(",", " "))
    except ValueError as error:
        raise HeaderError("the plain samples hold something that is no number.", path=path) from error
    if not np.isfinite(values).all() or (np.abs(values) > 2**30).any() or (values != np.rint(values)).any():
        raise HeaderError("the plain samples hold something that is no whole number.", path=path)
    return values.astype(np.int32)


def _without_pulse(
    counts: np.ndarray, missing: np.ndarray | None, resolution: float, path: Path, flags: list[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    """The samples without the calibration pulse: 1 mV in all leads at once behind a stretch of zeros.

    Behind the ECG it is cut; anywhere else its place becomes "no value".
    """
    together = (counts == counts[:, :1]).all(axis=1)
    height = round(1 / resolution)
    high = together & (counts[:, 0] == height) & (counts.shape[1] > 1)
    low = together & (counts[:, 0] == 0)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], high, [False]]).astype(np.int8)))
    starts, stops = edges[::2], edges[1::2]
    others = np.concatenate([[-1], np.flatnonzero(~low), [len(low)]])  # the stretches of zeros lie between these
    befores, afters = others[np.searchsorted(others, starts) - 1] + 1, others[np.searchsorted(others, stops)]
    pulses = np.flatnonzero((stops - starts >= 10) & (starts - befores >= 5))
    for before, after in zip(befores[pulses].tolist(), afters[pulses].tolist()):
        flags.append("calibration_pulse_removed")
        if after == len(counts):
            if before == 0:
                raise SignalError("the file holds nothing but a calibration pulse.", path=path)
            return counts[:before], None if missing is None else missing[:before]
        missing = np.zeros(counts.shape, dtype=bool) if missing is None else missing
        missing[before:after] = True
    return counts, missing


def _patient(root: Element) -> Patient:
    person = root.find("patient/generalpatientdata")
    born = _empty(text_of(person, "age/dateofbirth"))
    others, places = _identity(root)
    return Patient(
        id=next(filter(None, (_empty(text_of(person, tag)) for tag in ("patientid", "MRN", "uniquepatientid"))), ""),
        names=[
            name
            for part in ("lastname", "firstname", "middlename")
            if (name := _empty(text_of(person, f"name/{part}")))
        ],
        birth_date=_date(born),
        age=_age(person),
        sex=sex_of(text_of(person, "sex")),
        others=others,
        places=places,
    )


def _age(person: Element | None) -> float | None:
    """Years, of the first unit that is not 0."""
    texts = ((text_of(person, f"age/{unit}"), years) for unit, years in AGE_UNITS.items())
    found = [int(text) * years for text, years in texts if text.isdecimal() and len(text) < 5]
    return next(filter(None, found), found[0] if found else None)


def _fill_sheet(root: Element, sheet: Sheet) -> None:
    acquisition = root.find("dataacquisition")
    if acquisition is not None:
        sheet.acquired = time_of_texts(acquisition.get("date", ""), acquisition.get("time", ""))
    for node in root.findall("interpretations/interpretation"):
        for statement in node.findall("statement")[:MAX_TEXTS]:
            sheet.statements += _statement(statement)
        severity = _empty(text_of(node, "severity"))
        if severity:
            sheet.facts["severity"] = severity[:200]
    measured = [
        *root.findall("measurements/globalmeasurements/*"),
        *root.findall("interpretations/interpretation/globalmeasurements/*"),
    ]
    sheet.facts["measurements"] = {
        part.tag: text_of(part)[:60] for part in measured if _empty(text_of(part)) and not len(part)
    }


def _identity(root: Element) -> tuple[dict[str, str], dict[str, str]]:
    """Further ids and names of persons, and places, by the elements (or attributes) they stand in."""
    others: dict[str, str] = {}
    places: dict[str, str] = {}
    for way in _IDENTIFYING:
        for top in root.findall(way):
            for node in top.iter():
                for tag, text in ((node.tag, text_of(node)), *node.attrib.items()):
                    text = _empty(text.strip())
                    tag = tag.lower()
                    if len(text) > 2 and tag not in _OWN and _TELLS_WHO.search(tag):
                        name = f"{top.tag} {tag}" if tag in ("name", "id", "value") else tag
                        add_text(places if _PLACE.search(tag) else others, name, text)
    return others, places


def _statement(node: Element) -> list[str]:
    """The finding with its reason behind it, or the coded text where there is none; deleted ones are left out."""
    if node.get("deleted", "").lower() in ("true", "1"):
        return []
    left, right = text_of(node, "leftstatement"), text_of(node, "rightstatement")
    if left or right:
        return [f"{left} ({right})" if left and right else left or right]
    coded = [
        part for part in node.findall("codedstatement/unparsedstatement") if part.get("deleted", "").lower() != "true"
    ]
    return [text for part in coded if (text := text_of(part))]


def _empty(text: str) -> str:
    return "" if text.strip("- ") == "" else text


def _date(text: str) -> str:
    parts = text.replace("/", "-").replace(".", "-").split("-")
    if len(parts) == 3 and all(part.isdecimal() and len(part) <= 4 for part in parts):
        return iso_date(*map(int, parts))
    return ""
