"""NPY and NPZ records; nothing is ever unpickled."""

from __future__ import annotations

import ast
import math
import zipfile
import zlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from ecg_transformers.data.errors import (
    ECGDataError,
    LimitError,
    SignalError,
    TruncatedError,
    UnsupportedFormatError,
    brief,
)
from ecg_transformers.data.readers.arrays import (
    Hints,
    agreed_rate,
    columns_in_millivolts,
    record_from_array,
    refuse_facts_under_other_names,
)
from ecg_transformers.data.readers.clinical.identity import Patient
from ecg_transformers.data.readers.converted import sidecar_facts, with_facts
from ecg_transformers.data.readers.limits import MOST_EMPTY, Limits, checked_file, read_bytes
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_KEYS = ("signal", "sampling_rate", "lead_names", "units")
_PATIENT = ("patient_id", "subject_id", "patient", "subject", "PatientID", "pid")
_MAX_MEMBERS = 64
_MAX_HEADER = 10_000
_BLOCK = 2**20


def read_npy(path: Path, hints: Hints, limits: Limits) -> ECGRecord:
    """One array `(samples, leads)`; floats are millivolt unless `units` says otherwise."""
    content = read_bytes(path, limits.max_file_bytes, hints.root, follow_links=hints.follow_links)
    return record_from_array(parse_npy(content, path, limits), path, hints, limits)


def read_npz(path: Path, hints: Hints, limits: Limits) -> DigitalRecord | ECGRecord:
    """An archive with `signal` `(samples, leads)` and, if known, `sampling_rate`, `lead_names`, `units` (one, or one a
    lead) and `patient_id` (or another of the usual names), hidden as that of any file unless `keep_identity` is set.

    An archive of one array needs no particular name for it. Other arrays are not looked at, but a rate, unit or leads
    under another name (`fs`) are refused where the caller does not say them.
    """
    resolved = checked_file(path, hints.root, follow_links=hints.follow_links)
    members, size = _members(resolved, (*_KEYS, *_PATIENT, hints.variable), limits), resolved.stat().st_size
    asked = next(iter(members)) if len(members) == 1 and not hints.variable else hints.variable or "signal"
    signal = _array(members, asked, path, limits)
    if signal is None:
        way_out = "" if hints.variable else "; pass variable='…' with the one that holds the samples"
        raise SignalError(f"the archive has no array {asked!r}, but {sorted(members)}{way_out}.", path=path)
    refuse_facts_under_other_names(members, _KEYS, path, hints)
    if signal.size > size + MOST_EMPTY:
        raise LimitError(f"{signal.size} samples would be made of {size} bytes.", path=path)
    rate = _array(members, "sampling_rate", path, limits)
    if rate is not None and (rate.size != 1 or rate.dtype.kind not in "iuf"):
        raise SignalError("'sampling_rate' is not one number.", path=path)
    names, units = (_texts(_array(members, name, path, limits), path) for name in ("lead_names", "units"))
    own_rate = None if rate is None else float(rate.reshape(-1)[0])
    full = replace(hints, sampling_rate=agreed_rate(hints, own_rate, path))
    if hints.units is None and units:
        if len(set(units)) == 1:
            full = replace(full, units=units[0])
        elif signal.ndim != 2 or len(units) != signal.shape[1]:
            raise SignalError(f"'units' has {len(units)} texts for an array of shape {signal.shape}.", path=path)
        else:
            signal, full = columns_in_millivolts(signal, units, names, path, full)
    record = record_from_array(signal, path, full, limits, own_names=names)
    record.patient_id = _patient(members, path, hints, limits)
    facts = sidecar_facts(path, hints)
    return record if facts is None else with_facts(record, facts, path, hints)


def patient_in_npz(path: Path, hints: Hints, limits: Limits) -> str | None:
    """The patient whom an archive names, as `read_npz` gives it, without its samples."""
    members = _members(checked_file(path, hints.root, follow_links=hints.follow_links), _PATIENT, limits)
    return _patient(members, path, hints, limits)


def _patient(members: dict[str, bytearray | None], path: Path, hints: Hints, limits: Limits) -> str | None:
    """The first of the usual names that holds one text or whole number; anything else under them names nobody."""
    for name in _PATIENT:
        content = members.get(name)
        if content is None:
            continue
        try:
            values = parse_npy(content, path, limits, text=True)
        except UnsupportedFormatError:  # a Python object
            continue
        if values.size != 1 or (values.dtype.kind == "f" and not float(values.item()).is_integer()):
            continue
        own = int(values.item()) if values.dtype.kind == "f" else values.item()
        return Patient(id=str(own)).patient_id(keep=hints.keep_identity)
    return None


def parse_npy(content: bytes | bytearray, path: Path, limits: Limits, *, text: bool = False) -> np.ndarray:
    """The array in some NPY bytes: header first, then the size must fit, then a view is made."""
    shape, fortran_order, dtype, start = _npy_header(content, path)
    if dtype.hasobject or dtype.kind not in ("iufU" if text else "iuf") or dtype.itemsize == 0:
        raise UnsupportedFormatError(f"the array has the type {dtype}; plain numbers are read.", path=path)
    count = 1
    for size in shape:
        count *= size
    if count * dtype.itemsize > limits.max_file_bytes:
        raise LimitError(f"an array of shape {shape} is declared, beyond the limit.", path=path)
    if count * dtype.itemsize != len(content) - start:
        raise TruncatedError(
            f"an array of shape {shape} needs {count * dtype.itemsize} bytes, {len(content) - start} follow.",
            path=path,
        )
    array = np.frombuffer(content, dtype=dtype, count=count, offset=start)
    return array.reshape(shape, order="F" if fortran_order else "C")


def map_npy(path: Path, root: Path) -> np.ndarray:
    """An NPY file mapped, not read: for arrays larger than memory. Size and header must agree to the byte."""
    checked_file(path, root)
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER + 12)
    shape, fortran_order, dtype, start = _npy_header(head, path)
    if dtype.hasobject or dtype.kind not in "iuf" or dtype.itemsize == 0:
        raise UnsupportedFormatError(f"the array has the type {dtype}; plain numbers are read.", path=path)
    size = path.stat().st_size
    if start + math.prod(shape) * dtype.itemsize != size or not size > start:
        raise TruncatedError(f"an array of shape {shape} and type {dtype} does not fit {size} bytes.", path=path)
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order="F" if fortran_order else "C")


def _npy_header(content: bytes | bytearray, path: Path) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, order, type and start of the data; the header, a Python literal, is parsed as data of a capped length."""
    try:
        if content[:6] != b"\x93NUMPY" or content[6] not in (1, 2, 3):
            raise ValueError("it does not start as one")
        width = 2 if content[6] == 1 else 4
        length = int.from_bytes(content[8 : 8 + width], "little")
        start = 8 + width + length
        if length > _MAX_HEADER or start > len(content):
            raise ValueError(f"its header is said to have {length} bytes")
        header = ast.literal_eval(content[8 + width : start].decode("utf-8" if content[6] == 3 else "latin-1").strip())
        shape, order, descr = header["shape"], header["fortran_order"], header["descr"]
        if not isinstance(descr, str) or not isinstance(order, bool) or not isinstance(shape, tuple) or len(shape) > 4:
            raise ValueError("its header does not describe one plain array")
        if not all(type(size) is int and 0 <= size < 2**62 for size in shape):
            raise ValueError(f"its shape is {shape}")
        return shape, order, np.dtype(descr), start
    except (ValueError, KeyError, IndexError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise UnsupportedFormatError(f"this is no readable NPY file ({brief(error)}).", path=path) from error


def _array(members: dict[str, bytearray | None], name: str, path: Path, limits: Limits) -> np.ndarray | None:
    """The member of a name, None where the archive has none."""
    content = members.get(name)
    if content is None:
        return None
    try:
        return parse_npy(content, path, limits, text=name in ("lead_names", "units"))
    except ECGDataError as error:
        hint = " (names are saved as np.array(names, dtype=str))" if name in ("lead_names", "units") else ""
        raise type(error)(f"the member {name!r}: {error.reason}{hint}", path=path) from error


def _members(path: Path, wanted: Collection[str | None], limits: Limits) -> dict[str, bytearray | None]:
    """The arrays of an archive by name, after its directory was found harmless; None for those nobody asks for."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_directory(entries, path, limits)
            members: dict[str, bytearray | None] = {}
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name not in wanted and not (len(entries) == 1 and "signal" in wanted):
                    members[name] = None
                    continue
                with archive.open(entry) as member:
                    members[name] = _unpacked(member, entry.file_size)
                if members[name] is None:
                    raise TruncatedError(f"the member {name!r} is not as long as stated.", path=path)
            return members
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:
        if isinstance(error, zipfile.BadZipFile) and not zipfile.is_zipfile(path) and _starts_as_zip(path):
            raise TruncatedError(
                "the archive ends before the list of its arrays, which stands at its end: it was not copied whole.",
                path=path,
            ) from error
        raise UnsupportedFormatError(f"this is no readable NPZ archive ({brief(error)}).", path=path) from error


def _unpacked(member: IO[bytes], size: int) -> bytearray | None:
    """The content of a member, None where it has another size (`read` of all of it copies what it has at each step)."""
    content, filled = bytearray(size), 0
    while block := member.read(_BLOCK):
        if filled + len(block) > size:
            return None
        content[filled : filled + len(block)] = block
        filled += len(block)
    return content if filled == size else None


def _starts_as_zip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == b"PK\3\4"


def _check_directory(entries: list[zipfile.ZipInfo], path: Path, limits: Limits) -> None:
    names = [entry.filename for entry in entries]
    if not entries or len(entries) > _MAX_MEMBERS or len({name.lower() for name in names}) != len(names):
        raise UnsupportedFormatError(f"the archive has {len(entries)} members, or repeats one.", path=path)
    for entry in entries:
        if "/" in entry.filename or "\\" in entry.filename or not entry.filename.endswith(".npy"):
            raise UnsupportedFormatError(f"the member {entry.filename[:60]!r} is no array.", path=path)
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnsupportedFormatError(f"the member {entry.filename!r} is encrypted or oddly compressed.", path=path)
    total, packed = sum(entry.file_size for entry in entries), sum(entry.compress_size for entry in entries)
    if total > max(packed * limits.max_ratio, 4 * MOST_EMPTY):  # a day that is nearly empty is packed 1000:1
        raise LimitError(f"the archive expands beyond {limits.max_ratio}:1, to {total} bytes.", path=path)
    if total > limits.max_file_bytes:
        raise LimitError(f"the archive expands to {total} bytes, beyond the limit.", path=path)


def _texts(array: np.ndarray | None, path: Path) -> list[str] | None:
    if array is None:
        return None
    if array.dtype.kind != "U":
        raise SignalError("'lead_names' and 'units' must be arrays of text.", path=path)
    values: list[Any] = array.reshape(-1).tolist()
    return [str(value) for value in values]
