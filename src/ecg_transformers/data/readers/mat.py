"""MATLAB records: the array `val` of the PhysioNet challenges, or the struct `ECG` of CPSC 2018."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import SignalError, UnsupportedFormatError
from ecg_transformers.data.readers.arrays import Hints, pick, record_from_array, refuse_facts_under_other_names
from ecg_transformers.data.readers.limits import Limits, read_bytes
from ecg_transformers.data.readers.mat_format import Unread, load_mat
from ecg_transformers.data.readers.wfdb.header import read_header
from ecg_transformers.data.readers.wfdb.samples import lead_names_of, matlab_samples, scale_of, verify_checksums
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_CPSC_LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"]
_CPSC_FIELDS = {"sex", "age", "data"}
_CPSC_RATE = 500.0


def read_matlab(path: Path, hints: Hints, limits: Limits) -> DigitalRecord | ECGRecord:
    """A `.mat` file of version 4 or 5.

    `val` is `(leads, samples)`, unless the lead names say that it lies the other way. With a WFDB header of the same name
    beside it, gain, baseline, rate and lead names come from there (and checksums are verified); without one the hints
    must give them. The struct `ECG` of CPSC 2018 holds millivolts of the twelve leads at 500 Hz in `data`.
    """
    variables = load(path, hints, limits)
    header = path.with_suffix(".hea")
    struct = variables.get("ECG")
    if hints.variable is None and isinstance(struct, dict) and "data" in struct:
        return _cpsc_2018(struct, path, hints, limits)
    asked = hints.variable or "val"
    value = variables.get(asked)
    if value is None:
        arrays = {name: v for name, v in variables.items() if isinstance(v, np.ndarray)}
        way_out = "" if hints.variable else "; pass variable='…' with the one that holds the samples"
        raise SignalError(f"the file has no array {asked!r}, but {sorted(arrays)}{way_out}.", path=path)
    if isinstance(value, Unread):
        raise UnsupportedFormatError(f"the variable {asked!r} is {value.what}; plain numbers are read.", path=path)
    if isinstance(value, dict | str):
        raise SignalError(f"the variable {asked!r} is no array of numbers.", path=path)
    if hints.variable is not None or not header.exists():
        refuse_facts_under_other_names({*variables} - {asked}, (), path, hints)
    if hints.variable is not None:
        return record_from_array(_samples_first(value, hints), path, hints, limits)
    limits.check_shape(max(value.shape), min(value.shape), path=path)
    if header.exists():
        return _with_header(value, path, header, hints, limits)
    return record_from_array(_samples_first(value.T, hints), path, hints, limits)


def _samples_first(value: np.ndarray, hints: Hints) -> np.ndarray:
    """An array as `(samples, leads)`: the lead names tell, else the longer axis is time."""
    if value.ndim != 2:
        return value
    if hints.lead_names is not None and (len(hints.lead_names) in value.shape) and value.shape[0] != value.shape[1]:
        return value.T if value.shape[0] == len(hints.lead_names) else value
    return value.T if value.shape[0] < value.shape[1] else value


def load(path: Path, hints: Hints, limits: Limits) -> dict[str, Any]:
    """The variables of a file."""
    content = read_bytes(path, limits.max_file_bytes, hints.root, follow_links=hints.follow_links)
    return load_mat(content, path, limits)


def _with_header(value: np.ndarray, path: Path, header_path: Path, hints: Hints, limits: Limits) -> DigitalRecord:
    """Integers of `val` with the scale of the WFDB header."""
    header = read_header(header_path, limits, hints.root, follow_links=hints.follow_links)
    name = header.record_name
    samples = matlab_samples(value, header, path)
    flags = list(header.flags)
    if hints.checksum != "ignore":
        verify_checksums(samples, header.signals, path, name, hints.checksum, flags)
    names = lead_names_of(header.signals, flags)
    chosen = list(range(len(names))) if hints.lead_names is None else pick(names, hints.lead_names, path, name)
    gain, offset = scale_of(chosen, header.signals, hints.units, path, name, hints.strict, flags)
    return DigitalRecord(
        samples=np.ascontiguousarray(samples[:, chosen]),
        gain=gain,
        offset=offset,
        sampling_rate=header.sampling_rate,
        lead_names=[names[index] for index in chosen],
        record_id=path.stem,
        source=str(path),
        metadata={"comments": list(header.comments), **({"flags": sorted(set(flags))} if flags else {})},
    )


def _cpsc_2018(struct: dict[str, Any], path: Path, hints: Hints, limits: Limits) -> ECGRecord:
    data, others = struct["data"], sorted(set(struct) - _CPSC_FIELDS)
    if others:
        raise SignalError(
            f"the struct 'ECG' has the fields {others} beside those of CPSC 2018 (sex, age, data), whose rate and unit are "
            "known; save the samples as a plain array and pass variable='…'.",
            path=path,
        )
    if not isinstance(data, np.ndarray) or data.shape[0] != len(_CPSC_LEADS):
        raise SignalError("the field 'data' of 'ECG' is not an array of 12 leads.", path=path)
    age = struct.get("age")
    metadata: dict[str, Any] = {}
    if isinstance(age, np.ndarray) and age.size == 1 and np.isfinite(float(age.flat[0])):
        metadata["age"] = float(age.flat[0])
    if isinstance(struct.get("sex"), str):
        metadata["sex"] = struct["sex"].strip().lower()
    full = Hints(sampling_rate=hints.sampling_rate or _CPSC_RATE, lead_names=_CPSC_LEADS, units=hints.units or "mV")
    record = record_from_array(data.T, path, full, limits)
    record.metadata.update(metadata)
    return record if hints.lead_names is None else select_leads(record, hints.lead_names, path)


def select_leads(record: ECGRecord, lead_names: list[str], path: Path) -> ECGRecord:
    """Some leads of a record whose file names its leads, in the order asked for."""
    chosen = pick(record.lead_names, lead_names, path, record.record_id)
    record.signal = np.ascontiguousarray(record.signal[:, chosen])
    record.lead_names = [record.lead_names[index] for index in chosen]
    return record
