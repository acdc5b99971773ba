"""WFDB headers (`.hea`): the text parsed, every number checked before anything is allocated.

The layout follows header(5) of the WFDB documentation: a record line, one line per signal (or segment), comments.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ecg_transformers.data.errors import HeaderError, LimitError
from ecg_transformers.data.readers.safety import Limits, read_bytes

FORMATS = frozenset({"0", "8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"})
DEFAULT_GAIN = 200.0
DEFAULT_RATE = 250.0
_NO_GAIN = (DEFAULT_GAIN, None, "mV", True)

_NAME = re.compile(r"[^\s/\\\x00]+\Z")
_RATE = re.compile(r"(?P<fs>[^/()\s]+)(?:/(?P<counter>[^()\s]+)(?:\((?P<base>[^()\s]+)\))?)?\Z")
_FORMAT = re.compile(r"(?P<fmt>\d{1,9})(?:x(?P<spf>\d{1,9}))?(?::(?P<skew>\d{1,9}))?(?:\+(?P<offset>\d{1,18}))?\Z")
_GAIN = re.compile(r"(?P<gain>[^()/\s]+)(?:\((?P<baseline>[+-]?[0-9]{1,10})\))?(?:/(?P<units>\S+))?\Z")
_SEGMENTS = re.compile(r"\d{1,9}\Z")


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
    initial_value: int | None
    checksum: int | None
    name: str
    gain_defaulted: bool


@dataclass(frozen=True)
class Header:
    """A parsed header. `num_samples` is None where the header does not say; `segments` is empty for one segment."""

    record_name: str
    sampling_rate: float
    num_samples: int | None
    signals: tuple[Signal, ...]
    comments: tuple[str, ...]
    segments: tuple[tuple[str, int], ...] = ()
    rate_defaulted: bool = False
    flags: tuple[str, ...] = field(default=())


def read_header(path: Path, limits: Limits | None = None) -> Header:
    """The header in a file."""
    limits = limits or Limits()
    return parse_header(read_bytes(path, limits.max_header_bytes), path, limits)


def parse_header(content: bytes, path: Path, limits: Limits | None = None) -> Header:
    """The header in some bytes; `path` is only named in errors."""
    limits = limits or Limits()
    text, flags = _decode(content)
    if text.startswith("version https://git-lfs"):
        raise HeaderError("this is a Git LFS pointer, not the header; fetch the file with `git lfs pull`.", path=path)
    lines = [line.strip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    body = [line for line in lines if line and line[0] != "#"]
    comments = tuple(line.lstrip("#").strip() for line in lines if line[:1] == "#") if "#" in text else ()
    if not body:
        raise HeaderError("the header holds no record line.", path=path)
    if "\0" in text:
        raise HeaderError("the header holds NUL bytes, so it is not a text file.", path=path)
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
    signals = tuple(_signal_line(line, index, path, name) for index, line in enumerate(body[1 : num_signals + 1]))
    return Header(name, rate, num_samples, signals, comments, (), rate_defaulted, flags)


def _decode(content: bytes) -> tuple[str, tuple[str, ...]]:
    """UTF-8 with or without a byte-order mark; older files are Latin-1, where every byte is a character."""
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return content.decode("latin-1"), ("header_latin1",)


def _record_line(line: str, path: Path, limits: Limits) -> tuple[str, int, int, float, bool, int | None]:
    fields = line.split()
    if len(fields) < 2:
        raise HeaderError(
            f"the record line has {len(fields)} fields, at least name and number of signals needed.", path=path
        )
    name, _, segments = fields[0].partition("/")
    if not _NAME.match(name) or (segments and not _SEGMENTS.match(segments)):
        raise HeaderError("the record name is malformed.", path=path)
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
    limits.check_shape(num_samples, num_signals, path=path, record=name)
    return name, num_segments, num_signals, rate, defaulted, num_samples or None


def _rate(text: str, path: Path, record: str) -> tuple[float, bool]:
    match = _RATE.match(text)
    rate = _float(match["fs"] if match else text, "sampling rate", path, record)
    if not 1 <= rate <= 100_000:
        raise HeaderError(f"the sampling rate {text} Hz lies outside 1 to 100,000 Hz.", path=path, record=record)
    return rate, False


def _segments(lines: list[str], count: int, path: Path, record: str) -> tuple[tuple[str, int], ...]:
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


def _signal_line(line: str, index: int, path: Path, record: str) -> Signal:
    fields = line.split(maxsplit=8)
    if len(fields) < 2:
        raise HeaderError(f"signal line {index + 1} lacks the format.", path=path, record=record)
    layout = _layout(fields[1])
    if not _is_name(fields[0]) or layout is None:
        raise HeaderError(
            f"signal line {index + 1} does not start with a file name without slashes and a format.",
            path=path,
            record=record,
        )
    if layout[0] not in FORMATS:
        raise HeaderError(
            f"signal line {index + 1}: there is no WFDB format {layout[0][:9]}.", path=path, record=record
        )
    gain, baseline, units, defaulted = _gain(fields[2], path, record) if len(fields) > 2 else _NO_GAIN
    numbers = _integers(fields[3:8], path, record)
    adc_zero = numbers[1] if len(numbers) > 1 else 0
    fmt, samples_per_frame, skew, byte_offset = layout
    if not 1 <= samples_per_frame <= 100_000:
        raise HeaderError(f"{samples_per_frame} samples per frame are impossible.", path=path, record=record)
    return Signal(
        fields[0],
        fmt,
        samples_per_frame,
        skew,
        byte_offset,
        gain,
        adc_zero if baseline is None else baseline,
        units,
        numbers[2] if len(numbers) > 2 else None,
        numbers[3] if len(numbers) > 3 else None,
        fields[8].strip() if len(fields) > 8 else f"signal {index}",
        defaulted,
    )


@lru_cache(maxsize=256)
def _is_name(text: str) -> bool:
    return _NAME.match(text) is not None


@lru_cache(maxsize=256)
def _layout(text: str) -> tuple[str, int, int, int] | None:
    """Format, samples per frame, skew and byte offset; the signals of a record mostly share them."""
    match = _FORMAT.match(text)
    if match is None:
        return None
    return match["fmt"], int(match["spf"] or 1), int(match["skew"] or 0), int(match["offset"] or 0)


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


def _gain(text: str, path: Path, record: str) -> tuple[float, int | None, str, bool]:
    """Gain, baseline, units; a gain of 0 or none at all means 200 units per millivolt, by the format's definition."""
    parts = _gain_parts(text)
    if parts is None:
        raise HeaderError(f"the gain field {text[:40]!r} is not gain(baseline)/units.", path=path, record=record)
    return parts


def _integers(texts: list[str], path: Path, record: str) -> list[int]:
    """The numbers of a signal line, at once where they are short and plain."""
    joined = "".join(texts)
    if len(joined) < 100 and "_" not in joined:
        try:
            numbers = [int(text) for text in texts]
            if max(map(len, texts), default=0) < 19:
                return numbers
        except ValueError:  # the loop below says which of them
            numbers = []
    return [_integer(text, "signal line", path, record) for text in texts]


def _integer(text: str, what: str, path: Path, record: str) -> int:
    try:
        value = int(text) if len(text) < 19 else None
    except ValueError:
        value = None
    if value is None or "_" in text:
        raise HeaderError(f"the {what} {text[:40]!r} is not an integer.", path=path, record=record)
    return value


def _float(text: str, what: str, path: Path, record: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or "_" in text:
        raise HeaderError(f"the {what} {text[:40]!r} is not a number.", path=path, record=record)
    return value
