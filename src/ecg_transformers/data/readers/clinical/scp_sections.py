"""The sections of an SCP-ECG file: pointers, checksums, and what sections 1, 7, 8 and 11 say beside the samples."""

from __future__ import annotations

import binascii
import struct
from pathlib import Path

from ecg_transformers.data.errors import ChecksumError, HeaderError, TruncatedError
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.identity import AGE_UNITS, Patient, iso_date, iso_time
from ecg_transformers.data.readers.clinical.record import Sheet

_HEAD = 16
_LAST = 12
_NOT_COMPUTED = 29999
_YEARS = dict(enumerate(AGE_UNITS.values(), 1))
# EN 1064, tag 14, language support code; what is not listed is read as Latin-1.
_CODECS = {0x03: "iso8859_2", 0x0B: "iso8859_4", 0x13: "iso8859_5", 0x1B: "iso8859_6", 0x23: "iso8859_7"}
_CODECS |= {0x2B: "iso8859_8", 0x33: "iso8859_11", 0x3B: "iso8859_15", 0x07: "utf-8", 0x37: "utf-8"}
_OTHERS = {20: "referring physician", 21: "latest confirming physician", 22: "technician", 31: "ECG sequence number"}
_PLACES = {
    16: "acquiring institution",
    17: "analyzing institution",
    18: "acquiring department",
    19: "analyzing department",
    23: "room",
}


def crc(content: bytes) -> int:
    """CRC-CCITT as SCP-ECG and ISHNE have it: polynomial 0x1021, start 0xFFFF."""
    return binascii.crc_hqx(content, 0xFFFF)


def read_sections(content: bytes, hints: Hints, path: Path, flags: list[str]) -> dict[int, bytes]:
    """The whole sections by number, 0 to 12, header included; sizes and checksums are checked.

    Raises:
        TruncatedError: the file is shorter than it says.
        ChecksumError: a checksum does not fit.
        HeaderError: pointers that lead nowhere.
    """
    if len(content) < 6 + _HEAD + 10:
        raise TruncatedError(f"an SCP-ECG file of {len(content)} bytes ends in its header.", path=path)
    stated, size = struct.unpack("<HI", content[:6])
    if size > len(content):
        if not hints.allow_truncated:
            raise TruncatedError(
                f"the file states {size} bytes and has {len(content)}; pass allow_truncated=True to read what is there.",
                path=path,
            )
        flags.append("truncated")
    elif size < 6 + _HEAD:
        raise HeaderError(f"the file states {size} bytes.", path=path)
    else:
        _check(content[2:size], stated, "file", hints, path, flags)
    (length,) = struct.unpack("<I", content[10:14])
    if not _HEAD + 10 <= length <= 6 + _HEAD + 10 * 1024:
        raise HeaderError(f"section 0 (pointers) states {length} bytes.", path=path)
    sections: dict[int, bytes] = {}
    for at in range(6 + _HEAD, min(6 + length, len(content)) - 9, 10):
        number, length_of, index = struct.unpack("<HII", content[at : at + 10])
        if length_of and 0 < number <= _LAST and number not in sections:
            found = _section(content, number, length_of, index - 1, hints, path, flags)
            if found:
                sections[number] = found
    return sections


def _section(
    content: bytes, number: int, length: int, start: int, hints: Hints, path: Path, flags: list[str]
) -> bytes | None:
    if start < 6 or length < _HEAD:
        raise HeaderError(f"the pointer to section {number} leads nowhere ({length} bytes at {start + 1}).", path=path)
    if start + length > len(content):
        if not hints.allow_truncated:
            raise TruncatedError(
                f"section {number} ends at byte {start + length}, the file at {len(content)}.", path=path
            )
        flags.append("truncated")
        return content[start:] if start + _HEAD <= len(content) else None
    section = content[start : start + length]
    stated, own = struct.unpack("<HH", section[:4])
    if own != number:
        raise HeaderError(f"the pointer to section {number} leads to section {own}.", path=path)
    _check(section[2:], stated, f"section {number}", hints, path, flags)
    return section


def _check(content: bytes, stated: int, what: str, hints: Hints, path: Path, flags: list[str]) -> None:
    if hints.checksum == "ignore" or crc(content) == stated:
        return
    if hints.checksum == "warn":
        flags.append("checksum_mismatch")
        return
    raise ChecksumError(
        f"the {what} has the CRC {crc(content)}, it states {stated}: the file is damaged (checksum='ignore' reads it all "
        "the same).",
        path=path,
    )


def fill_sheet(sections: dict[int, bytes], sheet: Sheet) -> None:
    """Patient, time, statements and global measurements."""
    tags = _tags(sections.get(1, b"")[_HEAD:])
    machine = tags.get(14, b"")
    codec = _CODECS.get(machine[16], "latin-1") if len(machine) > 16 else "latin-1"

    def text(tag: int) -> str:
        return tags.get(tag, b"").split(b"\0")[0].decode(codec, "replace").strip()

    sheet.patient = Patient(
        id=text(2),
        names=[name for name in (text(0), text(1), text(3)) if name],
        birth_date=_day(tags.get(5, b"")),
        age=_age(tags.get(4, b"")),
        sex={1: "M", 2: "F"}.get(tags[8][0], "") if tags.get(8) else "",
        others={name: text(tag) for tag, name in _OTHERS.items() if text(tag)},
        places={name: text(tag) for tag, name in _PLACES.items() if text(tag)},
    )
    day, clock = _day(tags.get(25, b"")), tags.get(26, b"")
    sheet.acquired = iso_time(day, *clock[:3]) if len(clock) >= 3 else day
    sheet.statements = _statements(sections.get(8, b"")[_HEAD:], codec, typed=False)
    sheet.facts["universal_statements"] = _statements(sections.get(11, b"")[_HEAD:], codec, typed=True)
    if sections.get(8, b"")[_HEAD : _HEAD + 1] == b"\1":
        sheet.facts["statements_confirmed"] = True
    measured = sections.get(7, b"")[_HEAD:]
    if len(measured) >= 6:
        beats, spikes, rr, pp = struct.unpack("<BBHH", measured[:6])
        found = {name: value for name, value in (("rr_ms", rr), ("pp_ms", pp)) if 0 < value < _NOT_COMPUTED}
        sheet.facts["measurements"] = found | (_intervals(measured[6:22]) if beats else {})
        if spikes:
            sheet.flags.append("pace_spikes_stated")


def _intervals(block: bytes) -> dict[str, int]:
    """Intervals and axes (degrees) of the first reference beat, as far as its onsets and ends were found."""
    if len(block) < 16:
        return {}
    *times, p_axis, qrs_axis, t_axis = struct.unpack("<5H3h", block)
    p_start, _, qrs_start, qrs_end, t_end = (time if time < _NOT_COMPUTED - 2 else None for time in times)
    found = {}
    for name, start, end in (
        ("pr_ms", p_start, qrs_start),
        ("qrs_ms", qrs_start, qrs_end),
        ("qt_ms", qrs_start, t_end),
    ):
        if start is not None and end is not None and end > start:
            found[name] = end - start
    axes = {"p_axis": p_axis, "qrs_axis": qrs_axis, "t_axis": t_axis}
    return found | {name: angle for name, angle in axes.items() if -360 <= angle <= 360}


def _tags(body: bytes) -> dict[int, bytes]:
    """The first value of each tag; wrong lengths of fixed tags are seen in public files and do no harm."""
    tags: dict[int, bytes] = {}
    at = 0
    while at + 3 <= len(body) and body[at] != 255:
        (length,) = struct.unpack("<H", body[at + 1 : at + 3])
        tags.setdefault(body[at], body[at + 3 : at + 3 + length])
        at += 3 + length
    return tags


def _day(value: bytes) -> str:
    return iso_date(*struct.unpack("<HBB", value[:4])) if len(value) >= 4 else ""


def _age(value: bytes) -> float | None:
    if len(value) < 3:
        return None
    number, unit = struct.unpack("<HB", value[:3])
    return number * _YEARS[unit] if unit in _YEARS and number else None


def _statements(body: bytes, codec: str, typed: bool) -> list[str]:
    """Lines of section 8, or of section 11, where a byte for their type stands before the text."""
    lines: list[str] = []
    at = 9
    while at + 3 <= len(body) and len(lines) < (body[8] if len(body) > 8 else 0):
        (length,) = struct.unpack("<H", body[at + 1 : at + 3])
        raw = body[at + 3 : at + 3 + length][1 if typed else 0 :]
        lines.append(raw.replace(b"\0", b" ").decode(codec, "replace").strip())
        at += 3 + length
    return [line for line in lines if line]
