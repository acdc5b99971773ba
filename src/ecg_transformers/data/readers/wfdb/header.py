"""WFDB headers (`.hea`): the text parsed, every number checked before anything is allocated.

The layout follows header(5) of the WFDB documentation: a record line, one line per signal (or segment), comments.
"""

from __future__ import annotations

import math
import os
import re
from functools import lru_cache, partial
from typing import NamedTuple

from ecg_transformers.data.errors import HeaderError, LimitError
from ecg_transformers.data.readers.limits import DEFAULT_LIMITS, IN_PARTS, Limits, read_bytes, refuse_foreign_text

FORMATS = frozenset({"0", "8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"})
DEFAULT_GAIN = 200.0
DEFAULT_RATE = 250.0

_NAME = re.compile(r"[^\s/\\\x00]+\Z")
_FOLDER = re.compile(r"^(?:[^\s/\\\x00.][^\s/\\\x00]*/)+(?=[^\s/\\\x00]+(?:/\d+)?\s)(?!\d+\s)")
_RATE = re.compile(r"(?P<fs>[^/()\s]+)(?:/(?P<counter>[^()\s]+)(?:\((?P<base>[^()\s]+)\))?)?\Z")
_FORMAT = re.compile(r"(?P<fmt>\d{1,9})(?:x(?P<spf>\d{1,9}))?(?::(?P<skew>\d{1,9}))?(?:\+(?P<offset>\d{1,18}))?\Z")
_GAIN = re.compile(r"(?P<gain>[^()/\s]+)(?:\((?P<baseline>[+-]?[0-9]{1,10})\))?(?:/(?P<units>\S+))?\Z")
_SEGMENTS = re.compile(r"\d{1,9}\Z")
_NUMBERS = re.compile(r"[+-]?\d{1,18}(?: [+-]?\d{1,18})*\Z")

PathLike = str | os.PathLike


class Signal(NamedTuple):
    """One signal line: where the samples are and what they mean."""

    file_name: str
    fmt: str
    samples_per_frame: int
    skew: int
    byte_offset: int
    gain: float
    baseline: int
    units: str
    gain_defaulted: bool
    name: str
    initial_value: int | None
    checksum: int | None


_signal = partial(tuple.__new__, Signal)  # `Signal._make` without its count of the fields


class Header(NamedTuple):
    """A parsed header. `num_samples` is None where the header does not say; `segments` is empty for one segment."""

    record_name: str
    sampling_rate: float
    num_samples: int | None
    signals: tuple[Signal, ...]
    comments: tuple[str, ...]
    segments: tuple[tuple[str, int], ...] = ()
    rate_defaulted: bool = False
    flags: tuple[str, ...] = ()


def read_header(
    path: PathLike,
    limits: Limits | None = None,
    root: PathLike | None = None,
    *,
    follow_links: bool = False,
) -> Header:
    """The header in a file that may not lie outside `root` (default: its own folder)."""
    limits = limits or DEFAULT_LIMITS
    return parse_header(read_bytes(path, limits.max_header_bytes, root, follow_links=follow_links), path, limits)


def parse_header(content: bytes, path: PathLike, limits: Limits | None = None) -> Header:
    """The header in some bytes; `path` is only named in errors."""
    limits = limits or DEFAULT_LIMITS
    text, flags = _decode(content)
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line.strip() for line in text.split("\n")]
    body = [line for line in lines if line and line[0] != "#"]
    comments = tuple([line.lstrip("#").strip() for line in lines if line[:1] == "#"]) if "#" in text else ()
    if not body:
        raise HeaderError("the header holds no record line.", path=path)
    if body[0][0] in "<P\x1f":  # no record is called so, but these may begin what is no header
        refuse_foreign_text(content[:64], path)
    if "\0" in text:
        raise HeaderError("the header holds NUL bytes, so it is not a text file.", path=path)
    flat = [_FOLDER.sub("", line) if "/" in line[: line.find(" ")] else line for line in body]
    if flat != body:  # the file of that name beside the header is meant, as in PTB-XL+ 1.0.1
        body, flags = flat, (*flags, "header_folder_ignored")
    name, num_segments, num_signals, rate, rate_defaulted, num_samples = _record_line(body[0], path, limits)
    if num_segments:
        segments = _segments(body[1:], num_segments, path, name)
        return Header(name, rate, num_samples, (), comments, segments, rate_defaulted, flags)
    if len(body) - 1 < num_signals:
        raise HeaderError(
            f"the record line promises {num_signals} signals, but {len(body) - 1} signal lines follow.",
            path=path,
            record=name,
        )
    signals = _signals(body[1 : num_signals + 1], path, name)
    _check_rates(rate, signals, path, name)
    return Header(name, rate, num_samples, signals, comments, (), rate_defaulted, flags)


def _decode(content: bytes) -> tuple[str, tuple[str, ...]]:
    """UTF-8 with or without a byte-order mark; older files are Latin-1, where every byte is a character."""
    try:
        return content.decode().removeprefix("\ufeff"), ()
    except UnicodeDecodeError:
        return content.decode("latin-1"), ("header_latin1",)


def _record_line(line: str, path: PathLike, limits: Limits) -> tuple[str, int, int, float, bool, int | None]:
    fields = line.split()
    if len(fields) < 2:
        raise HeaderError(
            f"the record line has {len(fields)} fields, at least name and number of signals needed.", path=path
        )
    name, _, segments = fields[0].partition("/")
    if not _NAME.match(name) or (segments and not _SEGMENTS.match(segments)):
        raise HeaderError(
            f"the record name {fields[0][:60]!r} is malformed: names in a header are those of files beside it, without "
            "folders.",
            path=path,
        )
    num_segments = int(segments) if segments else 0
    if num_segments > limits.max_segments:
        raise LimitError(
            f"{num_segments} segments are declared, more than the {limits.max_segments} allowed.",
            path=path,
            record=name,
        )
    num_signals = _integer(fields[1], "number of signals", path, name)
    if num_signals < 1:
        raise HeaderError(f"{num_signals} signals are declared; a record has at least one.", path=path, record=name)
    rate, defaulted = _rate(fields[2], path, name) if len(fields) > 2 else (DEFAULT_RATE, True)
    num_samples = _integer(fields[3], "number of samples", path, name) if len(fields) > 3 else 0
    if num_samples < 0:
        raise HeaderError(f"{num_samples} samples are declared.", path=path, record=name)
    limits.check_shape(num_samples, num_signals, path=path, record=name, way_out=IN_PARTS)
    return name, num_segments, num_signals, rate, defaulted, num_samples or None


def _rate(text: str, path: PathLike, record: str) -> tuple[float, bool]:
    rate = _rate_of(text)
    if rate is None:
        raise HeaderError(f"the sampling rate {_rate_text(text)[:40]!r} is not a number.", path=path, record=record)
    if not 0 < rate <= 100_000:
        raise HeaderError(f"the sampling rate {text} Hz lies outside 0 to 100,000 Hz.", path=path, record=record)
    return rate, False


def _rate_text(text: str) -> str:
    """`500` of `500/360(0)`: what stands behind the slash is a counter."""
    match = _RATE.match(text)
    return match["fs"] if match else text


@lru_cache(maxsize=256)
def _rate_of(text: str) -> float | None:
    rate = _rate_text(text)
    try:
        value = float(rate)
    except ValueError:
        return None
    return value if math.isfinite(value) and "_" not in rate else None


def _check_rates(rate: float, signals: tuple[Signal, ...], path: PathLike, record: str) -> None:
    """Frames may be rarer than one a second when each holds several samples."""
    fastest = rate * max([signal.samples_per_frame for signal in signals])
    if not 1 <= fastest <= 100_000:
        raise HeaderError(f"the sampling rate {fastest:g} Hz lies outside 1 to 100,000 Hz.", path=path, record=record)


def _segments(lines: list[str], count: int, path: PathLike, record: str) -> tuple[tuple[str, int], ...]:
    if len(lines) < count:
        raise HeaderError(f"{count} segments are declared, but {len(lines)} lines follow.", path=path, record=record)
    segments = []
    for line in lines[:count]:
        fields = line.split()
        if len(fields) != 2 or not _NAME.match(fields[0]):
            raise HeaderError("a segment line is not a name without slashes and a length.", path=path, record=record)
        length = _integer(fields[1], "segment length", path, record)
        if length < 0 or fields[0] == record:
            raise HeaderError(f"the segment {fields[0]!r} of {length} samples is impossible.", path=path, record=record)
        segments.append((fields[0], length))
    return tuple(segments)


def _signals(lines: list[str], path: PathLike, record: str) -> tuple[Signal, ...]:
    """The signal lines, column by column: what the lines of a corpus have in common is taken apart once.

    A record with a line that lacks a field, or holds one that is none, is read field by field.
    """
    rows = [line.split(None, 8) for line in lines]
    columns = tuple(zip(*rows)) if min(map(len, rows)) == 9 else ()
    if columns:
        files, layouts, gains, resolutions, zeros, initials, checksums, blocks, names = columns
        common = _common_columns(layouts, gains, resolutions, zeros, blocks)
        numbers = " ".join(initials + checksums)
        if common is not None and _NUMBERS.match(numbers) and all(map(_is_name, set(files))):
            found = zip(files, *common, names, map(int, initials), map(int, checksums), strict=True)
            return tuple(map(_signal, found))
    return tuple([_signal_by_fields(row, index, path, record) for index, row in enumerate(rows)])


@lru_cache(maxsize=256)
def _is_name(text: str) -> bool:
    """Whether this may be the name of a signal file, which the signals of a record mostly share."""
    return _NAME.match(text) is not None


@lru_cache(maxsize=1024)
def _common_columns(
    layouts: tuple[str, ...],
    gains: tuple[str, ...],
    resolutions: tuple[str, ...],
    zeros: tuple[str, ...],
    blocks: tuple[str, ...],
) -> tuple[tuple, ...] | None:
    """Format, samples per frame, skew, byte offset, gain, baseline, units, default gain: a column each; None if one fails."""
    rows = []
    for layout_text, gain_text, zero in zip(layouts, gains, zeros, strict=True):
        layout, scale = _layout(layout_text), _gain_parts(gain_text)
        if layout is None or scale is None or not _NUMBERS.match(zero):
            return None
        gain, baseline, units, defaulted = scale
        rows.append((*layout, gain, int(zero) if baseline is None else baseline, units, defaulted))
    return tuple(zip(*rows, strict=True)) if _NUMBERS.match(" ".join(resolutions + blocks)) else None


def _signal_by_fields(fields: list[str], index: int, path: PathLike, record: str) -> Signal:
    """A signal from the fields of a short or unusual line; says which of them is wrong."""
    if len(fields) < 2:
        raise HeaderError(f"signal line {index + 1} lacks the format.", path=path, record=record)
    match = _FORMAT.match(fields[1])
    if not _NAME.match(fields[0]) or match is None:
        raise HeaderError(
            f"signal line {index + 1} does not start with a file name without slashes and a format.",
            path=path,
            record=record,
        )
    if match["fmt"] not in FORMATS:
        raise HeaderError(
            f"signal line {index + 1}: there is no WFDB format {match['fmt'][:9]}.", path=path, record=record
        )
    scale = _gain_parts(fields[2]) if len(fields) > 2 else _gain_parts("0")
    if scale is None:
        raise HeaderError(f"the gain field {fields[2][:40]!r} is not gain(baseline)/units.", path=path, record=record)
    numbers = [_integer(text, "signal line", path, record) for text in fields[3:8]]
    layout = _layout(fields[1])
    if layout is None:
        raise HeaderError(f"{match['spf']} samples per frame are impossible.", path=path, record=record)
    gain, baseline, units, defaulted = scale
    if baseline is None:
        baseline = numbers[1] if len(numbers) > 1 else 0
    initial, checksum = [*numbers[2:4], None, None][:2]
    name = fields[8].strip() if len(fields) > 8 else f"signal {index}"
    return Signal(fields[0], *layout, gain, baseline, units, defaulted, name, initial, checksum)


@lru_cache(maxsize=256)
def _layout(text: str) -> tuple[str, int, int, int] | None:
    """Format, samples per frame, skew and byte offset, which the signals of a record mostly share; None if impossible."""
    match = _FORMAT.match(text)
    if match is None or match["fmt"] not in FORMATS:
        return None
    samples_per_frame = int(match["spf"] or 1)
    if not 1 <= samples_per_frame <= 100_000:
        return None
    return match["fmt"], samples_per_frame, int(match["skew"] or 0), int(match["offset"] or 0)


@lru_cache(maxsize=1024)
def _gain_parts(text: str) -> tuple[float, int | None, str, bool] | None:
    """Gain, baseline, units and whether the gain is the default; None for what is no gain field."""
    match = _GAIN.match(text)
    try:
        gain = float(match["gain"]) if match and "_" not in match["gain"] else math.nan
    except ValueError:
        gain = math.nan
    if match is None or not math.isfinite(gain):
        return None
    baseline = None if match["baseline"] is None else int(match["baseline"])
    return gain or DEFAULT_GAIN, baseline, match["units"] or "mV", gain == 0


def _integer(text: str, what: str, path: PathLike, record: str) -> int:
    try:
        value = int(text) if len(text) < 19 else None
    except ValueError:
        value = None
    if value is None or "_" in text:
        raise HeaderError(f"the {what} {text[:40]!r} is not an integer.", path=path, record=record)
    return value
