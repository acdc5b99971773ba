"""WFDB records that the fast path does not cover, decoded by wfdb behind our own checks.

wfdb allocates what a header asks for and follows it without question; here every file, size and name has passed our
own header parser first, and whatever wfdb then raises becomes an `ECGDataError`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import (
    ECGDataError,
    HeaderError,
    LimitError,
    TruncatedError,
    UnsupportedFormatError,
    brief,
)
from ecg_transformers.data.readers.limits import Limits, safe_file
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.readers.wfdb.header import Header
from ecg_transformers.data.readers.wfdb.samples import Request, choose_signals, scale_of, verify_checksums
from ecg_transformers.data.record import INVALID, DigitalRecord, ECGRecord, standard_lead_name

# Bits per sample in the file; FLAC (508, 516, 524) has no fixed size.
_BITS = {"8": 8, "16": 16, "24": 24, "32": 32, "61": 16, "80": 8, "160": 16, "212": 12, "310": 32 / 3, "311": 32 / 3}
_INVALID_VALUE = {
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "61": -(2**15),
    "80": -(2**7),
    "160": -(2**15),
    "212": -(2**11),
    "310": -(2**9),
    "311": -(2**9),
    "508": -(2**7),
    "516": -(2**15),
    "524": -(2**23),
}


def read_with_wfdb(
    header: Header, path: Path, folder: Path, request: Request, limits: Limits, flags: list[str]
) -> DigitalRecord | ECGRecord:
    """The record as int16 where its samples fit, else as float32 millivolt."""
    check_files(header, path, folder, limits, request.follow_links)
    if any(signal.samples_per_frame != 1 or signal.skew for signal in header.signals):
        return _read_physical(header, path, request, limits, flags)
    decoded = _call_wfdb(path, header.record_name, physical=False)
    samples = np.asarray(decoded.d_signal, dtype=np.int64)
    if samples.ndim != 2 or samples.shape[1] != len(header.signals):
        raise UnsupportedFormatError("wfdb cannot decode this record.", path=path, record=header.record_name)
    if request.checksum != "ignore":
        verify_checksums(samples, header.signals, path, header.record_name, request.checksum, flags)
    chosen = choose_signals(header.signals, request.lead_names, path, header.record_name)
    names, gain, offset = scale_of(
        chosen, header.signals, request.units, path, header.record_name, request.strict, flags
    )
    invalid = np.column_stack(
        [samples[:, i] == _INVALID_VALUE.get(header.signals[i].fmt, np.iinfo(np.int64).min) for i in chosen]
    )
    samples = samples[:, chosen]
    common: dict[str, Any] = {
        "sampling_rate": header.sampling_rate,
        "lead_names": names,
        "record_id": path.stem,
        "source": str(path),
        "metadata": _metadata(header, flags),
    }
    low, high = samples.min(initial=0, where=~invalid), samples.max(initial=0, where=~invalid)
    if low >= -32767 and high <= 32767:
        return DigitalRecord(np.where(invalid, INVALID, samples).astype(np.int16), gain, offset, **common)
    signal = (samples.astype(np.float64) - offset) / gain
    signal[invalid] = np.nan
    return ECGRecord(signal.astype(np.float32), **common)


def check_files(header: Header, path: Path, folder: Path, limits: Limits, follow_links: bool) -> None:
    """Every file that the header names is a regular file below the folder and as large as it must be."""
    needed: dict[str, float] = {}
    for signal in header.signals:
        if signal.fmt == "0":
            raise UnsupportedFormatError(
                "format 0 stands for a signal that is not stored.",
                path=path,
                record=header.record_name,
                lead=signal.name,
            )
        file = safe_file(path.with_name(signal.file_name), folder, follow_links=follow_links)
        size = file.stat().st_size
        if signal.file_name == path.name:
            raise HeaderError("the header names itself as the signal file.", path=path, record=header.record_name)
        if size > limits.max_file_bytes:
            raise LimitError(f"the file has {size} bytes, more than the limit.", path=file, record=header.record_name)
        samples = (header.num_samples or 0) * signal.samples_per_frame
        limits.check_shape(samples, len(header.signals), path=path, record=header.record_name)
        start = needed.setdefault(signal.file_name, float(signal.byte_offset))
        needed[signal.file_name] = start + samples * _BITS.get(signal.fmt, 0) / 8
        if signal.byte_offset > size or needed[signal.file_name] > size + 1:
            raise TruncatedError(
                f"the header promises {header.num_samples} samples, more than the {size} bytes of the file hold.",
                path=file,
                record=header.record_name,
            )


def _call_wfdb(path: Path, record: str, **arguments: Any) -> Any:
    """`wfdb.rdrecord` on a local file; every failure becomes one of our errors."""
    import wfdb

    try:
        return wfdb.rdrecord(str(path.with_suffix("")), **arguments)
    except MemoryError as error:
        raise LimitError("the record does not fit into memory.", path=path, record=record) from error
    except Exception as error:  # wfdb raises whatever its parsing trips over
        raise UnsupportedFormatError(
            f"wfdb cannot decode this record ({brief(error)}).", path=path, record=record
        ) from error


def _read_physical(header: Header, path: Path, request: Request, limits: Limits, flags: list[str]) -> ECGRecord:
    """Several samples per frame, or skew: wfdb's own physical values, with the units converted."""
    decoded = _call_wfdb(path, header.record_name, physical=True)
    names = [name or f"signal {index}" for index, name in enumerate(decoded.sig_name or [])]
    signal = np.asarray(decoded.p_signal, dtype=np.float64)
    if signal.ndim != 2 or signal.shape[1] != len(names):
        raise UnsupportedFormatError("wfdb cannot decode this record.", path=path, record=header.record_name)
    limits.check_shape(signal.shape[0], signal.shape[1], path=path, record=header.record_name)
    standard = [standard_lead_name(name) for name in names]
    wanted = [standard_lead_name(name) for name in request.lead_names or standard]
    missing = [name for name in wanted if name not in standard]
    if missing:
        raise ECGDataError(f"the record has the leads {names}.", path=path, record=header.record_name, lead=missing[0])
    chosen = [standard.index(name) for name in wanted]
    for index in chosen:
        unit = request.units or (decoded.units or [])[index] or "mV"
        factor = units_per_millivolt(unit)
        if factor is None:
            raise ECGDataError(
                f"the unit {unit!r} is not a voltage; pass lead_names=[…] to read only the ECG leads.",
                path=path,
                record=header.record_name,
                lead=names[index],
            )
        signal[:, index] /= factor
    return ECGRecord(
        signal=signal[:, chosen].astype(np.float32),
        sampling_rate=header.sampling_rate,
        lead_names=[standard[index] for index in chosen],
        record_id=path.stem,
        source=str(path),
        metadata=_metadata(header, [*flags, "frames_averaged"]),
    )


def _metadata(header: Header, flags: list[str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {"comments": list(header.comments)}
    if flags:
        metadata["flags"] = sorted(set(flags))
    return metadata
