"""WFDB records of several segments: one after the other, with gaps, by fixed or variable layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import HeaderError, RecordNotFoundError, SignalError
from ecg_transformers.data.readers.arrays import pick
from ecg_transformers.data.readers.clinical.record import window
from ecg_transformers.data.readers.limits import Limits, safe_file
from ecg_transformers.data.readers.wfdb.header import Header, read_header
from ecg_transformers.data.readers.wfdb.samples import Request, lead_names_of
from ecg_transformers.data.record import DigitalRecord, ECGRecord

Read = Callable[..., "DigitalRecord | ECGRecord"]


def read_segments(
    header: Header,
    path: Path,
    folder: Path,
    request: Request,
    limits: Limits,
    flags: list[str],
    *,
    read: Read,
) -> ECGRecord:
    """The segments as one record; what no segment covers (gaps `~`, leads absent for a while) is NaN.

    A first segment of length 0 is a layout header: it names the leads of the whole record. `read` is `read_wfdb`, for
    the segments themselves.
    """
    headers, names_of, wanted = _leads(header, path, folder, request, limits, flags)
    length = sum(size for _, size in header.segments)
    if header.num_samples is not None and header.num_samples != length:
        raise HeaderError(
            f"the segments have {length} samples, the header promises {header.num_samples}.",
            path=path,
            record=header.record_name,
        )
    count = _samples_per_frame(headers, names_of, wanted, path, header)
    length *= count
    start, stop = (0, length) if request.part is None else window(request.part, length, path)
    length = stop - start
    limits.check_shape(length, len(wanted), path=path, record=header.record_name)
    stored = _stored(header, headers, path, folder, request)
    way_out = ": its gaps are too long; lead_names=[…] reads some leads, start=… and stop=… a part"
    limits.check_growth(length, len(wanted), stored, path=path, record=header.record_name, way_out=way_out)
    signal = np.full((length, len(wanted)), np.nan, dtype=np.float32)
    position = -start
    for name, size in header.segments:
        size *= count
        begin, end = max(0, -position), min(size, length - position)  # of the segment, as far as it is asked for
        leads = [lead for lead in wanted if lead in names_of.get(name, ())] if begin < end else []
        if leads:
            part = _read_segment(name, size, (begin, end), leads, header, path, folder, request, limits, read)
            for column, lead in enumerate(part.lead_names):
                place = position + begin  # a file that ends early has nothing for the rest
                signal[place : place + part.num_samples, wanted.index(lead)] = part.signal[:, column]
            flags += part.metadata.get("flags", [])
        position += size
    metadata: dict[str, Any] = {"comments": list(header.comments), "flags": sorted({*flags, "segments"})}
    return ECGRecord(signal, header.sampling_rate * count, wanted, path.stem, source=str(path), metadata=metadata)


def _leads(
    header: Header, path: Path, folder: Path, request: Request, limits: Limits, flags: list[str]
) -> tuple[dict[str, Header], dict[str, list[str]], list[str]]:
    """Headers and lead names of the segments by their names, and the leads of the record."""
    heads = limits if request.part is None else limits.for_parts()
    headers = {name: _segment_header(name, header, path, folder, request, heads) for name in _names(header)}
    first = headers[next(iter(headers))] if headers else None
    if first is None:
        raise HeaderError("the record consists of gaps only.", path=path, record=header.record_name)
    names_of = {name: lead_names_of(segment.signals, flags) for name, segment in headers.items()}
    known = list(dict.fromkeys(lead for names in names_of.values() for lead in names))
    wanted = known
    if request.lead_names is not None:
        wanted = [known[index] for index in pick(known, request.lead_names, path, header.record_name)]
    if set(names_of[next(iter(headers))]) != set(known):
        flags.append("segment_leads_differ")
    return headers, names_of, wanted


def _names(header: Header) -> list[str]:
    return list(dict.fromkeys(name for name, _ in header.segments if name != "~"))


def _segment_header(name: str, header: Header, path: Path, folder: Path, request: Request, limits: Limits) -> Header:
    file = path.with_name(name + ".hea")
    try:
        segment = read_header(file, limits, folder, follow_links=request.follow_links)
    except RecordNotFoundError as error:
        text = f"the header {path.name} names the segment {name!r}, whose header {file.name} is not there."
        raise RecordNotFoundError(text, path=path, record=header.record_name) from error
    if segment.segments:
        raise HeaderError("a segment that has segments of its own is not supported.", path=file, record=name)
    if segment.sampling_rate != header.sampling_rate:
        raise HeaderError(
            f"a segment has {segment.sampling_rate} Hz, the record {header.sampling_rate} Hz.", path=file, record=name
        )
    return segment


def _stored(header: Header, headers: dict[str, Header], path: Path, folder: Path, request: Request) -> int:
    """Bytes of the signal files of the segments."""
    named = {
        signal.file_name
        for name, samples in header.segments
        if samples and name != "~"
        for signal in headers[name].signals
    }
    files = [safe_file(path.parent.joinpath(name), folder, follow_links=request.follow_links) for name in sorted(named)]
    return sum(file.stat().st_size for file in files)


def _samples_per_frame(
    headers: dict[str, Header], names_of: dict[str, list[str]], wanted: list[str], path: Path, header: Header
) -> int:
    """Samples a frame of the wanted leads, which all segments share."""
    counts = {
        signal.samples_per_frame
        for name, segment in headers.items()
        for lead, signal in zip(names_of[name], segment.signals)
        if lead in wanted
    }
    if len(counts) > 1:
        rates = ", ".join(f"{header.sampling_rate * count:g}" for count in sorted(counts))
        raise SignalError(
            f"the leads have several rates ({rates} Hz); pass lead_names=[…] of one rate.",
            path=path,
            record=header.record_name,
        )
    return counts.pop()


def _read_segment(
    name: str,
    size: int,
    asked: tuple[int, int],
    leads: list[str],
    header: Header,
    path: Path,
    folder: Path,
    request: Request,
    limits: Limits,
    read: Read,
) -> ECGRecord:
    """One segment or the part that is asked for, with those of the wanted leads that it has."""
    start, stop = (None, None) if asked == (0, size) else asked
    before = start or 0 if request.allow_truncated else 0  # the part may lie behind the end of the file
    record = read(
        path.with_name(name + ".hea"),
        lead_names=leads,
        units=request.units,
        root=folder,
        limits=limits,
        checksum=request.checksum,
        strict=request.strict,
        allow_truncated=request.allow_truncated,
        follow_links=request.follow_links,
        start=0 if before else start,
        stop=stop,
    )
    record = record.to_record() if isinstance(record, DigitalRecord) else record
    record.signal = record.signal[before:]
    if record.num_samples != asked[1] - asked[0] and "truncated" not in record.metadata.get("flags", ()):
        raise HeaderError(
            f"the segment {name!r} has {asked[0] + record.num_samples} samples, the record promises {size}.",
            path=path,
            record=header.record_name,
        )
    return record
