"""Your own records: a folder of files of any readable format, and a table of labels.

`labels.csv` has one row per record: a column `file` (path below the folder, or just the name of the record), and
either `label` (one name), `labels` (names separated by `;`) or one 0/1 column per label. Optional columns:
`patient_id`, `split` (train, validation, test) or `fold` (integers: the highest is the test part, the second highest
validation), `sampling_rate`. Without a table all records are unlabelled training data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.folder.files import FileIndex
from ecg_transformers.data.corpora.folder.labels import LabelRule, label_rule
from ecg_transformers.data.corpora.splits import check_patients, split_of_fold, split_of_name, split_patients
from ecg_transformers.data.errors import DuplicateRecordError, OptionError, TableError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital, read_parts
from ecg_transformers.data.tables import integer, number, read_table

RECORD_COLUMNS = ("file", "record", "filename", "file_name", "path", "record_id", "id")
_RESERVED = {
    "patient_id",
    "split",
    "fold",
    "sampling_rate",
    "age",
    "sex",
    "site",
    "device",
    "source",
    "label",
    "labels",
}


@dataclass(frozen=True)
class FolderOptions:
    """Options of `folder`.

    Attributes:
        labels: the table, relative to the folder ("auto": `labels.csv` if there is one); None: unlabelled.
        task: "labels", or None for no labels although there is a table.
        record_column: column with the file or record name (default: the first of `RECORD_COLUMNS` there is).
        label_column: column with one label, or several separated by `separator` when it is called `labels`.
        label_columns: columns with 0/1, one per label.
        label_names: the labels that may occur; an unknown one is then an error.
        separator: between the labels of a cell.
        drop_unlabelled: leave out records without any label.
        patient_column: column with the patient, used to keep patients in one part.
        sampling_rate, lead_names, units: hints for formats that do not say them.
        checksum: "error", "warn" or "ignore" for WFDB checksums.
        validation_fraction, test_fraction, seed: the split by patient where the table has none.
        validation_folds, test_folds: which folds are which part.
        patients_may_repeat: accept a table that puts one patient into two parts.
        gaps: "nan" keeps a discontinuous recording (EDF+D, BDF+D) as one record whose gaps are "no value", "split" makes
            a record of each part.
        keep_identity: put the files' own patient ids, names and birth dates into the rows.
    """

    labels: str | None = "auto"
    task: str | None = "labels"
    record_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] | None = None
    label_names: tuple[str, ...] | None = None
    separator: str = ";"
    drop_unlabelled: bool = False
    patient_column: str = "patient_id"
    sampling_rate: float | None = None
    lead_names: tuple[str, ...] | None = None
    units: str | None = None
    checksum: str = "error"
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    seed: int = 0
    validation_folds: tuple[int, ...] | None = None
    test_folds: tuple[int, ...] | None = None
    patients_may_repeat: bool = False
    gaps: str = "nan"
    keep_identity: bool = False

    def __post_init__(self) -> None:
        for name in ("label_columns", "label_names", "lead_names", "validation_folds", "test_folds"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise OptionError(f"folder: {name} is a list, not the text {value!r}.")
            if value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.task is not None:
            check_choice("folder: the task", self.task, ("labels", "all"))
        check_choice("folder: checksum", self.checksum, ("error", "warn", "ignore"))
        check_choice("folder: gaps", self.gaps, ("nan", "split"))
        fractions = (self.validation_fraction, self.test_fraction)
        if min(fractions) < 0 or sum(fractions) > 1:
            raise OptionError(f"folder: validation_fraction and test_fraction {fractions} are no shares of 1.")


class FolderCorpus(Corpus):
    """A user's own records."""

    facts = CorpusFacts(
        name="folder",
        title="A folder of your own records",
        summary="WFDB, MATLAB, NumPy, CSV, EDF and hospital formats, in sub-folders too, with a table of labels",
        records="yours",
        leads="any",
        sampling_rates="any",
        duration="any",
        labels="column label, labels (a;b) or 0/1 columns of labels.csv; none for pre-training",
        split="column split or fold, else 70 / 15 / 15 % by patient with a seed",
        licence="yours",
        citation="",
        layout="your records, and labels.csv with a column 'file' and a column 'label' or 'labels'",
    )
    options_class = FolderOptions
    code_version = 2

    def plan(self) -> CorpusPlan:
        index = FileIndex.scan(self.data_dir, self._table_path())
        table = self._table_path()
        if table is None:
            if not index.paths:
                found = "; ".join(index.foreign_notes())
                raise TableError(
                    f"the folder holds no record of a readable format{f': {found}' if found else ''}.",
                    path=self.data_dir,
                )
            items = [Item(name, path) for name, path in sorted(index.paths.items())]
            return CorpusPlan(
                {"train": items},
                files=index.others,
                notes=["no table of labels: all records are unlabelled training data", *index.foreign_notes()],
            )
        rows = read_table(table, root=self.data_dir, limits=self.limits)
        column = self._record_column(rows[0], table)
        taken = {*_RESERVED, *RECORD_COLUMNS, self.options.patient_column.lower(), column.lower()}
        rule = label_rule(rows, self.options, taken, table) if self.options.task is not None else LabelRule()
        items, skipped, excluded = [], [], Counter[str]()
        row_of: dict[Path, int] = {}
        for position, row in enumerate(rows):
            name = row[column]
            labels = rule.labels_of(row, position, table)
            path = index.find(name, table)
            if path is None:
                skipped.append((name or f"row {position + 2}", "the table names it, but there is no such file"))
                continue
            if row_of.setdefault(path, position) != position:
                raise DuplicateRecordError(
                    f"the rows {row_of[path] + 2} and {position + 2} name the same record; keep one of them.",
                    path=table,
                    record=name,
                )
            if rule.names and not labels and (self.options.drop_unlabelled or rule.kind == "multiclass"):
                excluded["no label"] += 1
            else:
                items.append(self._item(row, path, index.name_of(path), labels, table))
        splits, notes = self._split(items, rows, table)
        unlisted = len(index.paths) - len({item.path for item in items}) - sum(excluded.values())
        if unlisted > 0:
            notes.append(f"{unlisted} files of the folder are not in the table and were left alone")
        notes += index.foreign_notes()
        return CorpusPlan(splits, list(rule.names), rule.kind, [table, *index.others], skipped, dict(excluded), notes)

    def _table_path(self) -> Path | None:
        if self.options.labels is None:
            return None
        if self.options.labels == "auto":
            path = self.data_dir / "labels.csv"
            return path if path.exists() else None
        path = Path(self.options.labels)
        return path if path.is_absolute() else self.data_dir / path

    def _record_column(self, row: dict[str, str], table: Path) -> str:
        if self.options.record_column is not None:
            if self.options.record_column not in row:
                raise TableError(
                    f"the column {self.options.record_column!r} is missing; the table has {list(row)}.", path=table
                )
            return self.options.record_column
        for name in RECORD_COLUMNS:
            if name in row:
                return name
        raise TableError(
            f"no column names the records: one of {list(RECORD_COLUMNS)} is needed (or record_column=…); the table "
            f"has {list(row)}.",
            path=table,
        )

    def _item(self, row: dict[str, str], path: Path, name: str, labels: tuple[str, ...], table: Path) -> Item:
        rate = number(row.get("sampling_rate", ""), "sampling_rate", table, record=name)
        metadata: dict[str, Any] = {key: row[key] for key in ("age", "sex", "site", "device") if row.get(key)}
        metadata["file"] = path.relative_to(self.data_dir).as_posix()
        return Item(
            record_id=name,
            path=path,
            patient_id=row.get(self.options.patient_column) or None,
            labels=labels,
            fold=integer(row.get("fold", ""), "fold", table, record=name),
            metadata={**metadata, "split": row.get("split", "")},
            hints={} if rate is None else {"sampling_rate": rate},
        )

    def _split(
        self, items: list[Item], rows: list[dict[str, str]], table: Path
    ) -> tuple[dict[str, list[Item]], list[str]]:
        options: FolderOptions = self.options
        if "split" in rows[0]:
            assigned = [split_of_name(item.metadata["split"], item.record_id, table) for item in items]
            notes = ["parts as in the column 'split'"]
        elif "fold" in rows[0]:
            assigned = split_of_fold(items, options.validation_folds, options.test_folds, table)
            notes = ["parts by the column 'fold'"]
        else:
            assigned = split_patients(items, options.validation_fraction, options.test_fraction, options.seed)
            notes = [f"parts drawn by patient with seed {options.seed}"]
        splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        for item, part in zip(items, assigned):
            item.metadata.pop("split", None)
            splits[part].append(item)
        if not options.patients_may_repeat:
            check_patients(splits, table)
        return splits, notes

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        options: FolderOptions = self.options
        hints: dict[str, Any] = {"root": self.data_dir, "checksum": options.checksum, "units": options.units}
        hints["sampling_rate"] = item.hints.get("sampling_rate", options.sampling_rate)
        hints["lead_names"] = None if options.lead_names is None else list(options.lead_names)
        hints["keep_identity"] = options.keep_identity
        if options.gaps == "split":
            parts = read_parts(item.path, limits=self.limits, **hints)
        else:
            parts = iter([read_digital(item.path, limits=self.limits, **hints)])
        for place, digital in enumerate(parts, 1):
            part = f"#{place}" if "start_seconds" in digital.metadata else ""
            digital = digital.with_(
                record_id=item.record_id + part,
                patient_id=item.patient_id or digital.patient_id,
                labels=list(item.labels),
                source="folder",
                metadata={**digital.metadata, **item.metadata},
            )
            yield digital.to_row(plan.label_names, plan.task_kind, fold=item.fold)
