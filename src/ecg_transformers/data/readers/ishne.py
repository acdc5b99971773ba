"""ISHNE Holter files (Badilini 1998) and the annotations beside them, read in parts and in bounded memory."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import (
    AnnotationError,
    ChecksumError,
    ECGDataError,
    HeaderError,
    LimitError,
    TruncatedError,
    UnitError,
    UnsupportedFormatError,
)
from ecg_transformers.data.millivolts import INVALID
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.identity import Patient, iso_date, iso_time
from ecg_transformers.data.readers.clinical.record import Samples, Sheet, make_record, window
from ecg_transformers.data.readers.clinical.scp_sections import crc
from ecg_transformers.data.readers.limits import IN_PARTS, Limits, open_file, read_array, read_bytes
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_FIXED = 522
_MAGIC = (b"ISHNE1.0", b"ANN  1.0")
_LEADS = {
    2: "X",
    3: "Y",
    4: "Z",
    5: "I",
    6: "II",
    7: "III",
    8: "aVR",
    9: "aVL",
    10: "aVF",
    17: "ES",
    18: "AS",
    19: "AI",
}
_LEADS |= {code: f"V{code - 10}" for code in range(11, 17)}
_NANOVOLT = 1e-6
_TIMEOUT = ord("!")
_BEAT = np.dtype([("label", "u1"), ("kind", "u1"), ("interval", "<u2")])


@dataclass(frozen=True)
class _Header:
    block: int
    declared: int
    rate: int
    names: list[str]
    resolution: list[int]
    patient: Patient
    acquired: str
    pacemaker: int

    @property
    def start(self) -> int:
        """Where the samples begin, whatever the header says of it: writers err."""
        return _FIXED + self.block


def read_ishne(path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> DigitalRecord | ECGRecord:
    """The samples from `start` to `stop`, -32768 as "no value", and the beats of an `.ann` file of the same stem.

    Raises:
        ECGDataError: an annotation file, a checksum that does not fit, no resolution, fewer samples than stated.
    """
    descriptor, size = open_file(path, hints.root, follow_links=hints.follow_links)
    try:
        head = os.read(descriptor, _FIXED)
        if path.suffix.lower() == ".ann" or head.startswith(_MAGIC[1]):
            raise UnsupportedFormatError(
                "this is an ISHNE annotation file, no ECG: read the .ecg file of the same name, the beats come with it.",
                path=path,
            )
        header = _header(head, descriptor, size, hints, path, limits, sheet.flags)
        start, stop = window(hints, _length(header, size, hints, path, sheet.flags), path)
        num_leads = len(header.names)
        limits.check_shape(stop - start, num_leads, path=path, way_out=IN_PARTS)
        flat = read_array(descriptor, "<i2", (stop - start) * num_leads, header.start + 2 * start * num_leads)
    except OSError as error:
        raise ECGDataError(f"the file cannot be read ({type(error).__name__}).", path=path) from error
    finally:
        os.close(descriptor)
    counts = flat[: flat.size // num_leads * num_leads].reshape(-1, num_leads).astype(np.int16, copy=False)
    sheet.patient, sheet.acquired = header.patient, header.acquired
    if header.pacemaker > 0:
        sheet.facts["pacemaker"] = header.pacemaker
    sheet.annotations = _beats_beside(path, header, start, stop, hints, limits, sheet)
    missing = counts == INVALID
    samples = Samples(
        counts=counts,
        step=np.array(header.resolution) * _NANOVOLT,
        baseline=np.zeros(num_leads),
        names=header.names,
        rate=float(header.rate),
        missing=missing if missing.any() else None,
    )
    return make_record(path, hints, limits, samples, sheet)


def _header(
    head: bytes, descriptor: int, size: int, hints: Hints, path: Path, limits: Limits, flags: list[str]
) -> _Header:
    if len(head) < _FIXED:
        raise TruncatedError(f"the file ends in its header, after {len(head)} of {_FIXED} bytes.", path=path)
    block, declared = struct.unpack("<ii", head[10:18])
    if block < 0 or block > limits.max_header_bytes:
        raise LimitError(f"the header states a block of {block} bytes.", path=path)
    if _FIXED + block > size:
        raise TruncatedError(f"the header states a block of {block} bytes, the file has {size} bytes.", path=path)
    if hints.checksum != "ignore":
        _check(head[8:10], head[10:] + os.read(descriptor, block), hints, path, flags)
    (num_leads,) = struct.unpack("<h", head[156:158])
    if not 1 <= num_leads <= 12:
        raise HeaderError(f"the header states {num_leads} leads, not 1 to 12.", path=path)
    codes, resolution = (
        struct.unpack("<12h", head[158:182])[:num_leads],
        struct.unpack("<12h", head[206:230])[:num_leads],
    )
    names = [_LEADS.get(code, f"lead {place} (unnamed)") for place, code in enumerate(codes, 1)]
    for name, step in zip(names, resolution):
        if step <= 0:
            raise UnitError(f"the resolution is {step} nV a count: the samples have no scale.", path=path, lead=name)
    pacemaker, rate = struct.unpack("<h", head[230:232])[0], struct.unpack("<h", head[272:274])[0]
    if rate < 1:
        raise HeaderError(f"the header states {rate} Hz.", path=path)
    day, month, year = struct.unpack("<3h", head[138:144])
    return _Header(
        block=block,
        declared=declared,
        rate=rate,
        names=names,
        resolution=list(resolution),
        patient=_patient(head),
        acquired=iso_time(iso_date(year, month, day), *struct.unpack("<3h", head[150:156])),
        pacemaker=pacemaker,
    )


def _check(stated: bytes, content: bytes, hints: Hints, path: Path, flags: list[str]) -> None:
    """Hold a header and its block against the CRC that stands before them in either byte order; 0 states none."""
    own = crc(content)
    if (
        hints.checksum == "ignore"
        or stated == b"\0\0"
        or own in (int.from_bytes(stated, "little"), int.from_bytes(stated, "big"))
    ):
        return
    if hints.checksum == "error":
        raise ChecksumError(
            f"the header has the CRC {own}, it states {int.from_bytes(stated, 'little')}: the file is damaged "
            "(checksum='ignore' reads it all the same).",
            path=path,
        )
    flags.append("checksum_mismatch")


def _patient(head: bytes) -> Patient:
    def text(start: int, width: int) -> str:
        return head[start : start + width].split(b"\0")[0].decode("latin-1").strip()

    day, month, year = struct.unpack("<3h", head[132:138])
    return Patient(
        id=text(108, 20),
        names=[name for name in (text(68, 40), text(28, 40)) if name],
        birth_date=iso_date(year, month, day),
        sex={1: "M", 2: "F"}.get(struct.unpack("<h", head[128:130])[0], ""),
    )


def _length(header: _Header, size: int, hints: Hints, path: Path, flags: list[str]) -> int:
    """Samples a lead: the header states them a lead or as a total over the leads, both occur."""
    num_leads = len(header.names)
    available, rest = divmod(size - header.start, 2 * num_leads)
    declared = header.declared
    if declared < 1:
        raise HeaderError(f"the header states {declared} samples.", path=path)
    if declared == available * num_leads and num_leads > 1:
        declared = available
    if declared > available:
        if not hints.allow_truncated or not available:
            a_lead, left = divmod(declared, num_leads)
            behind = size - header.start - 2 * declared
            counted = (
                f" (counted over all leads they would be {a_lead} each, and {behind} bytes left behind them)"
                if num_leads > 1 and not left and behind > 0
                else ""
            )
            raise TruncatedError(
                f"the header promises {declared} samples of {num_leads} leads, {available} follow{counted}; pass "
                "allow_truncated=True to read what is there.",
                path=path,
            )
        flags.append("truncated")
        declared = available
    elif declared < available or rest:
        flags.append("bytes_behind_the_samples")
    return declared


def _beats_beside(
    path: Path, header: _Header, start: int, stop: int, hints: Hints, limits: Limits, sheet: Sheet
) -> dict[str, np.ndarray] | None:
    """Beats of the `.ann` file of the same stem within the samples read, or None where there is no such file."""
    for suffix in (".ann", ".ANN"):
        beside = path.with_suffix(suffix)
        if beside.is_file():
            break
    else:
        return None
    try:
        positions, symbols = read_beats(beside, hints, limits, sheet.flags)
    except ECGDataError as error:
        sheet.flags.append("annotations_not_read")
        sheet.facts["annotations_problem"] = error.reason
        return None
    here = (positions >= start) & (positions < stop)
    return {"beat_samples": positions[here] - start, "beat_symbols": symbols[here]}


def read_beats(path: Path, hints: Hints, limits: Limits, flags: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Positions and labels of an annotation file: first sample plus the sum of the intervals.

    Labels are ISHNE's (N normal, V, S, P paced, B bundle branch block, C calibration, X artefact, U unknown). Behind a
    timeout `!`, a gap of more than 65535 samples, the place of a beat is unknown: those are left out.
    """
    content = read_bytes(path, limits.max_annotation_bytes, hints.root, follow_links=hints.follow_links)
    if not content.startswith(_MAGIC) or len(content) < _FIXED + 4:
        raise AnnotationError("this is no ISHNE annotation file.", path=path)
    (block,) = struct.unpack("<i", content[10:14])
    start = _FIXED + block
    if block < 0 or start + 4 > len(content):
        raise AnnotationError(f"the header states a block of {block} bytes, beyond the end.", path=path)
    _check(content[8:10], content[10:start], hints, path, flags)
    (first,) = struct.unpack("<I", content[start : start + 4])
    beats = np.frombuffer(content, _BEAT, (len(content) - start - 4) // 4, start + 4)
    gaps = np.flatnonzero(beats["label"] == _TIMEOUT)
    if gaps.size:
        beats = beats[: gaps[0]]
        flags.append("beats_behind_timeout_left_out")
    positions = first + np.cumsum(beats["interval"].astype(np.int64))
    symbols = beats["label"].astype("<u4").view("<U1")
    return positions, symbols
