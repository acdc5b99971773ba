"""SCP-ECG (EN 1064, ISO 11073-91064): Huffman codes, differences, and the reference beat that was taken away."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import (
    HeaderError,
    LimitError,
    SignalError,
    TruncatedError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.leads import LEAD_OF_NUMBER
from ecg_transformers.data.readers.clinical.record import Samples, Sheet, make_record
from ecg_transformers.data.readers.clinical.scp_coding import Tables, decode, read_tables, undo_differences
from ecg_transformers.data.readers.clinical.scp_sections import fill_sheet, read_sections
from ecg_transformers.data.readers.limits import Limits, read_bytes
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_HEAD = 16
_MAX_ZONES = 20_000
_MAX_OVERLAP = 4
"""How many times over the zones of the reference beat may cover the recording; there is one for each beat."""
MAX_DECODED = 2_000_000
_NANOVOLT = 1e-6


@dataclass(frozen=True)
class _Lead:
    """A lead of section 3: its samples `first` to `last`, counted from 1."""

    name: str
    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class _Data:
    """The head of section 5 or 6, and the bytes of each lead: `step` in nanovolts a count, `interval` in microseconds."""

    step: int
    interval: int
    coding: int
    bimodal: bool
    parts: list[bytes]


def read_scp(path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> DigitalRecord | ECGRecord:
    """The rhythm of section 6, with the reference beat added back where it was subtracted.

    Raises:
        ECGDataError: a checksum that does not fit, sizes beyond the file, bimodal compression, section 12 alone.
    """
    content = read_bytes(path, limits.max_file_bytes, hints.root, follow_links=hints.follow_links)
    sections = read_sections(content, hints, path, sheet.flags)
    for number, what in ((3, "leads"), (6, "rhythm")):
        if number not in sections:
            raise _missing(number, what, sections, hints, path)
    leads, subtracted = _leads(sections[3][_HEAD:], path, limits)
    rhythm = _data(sections[6], 6, len(leads), path, hints)
    if rhythm.bimodal:
        raise UnsupportedFormatError(
            "the samples are stored with bimodal compression (only every few samples outside the beats), whose layout "
            "is not established; it is not read.",
            path=path,
        )
    tables = read_tables(sections[2][_HEAD:], path) if 2 in sections else None
    counts, missing = _timeline(leads, rhythm, tables, len(content), path, hints, limits, sheet.flags)
    step = rhythm.step
    if subtracted:
        counts, step = _with_reference_beat(counts, leads, rhythm, sections, tables, path, hints)
    if 12 in sections:
        sheet.flags.append("long_term_rhythm_left_out")
    fill_sheet(sections, sheet)
    samples = Samples(
        counts=counts,
        step=np.full(len(leads), step * _NANOVOLT),
        baseline=np.zeros(len(leads)),
        names=[lead.name for lead in leads],
        rate=1e6 / rhythm.interval,
        missing=missing if missing.any() else None,
    )
    return make_record(path, hints, limits, samples, sheet)


def _missing(number: int, what: str, sections: dict[int, bytes], hints: Hints, path: Path) -> Exception:
    if number == 6 and 12 in sections:
        return UnsupportedFormatError(
            "the file holds only a long-term rhythm (section 12), which is not read.", path=path
        )
    if hints.allow_truncated and not sections:
        return TruncatedError("the file ends before its sections.", path=path)
    return SignalError(f"the SCP-ECG file has no section {number} ({what}): it holds no ECG.", path=path)


def _leads(body: bytes, path: Path, limits: Limits) -> tuple[list[_Lead], bool]:
    """The leads of section 3, and whether a reference beat was subtracted."""
    if len(body) < 2 or len(body) < 2 + 9 * body[0] or not body[0]:
        raise HeaderError(f"section 3 describes {body[0] if body else 0} leads in {len(body)} bytes.", path=path)
    limits.check_shape(0, body[0], path=path)
    leads = []
    for place in range(body[0]):
        first, last, number = struct.unpack("<IIB", body[2 + 9 * place : 11 + 9 * place])
        name = LEAD_OF_NUMBER.get(number, f"lead {number}")
        if not 1 <= first <= last:
            raise HeaderError(f"the lead runs from sample {first} to {last}.", path=path, lead=name)
        limits.check_shape(last, 1, path=path)
        leads.append(_Lead(name, first, last))
    if sum(lead.length for lead in leads) > MAX_DECODED:
        raise LimitError(f"the leads declare more than {MAX_DECODED} samples together.", path=path)
    return leads, bool(body[1] & 1)


def _data(section: bytes, number: int, num_leads: int, path: Path, hints: Hints) -> _Data:
    body, version = section[_HEAD:], section[8]
    if len(body) < 6 + 2 * num_leads:
        raise TruncatedError(f"section {number} ends in its head.", path=path)
    step, interval, coding, bimodal = struct.unpack("<HHBB", body[:6])
    if not step or not interval:
        raise HeaderError(f"section {number} states {step} nV a count and {interval} us a sample.", path=path)
    sizes = struct.unpack(f"<{num_leads}H", body[6 : 6 + 2 * num_leads])
    at = 6 + 2 * num_leads
    if at + sum(sizes) > len(body) and not hints.allow_truncated:
        raise TruncatedError(
            f"section {number} promises {sum(sizes)} bytes of samples, {len(body) - at} follow.", path=path
        )
    parts = []
    for size in sizes:
        parts.append(body[at : at + size])
        at += size
    return _Data(step, interval, coding, number == 6 and bimodal == 1 and version < 30, parts)


def _values(
    part: bytes, count: int, coding: int, tables: Tables | None, lead: str, path: Path, hints: Hints
) -> np.ndarray:
    """The samples of one lead; `tables` is None where the file has no Huffman codes."""
    if count > (len(part) // 2 if tables is None else 8 * len(part)) and not hints.allow_truncated:
        raise TruncatedError(f"{count} samples cannot lie in {len(part)} bytes.", path=path, lead=lead)
    if tables is None:
        values = np.frombuffer(part, "<i2", min(count, len(part) // 2)).astype(np.int64)
    else:
        values = decode(part, count, tables, path)
    if values.size < count and not hints.allow_truncated:
        raise TruncatedError(f"the lead declares {count} samples, its bytes hold {values.size}.", path=path, lead=lead)
    return undo_differences(values, coding, path)


def _timeline(
    leads: list[_Lead],
    data: _Data,
    tables: Tables | None,
    stored: int,
    path: Path,
    hints: Hints,
    limits: Limits,
    flags: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """int16 counts `(T, L)` and what is missing: each lead stands in its own time."""
    start, stop = min(lead.first for lead in leads), max(lead.last for lead in leads) + 1
    columns = [
        _values(part, lead.length, data.coding, tables, lead.name, path, hints) for part, lead in zip(data.parts, leads)
    ]
    if not any(column.size for column in columns):
        raise TruncatedError("the file ends before its first sample.", path=path)
    if hints.allow_truncated and any(column.size < lead.length for column, lead in zip(columns, leads)):
        stop = min(stop, max(lead.first + column.size for column, lead in zip(columns, leads)))
        flags.append("truncated")
    way_out = ": the leads lie too far apart in time for one record"
    limits.check_growth(stop - start, len(leads), stored, path=path, way_out=way_out)
    counts = np.zeros((stop - start, len(leads)), dtype=np.int16)
    missing = np.ones(counts.shape, dtype=bool)
    for place, (lead, column) in enumerate(zip(leads, columns)):
        where = slice(lead.first - start, lead.first - start + column.size)
        counts[where, place], missing[where, place] = column, False
    if len({(lead.first, lead.last) for lead in leads}) > 1:
        flags.append("leads_at_different_times")
    return counts, missing


def _with_reference_beat(
    counts: np.ndarray,
    leads: list[_Lead],
    rhythm: _Data,
    sections: dict[int, bytes],
    tables: Tables | None,
    path: Path,
    hints: Hints,
) -> tuple[np.ndarray, int]:
    """Counts with the beat added in the zones it was taken from, and nanovolts a count of the common scale.

    In a zone of type 0, sample s gains beat[fiducial of the beat - fiducial of the zone + s], all counted from 1.
    """
    if 4 not in sections or 5 not in sections:
        raise HeaderError("a reference beat was subtracted, but sections 4 and 5 do not give it.", path=path)
    body = sections[4][_HEAD:]
    beat_data = _data(sections[5], 5, len(leads), path, hints)
    if len(body) < 6 or beat_data.interval != rhythm.interval:
        raise HeaderError("the reference beat and the rhythm have different sampling intervals.", path=path)
    milliseconds, fiducial, zones = struct.unpack("<HHH", body[:6])
    if zones > _MAX_ZONES or 6 + 14 * zones > len(body):
        raise HeaderError(f"section 4 declares {zones} zones in {len(body)} bytes.", path=path)
    common = math.gcd(rhythm.step, beat_data.step)
    beat = _beat(beat_data, milliseconds, leads, tables, path, hints) * (beat_data.step // common)
    result = counts.astype(np.int64) * (rhythm.step // common)
    start, covered = min(lead.first for lead in leads), 0
    for number in range(zones):
        kind, first, middle, last = struct.unpack("<HIII", body[6 + 14 * number : 20 + 14 * number])
        if kind != 0:
            continue
        shift = fiducial - middle - 1  # from the number of a sample to its place in the beat, counted from 0
        begin = max(first, start, -shift)
        end = min(last, start + len(result) - 1, len(beat) - 1 - shift)
        covered += max(0, end - begin + 1)
        if covered > _MAX_OVERLAP * len(result):
            raise LimitError(
                f"the zones of the reference beat cover the {len(result)} samples more than {_MAX_OVERLAP} times over.",
                path=path,
            )
        if begin <= end:
            result[begin - start : end - start + 1] += beat[begin + shift : end + shift + 1]
    return result, common


def _beat(
    data: _Data, milliseconds: int, leads: list[_Lead], tables: Tables | None, path: Path, hints: Hints
) -> np.ndarray:
    """The reference beat in counts, `(T, L)`."""
    length = int(milliseconds * 1000 // data.interval)
    columns = [
        _values(part, length, data.coding, tables, lead.name, path, hints) for part, lead in zip(data.parts, leads)
    ]
    length = max(column.size for column in columns)  # of a file that is cut it may be less than stated
    beat = np.zeros((length, len(leads)), dtype=np.int64)
    for place, column in enumerate(columns):
        beat[: column.size, place] = column
    return beat
