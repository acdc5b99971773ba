"""One split of a corpus as training wants it: records by index, ids, labels, and what must be said about the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecg_transformers.data.corpora import CORPORA
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.loading import RecordTable, build_report, folder_of, label_names, load_ecg_dataset, task_kind
from ecg_transformers.data.prepared import ShardRecords, is_prepared, manifest_of
from ecg_transformers.evaluation.readouts import Records
from ecg_transformers.features.checking import kind_of
from ecg_transformers.training.arguments import DataArguments, parse_overrides
from ecg_transformers.training.errors import UsageError, in_training_options, usage_errors
from ecg_transformers.training.plan.randomness import stream_key


@dataclass
class Split:
    """One split.

    Attributes:
        name: of the split.
        records: index -> `ECGRecord`.
        record_ids, patient_ids: one a record; a patient is None where unknown.
        labels: multi-hot float32 `(N, C)`, or class indices int64 `(N,)` for one class a record; None without labels.
        label_names: C names.
        task_kind: "multilabel", "multiclass", … as the corpus says.
        facts: corpus, options, number of records, fingerprint.
        sources: the corpus of each record; patients of two corpora may have the same id. Not given: all of one corpus.
        groups: where records are read from shards, which of them are read together: int32 `(N,)`.
    """

    name: str
    records: Records
    record_ids: list[str]
    patient_ids: list[str | None]
    labels: np.ndarray | None = None
    label_names: list[str] = field(default_factory=list)
    task_kind: str = "unlabelled"
    facts: dict[str, Any] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    groups: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.sources = self.sources or [""] * len(self.record_ids)

    def __len__(self) -> int:
        return len(self.record_ids)

    def multi_hot(self) -> np.ndarray:
        """Labels `(N, C)` of zeros and ones, whatever the kind of task."""
        if self.labels is None:
            raise UsageError(f"The {self.name} split has no labels.")
        if self.labels.ndim == 2:
            return self.labels.astype(np.int8)
        return np.eye(len(self.label_names), dtype=np.int8)[self.labels]

    def patient_keys(self) -> list[int]:
        """A positive 63-bit number a record, equal for records of one patient; one without patient is its own patient.

        Many corpora number their patients from 1, so a number names a person only together with the corpus.
        """
        return [
            stream_key(*(("record", source, record) if patient is None else ("patient", source, str(patient)))) >> 1
            for patient, record, source in zip(self.patient_ids, self.record_ids, self.sources, strict=True)
        ]

    def select(self, indices: Sequence[int]) -> Split:
        """Some of the records, in the order given."""
        chosen = [int(index) for index in indices]
        return Split(
            name=self.name,
            records=_Selection(self.records, chosen),
            record_ids=[self.record_ids[index] for index in chosen],
            patient_ids=[self.patient_ids[index] for index in chosen],
            labels=None if self.labels is None else self.labels[chosen],
            label_names=self.label_names,
            task_kind=self.task_kind,
            facts={**self.facts, "records_used": len(chosen)},
            sources=[self.sources[index] for index in chosen],
            groups=None if self.groups is None else self.groups[chosen],
        )


@dataclass(frozen=True)
class _Selection:
    records: Records
    indices: list[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.records[self.indices[index]]

    def stored(self, index: int) -> Any:
        return _stored_record(self.records, self.indices[index])


def _stored_record(records: Records, index: int) -> Any:
    """A record as it is stored, int16, where the records can tell it so."""
    stored = getattr(records, "stored", None)
    return records[index] if stored is None else stored(index)


@dataclass(frozen=True)
class StoredRecords:
    """The records of a split as they are stored."""

    records: Records

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        return _stored_record(self.records, index)


def longest_record(split: Split) -> float | None:
    """Seconds of the longest record; None where the records cannot tell without being read."""
    table = getattr(split.records, "column", None)
    if table is None:
        return None
    return max(length / rate for length, rate in zip(table("num_samples"), table("sampling_rate"), strict=True))


def load_split(args: DataArguments, split: str, *, task: str | None = None, labelled: bool = False) -> Split:
    """Load one split of the corpus that the arguments name.

    Raises:
        UsageError: no such corpus, folder, option or task, an empty split, or no labels where they are needed.
    """
    names, data_dir, options = _source(args, task)
    if args.streaming:
        return _streamed(args, names, data_dir, options, split, labelled)
    reading = _reading(names, options)
    with usage_errors(ECGDataError, TypeError):
        dataset = load_ecg_dataset(names if len(names) > 1 else names[0], data_dir=data_dir, split=split, **reading)
        if args.max_records is not None and split in ("train", "all"):
            dataset = dataset.select(range(min(args.max_records, len(dataset))))
        if len(dataset) == 0:
            raise UsageError(f"The {split} split of {args.dataset} holds no record.")
        kind, table = task_kind(dataset), RecordTable(dataset)
        result = Split(
            name=split,
            records=table,
            record_ids=table.record_ids,
            patient_ids=table.patient_ids,
            label_names=list(label_names(dataset)),
            task_kind=kind,
            facts={
                "name": args.dataset,
                "split": split,
                "task": task,
                "options": options,
                "records": len(dataset),
                "fingerprint": dataset_fingerprint(dataset),
            },
            sources=list(table.column("source")),
        )
        if labelled:
            result.labels = _labels(table, kind, result)
    return result


def _streamed(
    args: DataArguments, names: list[str], data_dir: Any, options: dict[str, Any], split: str, labelled: bool
) -> Split:
    """One split of a prepared corpus, whose records are read from its shards as they are drawn."""
    if len(names) != 1 or names[0] in CORPORA:
        raise UsageError("--streaming reads one prepared corpus: name the folder or address that `build` wrote to.")
    with usage_errors(ECGDataError):
        build_report(names[0], data_dir, **options)  # that the options are those it was built with
        manifest, records = manifest_of(names[0]), ShardRecords(names[0], split)
    sources = records.column("source")
    result = Split(
        name=split,
        records=records,
        record_ids=records.column("record_id"),
        patient_ids=records.column("patient_id"),
        label_names=manifest["label_names"],
        task_kind=manifest["task_kind"],
        facts={
            "name": args.dataset,
            "split": split,
            "task": options.get("task"),
            "options": options,
            "records": len(records),
            "fingerprint": records.fingerprint,
        },
        sources=sources,
        groups=records.groups,
    )
    if labelled:
        result.labels = _labels(records, result.task_kind, result)
    if args.max_records is not None and split in ("train", "all"):
        result = result.select(range(min(args.max_records, len(result))))
    return result


def _reading(names: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Options under which nothing stops the reading: what cannot be read is told by `unread_records`, all of it."""
    folder = {"bad_rows": "skip"} if "folder" in names else {}
    return {**folder, **options, "max_skipped": 1.0}


def unread_records(args: DataArguments, task: str | None = None) -> list[tuple[str, str, str]]:
    """Id, reason and kind of every record of the corpora that could not be read at all."""
    names, data_dir, options = _source(args, task)
    with usage_errors(ECGDataError, TypeError):
        reports = [
            build_report(name, folder_of(name, position, data_dir, names), **_reading([name], options))
            for position, name in enumerate(names)
        ]
    return [
        (entry["record"], in_training_options(entry["reason"]), kind_of(entry["kind"], entry["reason"]))
        for report in reports
        for entry in report.skipped
    ]


def check_split_has_records(args: DataArguments, split: str, task: str | None = None) -> None:
    """Tell from the build report, without a look at the records, that a split is not empty: before a long training.

    Raises:
        UsageError: no record of the corpus is in the split.
    """
    records = _records_by_split(args, task)
    if records is not None and not records.get(split):
        held = ", ".join(f"{name} {count}" for name, count in records.items() if count)
        raise UsageError(f"The {split} split of {args.dataset} holds no record (it has {held or 'none at all'}).")


def other_splits(args: DataArguments, split: str) -> list[Split]:
    """The splits of a corpus that a run does not use."""
    if split == "all":
        return []
    records = _records_by_split(args, None) or {}
    return [load_split(args, name) for name, count in records.items() if count and name != split]


def _records_by_split(args: DataArguments, task: str | None) -> dict[str, int] | None:
    """From the build report; None for several corpora, each of which may have its own splits."""
    names, data_dir, options = _source(args, task)
    if len(names) > 1:
        return None
    with usage_errors(ECGDataError, TypeError):
        return build_report(names[0], data_dir, **_reading(names, options)).records


def _source(args: DataArguments, task: str | None) -> tuple[list[str], Any, dict[str, Any]]:
    """Corpora, their folder or folders, and options that the arguments name."""
    options = parse_overrides(args.dataset_options, "dataset_options")
    if task is not None:
        options["task"] = task
    for name in ("folds", "test_folds", "validation_folds"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    # the folder of a prepared corpus may hold a comma in its name
    names = [args.dataset] if is_prepared(args.dataset) else _list(args.dataset)
    folders = _list(args.data_dir or "")
    if not names:
        raise UsageError("--dataset is empty: name a corpus, e.g. ptb_xl, folder or synthetic.")
    # one folder may hold a comma in its name; several are only meant with several corpora
    data_dir: Any = (args.data_dir or None) if len(names) == 1 else (folders if len(folders) > 1 else args.data_dir)
    return names, data_dir, options


def _labels(table: Any, kind: str, split: Split) -> np.ndarray:
    if len(split.label_names) == 1 and kind == "multiclass":
        raise UsageError(
            f"All labelled records of {split.facts['name']} have the label {split.label_names[0]!r}: a classifier needs "
            "two classes or more."
        )
    if kind not in ("multilabel", "multiclass") or not split.label_names:
        raise UsageError(
            f"The {split.name} split of {split.facts['name']} has no labels for classification (its task is "
            f"{kind!r}): choose another --task; own records need a labels.csv beside them (see README)."
        )
    vectors = table.label_matrix().astype(np.float32)
    if kind == "multilabel":
        return vectors
    wrong = np.flatnonzero(vectors.sum(axis=1) != 1)
    if wrong.size:
        raise UsageError(
            f"Each record of {split.facts['name']} should have one label, but {split.record_ids[wrong[0]]} has "
            f"{int(vectors[wrong[0]].sum())}."
        )
    return vectors.argmax(axis=1).astype(np.int64)


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
