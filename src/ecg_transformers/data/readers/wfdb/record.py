"""WFDB records: a fast reader for the common case, `frames` for the rest, both behind the same checks.

The fast path covers one signal file of format 16 (also behind the header of a MATLAB file) or 212 and returns, in
float32 millivolt, bit for bit what `wfdb.rdrecord` rounds to. Other formats, several files, skew and several samples
a frame are read in `frames`; segments one by one. wfdb itself is not used: it allocates what a header asks for,
verifies no checksum of such records and refuses those whose date it cannot read.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import HeaderError, LimitError, SignalError, TruncatedError, UnsafePathError, brief
from ecg_transformers.data.readers.arrays import Hints, pick
from ecg_transformers.data.readers.clinical.record import window
from ecg_transformers.data.readers.limits import DEFAULT_LIMITS, Limits, read_array
from ecg_transformers.data.readers.mat_format import load_mat
from ecg_transformers.data.readers.wfdb.frames import read_frames
from ecg_transformers.data.readers.wfdb.header import Header, PathLike, read_header
from ecg_transformers.data.readers.wfdb.samples import (
    ChecksumPolicy,
    Request,
    beside,
    lead_names_of,
    matlab_samples,
    open_signal_file,
    read_format_16,
    read_format_212,
    rest_is_read,
    scale_of,
    verify_checksums,
)
from ecg_transformers.data.readers.wfdb.segments import read_segments
from ecg_transformers.data.record import DigitalRecord, ECGRecord


def read_wfdb(
    path: str | Path,
    *,
    lead_names: list[str] | None = None,
    units: str | None = None,
    root: str | Path | None = None,
    limits: Limits | None = None,
    checksum: ChecksumPolicy = "error",
    allow_truncated: bool = False,
    strict: bool = False,
    follow_links: bool = False,
    start: int | None = None,
    stop: int | None = None,
) -> DigitalRecord | ECGRecord:
    """A WFDB record, named by its `.hea` file or by its base name.

    Args:
        lead_names: read only these leads, in this order.
        units: the unit of all signals, where the header states a wrong or unknown one.
        root: folder that no file of the record may leave (default: the folder of the header).
        limits: sizes beyond which a header is not believed.
        checksum: what to do when the samples do not have the header's checksum.
        allow_truncated: return what is there when the signal file is too short, with a flag.
        strict: refuse headers without a gain instead of taking WFDB's default of 200 per millivolt.
        follow_links: accept links that lead out of `root`.
        start, stop: read these samples only. Of one signal file of format 212, of files of formats of whole bytes (16, 24,
            32 …) and of FLAC, and of segments of those kinds, nothing else is read, so that a recording may be longer than
            `limits` allow; its checksums cannot be compared.

    Returns:
        `DigitalRecord` where the samples are 16-bit integers, `ECGRecord` otherwise.
        `metadata["flags"]` lists what had to be assumed: `gain_defaulted`, `rate_defaulted`, `inverted_gain`,
        `truncated`, `checksum_mismatch`, `checksum_absent`, `checksum_not_compared`, `length_inferred`,
        `header_latin1`.

    Raises:
        ECGDataError: a subclass that says what is wrong with the record.
    """
    limits = limits or DEFAULT_LIMITS
    header_path = _header_path(path)
    part = None if start is stop is None else Hints(start=start, stop=stop)
    header = read_header(header_path, limits if part is None else limits.for_parts(), root, follow_links=follow_links)
    flags = list(header.flags) + (["rate_defaulted"] if header.rate_defaulted else [])
    if header.segments or not _is_simple(header):
        request = Request(lead_names, units, checksum, strict, follow_links, allow_truncated, part)
        return _read_unusual(header, Path(header_path), root, request, limits, flags)
    samples, sum_ok = _read_simple(header, header_path, root, limits, allow_truncated, follow_links, flags, part)
    if part is not None and not sum_ok:
        flags += ["checksum_not_compared"] if any(signal.checksum for signal in header.signals) else []
    elif checksum != "ignore" and sum_ok:
        verify_checksums(samples, header.signals, header_path, header.record_name, checksum, flags)
    return _record(samples, header, header_path, str(path), lead_names, units, strict, flags)


def _record(
    samples: np.ndarray,
    header: Header,
    header_path: str,
    source: str,
    lead_names: list[str] | None,
    units: str | None,
    strict: bool,
    flags: list[str],
) -> DigitalRecord:
    """The wanted leads of samples `(T, L)` as a record."""
    names = lead_names_of(header.signals, flags)
    chosen = list(range(len(names)))
    if lead_names is not None:
        chosen = pick(names, lead_names, Path(header_path), header.record_name)
    gain, offset = scale_of(chosen, header.signals, units, header_path, header.record_name, strict, flags)
    if chosen != list(range(len(header.signals))):
        samples = np.ascontiguousarray(samples[:, chosen])
    metadata: dict[str, Any] = {"comments": list(header.comments)}
    if flags:
        metadata["flags"] = sorted(set(flags))
    return DigitalRecord(
        samples=samples,
        gain=gain,
        offset=offset,
        sampling_rate=header.sampling_rate,
        lead_names=[names[index] for index in chosen],
        record_id=os.path.splitext(os.path.basename(header_path))[0],
        source=source,
        metadata=metadata,
    )


def _header_path(path: PathLike) -> str:
    """`100`, `100.hea` and `100.dat` all name the record 100."""
    text = os.fspath(path)
    if text.lower().endswith(".dat"):
        return text[:-4] + ".hea"
    return text if text.lower().endswith(".hea") else text + ".hea"


def _is_simple(header: Header) -> bool:
    first = header.signals[0]
    where = first[:5]  # file, format, samples per frame, skew, byte offset
    if where[1] not in ("16", "212") or where[2:4] != (1, 0):
        return False
    return [signal[:5] for signal in header.signals].count(where) == len(header.signals)


def _read_unusual(
    header: Header, path: Path, root: PathLike | None, request: Request, limits: Limits, flags: list[str]
) -> DigitalRecord | ECGRecord:
    """Several segments, several files, another format, several samples a frame, or skew."""
    folder = path.parent if root is None else Path(root)
    if header.segments:
        return read_segments(header, path, folder, request, limits, flags, read=read_wfdb)
    return read_frames(header, path, folder, request, limits, flags)


def _read_simple(
    header: Header,
    path: str,
    root: PathLike | None,
    limits: Limits,
    allow_truncated: bool,
    follow_links: bool,
    flags: list[str],
    part: Hints | None,
) -> tuple[np.ndarray, bool]:
    """int16 samples `(T, L)`, invalid values as -32768, and whether their checksums can be compared."""
    first, record = header.signals[0], header.record_name
    descriptor, size = open_signal_file(path, first.file_name, root, record, follow_links)
    try:
        return _read_opened(descriptor, size, header, path, limits, allow_truncated, flags, part)
    except OSError as error:
        unread = f"the file cannot be read ({brief(error)})."
        raise UnsafePathError(unread, path=beside(path, first.file_name), record=record) from error
    finally:
        os.close(descriptor)


def _read_opened(
    descriptor: int,
    size: int,
    header: Header,
    path: str,
    limits: Limits,
    allow_truncated: bool,
    flags: list[str],
    part: Hints | None,
) -> tuple[np.ndarray, bool]:
    """As `_read_simple`, of a signal file of `size` bytes."""
    first, num_leads, record = header.signals[0], len(header.signals), header.record_name
    if first.file_name == os.path.basename(path):
        raise HeaderError("the header names itself as the signal file.", path=path, record=record)
    is_matlab = first.file_name.lower().endswith(".mat") and not _is_format_16(descriptor, first.byte_offset, num_leads)
    if size > limits.max_file_bytes and (part is None or is_matlab):
        big = f"the file has {size} bytes, more than the limit."
        raise LimitError(big, path=beside(path, first.file_name), record=record)
    if is_matlab:
        variables = load_mat(
            read_array(descriptor, "u1", size, 0).tobytes(), Path(beside(path, first.file_name)), limits
        )
        return _matlab_part(variables, header, path, part)
    size -= first.byte_offset  # WFDB's own MATLAB files are format 16 behind a header of 24 bytes
    if size < 0:
        beyond = f"the byte offset {first.byte_offset} lies beyond the end of the signal file."
        raise HeaderError(beyond, path=path, record=record)
    available = size // 2 if first.fmt == "16" else size * 2 // 3
    of_all = limits if part is None else limits.for_parts()
    promised = header.num_samples or _inferred_length(header, available, size, path, of_all, flags)
    num_samples = min(promised, available // num_leads)
    if num_samples < promised:
        if not allow_truncated or num_samples == 0:
            raise _too_short(promised, num_samples, num_leads, beside(path, first.file_name), record)
        flags.append("truncated")
    start, stop = (0, num_samples) if part is None else window(part, num_samples, Path(path))
    limits.check_shape(stop - start, num_leads, path=path, record=record)
    read = read_format_16 if first.fmt == "16" else read_format_212
    samples = read(descriptor, (stop - start) * num_leads, first.byte_offset, start * num_leads)
    if samples.size < (stop - start) * num_leads:  # it has become shorter since it was opened
        found = start + samples.size // num_leads
        raise _too_short(promised, found, num_leads, beside(path, first.file_name), record)
    return samples.reshape(stop - start, num_leads), stop - start == promised


def _matlab_part(variables: dict[str, Any], header: Header, path: str, part: Hints | None) -> tuple[np.ndarray, bool]:
    """The samples of a MATLAB file that are asked for, and whether they are all of them."""
    place, record = beside(path, header.signals[0].file_name), header.record_name
    if not isinstance(variables.get("val"), np.ndarray):
        raise SignalError(f"the file has no array 'val', but {sorted(variables)}.", path=place, record=record)
    samples = matlab_samples(variables["val"], header, place)
    start, stop = (0, len(samples)) if part is None else window(part, len(samples), Path(path))
    return samples[start:stop], stop - start == len(samples)


def _is_format_16(descriptor: int, byte_offset: int, num_leads: int) -> bool:
    """Whether a MATLAB file is laid out as its header says: version 4, one array of 16-bit integers `(leads, samples)`.

    Saved again by another tool it mostly is not, and its bytes would be read as samples that mean nothing.
    """
    head = os.pread(descriptor, 20, 0)
    if len(head) < 20:
        return True  # it ends early, which is told by its size
    kind, rows, _, imaginary, name_length = struct.unpack("<5i", head)
    return (kind, rows, imaginary, name_length) == (30, num_leads, 0, byte_offset - 20)


def _inferred_length(header: Header, available: int, size: int, path: str, limits: Limits, flags: list[str]) -> int:
    """Samples per lead where the header does not say: what the file holds, if that is a whole number."""
    num_leads, record = len(header.signals), header.record_name
    num_samples, rest = divmod(available, num_leads)
    if rest or (header.signals[0].fmt == "16" and size % 2) or num_samples == 0:
        raise HeaderError(
            f"the header gives no number of samples, and {size} bytes are no whole number of {num_leads} leads.",
            path=path,
            record=record,
        )
    limits.check_shape(num_samples, num_leads, path=path, record=record)
    flags.append("length_inferred")
    return num_samples


def _too_short(promised: int, found: int, num_leads: int, path: str, record: str) -> TruncatedError:
    return TruncatedError(
        f"the header promises {promised} samples of {num_leads} leads, the file holds {found}{rest_is_read(found)}",
        path=path,
        record=record,
    )
