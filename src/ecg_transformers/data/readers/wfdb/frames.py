"""WFDB records that the fast path does not cover: any format, several files, several samples a frame, skew.

A frame holds one or more samples of each signal, as bedside monitors write them: a lead then has its own rate, which
is that of the frames times its samples in one. Nothing is averaged.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import (
    HeaderError,
    LimitError,
    SignalError,
    TruncatedError,
    UnsafePathError,
    UnsupportedFormatError,
    brief,
)
from ecg_transformers.data.readers.arrays import Hints, pick
from ecg_transformers.data.readers.clinical.record import cut, window
from ecg_transformers.data.readers.limits import IN_PARTS, Limits
from ecg_transformers.data.readers.wfdb.formats import (
    FLAC_BITS,
    IN_PARTS_TOO,
    INVALID_VALUE,
    bytes_of,
    decode,
    decode_flac,
    values_in,
)
from ecg_transformers.data.readers.wfdb.header import Header, Signal
from ecg_transformers.data.readers.wfdb.samples import (
    Request,
    compare_checksums,
    lead_names_of,
    open_signal_file,
    rest_is_read,
    scale_of,
)
from ecg_transformers.data.record import DigitalRecord, ECGRecord


def read_frames(
    header: Header, path: Path, folder: Path, request: Request, limits: Limits, flags: list[str]
) -> DigitalRecord | ECGRecord:
    """The record, or the part that is asked for, as int16 where its samples fit, else as int32 (or float32 millivolt,
    should that be too narrow).

    Raises:
        SignalError: the leads have several rates, and none were chosen.
    """
    names = lead_names_of(header.signals, flags)
    chosen = list(range(len(names)))
    if request.lead_names is not None:
        chosen = pick(names, request.lead_names, path, header.record_name)
    rate = _one_rate(header, chosen, names, path)
    header, first, part = _asked(header, chosen, request, path)
    limits.check_shape(header.num_samples or 0, len(names), path=path, record=header.record_name, way_out=IN_PARTS)
    columns = _columns(header, first, chosen, path, folder, request, limits, flags)
    gain, offset = scale_of(chosen, header.signals, request.units, path, header.record_name, request.strict, flags)
    samples = np.column_stack([columns[index] for index in chosen])
    invalid = np.column_stack([columns[i] == INVALID_VALUE.get(header.signals[i].fmt, _NEVER) for i in chosen])
    invalid |= samples == _NEVER
    metadata: dict[str, Any] = {"comments": list(header.comments)}
    if flags:
        metadata["flags"] = sorted(set(flags))
    common: dict[str, Any] = {
        "sampling_rate": rate,
        "lead_names": [names[index] for index in chosen],
        "record_id": path.stem,
        "source": str(path),
        "metadata": metadata,
    }
    low, high = samples.min(initial=0, where=~invalid), samples.max(initial=0, where=~invalid)
    for dtype in (np.int16, np.int32):
        lowest = np.iinfo(dtype).min
        if low > lowest and high <= np.iinfo(dtype).max:
            digital = DigitalRecord(np.where(invalid, lowest, samples).astype(dtype), gain, offset, **common)
            return digital if part is None else cut(digital, part, path)
    signal = (samples.astype(np.float64) - offset) / gain
    signal[invalid] = np.nan
    record = ECGRecord(signal.astype(np.float32), **common)
    return record if part is None else cut(record, part, path)


def _asked(header: Header, chosen: list[int], request: Request, path: Path) -> tuple[Header, int | None, Hints | None]:
    """The header of the frames to read, the first of them (None for all), and what is to be cut out of those.

    Formats of whole bytes are read in part, and FLAC, of which a long file may be small, and as a whole out of all
    proportion to it. A file that ends early is read as a whole, which tells so.
    """
    part, formats = request.part, {header.signals[index].fmt for index in chosen}
    if part is None or not header.num_samples or request.allow_truncated or not formats <= IN_PARTS_TOO:
        return header, None, part
    if any(
        _ends_early([header.signals[index] for index in group], header.num_samples, path)
        for group in _groups_by_file(header, chosen, path)
    ):
        return header, None, part
    count = header.signals[chosen[0]].samples_per_frame
    start, stop = window(part, header.num_samples * count, path)
    first, end = start // count, -(-stop // count)
    rest = Hints(start=start - first * count, stop=stop - first * count)
    return header._replace(num_samples=end - first), first, rest


_NEVER = np.iinfo(np.int64).min
"""Stands for "no value" where nothing is stored: behind the end of a skewed signal."""


def _one_rate(header: Header, chosen: list[int], names: list[str], path: Path) -> float:
    """The rate that the chosen leads share."""
    by_count: dict[int, list[str]] = {}
    for index in chosen:
        by_count.setdefault(header.signals[index].samples_per_frame, []).append(names[index])
    if len(by_count) > 1:
        told = "; ".join(
            f"{', '.join(leads)} at {header.sampling_rate * count:g} Hz" for count, leads in by_count.items()
        )
        raise SignalError(
            f"the leads have several rates ({told}); pass lead_names=[…] of one rate.",
            path=path,
            record=header.record_name,
        )
    return header.sampling_rate * next(iter(by_count))


def _ends_early(group: list[Signal], frames: int, path: Path) -> bool:
    """Whether a file holds fewer than some frames, as far as its size tells."""
    fmt, width = group[0].fmt, sum(signal.samples_per_frame for signal in group)
    try:
        size = path.parent.joinpath(group[0].file_name).stat().st_size - group[0].byte_offset
    except (OSError, ValueError):  # told where it is opened
        return False
    return fmt not in FLAC_BITS and values_in(fmt, max(size, 0)) // width < frames


def _columns(
    header: Header,
    first: int | None,
    chosen: list[int],
    path: Path,
    folder: Path,
    request: Request,
    limits: Limits,
    flags: list[str],
) -> dict[int, np.ndarray]:
    """The samples as stored, int64, of every signal that shares a file with a chosen one; checksums verified, where all
    of the record is read.

    Files of other signals need not be there: the twelve leads of PTB are read without its Frank leads.
    """
    columns: dict[int, np.ndarray] = {}
    for places in _groups_by_file(header, chosen, path):
        group = [header.signals[index] for index in places]
        columns |= zip(places, _read_group(group, first, header, path, folder, request, limits, flags))
    frames = min(len(column) // header.signals[index].samples_per_frame for index, column in columns.items())
    for index, column in columns.items():  # files of several lengths, where one is cut or the header promises none
        columns[index] = column[: frames * header.signals[index].samples_per_frame]
    if first is not None:
        flags += ["checksum_not_compared"] if any(header.signals[index].checksum for index in columns) else []
    elif request.checksum != "ignore" and not {"truncated", "length_inferred"} & set(flags):
        straight = [index for index in columns if not header.signals[index].skew]
        sums = np.array([columns[index].sum() for index in straight], dtype=np.int64)
        signals = tuple(header.signals[index] for index in straight)
        compare_checksums(sums, signals, path, header.record_name, request.checksum, flags)
        if any(header.signals[index].skew and header.signals[index].checksum for index in columns):
            flags.append(
                "checksum_not_compared"
            )  # whether they count the samples before or behind the shift is not said
    return columns


def _groups_by_file(header: Header, chosen: list[int], path: Path) -> Iterator[list[int]]:
    """The signals of each file that holds a chosen one; they follow each other in a header and share format and start."""
    for name, several in groupby(range(len(header.signals)), key=lambda index: header.signals[index].file_name):
        places = list(several)
        if not set(places) & set(chosen):
            continue
        first = header.signals[places[0]]
        if name == path.name:
            raise HeaderError("the header names itself as the signal file.", path=path, record=header.record_name)
        if len({(header.signals[index].fmt, header.signals[index].byte_offset) for index in places}) > 1:
            raise HeaderError(
                f"the signals of the file {name!r} have different formats or byte offsets.",
                path=path,
                record=header.record_name,
            )
        if first.fmt == "0":
            raise UnsupportedFormatError(
                "format 0 stands for a signal that is not stored; pass lead_names=[…] of those that are.",
                path=path,
                record=header.record_name,
                lead=first.name,
            )
        yield places


def _read_group(
    group: list[Signal],
    first: int | None,
    header: Header,
    path: Path,
    folder: Path,
    request: Request,
    limits: Limits,
    flags: list[str],
) -> list[np.ndarray]:
    """The samples of the signals of one file, each at its own rate and moved by its skew."""
    counts = [signal.samples_per_frame for signal in group]
    longest_skew = max(signal.skew for signal in group)
    frames = header.num_samples or 0
    limits.check_shape(frames * max(counts), len(header.signals), path=path, record=header.record_name)
    if group[0].fmt in FLAC_BITS:
        stored = _flac_frames(group, first, frames + longest_skew, header, path, folder, request, limits)
    else:
        stored = _plain_frames(group, first, frames + longest_skew, header, path, folder, request, limits, flags)
    found = len(stored)
    if frames > found:
        if not request.allow_truncated or not found:
            which = f"the header promises {frames} frames" if first is None else f"{frames} frames from {first} on"
            raise TruncatedError(
                f"{which} of {len(group)} signals, the file {group[0].file_name!r} holds {found}{rest_is_read(found)}",
                path=path,
                record=header.record_name,
            )
        flags.append("truncated")
        frames = found
    frames = frames or found
    edges = np.cumsum([0, *counts])
    return [_moved(stored[:, edges[i] : edges[i + 1]], signal, frames) for i, signal in enumerate(group)]


def _moved(stored: np.ndarray, signal: Signal, frames: int) -> np.ndarray:
    """One signal `(frames * samples_per_frame,)`, earlier by its skew; what is not stored is no value."""
    values = np.full((frames, signal.samples_per_frame), _NEVER)
    rest = stored[signal.skew : signal.skew + frames]
    values[: len(rest)] = rest
    flat = values.reshape(-1)
    if signal.fmt != "8":
        return flat
    return np.where(flat == _NEVER, _NEVER, np.cumsum(np.where(flat == _NEVER, 0, flat)) + (signal.initial_value or 0))


def _plain_frames(
    group: list[Signal],
    first: int | None,
    wanted: int,
    header: Header,
    path: Path,
    folder: Path,
    request: Request,
    limits: Limits,
    flags: list[str],
) -> np.ndarray:
    """Values as stored, `(frames, values a frame)`: at most the `wanted` frames from one on, or all if none are stated."""
    fmt, width = group[0].fmt, sum(signal.samples_per_frame for signal in group)
    descriptor, size = open_signal_file(path, group[0].file_name, folder, header.record_name, request.follow_links)
    try:
        if size > limits.max_file_bytes and first is None:
            raise LimitError(f"the file has {size} bytes, more than the limit.", path=path, record=header.record_name)
        size -= group[0].byte_offset
        if size < 0:
            beyond = f"the byte offset {group[0].byte_offset} lies beyond the end of the signal file."
            raise TruncatedError(beyond, path=path, record=header.record_name)
        available = values_in(fmt, size) // width
        if header.num_samples is None:
            if bytes_of(fmt, available * width) != size or not available:
                raise HeaderError(
                    f"the header gives no number of samples, and {size} bytes are no whole number of frames.",
                    path=path,
                    record=header.record_name,
                )
            flags.append("length_inferred")
            limits.check_shape(available * width, len(header.signals), path=path, record=header.record_name)
            wanted = available
        begin = first or 0
        count = min(wanted, max(available - begin, 0)) * width
        content = _read(descriptor, group[0].byte_offset + bytes_of(fmt, begin * width), bytes_of(fmt, count))
    except OSError as error:
        raise UnsafePathError(f"the file cannot be read ({brief(error)}).", path=path) from error
    finally:
        os.close(descriptor)
    values = decode(fmt, content, count)
    return values[: len(values) // width * width].reshape(-1, width)


def _read(descriptor: int, start: int, size: int) -> bytes:
    os.lseek(descriptor, start, os.SEEK_SET)
    parts = []
    while size and (part := os.read(descriptor, size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _flac_frames(
    group: list[Signal],
    first: int | None,
    wanted: int,
    header: Header,
    path: Path,
    folder: Path,
    request: Request,
    limits: Limits,
) -> np.ndarray:
    """Values of a FLAC file, `(frames, values a frame)`: each channel holds one signal; from a frame on, or all."""
    counts = {signal.samples_per_frame for signal in group}
    if len(counts) > 1:
        raise UnsupportedFormatError("the signals of a FLAC file have different numbers of samples a frame.", path=path)
    count = counts.pop()
    file = path.parent.joinpath(group[0].file_name)
    os.close(open_signal_file(path, group[0].file_name, folder, header.record_name, request.follow_links)[0])
    size = file.stat().st_size
    stop = wanted * count if header.num_samples else min(limits.max_samples, limits.room(size) // len(group)) + 1
    told: dict[str, Any] = {"path": path, "record": header.record_name, "way_out": IN_PARTS}
    limits.check_growth(stop if header.num_samples else 0, len(group), size, **told)
    try:
        values = decode_flac(
            file, group[0].fmt, len(group), (first or 0) * count, stop, may_be_cut=bool(header.num_samples)
        )
    except ValueError as error:
        raise UnsupportedFormatError(
            f"this is no readable FLAC file ({brief(error)}).", path=file, record=header.record_name
        ) from error
    limits.check_shape(len(values), len(group), path=path, record=header.record_name)
    limits.check_growth(len(values), len(group), size, **told)
    frames = len(values) // count
    return (
        values[: frames * count]
        .reshape(frames, count, len(group))
        .transpose(0, 2, 1)
        .reshape(frames, count * len(group))
    )
