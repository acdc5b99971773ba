"""The bytes of EDF, EDF+, BDF and BDF+ files: header, samples of chosen signals in blocks, times of data records."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import HeaderError, LimitError, TruncatedError, UnsupportedFormatError
from ecg_transformers.data.readers.limits import IN_PARTS, Limits

_FIXED = 256
_BLOCK_BYTES = 2**18
_CLOCK = 2e-4
"""Seconds that the clock of a recorder may be slow, a second; quartz is ten times better."""
_FIELDS: tuple[tuple[str, int], ...] = (
    ("label", 16),
    ("transducer", 80),
    ("unit", 8),
    ("pmin", 8),
    ("pmax", 8),
    ("dmin", 8),
    ("dmax", 8),
)
_FIELDS += (("filter", 80), ("samples", 8), ("reserved", 32))


@dataclass(frozen=True)
class Signal:
    """One signal: ranges as stated, `samples` in a data record from byte `offset` of it on."""

    label: str
    unit: str
    physical: tuple[str, str]
    digital: tuple[str, str]
    samples: int
    offset: int

    @property
    def is_annotation(self) -> bool:
        return self.label in ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class Identity:
    """What the header says of who was recorded, where and when."""

    patient: str
    recording: str
    date: str
    time: str


@dataclass(frozen=True)
class Header:
    """The header of a file; `records` data records follow `start` bytes, each of `record_bytes`."""

    width: int
    kind: str
    start: int
    records: int
    seconds: float
    signals: list[Signal]

    @property
    def record_bytes(self) -> int:
        return self.width * sum(signal.samples for signal in self.signals)

    @property
    def is_discontinuous(self) -> bool:
        return self.kind.startswith(("EDF+D", "BDF+D"))


def read_identity(descriptor: int) -> Identity:
    """The texts of the patient, before anything of the header is believed: its errors hide them."""
    head = os.pread(descriptor, _FIXED, 0)
    return Identity(_text(head[8:88]), _text(head[88:168]), _text(head[168:176]), _text(head[176:184]))


def read_header(
    descriptor: int, size: int, path: Path, limits: Limits, *, allow_truncated: bool, flags: list[str]
) -> Header:
    """The header, with as many data records as the file holds.

    Raises:
        ECGDataError: no EDF or BDF file, numbers that cannot be, a file that is shorter than its header says.
    """
    head = os.pread(descriptor, _FIXED, 0)
    is_bdf = head.startswith(b"\xffBIOSEMI")
    if not is_bdf and head[:8].replace(b"\0", b" ").strip() != b"0":
        raise UnsupportedFormatError("this is no EDF or BDF file.", path=path)
    if len(head) < _FIXED:
        raise TruncatedError(f"the file ends in its header, after {len(head)} bytes.", path=path)
    stated, records, count = (_whole(head[a:b], what, path) for a, b, what in _COUNTS)
    seconds = number(_text(head[244:252]), "the duration of a data record", path)
    if _FIXED * (count + 1) > limits.max_header_bytes:
        raise LimitError(
            f"{count} signals are declared, a header of more than the {limits.max_header_bytes} bytes allowed.",
            path=path,
        )
    if count < 1 or stated != _FIXED * (count + 1) or records < -1 or not 0 <= seconds < 1e6:
        raise HeaderError(
            f"the header declares {count} signals, {records} data records of {seconds:g} s in {stated} bytes.",
            path=path,
        )
    signals = _signals(os.pread(descriptor, _FIXED * count, _FIXED), count, 3 if is_bdf else 2, path)
    header = Header(
        width=3 if is_bdf else 2,
        kind=_text(head[192:236]),
        start=stated,
        records=records,
        seconds=seconds,
        signals=signals,
    )
    return _with_records(header, size, path, limits, allow_truncated, flags)


_COUNTS = (
    (184, 192, "the size of the header"),
    (236, 244, "the number of data records"),
    (252, 256, "the number of signals"),
)


def _signals(content: bytes, count: int, width: int, path: Path) -> list[Signal]:
    if len(content) < _FIXED * count:
        raise TruncatedError("the file ends in the headers of its signals.", path=path)
    columns: dict[str, list[str]] = {}
    at = 0
    for name, size in _FIELDS:
        columns[name] = [_text(content[at + size * i : at + size * (i + 1)]) for i in range(count)]
        at += size * count
    signals, offset = [], 0
    for i in range(count):
        samples = _whole(columns["samples"][i].encode(), "the number of samples of a signal", path)
        if samples < 1:
            raise HeaderError("a signal has no samples per data record.", path=path, lead=columns["label"][i])
        ranges = ((columns["pmin"][i], columns["pmax"][i]), (columns["dmin"][i], columns["dmax"][i]))
        signals.append(Signal(columns["label"][i], columns["unit"][i], *ranges, samples, offset))
        offset += width * samples
    return signals


def _with_records(
    header: Header, size: int, path: Path, limits: Limits, allow_truncated: bool, flags: list[str]
) -> Header:
    """The header with the number of whole data records; -1 (a recording that was not closed) means all there are."""
    longest = max(signal.samples for signal in header.signals)
    if longest > limits.max_samples or longest * header.records > limits.max_samples:
        raise LimitError(
            f"{longest} samples in each of {header.records} data records are declared, beyond the limit of "
            f"{limits.max_samples} samples a signal{IN_PARTS}.",
            path=path,
        )
    available, rest = divmod(size - header.start, header.record_bytes)
    records = header.records
    if records == -1:
        records = max(available, 0)
        flags.append("length_inferred")
        if rest and not allow_truncated:
            raise TruncatedError(
                f"the recording was not closed, and its last data record is cut ({rest} bytes); pass "
                "allow_truncated=True to read the whole ones.",
                path=path,
            )
        flags += ["truncated"] if rest else []
        if longest * records > limits.max_samples:
            raise LimitError(
                f"the file holds {longest * records} samples a signal, beyond the limit{IN_PARTS}.", path=path
            )
    elif records > available:
        if not allow_truncated or available < 1:
            way_out = "; pass allow_truncated=True to read the data records that are whole." if available > 0 else "."
            raise TruncatedError(
                f"the header promises {records * header.record_bytes} bytes of samples, {max(size - header.start, 0)} "
                f"follow{way_out}",
                path=path,
            )
        flags.append("truncated")
        records = available
    if records < 1:
        raise HeaderError("the file holds no data record.", path=path)
    return Header(**{**vars(header), "records": records})


def read_records(descriptor: int, header: Header, signals: list[Signal], first: int, last: int) -> np.ndarray:
    """Digital values of signals of equal length in the data records `first` to `last` (exclusive), `(T, L)`.

    int16 for EDF, int32 for BDF. The file is read in blocks of a few megabytes.
    """
    samples, width, size = signals[0].samples, header.width, header.record_bytes
    result = np.empty((last - first, samples, len(signals)), dtype=np.int16 if width == 2 else np.int32)
    step = max(1, _BLOCK_BYTES // size)
    # 24 bits are the upper three bytes of 32, so the byte before is read too and shifted out, which spreads the sign
    lead_in, dtype = (0, "<i2") if width == 2 else (1, "<i4")
    block = np.zeros(2 + min(step, last - first) * size, dtype=np.uint8)
    for at in range(first, last, step):
        wanted = min(step, last - at) * size
        got = os.preadv(descriptor, [block[lead_in : lead_in + wanted].data], header.start + at * size)
        count = got // size
        for place, signal in enumerate(signals):
            stored = np.ndarray((count, samples), dtype, block.data, signal.offset, (size, width))
            result[at - first : at - first + count, :, place] = stored if width == 2 else stored >> 8
    return result.reshape(-1, len(signals))


def onsets(descriptor: int, header: Header, path: Path) -> np.ndarray:
    """Seconds from the start of the file at which each data record begins, as its first annotation says.

    Raises:
        HeaderError: a discontinuous file without times, or with times that go back.
    """
    if _times(header) is None:
        raise HeaderError("the file is discontinuous and has no annotations that say when its parts begin.", path=path)
    result = np.empty(header.records)
    for record in range(header.records):
        seconds = _onset(descriptor, header, record)
        if seconds is None:
            raise HeaderError(f"data record {record + 1} of the discontinuous file states no time.", path=path)
        result[record] = seconds
    if (np.diff(result) <= 0).any():
        raise HeaderError("the data records of the discontinuous file go back in time.", path=path)
    return result


def placed(times: np.ndarray, seconds: float, samples: int, path: Path) -> np.ndarray:
    """The first sample of each data record of `seconds`, by its time behind the first one.

    What follows so closely that its clock may merely drift, or its time be rounded, follows without a gap: samples that
    are "no value" between all data records would be holes that the recording does not have.

    Raises:
        HeaderError: data records overlap.
    """
    exact = np.rint(times * samples / seconds).astype(np.int64)
    steps = np.rint(np.diff(times) * samples / seconds).astype(np.int64)
    allowed = max(1, round(_drift(seconds) * samples / seconds))
    if (steps < samples - allowed).any():
        raise HeaderError("the data records of the discontinuous file overlap in time.", path=path)
    later, late = np.zeros(len(times), dtype=np.int64), 0
    for record in (np.flatnonzero(steps > samples + allowed) + 1).tolist():
        gap, own = int(steps[record - 1]) - samples, int(exact[record]) - record * samples - late
        later[record] = own if 2 * own >= gap else gap  # no gap is lost to a clock that was slow before
        late += int(later[record])
    return np.arange(len(times)) * samples + np.cumsum(later)


def _drift(seconds: float) -> float:
    """Seconds by which the distance of two data records may differ from their length without a gap between them."""
    return min(max(0.01 * seconds, 0.002), 0.02)


def times_with_gaps(descriptor: int, header: Header, path: Path, flags: list[str]) -> np.ndarray | None:
    """The times of all data records of a file that calls itself continuous (EDF+C, BDF+C) and leaves time out between
    them; None of one that does not.

    Only then are they all read; a clock that merely drifts, times that are rounded to whole seconds, or
    times that cannot be, make no gaps. Where those leave time out, the flag says that they are not believed.
    """
    gap = min(0.5 * header.seconds, 0.999)
    if not header.kind.startswith(("EDF+C", "BDF+C")) or not _leaves_time_out(descriptor, header, gap):
        return None
    try:
        times = onsets(descriptor, header, path)
    except HeaderError:
        flags.append("times_not_believed")
        return None
    steps = np.diff(times)
    if steps.max() < header.seconds + gap:
        return None
    if steps.min() < header.seconds - _drift(header.seconds):
        flags.append("times_not_believed")
        return None
    return times


def _leaves_time_out(descriptor: int, header: Header, gap: float) -> bool:
    """Whether more time passes than the data records last, in one of the stretches in which no clock of a recorder can
    lose so much as half a gap.
    """
    if _times(header) is None or header.records < 2:
        return False
    stretch = max(1, int(gap / 2 / (_CLOCK * header.seconds)))
    places = [*range(0, header.records - 1, stretch), header.records - 1]
    found = [(place, time) for place in places if (time := _onset(descriptor, header, place)) is not None]
    return any(
        later - earlier >= (last - first) * header.seconds + gap / 2
        for (first, earlier), (last, later) in pairwise(found)
    )


def _times(header: Header) -> Signal | None:
    return next((signal for signal in header.signals if signal.is_annotation), None)


def _onset(descriptor: int, header: Header, record: int) -> float | None:
    times = _times(header)
    if times is None:
        return None
    at = header.start + record * header.record_bytes + times.offset
    text = os.pread(descriptor, min(64, header.width * times.samples), at)
    match = re.match(rb"([+-]\d{1,12}(?:\.\d{0,12})?)\x14", text)
    return None if match is None else float(match.group(1))


def number(text: str, what: str, path: Path, lead: str | None = None) -> float:
    """A finite number of the header; a decimal comma is one too."""
    try:
        value = float(text.replace(",", ".")) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise HeaderError(f"{what} cannot be read: {text[:12]!r} is no finite number.", path=path, lead=lead)
    return value


def _whole(content: bytes, what: str, path: Path) -> int:
    value = number(_text(content), what, path)
    if value != int(value):
        raise HeaderError(f"{what} is {value:g}, no whole number.", path=path)
    return int(value)


def _text(content: bytes) -> str:
    """NUL for blanks; units such as µV are written in UTF-8 or Latin-1, although EDF is to be ASCII."""
    content = content.replace(b"\0", b" ")
    try:
        return content.decode("utf-8").strip()
    except UnicodeDecodeError:
        return content.decode("latin-1").strip()
