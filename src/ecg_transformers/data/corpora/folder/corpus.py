"""Your own records: a folder of files of any readable format, and a table of labels.

`labels.csv` (or `labels.tsv`, `labels.xlsx`) has one row per record: a column `file` (path below the folder, or just the
name of the record), and either `label` (one name), `labels` (names separated by `;`) or one 0/1 column per label.
Optional columns: `patient_id` (or another of `columns.PATIENT_COLUMNS`), `split` (train, validation, test; a column of
another name that holds nothing else does as well) or `fold`, `strat_fold` (integers: the highest is the test part, the
second highest validation), `sampling_rate`. Without a table all records are unlabelled training data. What is not read
is named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.folder.columns import PATIENT_COLUMNS, Columns, find_columns, spelt_in_two_ways
from ecg_transformers.data.corpora.folder.files import TABLE_NAMES, FileIndex
from ecg_transformers.data.corpora.folder.labels import LabelRule, label_rule
from ecg_transformers.data.corpora.splits import (
    check_patients,
    roles_of_folds,
    said_of_folds,
    split_of_fold,
    split_of_name,
    split_patients,
)
from ecg_transformers.data.errors import (
    DuplicateRecordError,
    ECGDataError,
    LabelError,
    OptionError,
    SkippedRecordsError,
    TableError,
)
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import patient_in_file, read_digital, read_parts
from ecg_transformers.data.tables import integer, number, read_table
from ecg_transformers.data.xlsx import read_xlsx_table

Parts = tuple[dict[str, str], set[str], list[str]]
"""The part of each record, the parts that a table promises, and notes on how that is known."""


@dataclass(frozen=True)
class FolderOptions:
    """Options of `folder`.

    Attributes:
        labels: the table, relative to the folder ("auto": `labels.csv`, `.tsv` or `.xlsx` if there is one); None:
            unlabelled.
        task: "labels", or None for no labels although there is a table.
        record_column: column with the file or record name (default: the first of `columns.RECORD_COLUMNS` there is).
        label_column: column with one label, or several separated by `separator` when it is called `labels`.
        label_columns: columns with 0/1, one per label.
        uncertain: what a cell of those that is neither 0 nor 1 means: "error", "negative" (0), or "drop" for the record.
        label_names: the labels that may occur; an unknown one is then an error.
        separator: between the labels of a cell.
        drop_unlabelled: leave out records without any label.
        patient_column: column with the patient, used to keep patients in one part (default: the first of
            `columns.PATIENT_COLUMNS` there is).
        sampling_rate, lead_names, units: hints for formats that do not say them.
        checksum: "error", "warn" or "ignore" for WFDB checksums.
        validation_fraction, test_fraction, seed: the split by patient where the table has none.
        validation_folds, test_folds: which folds are which part.
        patients_may_repeat: accept a table that puts one patient into two parts.
        bad_rows: a row of the table that cannot be used (a label that cannot be read or, where each record has one, none; a
            record twice; a patient in a second part): "stop" refuses the table, "skip" counts the record as unreadable.
        gaps: "nan" keeps a discontinuous recording (EDF+D, BDF+D) as one record whose gaps are "no value", "split" makes
            a record of each part.
        keep_identity: put the files' own patient ids, names and birth dates into the rows.
    """

    labels: str | None = "auto"
    task: str | None = "labels"
    record_column: str | None = None
    label_column: str | None = None
    label_columns: tuple[str, ...] | None = None
    uncertain: str = "error"
    label_names: tuple[str, ...] | None = None
    separator: str = ";"
    drop_unlabelled: bool = False
    patient_column: str | None = None
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
    bad_rows: str = "stop"
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
        check_choice("folder: uncertain", self.uncertain, ("error", "negative", "drop"))
        check_choice("folder: checksum", self.checksum, ("error", "warn", "ignore"))
        check_choice("folder: bad_rows", self.bad_rows, ("stop", "skip"))
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
        split="column split, fold or strat_fold, else 70 / 15 / 15 % by patient with a seed",
        licence="yours",
        citation="",
        layout="your records, and labels.csv with a column 'file' and a column 'label' or 'labels'",
    )
    options_class = FolderOptions
    code_version = 7

    def plan(self) -> CorpusPlan:
        table = self._table_path()
        index = FileIndex.scan(self.data_dir, table)
        if table is None:
            return self._unlabelled(index)
        rows = self._read(table)
        options: FolderOptions = self.options
        columns = find_columns(rows, options.record_column, options.patient_column, table)
        rule = label_rule(rows, options, columns, table) if options.task is not None else LabelRule()
        items: list[Item] = []
        skipped: list[tuple[str, str]] = []
        excluded = Counter[str]()
        parts: list[str] = []  # what the table says of every row, used ones or not
        used: dict[Path, int] = {}
        for position, row in enumerate(rows):
            name, column = row[columns.record], columns.split or columns.fold
            parts.append(row[column] if column else "")
            with self._listed(skipped, name, f"row {position + 2}"):
                path = self._file_of_row(index, name, table, position, used, skipped)
                if path is None:
                    continue
                labels = rule.labels_of(row, position, table)
                why = self._why_excluded(labels, rule)
                if why is not None:
                    excluded[why] += 1
                else:
                    items.append(self._item(row, path, index.name_of(path), labels or (), columns, table))
        # the files of one patient stay in one part, where they say whose they are and the table does not
        items = [
            replace(item, patient_id=patient_in_file(str(item.path), limits=self.limits, **self._hints(item)))
            if item.patient_id is None
            else item
            for item in items
        ]
        splits, notes = self._split(items, columns, parts, table, skipped)
        plan = CorpusPlan(splits, list(rule.names), rule.kind, [table, *index.others], skipped, dict(excluded), notes)
        plan.notes += columns.notes
        if rule.columns and not options.label_columns:
            plan.notes.append(f"labels are the 0/1 columns {', '.join(map(repr, rule.columns))}")
        plan.warnings = [*self._doubts(items, columns, rule, excluded), *index.left_alone(set(used))]
        return plan

    def _file_of_row(
        self,
        index: FileIndex,
        name: str,
        table: Path,
        position: int,
        used: dict[Path, int],
        skipped: list[tuple[str, str]],
    ) -> Path | None:
        """The file that a row names, which no other row may name; where there is none, that is noted."""
        path = index.find(name, table, position + 2)
        if path is None:
            skipped.append((name or f"row {position + 2}", f"row {position + 2}: {index.why_not(name)}"))
        elif used.setdefault(path, position) != position:
            reason = f"row {position + 2} names the same record as row {used[path] + 2}; keep one of them."
            raise DuplicateRecordError(reason, path=table, record=name)
        return path

    def _why_excluded(self, labels: tuple[str, ...] | None, rule: LabelRule) -> str | None:
        """Why a row with these labels is left out, which is no mistake; None where it is not.

        Raises:
            LabelError: it has no label, and that is one.
        """
        if labels is None:
            return "a label that is neither 0 nor 1"
        options: FolderOptions = self.options
        if not rule.names or labels or not (options.drop_unlabelled or rule.kind == "multiclass"):
            return None
        if options.bad_rows == "skip" and not options.drop_unlabelled:
            raise LabelError(
                f"its column {rule.column!r} is empty: give it a label, or pass drop_unlabelled=True (or "
                "task=None, where labels are not needed)."
            )
        return "no label"

    def _unlabelled(self, index: FileIndex) -> CorpusPlan:
        """All records as training data, and what a newcomer may have meant as a table."""
        if not index.paths:
            found = "; ".join(index.left_alone())
            raise TableError(
                f"the folder holds no record of a readable format{f': {found}' if found else ''}.", path=self.data_dir
            )
        items = [Item(name, path) for name, path in sorted(index.paths.items())]
        notes = ["no table of labels: all records are unlabelled training data"]
        return CorpusPlan({"train": items}, files=index.others, notes=notes, warnings=index.left_alone())

    def _doubts(self, items: list[Item], columns: Columns, rule: LabelRule, excluded: Counter[str]) -> Iterator[str]:
        """Sentences about what a reader of the table might not expect."""
        unknown = sum(item.patient_id is None for item in items)
        if columns.patient is None and unknown:
            whose = (
                "every record"
                if unknown == len(items)
                else f"each of the {unknown} records whose file names no patient"
            )
            usual = ", ".join(PATIENT_COLUMNS[:4])
            yield f"no patient column ({usual}, …; patient_column=… names it): {whose} counts as its own patient"
        elif columns.patient is not None and unknown:
            yield (
                f"{unknown} rows name nobody in the column {columns.patient!r}, and their files name no patient: each counts "
                "as its own patient"
            )
        if alike := spelt_in_two_ways(item.patient_id for item in items if item.patient_id is not None):
            yield f"the patients {alike[0]!r} and {alike[1]!r} count as two: write them alike where they are one"
        people = {item.patient_id or f"record {item.record_id}" for item in items}
        if len(people) < 3 and columns.split is None and columns.fold is None:
            of_whom = "patient" if len(people) == 1 else "patients"
            yield f"records of {len(people)} {of_whom} cannot be shared out to training, validation and test"
        if excluded["no label"]:
            yield f"{excluded['no label']} records without a label were left out"
        blank = sum(not item.labels for item in items) if rule.column is not None else 0
        if blank:
            yield (
                f"{blank} rows are empty in the column {rule.column!r}: they count as records with none of the labels "
                "(drop_unlabelled=True leaves them out)"
            )
        if rule.unread:
            yield f"columns that are not read: {', '.join(map(repr, rule.unread))}"

    def _table_path(self) -> Path | None:
        if self.options.labels is None:
            return None
        if self.options.labels != "auto":
            path = Path(self.options.labels)
            return path if path.is_absolute() else self.data_dir / path
        found = sorted(p for p in self.data_dir.iterdir() if p.name.lower() in TABLE_NAMES and p.is_file())
        if len(found) > 1:
            raise TableError(
                f"the folder holds several tables of labels ({', '.join(path.name for path in found)}); keep one, or "
                "name it with labels=….",
                path=self.data_dir,
            )
        return found[0] if found else None

    def _read(self, table: Path) -> list[dict[str, str]]:
        if table.suffix.lower() == ".xlsx":
            return read_xlsx_table(table, [], self.data_dir, self.limits)
        return read_table(table, root=self.data_dir, limits=self.limits)

    def _item(
        self, row: dict[str, str], path: Path, name: str, labels: tuple[str, ...], columns: Columns, table: Path
    ) -> Item:
        rate = number(columns.cell(row, "sampling_rate"), "sampling_rate", table, record=name)
        known = {key: columns.cell(row, key) for key in ("age", "sex", "site", "device")}
        metadata: dict[str, Any] = {key: value for key, value in known.items() if value}
        metadata["file"] = path.relative_to(self.data_dir).as_posix()
        return Item(
            record_id=name,
            path=path,
            patient_id=columns.patient_of(row),
            labels=labels,
            fold=integer(row[columns.fold], columns.fold, table, record=name) if columns.fold else None,
            metadata={**metadata, "split": row[columns.split] if columns.split else ""},
            hints={} if rate is None else {"sampling_rate": rate},
        )

    @contextmanager
    def _listed(self, skipped: list[tuple[str, str]], name: str, where: str = "") -> Iterator[None]:
        """With `bad_rows="skip"` an error inside becomes an entry of `skipped`."""
        try:
            yield
        except ECGDataError as error:
            if self.options.bad_rows == "stop":
                raise
            skipped.append((name, error.reason if not where or where in error.reason else f"{where}: {error.reason}"))

    def _split(
        self,
        items: list[Item],
        columns: Columns,
        parts: list[str],
        table: Path,
        skipped: list[tuple[str, str]],
    ) -> tuple[dict[str, list[Item]], list[str]]:
        """The items by part; `parts` are the cells of all rows, those whose file is not there among them."""
        options: FolderOptions = self.options
        if columns.split is not None:
            part_of, promised, notes = self._split_by_names(items, columns.split, parts, table, skipped)
        elif columns.fold is not None:
            part_of, promised, notes = self._split_by_folds(items, columns.fold, parts, table, skipped)
        else:
            part_of, promised, notes = self._split_by_draw(items, columns)
        splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        home: dict[str, str] = {}  # the part of each patient's first record
        for item in items:
            item.metadata.pop("split", None)
            if item.record_id not in part_of:
                continue
            part = part_of[item.record_id]
            first = home.setdefault(item.patient_id, part) if item.patient_id is not None else part
            if first != part and options.bad_rows == "skip" and not options.patients_may_repeat:
                reason = (
                    f"its patient {item.patient_id!r} has records in {first!r}, and it stands in {part!r}: results would be "
                    "too good (patients_may_repeat=True accepts it)."
                )
                skipped.append((item.record_id, reason))
                continue
            splits[part].append(item)
        for part in sorted(promised):
            if not splits[part]:
                raise SkippedRecordsError(
                    f"the split {part!r} ends empty: none of the records that the table puts there can be used.",
                    path=table,
                )
        if not options.patients_may_repeat:
            check_patients(splits, table)
        return splits, notes

    def _split_by_names(
        self, items: list[Item], column: str, parts: list[str], table: Path, skipped: list[tuple[str, str]]
    ) -> Parts:
        part_of: dict[str, str] = {}
        promised: set[str] = set()
        for item in items:
            with self._listed(skipped, item.record_id):
                part_of[item.record_id] = split_of_name(item.metadata["split"], item.record_id, table)
        for n, part in enumerate(parts, 2):
            with self._listed([], f"row {n}"):  # what is used was told above
                promised.add(split_of_name(part, f"row {n}", table))
        return part_of, promised, [f"parts as in the column {column!r}"]

    def _split_by_folds(
        self, items: list[Item], column: str, parts: list[str], table: Path, skipped: list[tuple[str, str]]
    ) -> Parts:
        part_of: dict[str, str] = {}
        folds: set[int] = set()
        for text in parts:
            with self._listed([], text):
                fold = integer(text, column, table)
                folds |= set() if fold is None else {fold}
        role_of = roles_of_folds(folds, self.options.validation_folds, self.options.test_folds)
        for item in items:
            with self._listed(skipped, item.record_id):
                part_of[item.record_id] = split_of_fold([item], role_of, column, table)[0]
        return part_of, set(role_of.values()), [f"parts by the column {column!r}: {said_of_folds(role_of)}"]

    def _split_by_draw(self, items: list[Item], columns: Columns) -> Parts:
        options: FolderOptions = self.options
        drawn = split_patients(items, options.validation_fraction, options.test_fraction, options.seed)
        part_of = {item.record_id: part for item, part in zip(items, drawn, strict=True)}
        in_files = columns.patient is None and any(item.patient_id for item in items)
        whom = "record" if columns.patient is None and not in_files else "patient"
        notes = [f"parts drawn by {whom} with seed {options.seed}"]
        if in_files:
            notes.append("patients as the files name them, by a stand-in")
        elif columns.patient is not None:
            notes.append(f"patients as in the column {columns.patient!r}")
        return part_of, set(), notes

    def _hints(self, item: Item) -> dict[str, Any]:
        """What `read_record` is told: without it some files could not be read, and their patient not be found."""
        options: FolderOptions = self.options
        return {
            "root": self.data_dir,
            "checksum": options.checksum,
            "units": options.units,
            "sampling_rate": item.hints.get("sampling_rate", options.sampling_rate),
            "lead_names": None if options.lead_names is None else list(options.lead_names),
            "keep_identity": options.keep_identity,
        }

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        options: FolderOptions = self.options
        hints = self._hints(item)
        if options.gaps == "split":
            parts = read_parts(item.path, limits=self.limits, **hints)
        else:
            parts = iter([read_digital(item.path, limits=self.limits, **hints)])
        for place, digital in enumerate(parts, 1):
            part = f"#{place}" if options.gaps == "split" and "start_seconds" in digital.metadata else ""
            digital = digital.with_(
                record_id=item.record_id + part,
                patient_id=item.patient_id or digital.patient_id,
                labels=list(item.labels),
                source="folder",
                metadata={**digital.metadata, **item.metadata},
            )
            yield digital.to_row(plan.label_names, plan.task_kind, fold=item.fold)
