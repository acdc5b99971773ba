"""WFDB records: a fast reader for the common case, wfdb for the rest, both behind the same checks.

The fast path covers one signal file of format 16 (also behind the header of a MATLAB file) or 212 and returns, in
float32 millivolt, bit for bit what `wfdb.rdrecord` rounds to. Other formats, several files, skew and several samples
per frame are decoded by wfdb, after the header passed our own parser (wfdb allocates what a header asks for and
verifies no checksum); segments are read one by one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ecg_transformers.data.errors import (
    ChecksumError,
    DuplicateLeadError,
    HeaderError,
    LeadNotFoundError,
    LimitError,
    TruncatedError,
    UnitError,
    UnsafePathError,
    brief,
)
from ecg_transformers.data.readers.limits import Limits, open_file, read_array
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.readers.wfdb.header import Header, PathLike, Signal, read_header
from ecg_transformers.data.record import INVALID, DigitalRecord, ECGRecord, standard_lead_name

ChecksumPolicy = Literal["error", "warn", "ignore"]


class Request(NamedTuple):
    """What the caller wants of a record, handed on to the slow path."""

    lead_names: list[str] | None
    units: str | None
    checksum: ChecksumPolicy
    strict: bool
    follow_links: bool


_INVALID_VALUE = {"16": -32768, "212": -2048}


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

    Returns:
        :class:`DigitalRecord` where the samples are 16-bit integers, :class:`ECGRecord` otherwise.
        `metadata["flags"]` lists what had to be assumed: `gain_defaulted`, `rate_defaulted`, `inverted_gain`,
        `truncated`, `checksum_mismatch`, `checksum_absent`, `length_inferred`, `header_latin1`.

    Raises:
        ECGDataError: a subclass that says what is wrong with the record.
    """
    limits = limits or Limits()
    header_path = _header_path(path)
    header = read_header(header_path, limits, root, follow_links=follow_links)
    flags = list(header.flags) + (["rate_defaulted"] if header.rate_defaulted else [])
    if header.segments or not _is_simple(header):
        request = Request(lead_names, units, checksum, strict, follow_links)
        return _read_unusual(header, Path(header_path), root, request, limits, flags)
    samples, sum_ok = _read_simple(header, header_path, root, limits, allow_truncated, follow_links, flags)
    if checksum != "ignore" and sum_ok:
        verify_checksums(samples, header.signals, header_path, header.record_name, checksum, flags)
    chosen = choose_signals(header.signals, lead_names, header_path, header.record_name)
    names, gain, offset = scale_of(chosen, header.signals, units, header_path, header.record_name, strict, flags)
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
        lead_names=names,
        record_id=os.path.splitext(os.path.basename(header_path))[0],
        source=str(path),
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
    return where[1] in ("16", "212") and where[2:4] == (1, 0) and all(s[:5] == where for s in header.signals)


def _read_unusual(
    header: Header, path: Path, root: PathLike | None, request: Request, limits: Limits, flags: list[str]
) -> DigitalRecord | ECGRecord:
    """Several segments, several files, or a format that wfdb decodes."""
    folder = path.parent if root is None else Path(root)
    if header.segments:
        from ecg_transformers.data.readers.wfdb.segments import read_segments

        return read_segments(header, path, folder, request, limits, flags)
    from ecg_transformers.data.readers.wfdb.fallback import read_with_wfdb

    return read_with_wfdb(header, path, folder, request, limits, flags)


def _read_simple(
    header: Header,
    path: str,
    root: PathLike | None,
    limits: Limits,
    allow_truncated: bool,
    follow_links: bool,
    flags: list[str],
) -> tuple[np.ndarray, bool]:
    """int16 samples `(T, L)`, invalid values as -32768, and whether their checksums can be compared."""
    first, num_leads, record = header.signals[0], len(header.signals), header.record_name
    folder, own_name = os.path.split(path)
    signal_path = os.path.join(folder, first.file_name)  # the name holds no slash, so the folder is that of the header
    descriptor, size = open_file(signal_path, root, follow_links=follow_links, folder_is_safe=True)
    try:
        if first.file_name == own_name:
            raise HeaderError("the header names itself as the signal file.", path=path, record=record)
        if size > limits.max_file_bytes:
            raise LimitError(f"the file has {size} bytes, more than the limit.", path=signal_path, record=record)
        size -= first.byte_offset  # WFDB's own MATLAB files are format 16 behind a header of 24 bytes
        if size < 0:
            beyond = f"the byte offset {first.byte_offset} lies beyond the end of the signal file."
            raise HeaderError(beyond, path=path, record=record)
        available = size // 2 if first.fmt == "16" else size * 2 // 3
        promised = header.num_samples or _inferred_length(header, available, size, path, limits, flags)
        num_samples = min(promised, available // num_leads)
        if num_samples < promised:
            if not allow_truncated or num_samples == 0:
                raise _too_short(promised, num_samples, num_leads, signal_path, record)
            flags.append("truncated")
        read = read_format_16 if first.fmt == "16" else read_format_212
        samples = read(descriptor, num_samples * num_leads, first.byte_offset)
        if samples.size < num_samples * num_leads:  # it has become shorter since it was opened
            raise _too_short(promised, samples.size // num_leads, num_leads, signal_path, record)
        return samples.reshape(num_samples, num_leads), num_samples == promised
    except OSError as error:
        raise UnsafePathError(f"the file cannot be read ({brief(error)}).", path=signal_path, record=record) from error
    finally:
        os.close(descriptor)


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
        f"the header promises {promised} samples of {num_leads} leads, the file holds {found}; pass "
        f"allow_truncated=True to read what is there.",
        path=path,
        record=record,
    )


def read_format_16(descriptor: int, count: int, byte_offset: int = 0) -> np.ndarray:
    """The first `count` samples of an open file of 16-bit little-endian integers."""
    return read_array(descriptor, "<i2", count, byte_offset).astype(np.int16, copy=False)


def read_format_212(descriptor: int, count: int, byte_offset: int = 0) -> np.ndarray:
    """The first `count` samples of an open file of 12-bit integers, two in three bytes; -2048 (no value) as -32768.

    Bytes b0 b1 b2 hold the samples `b1[3:0] b0` and `b1[7:4] b2`, each with its sign in bit 11. Both are moved to the
    top of an int16 and shifted back, which spreads the sign.
    """
    pairs = (count + 1) // 2
    packed = read_array(descriptor, "u1", pairs * 3, byte_offset)
    if packed.size < pairs * 3:  # an odd count may end after two bytes
        packed = np.concatenate([packed, np.zeros(pairs * 3 - packed.size, dtype=np.uint8)])
    packed = packed.reshape(pairs, 3)
    middle = packed[:, 1].astype(np.uint16)
    samples = np.empty((pairs, 2), dtype=np.uint16)
    np.left_shift(middle, 12, out=samples[:, 0])
    samples[:, 0] |= packed[:, 0].astype(np.uint16) << 4
    np.left_shift(middle & 0xF0, 8, out=samples[:, 1])
    samples[:, 1] |= packed[:, 2].astype(np.uint16) << 4
    values = samples.view(np.int16).reshape(-1)[:count]
    values >>= 4
    if values.size and values.min() == _INVALID_VALUE["212"]:
        values[values == _INVALID_VALUE["212"]] = INVALID
    return values


def verify_checksums(
    samples: np.ndarray,
    signals: tuple[Signal, ...],
    path: PathLike,
    record: str,
    policy: ChecksumPolicy,
    flags: list[str],
) -> None:
    """Compare the 16-bit sum of each signal with its header; a header whose sums are all 0 states none."""
    if not any(signal.checksum for signal in signals):
        flags.append("checksum_absent")
        return
    sums = sums_16_bit(samples)
    if signals[0].fmt == "212" and samples.min() == INVALID:  # the marker of "no value" is -2048 in the file
        sums += (samples == INVALID).sum(axis=0) * (32768 - 2048)
    for signal, total in zip(signals, sums.tolist()):
        if signal.checksum is None or (total - signal.checksum) % 65536 == 0:
            continue
        if policy == "warn":
            flags.append("checksum_mismatch")
            continue
        raise ChecksumError(
            f"the samples have the checksum {total % 65536}, the header states {signal.checksum % 65536}: the "
            f"signal file is damaged or belongs to another header (checksum='ignore' reads it all the same).",
            path=path,
            record=record,
            lead=signal.name,
        )


def sums_16_bit(samples: np.ndarray) -> np.ndarray:
    """Sum of each lead of int16 samples `(T, L)`, right modulo 65536; int64 `(L,)`."""
    words = np.ascontiguousarray(samples).view(np.uint16)  # sums modulo 65536 need no wider numbers
    block = 64 if len(words) > 2000 else 16 if len(words) >= 16 else 1  # long inner loops
    whole = len(words) // block * block
    total = np.add.reduce(words[:whole].reshape(whole // block, -1), axis=0, dtype=np.uint16).astype(np.int64)
    if block > 1:
        total = total.reshape(block, -1).sum(axis=0) + words[whole:].sum(axis=0, dtype=np.int64)
    return total


def choose_signals(signals: tuple[Signal, ...], lead_names: list[str] | None, path: PathLike, record: str) -> list[int]:
    """Positions of the leads asked for, or of all."""
    names = [standard_lead_name(signal.name).lower() for signal in signals]
    if lead_names is None:
        chosen = list(range(len(signals)))
    else:
        wanted = [standard_lead_name(name).lower() for name in lead_names]
        for name, asked in zip(wanted, lead_names):
            if name not in names:
                raise LeadNotFoundError(
                    f"the record has the leads {[signal.name for signal in signals]}.",
                    path=path,
                    record=record,
                    lead=asked,
                )
        chosen = [names.index(name) for name in wanted]
    distinct = len(set(names)) == len(names) and len(set(chosen)) == len(chosen)
    for index in () if distinct else chosen:
        if names.count(names[index]) > 1 or chosen.count(index) > 1:
            raise DuplicateLeadError(
                "two signals carry this lead name; a lead may occur once.",
                path=path,
                record=record,
                lead=signals[index].name,
            )
    return chosen


def scale_of(
    chosen: list[int],
    signals: tuple[Signal, ...],
    units: str | None,
    path: PathLike,
    record: str,
    strict: bool,
    flags: list[str],
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Lead names, gain (units per millivolt) and offset of the chosen signals."""
    names, gains, offsets = [], [], []
    for index in chosen:
        signal = signals[index]
        if signal.gain_defaulted:
            if strict:
                raise HeaderError("the header gives no gain (strict=True).", path=path, record=record, lead=signal.name)
            flags.append("gain_defaulted")
        if signal.gain < 0:
            flags.append("inverted_gain")
        per_millivolt = units_per_millivolt(units or signal.units)
        if per_millivolt is None:
            raise UnitError(
                f"the unit {signal.units!r} is not a voltage (V, mV, uV or nV); pass lead_names=[…] to read only the "
                f"ECG leads, or units='mV' if the header is wrong.",
                path=path,
                record=record,
                lead=signal.name,
            )
        gain = signal.gain * per_millivolt
        if not 1e-9 <= abs(gain) <= 1e12:
            raise HeaderError(f"the gain {signal.gain} is absurd.", path=path, record=record, lead=signal.name)
        names.append(standard_lead_name(signal.name))
        gains.append(gain)
        offsets.append(float(signal.baseline))
    return names, np.array(gains), np.array(offsets)
