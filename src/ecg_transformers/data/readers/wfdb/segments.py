"""WFDB records of several segments: one after the other, with gaps, by fixed or variable layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import HeaderError, LeadNotFoundError, LimitError
from ecg_transformers.data.readers.limits import Limits, safe_file
from ecg_transformers.data.readers.wfdb.header import Header, read_header
from ecg_transformers.data.readers.wfdb.samples import Request
from ecg_transformers.data.record import DigitalRecord, ECGRecord, standard_lead_name

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
    headers = {name: _segment_header(name, header, path, folder, request, limits) for name in _names(header)}
    first = headers[next(iter(headers))] if headers else None
    if first is None:
        raise HeaderError("the record consists of gaps only.", path=path, record=header.record_name)
    known = [standard_lead_name(signal.name) for signal in first.signals]
    wanted = [standard_lead_name(name) for name in request.lead_names or known]
    for name in wanted:
        if name not in known:
            raise LeadNotFoundError(
                f"the record has the leads {known}.", path=path, record=header.record_name, lead=name
            )
    length = sum(size for _, size in header.segments)
    if header.num_samples is not None and header.num_samples != length:
        raise HeaderError(
            f"the segments have {length} samples, the header promises {header.num_samples}.",
            path=path,
            record=header.record_name,
        )
    limits.check_shape(length, len(wanted), path=path, record=header.record_name)
    _check_size(length * len(wanted) * 4, header, headers, path, folder, request, limits)
    signal = np.full((length, len(wanted)), np.nan, dtype=np.float32)
    position = 0
    for name, size in header.segments:
        if name != "~" and size:
            part = _read_segment(name, size, headers[name], header, path, folder, request, limits, read)
            if part is None:
                position += size
                continue
            for column, lead in enumerate(part.lead_names):
                signal[position : position + size, wanted.index(lead)] = part.signal[:, column]
            flags += part.metadata.get("flags", [])
        position += size
    metadata: dict[str, Any] = {"comments": list(header.comments), "flags": sorted({*flags, "segments"})}
    return ECGRecord(signal, header.sampling_rate, wanted, path.stem, source=str(path), metadata=metadata)


def _names(header: Header) -> list[str]:
    return list(dict.fromkeys(name for name, _ in header.segments if name != "~"))


def _segment_header(name: str, header: Header, path: Path, folder: Path, request: Request, limits: Limits) -> Header:
    file = path.with_name(name + ".hea")
    segment = read_header(file, limits, folder, follow_links=request.follow_links)
    if segment.segments:
        raise HeaderError("a segment that has segments of its own is not supported.", path=file, record=name)
    if segment.sampling_rate != header.sampling_rate:
        raise HeaderError(
            f"a segment has {segment.sampling_rate} Hz, the record {header.sampling_rate} Hz.", path=file, record=name
        )
    return segment


def _check_size(
    size: int, header: Header, headers: dict[str, Header], path: Path, folder: Path, request: Request, limits: Limits
) -> None:
    """Refuse a record whose array would be beyond the limit, or out of all proportion to its files: gaps cost nothing
    in a header, and fill memory.
    """
    if size > limits.max_file_bytes:
        raise LimitError("the record is larger than the limit.", path=path, record=header.record_name)
    named = {
        signal.file_name
        for name, samples in header.segments
        if samples and name != "~"
        for signal in headers[name].signals
    }
    files = [safe_file(path.with_name(name), folder, follow_links=request.follow_links) for name in sorted(named)]
    stored = sum(file.stat().st_size for file in files)
    if size > max(stored * limits.max_ratio, 2**24):
        raise LimitError(
            f"the record expands to {size} bytes, more than {limits.max_ratio} times the {stored} bytes of its "
            "segments: its gaps are too long.",
            path=path,
            record=header.record_name,
        )


def _read_segment(
    name: str,
    size: int,
    own: Header,
    header: Header,
    path: Path,
    folder: Path,
    request: Request,
    limits: Limits,
    read: Read,
) -> ECGRecord | None:
    """One segment, with those of the wanted leads that it has; None when it has none of them."""
    present = [standard_lead_name(signal.name) for signal in own.signals]
    leads = None
    if request.lead_names is not None:
        leads = [lead for name_ in request.lead_names if (lead := standard_lead_name(name_)) in present]
        if not leads:
            return None
    record = read(
        path.with_name(name + ".hea"),
        lead_names=leads,
        units=request.units,
        root=folder,
        limits=limits,
        checksum=request.checksum,
        strict=request.strict,
        follow_links=request.follow_links,
    )
    record = record.to_record() if isinstance(record, DigitalRecord) else record
    if record.num_samples != size:
        raise HeaderError(
            f"the segment {name!r} has {record.num_samples} samples, the record promises {size}.",
            path=path,
            record=header.record_name,
        )
    return record
