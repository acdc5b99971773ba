"""One record in memory, one row in a dataset: the schema that every reader and every corpus shares.

A record in memory is `ECGRecord`: float32 millivolt, `(T, L)`. A record at rest is a row with the samples as
little-endian int16, time-major `(T, L)`, and per lead a gain and an offset:

    millivolt = (digital - offset) / gain          digital -32768 = no value (NaN)

`DigitalRecord` is what stands between: the integer samples with their scale, as a reader finds them in a file or
as `DigitalRecord.from_record` quantises them. Files that hold int16 (WFDB 16 and 212, EDF) are stored without
any loss; wider integers and physical values are stored with 16 bits over the range of each lead.

Columns of a row (`record_features`):

==================  ========================================================================================
record_id           text, unique within a corpus
patient_id          text or null where the corpus does not say
signal              int16 samples as bytes, little-endian, time-major
gain, offset        float64 per lead, digital units per millivolt and digital value of 0 mV
num_samples         T
sampling_rate       Hz, float64
lead_names          L names
labels              the label names of the record
label_ids           the same as indices; the feature's `ClassLabel` carries the corpus's label names
label_vector        the same as 0/1 over all label names
task_kind           "multilabel", "multiclass", "beats", "minutes", "delineation" or "unlabelled"
fold                the corpus's own fold, or null
source              name of the corpus
metadata            JSON text: age, sex, device, flags of the reader…
beat_samples        sample index of each annotated beat, or null
beat_symbols        its annotation symbol
beat_labels         its class in the corpus's scheme (MIT-BIH: AAMI)
minute_labels       0/1 per minute, or null
wave_leads          lead of each annotated wave mark, or null
wave_samples        its sample index
wave_symbols        its symbol: "(" onset, "p" "N" "t" peak, ")" offset
==================  ========================================================================================
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_transformers.data.errors import DuplicateLeadError, HeaderError, LabelError, SignalError
from ecg_transformers.data.millivolts import INVALID, quantize, to_millivolt
from ecg_transformers.files import plain
from ecg_transformers.signal.leads import canonical_in_file, canonical_lead

if TYPE_CHECKING:
    import datasets

ANNOTATION_COLUMNS = (
    "beat_samples",
    "beat_symbols",
    "beat_labels",
    "minute_labels",
    "wave_leads",
    "wave_samples",
    "wave_symbols",
)


@dataclass
class ECGRecord:
    """One ECG recording in memory.

    Attributes:
        signal: float32 millivolt (but see `units`), `(T, L)`; NaN where the file says "no value".
        sampling_rate: Hz.
        lead_names: L names, standard leads in their usual spelling (`aVR`, `V1`), others as the file has them.
        record_id: name of the record.
        patient_id: name of the patient, or None where unknown.
        labels: label names, or None where the source has none.
        source: corpus or file the record came from.
        annotations: arrays by name (`beat_samples`, `beat_symbols`, …), or None.
        metadata: whatever else the source says; `metadata["flags"]` lists what a reader repaired or assumed.
    """

    signal: np.ndarray
    sampling_rate: float
    lead_names: list[str]
    record_id: str
    patient_id: str | None = None
    labels: list[str] | dict[str, Any] | None = None
    source: str = ""
    annotations: dict[str, np.ndarray] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signal = np.asarray(self.signal, dtype=np.float32)
        check_layout(self.signal, self.lead_names, self.sampling_rate, self.record_id)

    @property
    def num_samples(self) -> int:
        return int(self.signal.shape[0])

    @property
    def num_leads(self) -> int:
        return int(self.signal.shape[1])

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sampling_rate

    @property
    def units(self) -> str:
        """What the samples are: "mV", or "z-score" where a source has published no millivolts (EchoNext)."""
        return _units_of(self.metadata)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ECGRecord:
        """The record that a dataset row holds; `units` says what its samples are, and a warning where that is not mV.

        Example:
            >>> from ecg_transformers import ECGRecord, load_ecg_dataset
            >>> record = ECGRecord.from_row(load_ecg_dataset("synthetic", split="test", num_records=20)[0])
            >>> record.signal.shape
            (2500, 12)
        """
        record = DigitalRecord.from_row(row).to_record()
        if record.units != "mV":
            warnings.warn(
                f"the samples of {record.source or 'this row'} are {record.units}s of each lead, not millivolts "
                "(`record.units`).",
                stacklevel=2,
            )
        return record

    def to_row(self, label_names: Sequence[str] = (), task_kind: str = "unlabelled", **fields: Any) -> dict[str, Any]:
        """The row of this record; samples are quantised to 16 bits over the range of each lead."""
        return DigitalRecord.from_record(self).to_row(label_names, task_kind, **fields)


@dataclass
class DigitalRecord:
    """One recording as integer samples `(T, L)` with a gain (digital units per millivolt) and an offset per lead.

    The samples are int16, or int32 where a file holds more (BDF: 24 bits); the lowest number of the type is "no value".
    """

    samples: np.ndarray
    gain: np.ndarray
    offset: np.ndarray
    sampling_rate: float
    lead_names: list[str]
    record_id: str
    patient_id: str | None = None
    labels: list[str] | None = None
    source: str = ""
    annotations: dict[str, np.ndarray] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_layout(self.samples, self.lead_names, self.sampling_rate, self.record_id)

    @property
    def units(self) -> str:
        """What the scaled samples are; see `ECGRecord.units`."""
        return _units_of(self.metadata)

    def extremes(self) -> ECGRecord:
        """The lowest and the highest sample of each lead, as a record of two samples."""
        leads = np.ascontiguousarray(self.samples.T)
        return replace(self, samples=np.stack([leads.min(axis=1), leads.max(axis=1)])).to_record()

    def to_record(self) -> ECGRecord:
        """The same in float32 millivolt."""
        return ECGRecord(
            signal=to_millivolt(self.samples, self.gain, self.offset),
            sampling_rate=self.sampling_rate,
            lead_names=list(self.lead_names),
            record_id=self.record_id,
            patient_id=self.patient_id,
            labels=self.labels,
            source=self.source,
            annotations=self.annotations,
            metadata=dict(self.metadata),
        )

    def in_16_bits(self) -> DigitalRecord:
        """The same as int16, as a row holds it: quantised where the samples need more than 16 bits."""
        if self.samples.dtype == np.int16:
            return self
        missing = self.samples == np.iinfo(self.samples.dtype).min
        if self.samples.max() > 32767 or self.samples.min(initial=0, where=~missing) < INVALID:
            return DigitalRecord.from_record(self.to_record())
        samples = np.maximum(self.samples, -32767).astype(np.int16)  # -32768 itself is "no value" there
        samples[missing] = INVALID
        return replace(self, samples=samples)

    @classmethod
    def from_record(cls, record: ECGRecord) -> DigitalRecord:
        """Quantise: 16 bits over the range of each lead, gains powers of two."""
        samples, gain, offset = quantize(record.signal, record.lead_names, record.record_id)
        labels = (
            [name for name, on in record.labels.items() if on] if isinstance(record.labels, dict) else record.labels
        )
        return cls(
            samples=samples,
            gain=gain,
            offset=offset,
            sampling_rate=record.sampling_rate,
            lead_names=list(record.lead_names),
            record_id=record.record_id,
            patient_id=record.patient_id,
            labels=labels,
            source=record.source,
            annotations=record.annotations,
            metadata=dict(record.metadata),
        )

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> DigitalRecord:
        names = [str(name) for name in row["lead_names"]]
        content = bytes(row["signal"])
        if row.get("num_samples") is not None:  # a dataset in the format of numpy or torch loses zero bytes at the end
            content = content.ljust(2 * int(row["num_samples"]) * len(names), b"\0")
        samples = np.frombuffer(content, dtype="<i2")
        if not names or samples.size % len(names):
            raise SignalError(
                f"{samples.size} samples cannot be shared out over {len(names)} leads.", record=str(row["record_id"])
            )
        present = {name: row[name] for name in ANNOTATION_COLUMNS if row.get(name) is not None}
        return cls(
            samples=samples.reshape(-1, len(names)),
            gain=np.asarray(row["gain"], dtype=np.float64),
            offset=np.asarray(row["offset"], dtype=np.float64),
            sampling_rate=float(row["sampling_rate"]),
            lead_names=names,
            record_id=str(row["record_id"]),
            patient_id=row.get("patient_id"),
            labels=None
            if row.get("task_kind") == "unlabelled"
            else [str(name) for name in _as_list(row.get("labels")) or []],
            source=row.get("source") or "",
            annotations={name: np.asarray(values) for name, values in present.items()} or None,
            metadata=json.loads(row.get("metadata") or "{}"),
        )

    def to_row(
        self, label_names: Sequence[str] = (), task_kind: str = "unlabelled", *, fold: int | None = None
    ) -> dict[str, Any]:
        """The row of this record in the schema of `record_features` with the same `label_names`."""
        if self.samples.dtype != np.int16:
            return self.in_16_bits().to_row(label_names, task_kind, fold=fold)
        labels = list(self.labels or [])
        position = {name: index for index, name in enumerate(label_names)}
        unknown = [label for label in labels if label not in position] if label_names else []
        if unknown:
            raise LabelError(f"the labels {unknown} are not among {list(label_names)}.", record=self.record_id)
        ids = sorted({position[label] for label in labels}) if label_names else []
        vector = np.zeros(len(label_names), dtype=np.int8)
        vector[ids] = 1
        annotations = self.annotations or {}
        return {
            "record_id": self.record_id,
            "patient_id": self.patient_id,
            "signal": np.ascontiguousarray(self.samples, dtype="<i2").tobytes(),
            "gain": np.broadcast_to(np.asarray(self.gain, dtype=np.float64), (len(self.lead_names),)).tolist(),
            "offset": np.broadcast_to(np.asarray(self.offset, dtype=np.float64), (len(self.lead_names),)).tolist(),
            "num_samples": int(self.samples.shape[0]),
            "sampling_rate": float(self.sampling_rate),
            "lead_names": list(self.lead_names),
            "labels": labels,
            "label_ids": ids,
            "label_vector": vector.tolist(),
            "task_kind": task_kind,
            "fold": fold,
            "source": self.source,
            "metadata": json.dumps(self.metadata, sort_keys=True, ensure_ascii=False, default=plain),
            **{name: _as_list(annotations.get(name)) for name in ANNOTATION_COLUMNS},
        }

    def with_(self, **changes: Any) -> DigitalRecord:
        """A copy with some fields changed."""
        return replace(self, **changes)


def record_features(label_names: Sequence[str] = ()) -> datasets.Features:
    """The `datasets.Features` of a row; `label_ids` carries the label names."""
    from datasets import ClassLabel, Features, List, Value

    return Features(
        {
            "record_id": Value("string"),
            "patient_id": Value("string"),
            "signal": Value("binary"),
            "gain": List(Value("float64")),
            "offset": List(Value("float64")),
            "num_samples": Value("int64"),
            "sampling_rate": Value("float64"),
            "lead_names": List(Value("string")),
            "labels": List(Value("string")),
            "label_ids": List(ClassLabel(names=list(label_names))),
            "label_vector": List(Value("int8")),
            "task_kind": Value("string"),
            "fold": Value("int32"),
            "source": Value("string"),
            "metadata": Value("string"),
            "beat_samples": List(Value("int64")),
            "beat_symbols": List(Value("string")),
            "beat_labels": List(Value("string")),
            "minute_labels": List(Value("int8")),
            "wave_leads": List(Value("string")),
            "wave_samples": List(Value("int64")),
            "wave_symbols": List(Value("string")),
        }
    )


@lru_cache(maxsize=4096)
def standard_lead_name(name: str) -> str:
    """`AVR`, `avr` or `ECG aVR` to `aVR`: the usual spelling of known leads; other names stay.

    Modified limb leads (`MLII`) keep their name: whether they may stand for lead II is for the extractor to decide.
    """
    stripped = name.strip()
    return stripped if stripped.upper().startswith("ML") else canonical_lead(stripped)


def standard_lead_names(names: Sequence[str]) -> list[str]:
    """`standard_lead_name` of the leads of one file: `C1` to `C6` are chest leads where the other names say so."""
    stripped = [name.strip() for name in names]
    inside = canonical_in_file(stripped)
    return [own if own.upper().startswith("ML") else name for own, name in zip(stripped, inside)]


def check_layout(signal: np.ndarray, lead_names: Sequence[str], sampling_rate: float, record_id: str) -> None:
    """Shape, names and rate of a record make sense; raises the fitting `ECGDataError`."""
    if signal.ndim != 2:
        raise SignalError(
            f"a record is an array (samples, leads) of two axes, not one of shape {signal.shape}.", record=record_id
        )
    if signal.shape[0] == 0 or signal.shape[1] == 0:
        raise SignalError(f"the signal of shape {signal.shape} holds no sample.", record=record_id)
    if signal.shape[1] != len(lead_names):
        hint = " It looks like (leads, samples): transpose it." if signal.shape[0] == len(lead_names) else ""
        raise SignalError(
            f"the signal of shape {signal.shape} has {signal.shape[1]} leads, but {len(lead_names)} lead names are "
            f"given.{hint}",
            record=record_id,
        )
    if not 1 <= float(sampling_rate) <= 100_000:  # also refuses NaN
        raise HeaderError(f"the sampling rate {sampling_rate} Hz lies outside 1 to 100,000 Hz.", record=record_id)
    twice = _named_twice(tuple(lead_names))
    if twice is not None:
        raise DuplicateLeadError(
            "two signals carry this lead name; a lead may occur once.", record=record_id, lead=twice
        )


@lru_cache(maxsize=1024)
def _named_twice(lead_names: tuple[str, ...]) -> str | None:
    seen: set[str] = set()
    for name in lead_names:
        if name.lower() in seen:
            return name
        seen.add(name.lower())
    return None


def _units_of(metadata: Mapping[str, Any]) -> str:
    return "z-score" if "z_scores" in metadata.get("flags", ()) else "mV"


def _as_list(values: Any) -> list | None:
    return None if values is None else np.asarray(values).tolist()
