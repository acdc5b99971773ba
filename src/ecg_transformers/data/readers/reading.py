"""`read_record`: one record from a file of any format that the package reads."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import (
    ECGDataError,
    HeaderError,
    LeadNotFoundError,
    LimitError,
    OptionError,
    RecordNotFoundError,
    UnsupportedFormatError,
)
from ecg_transformers.data.readers.arrays import Hints, agreed_rate
from ecg_transformers.data.readers.clinical.kinds import CLINICAL_SUFFIXES, EMPTY
from ecg_transformers.data.readers.clinical.record import Sheet, cut
from ecg_transformers.data.readers.converted import patient_beside, with_wfdb_facts
from ecg_transformers.data.readers.csv import read_csv_record
from ecg_transformers.data.readers.edf import read_edf_parts
from ecg_transformers.data.readers.limits import DEFAULT_LIMITS, Limits
from ecg_transformers.data.readers.mat import read_matlab
from ecg_transformers.data.readers.npz import patient_in_npz, read_npy, read_npz
from ecg_transformers.data.readers.recognition import (
    PARTIAL,
    TITLES,
    Reader,
    clinical_kind,
    clinical_reader,
    final_error,
    refuse,
)
from ecg_transformers.data.readers.wfdb.record import read_wfdb
from ecg_transformers.data.record import DigitalRecord, ECGRecord, standard_lead_names
from ecg_transformers.signal.leads import names_the_only_lead
from ecg_transformers.words import did_you_mean

FORMATS = {
    "wfdb": "WFDB header (.hea) with its signal files",
    "mat": "MATLAB 4 or 5: array val, or struct ECG",
    "npy": "NumPy array (samples, leads)",
    "npz": "NumPy archive with signal, sampling_rate, lead_names, units",
    "csv": "text table, one column per lead",
    **TITLES,
}
_SUFFIXES = {".hea": "wfdb", ".dat": "wfdb", ".mat": "mat", ".npy": "npy", ".npz": "npz", ".csv": "csv", ".tsv": "csv"}
_SUFFIXES |= {".txt": "csv", ".edf": "edf"}


_NO_HINTS = Hints()
_PART = 2**18
"""Samples a lead of a part."""
_HINTS = [field.name for field in dataclasses.fields(Hints)]


def read_record(path: str | Path, *, limits: Limits | None = None, **hints: Any) -> ECGRecord:
    """Read one record into float32 millivolt.

    Args:
        path: `.hea` (or the base name) of a WFDB record, `.mat`, `.npy`, `.npz`, `.csv`, `.tsv`, `.txt`, and whatever
            its name a DICOM waveform, HL7 aECG, Philips XML, GE MUSE XML, SCP-ECG, ISHNE, EDF or BDF file: those are
            known by their content.
        limits: sizes beyond which a file is not believed.
        **hints: `sampling_rate`, `lead_names`, `units`, `checksum`, `allow_truncated`, `strict`, `root`,
            `follow_links`, `keep_identity`, `start`, `stop`, `variable`: see `Hints`. Formats that do not state a rate or lead
            names (NPY, CSV, MATLAB without a header) need them. Names, birth dates and the file's own patient id are
            hidden unless `keep_identity=True`; `patient_id` is then a stand-in that is the same in all files.

    Returns:
        The record; `metadata["flags"]` lists what the reader had to assume.

    Raises:
        ECGDataError: a subclass whose message names the file and what would be right.

    Example:
        >>> record = read_record("records100/00000/00001_lr")  # doctest: +SKIP
        >>> record.signal.shape, record.sampling_rate  # doctest: +SKIP
        ((1000, 12), 100.0)
    """
    record = read_stored(path, limits=limits, **hints)
    return record.to_record() if isinstance(record, DigitalRecord) else record


def read_digital(path: str | Path, *, limits: Limits | None = None, **hints: Any) -> DigitalRecord:
    """The same as 16-bit integers with their scale: as in the file where it holds such, quantised otherwise."""
    record = read_stored(path, limits=limits, **hints)
    return record.in_16_bits() if isinstance(record, DigitalRecord) else DigitalRecord.from_record(record)


def read_parts(path: str | Path, *, limits: Limits | None = None, **hints: Any) -> Iterator[DigitalRecord]:
    """The contiguous parts of a discontinuous recording (EDF+D, BDF+D, or one that was converted) one by one; any other
    file is one part.

    `metadata["start_seconds"]` says when a part begins.
    """
    for record in read_stored_runs(path, limits=limits, **hints):
        yield record.in_16_bits() if isinstance(record, DigitalRecord) else DigitalRecord.from_record(record)


def read_stored_runs(
    path: str | Path, *, limits: Limits | None = None, **hints: Any
) -> Iterator[DigitalRecord | ECGRecord]:
    """As `read_parts`, in the form in which the file holds them."""
    kind = format_of(path, hints.get("root"), follow_links=bool(hints.get("follow_links")))
    if kind in ("edf", "bdf"):
        yield from _edf_parts(path, kind, limits, hints)
        return
    record = read_stored(path, limits=limits, **hints)
    if "gaps" in record.metadata.get("flags", ()):
        yield from _between_gaps(record, Path(path))
    else:
        yield record


def _between_gaps(record: DigitalRecord | ECGRecord, path: Path) -> Iterator[DigitalRecord | ECGRecord]:
    """What lies between the gaps of a discontinuous recording that was converted (`data.converting`)."""
    if isinstance(record, DigitalRecord):
        missing = (record.samples == np.iinfo(record.samples.dtype).min).all(axis=1)
    else:
        missing = np.isnan(record.signal).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], missing, [True]]).astype(np.int8)))
    others = {key: value for key, value in record.metadata.items() if key not in ("gaps", "flags")}
    flags = [flag for flag in record.metadata["flags"] if flag not in ("gaps", "gaps_not_listed")]
    for start, stop in edges.reshape(-1, 2).tolist():
        part = cut(record, Hints(start=start, stop=stop), path)
        part.metadata = {**others, **({"flags": flags} if flags else {})}
        part.metadata["start_seconds"] = round(start / record.sampling_rate, 6)
        yield part


def read_stored_parts(
    path: str | Path, *, limits: Limits | None = None, **hints: Any
) -> Iterator[DigitalRecord | ECGRecord]:
    """Successive parts of a record in the form in which its file holds it, for recordings of a day; others are one part."""
    kind = format_of(path, hints.get("root"), follow_links=bool(hints.get("follow_links")))
    if kind not in PARTIAL or hints.get("start") is not None or hints.get("stop") is not None:
        yield read_stored(path, limits=limits, **hints)
        return
    if kind in ("edf", "bdf"):
        yield from _edf_parts(path, kind, limits, hints, _PART)
        return
    for start in itertools.count(0, _PART):
        part = read_stored(path, limits=limits, **{**hints, "start": start, "stop": start + _PART + 1})
        length = len(part.samples) if isinstance(part, DigitalRecord) else part.num_samples
        if length <= _PART:
            yield part
            return
        yield cut(part, Hints(stop=_PART), Path(path))  # the one more sample told that there is a next part


def _edf_parts(
    path: str | Path, kind: str, limits: Limits | None, hints: dict[str, Any], most: int | None = None
) -> Iterator[DigitalRecord]:
    sheet, request = Sheet(), checked_hints(hints)
    try:
        yield from read_edf_parts(Path(path), request, limits or DEFAULT_LIMITS, sheet, most)
    except LeadNotFoundError:  # of the only lead the names say which it is, as `read_stored` has it; else it raises
        names = read_stored(path, limits=limits, **{**hints, "start": 0, "stop": 1}).lead_names
        for part in _edf_parts(path, kind, limits, {**hints, "lead_names": None}, most):
            yield replace(part, lead_names=list(names))
    except ECGDataError as error:
        raise final_error(error, kind, sheet, request) from None


def read_stored(path: str | Path, *, limits: Limits | None = None, **hints: Any) -> DigitalRecord | ECGRecord:
    """A record in the form in which its file holds it."""
    request = checked_hints(hints)
    try:
        return _read_stored(path, request, limits or DEFAULT_LIMITS)
    except LeadNotFoundError:
        with contextlib.suppress(ECGDataError):
            record = _read_stored(path, replace(request, lead_names=None), limits or DEFAULT_LIMITS)
            if names_the_only_lead(request.lead_names, record.lead_names):
                return replace(record, lead_names=standard_lead_names(request.lead_names or []))
        raise


def _read_stored(path: str | Path, request: Hints, limits: Limits) -> DigitalRecord | ECGRecord:
    whole = request.start is None and request.stop is None and request.variable is None
    if whole and request.root is None and _names_wfdb(os.fspath(path)):  # the rest comes to this as well
        try:
            return _read_wfdb(path, request, limits)
        except OSError as error:
            raise _unreadable(path, error) from error
        except (HeaderError, LimitError):
            if clinical_kind(Path(path)) is None:  # it is a header, and damaged
                raise
    path = Path(path)
    kind = format_of(path, request.root, follow_links=request.follow_links)
    reader = _reader_of(kind)
    if request.variable is not None and kind not in ("mat", "npz"):
        raise OptionError(
            f"variable={request.variable!r} names an array of a MATLAB or NPZ file; this is {FORMATS[kind]}.", path=path
        )
    if request.allow_truncated and kind in ("npy", "npz", "mat", "csv"):
        raise OptionError("allow_truncated has no meaning for this format: it cannot be read in part.", path=path)
    try:
        if kind in PARTIAL or kind == "wfdb" or (request.start is None and request.stop is None):
            record = reader(path, request, limits)
        else:
            record = cut(reader(path, replace(request, start=None, stop=None), limits), request, path)
    except OSError as error:  # the disk, not the content: no permission, a file that vanished
        raise _unreadable(path, error) from error
    if request.start:
        record.metadata["start_sample"] = int(request.start)
    return record


def _names_wfdb(path: str) -> bool:
    """Whether a path, spelt as `pathlib` would, is that of a WFDB header or what is before its suffix.

    Path objects and the questions of `format_of` to the disk cost a third of the time of a short record.
    """
    if "//" in path or "/./" in path or path.startswith("./") or "\0" in path:
        return False
    name = path[path.rfind("/") + 1 :]
    if name.endswith(".hea"):
        return name != ".hea"
    return bool(name) and "." not in name and not os.path.isfile(path) and os.path.exists(path + ".hea")


def _unreadable(path: str | Path, error: OSError) -> ECGDataError:
    return ECGDataError(f"the file cannot be read ({error}).", path=path)


def patient_in_file(path: str | Path, *, limits: Limits | None = None, **hints: Any) -> str | None:
    """The patient whom an NPZ file or one of a cart, archive or recorder (or of `convert-record`) names, as `read_record`
    gives it; None for other formats.

    Of recorders' files one sample is read. A file that cannot be read names nobody here: who reads it says why.
    """
    try:
        kind = format_of(path, hints.get("root"), follow_links=bool(hints.get("follow_links")))
        if kind in ("wfdb", "npz", "csv"):  # those that `convert-record` wrote
            request = checked_hints(hints)
            beside = patient_beside(Path(path), kind, request, limits or DEFAULT_LIMITS)
            return _patient_inside(Path(path), request, limits) if beside is None and kind == "npz" else beside
        if kind not in TITLES:
            return None
        return read_stored(path, limits=limits, **hints, **({"stop": 1} if kind in PARTIAL else {})).patient_id
    except ECGDataError:
        return None


def _patient_inside(path: Path, hints: Hints, limits: Limits | None) -> str | None:
    return patient_in_npz(path, hints, limits or DEFAULT_LIMITS)


def checked_hints(hints: dict[str, Any]) -> Hints:
    """The hints of a call; an unknown one is refused with the nearest that there is."""
    if not hints:
        return _NO_HINTS
    hints = dict(hints)
    for name in hints:
        if name not in _HINTS:
            raise OptionError(f"read_record has no hint {name!r}{did_you_mean(name, _HINTS)}")
    if isinstance(hints.get("lead_names"), str):
        raise OptionError(f"lead_names is a list of names, not the text {hints['lead_names']!r}.")
    if hints.get("lead_names") is not None:
        hints["lead_names"] = [str(name) for name in hints["lead_names"]]
    if hints.get("root") is not None:
        hints["root"] = Path(hints["root"])
    return Hints(**hints)


def format_of(path: str | Path, root: str | Path | None = None, *, follow_links: bool = False) -> str:
    """The key of `FORMATS` that a file belongs to: by content for the formats that carts write, else by suffix.

    Raises:
        UnsupportedFormatError: a kind that is known but not read, or none of all; the sentence names it.
    """
    path = path if isinstance(path, Path) else Path(path)
    if "\0" in str(path):
        raise OptionError("a path holds a NUL character.")
    kind = clinical_kind(path, root, follow_links=follow_links)
    if kind is not None and kind.key is not None:
        return kind.key
    suffix = _SUFFIXES.get(path.suffix.lower())
    if path.is_file() and not (kind == EMPTY and suffix is not None):
        refuse(path, kind)
    if suffix is not None:
        return suffix
    if path.name and path.with_name(path.name + ".hea").exists():
        return "wfdb"
    if path.is_dir():
        raise UnsupportedFormatError(
            "this is a folder; a record is a file (load_ecg_dataset('folder') reads folders).", path=path
        )
    if not path.exists():
        raise RecordNotFoundError("there is no such file, nor a WFDB header of that name.", path=path)
    names = ", ".join((*_SUFFIXES, *CLINICAL_SUFFIXES))
    raise UnsupportedFormatError(f"no reader for {path.suffix!r}; read are {names}.", path=path)


def _reader_of(kind: str) -> Reader:
    clinical = clinical_reader(kind)
    if clinical is not None:
        return clinical
    if kind == "wfdb":
        return _read_wfdb
    if kind == "mat":
        return read_matlab
    if kind == "csv":
        return read_csv_record
    return read_npy if kind == "npy" else read_npz


def _read_wfdb(path: str | Path, hints: Hints, limits: Limits) -> DigitalRecord | ECGRecord:
    record = read_wfdb(
        path,
        lead_names=hints.lead_names,
        units=hints.units,
        root=hints.root,
        limits=limits,
        checksum=hints.checksum,
        allow_truncated=hints.allow_truncated,
        strict=hints.strict,
        follow_links=hints.follow_links,
        start=hints.start,
        stop=hints.stop,
    )
    flags = record.metadata.get("flags", [])
    own_rate = None if "rate_defaulted" in flags else record.sampling_rate
    record.sampling_rate = agreed_rate(hints, own_rate, path) or record.sampling_rate
    return with_wfdb_facts(record, path, hints, limits)


def describe_record(path: str | Path, *, limits: Limits | None = None, **hints: Any) -> dict[str, Any]:
    """What a file holds, as plain data: format, rate, length, and per lead range, missing and flat samples.

    Returns:
        A dictionary that JSON can hold, with `path`, `format`, `record_id`, `sampling_rate`, `num_samples`, `duration_s`,
        `lead_names`, `flags`, `metadata`, and `leads`: one `{name, min_mv, max_mv, mean_mv, missing_fraction, flat}` each.
    """
    record = read_record(path, limits=limits, **hints)
    leads = []
    for index, name in enumerate(record.lead_names):
        values = record.signal[:, index]
        valid = values[np.isfinite(values)]
        leads.append(
            {
                "name": name,
                "min_mv": _rounded(valid.min()) if valid.size else None,
                "max_mv": _rounded(valid.max()) if valid.size else None,
                "mean_mv": _rounded(valid.mean(dtype=np.float64)) if valid.size else None,
                "missing_fraction": round(1.0 - valid.size / values.size, 6),
                "flat": bool(valid.size == 0 or valid.min() == valid.max()),
            }
        )
    return {
        "path": str(path),
        "format": format_of(path, hints.get("root"), follow_links=bool(hints.get("follow_links"))),
        "record_id": record.record_id,
        "sampling_rate": record.sampling_rate,
        "num_samples": record.num_samples,
        "duration_s": round(record.duration, 6),
        "lead_names": record.lead_names,
        "leads": leads,
        "flags": record.metadata.get("flags", []),
        "metadata": {key: value for key, value in record.metadata.items() if key != "flags"},
    }


def _rounded(value: Any) -> float:
    return round(float(value), 6)
