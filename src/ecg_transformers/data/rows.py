"""Fast random access to the records of a dataset: views over the memory-mapped int16 bytes, no copy before the scale.

`dataset[i]` decodes a row into Python objects; a training loop that needs one float32 array per record is faster with
views over the Arrow buffers. Samples stay on disk (memory-mapped) until they are touched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ecg_transformers.data.millivolts import INVALID, to_millivolt
from ecg_transformers.data.record import ANNOTATION_COLUMNS, DigitalRecord, ECGRecord

if TYPE_CHECKING:
    import datasets

AnyDataset: TypeAlias = (
    "datasets.Dataset | datasets.IterableDataset"
    " | Mapping[str, datasets.Dataset] | Mapping[str, datasets.IterableDataset]"
)

_RECORD_COLUMNS = (
    "record_id",
    "patient_id",
    "sampling_rate",
    "lead_names",
    "labels",
    "task_kind",
    "source",
    "metadata",
)


class RecordTable:
    """A map-style view of a dataset of ECG rows.

    Rows follow the dataset's own order: `select`, `shuffle` and `train_test_split` are respected.

    Args:
        dataset: a `datasets.Dataset` in the schema of `data.record`.

    Example:
        >>> table = RecordTable(load_ecg_dataset("synthetic", split="train", num_records=20))
        >>> table.signal(0).shape
        (2500, 12)
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self.dataset = dataset
        indices = dataset._indices
        self._rows = None if indices is None else indices.column(0).to_numpy().astype(np.int64)
        self._open()

    def _open(self) -> None:
        table = self.dataset.data
        column = table.column("signal")
        self._words: list[np.ndarray] = []  # one int16 view a chunk
        begins, chunks = [], []
        for number, chunk in enumerate(column.chunks):
            offset_type = np.int64 if str(chunk.type) == "large_binary" else np.int32
            _, offsets, data = chunk.buffers()
            bounds = np.frombuffer(offsets, dtype=offset_type)[chunk.offset : chunk.offset + len(chunk) + 1]
            size = 0 if data is None else data.size // 2
            self._words.append(np.frombuffer(data, dtype="<i2", count=size) if size else np.zeros(0, "<i2"))
            begins.append(bounds[:-1].astype(np.int64) // 2)
            chunks.append(np.full(len(chunk), number))
        self._begin = np.concatenate([np.zeros(0, np.int64), *begins]).tolist()
        self._chunk = np.concatenate([np.zeros(0, np.int64), *chunks]).tolist()
        self._lengths = table.column("num_samples").to_numpy().tolist()
        lists = {name: _ragged(table.column(name)) for name in ("gain", "offset")}
        self._scale_bounds, self._gain = lists["gain"]
        _, self._offset = lists["offset"]
        self._leads = np.diff(self._scale_bounds).tolist()
        self._plain_gain = self._uniform_gains()
        self._whole = bytearray(len(self._lengths))  # rows read once and found without a gap: not searched again

    def _uniform_gains(self) -> np.ndarray:
        """Per row the gain as float32 where one exact number and no offset hold for all leads, else 0."""
        starts, counts = self._scale_bounds[:-1], np.diff(self._scale_bounds)
        if not len(starts) or not counts.all():
            return np.zeros(len(starts), dtype=np.float32)
        low, high = np.minimum.reduceat(self._gain, starts), np.maximum.reduceat(self._gain, starts)
        offsets = np.add.reduceat(np.abs(self._offset), starts)
        plain = (low == high) & (offsets == 0) & (low.astype(np.float32) == low)
        return np.where(plain, low, 0).astype(np.float32)

    def __len__(self) -> int:
        return len(self._lengths) if self._rows is None else len(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.dataset,)

    def _row(self, index: int) -> int:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"record {index} of a table of {size}")
        index = index % size
        return index if self._rows is None else int(self._rows[index])

    def samples(self, index: int) -> np.ndarray:
        """Read-only int16 view `(T, L)` of a record's digital samples."""
        return self._view(self._row(index))

    def _view(self, row: int) -> np.ndarray:
        begin, length, leads = self._begin[row], self._lengths[row], self._leads[row]
        return self._words[self._chunk[row]][begin : begin + length * leads].reshape(length, leads)

    def scale(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Gain and offset per lead."""
        row = self._row(index)
        part = slice(self._scale_bounds[row], self._scale_bounds[row + 1])
        return self._gain[part], self._offset[part]

    def signal(self, index: int) -> np.ndarray:
        """float32 millivolt `(T, L)`."""
        row = self._row(index)
        samples, gain = self._view(row), self._plain_gain[row]
        if not gain:
            return to_millivolt(samples, *self.scale(index))
        signal = samples.astype(np.float32)
        signal /= gain
        if not self._whole[row]:
            if samples.min(initial=0) == INVALID:
                signal[samples == INVALID] = np.nan
            else:
                self._whole[row] = True
        return signal

    def record(self, index: int) -> ECGRecord:
        """The whole record, with names, labels and annotations."""
        return ECGRecord(signal=self.signal(index), **self._facts(index))

    def stored(self, index: int) -> DigitalRecord:
        """The same without a copy of the samples: int16 with their scale."""
        gain, offset = self.scale(index)
        return DigitalRecord(samples=self.samples(index), gain=gain, offset=offset, **self._facts(index))

    def _facts(self, index: int) -> dict[str, Any]:
        row = self._row(index)
        table = self.dataset.data
        values = {name: table.column(name)[row].as_py() for name in _RECORD_COLUMNS}
        annotations = {
            name: np.asarray(cell.as_py()) for name in ANNOTATION_COLUMNS if (cell := table.column(name)[row]).is_valid
        }
        return {
            "sampling_rate": values["sampling_rate"],
            "lead_names": values["lead_names"],
            "record_id": values["record_id"],
            "patient_id": values["patient_id"],
            "labels": None if values["task_kind"] == "unlabelled" else values["labels"],
            "source": values["source"],
            "annotations": annotations or None,
            "metadata": json.loads(values["metadata"] or "{}"),
        }

    def __getitem__(self, index: int) -> ECGRecord:
        return self.record(index)

    def __getitems__(self, indices: Sequence[int]) -> list[ECGRecord]:
        """A batch in one call, as torch's loaders ask for it."""
        return [self.record(index) for index in indices]

    def column(self, name: str) -> list[Any]:
        """A column in the dataset's order, as Python values; not for `signal`."""
        values = self.dataset.data.column(name).to_pylist()
        return values if self._rows is None else [values[row] for row in self._rows]

    @property
    def record_ids(self) -> list[str]:
        return self.column("record_id")

    @property
    def patient_ids(self) -> list[str | None]:
        return self.column("patient_id")

    def label_matrix(self) -> np.ndarray:
        """0/1 labels, int8 `(records, classes)`."""
        bounds, values = _ragged(self.dataset.data.column("label_vector"))
        width = int(bounds[1]) if len(bounds) > 1 else 0
        matrix = values.reshape(-1, width).astype(np.int8)
        return matrix if self._rows is None else matrix[self._rows]

    def metadata(self, index: int) -> dict[str, Any]:
        """The metadata of a record."""
        return json.loads(self.dataset.data.column("metadata")[self._row(index)].as_py() or "{}")


def _ragged(column: Any) -> tuple[np.ndarray, np.ndarray]:
    """A list column as bounds `(rows + 1)` and flat values."""
    lengths = [np.asarray(chunk.value_lengths().to_numpy(zero_copy_only=False)) for chunk in column.chunks]
    values = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    bounds = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]) if lengths else np.zeros(1)
    flat = np.concatenate(values) if values else np.zeros(0)
    return np.nan_to_num(bounds).astype(np.int64), flat
