"""PTB-XL in its native layout, with the six tasks and the folds of its publishers.

Labels follow the benchmark of Strodthoff et al. (2021): every statement named in `scp_codes` counts, whatever its
likelihood, because a likelihood of 0 means "not stated", not "absent" (most rhythm and form statements carry 0).
"""

from __future__ import annotations

import ast
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.copies import copies_by_header
from ecg_transformers.data.corpora.shared.finishing import compare_counts, note_of_count
from ecg_transformers.data.corpora.shared.headers import read_comments
from ecg_transformers.data.corpora.shared.packaged import packaged_column, packaged_table
from ecg_transformers.data.corpora.shared.ptb_xl_plus import SOURCES, PTBXLPlus
from ecg_transformers.data.corpora.shared.search import by_name, find_file, need_file, some_of, walk_files
from ecg_transformers.data.errors import ECGDataError, LabelError, OptionError, TableError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers.wfdb.record import read_wfdb
from ecg_transformers.data.record import DigitalRecord
from ecg_transformers.data.tables import integer, number, read_table

TASKS = ("all", "diagnostic", "subclass", "superclass", "form", "rhythm")
_SPLIT_OF_FOLD = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}
_MAX_CODES = 1024
RECORDS, PATIENTS = 21_799, 18_869
SUPERCLASSES = {"NORM": 9514, "MI": 5469, "STTC": 5235, "CD": 4898, "HYP": 2649}
"""Records of version 1.0.3 by superclass, as PhysioNet's page of it states them."""


@dataclass(frozen=True)
class PTBXLOptions:
    """Options of `ptb_xl`.

    Attributes:
        sampling_rate: 100 or 500 Hz files.
        task: "all" (71 statements), "diagnostic" (44), "subclass" (23), "superclass" (5), "form" (19), "rhythm" (12),
            or None for no labels.
        likelihood_min: count a *diagnostic* statement only from this likelihood (0 to 100); form and rhythm statements
            are never filtered. None counts every statement.
        min_samples: leave out classes with at most this many records.
        drop_unlabelled: leave out records without a label of the task. None: yes, but for "all" and None.
        folds: keep only these folds.
        bad_records: "skip" leaves out the 38 records that version 1.0.3 withdrew as copies of others (an older copy
            has them), "keep" keeps them, in the part of the other copy where the headers tell it.
        plus_dir: folder of PTB-XL+; its features and statements are joined by id, in `metadata["plus"]`.
        plus_median_beat: "12sl" or "unig" puts that median beat there too.
    """

    sampling_rate: int = 100
    task: str | None = "all"
    likelihood_min: float | None = None
    min_samples: int = 0
    drop_unlabelled: bool | None = None
    folds: tuple[int, ...] | None = None
    bad_records: str = "skip"
    plus_dir: str | None = None
    plus_median_beat: str | None = None

    def __post_init__(self) -> None:
        check_choice("ptb_xl: sampling_rate", self.sampling_rate, (100, 500))
        if self.task is not None:
            check_choice("ptb_xl: the task", self.task, TASKS)
        check_choice("ptb_xl: bad_records", self.bad_records, ("skip", "keep"))
        if self.plus_median_beat is not None:
            check_choice("ptb_xl: plus_median_beat", self.plus_median_beat, SOURCES)
        if self.likelihood_min is not None and not 0 <= self.likelihood_min <= 100:
            raise OptionError(f"ptb_xl: likelihood_min {self.likelihood_min} lies outside 0 to 100.")


class PTBXLCorpus(Corpus):
    """PTB-XL, 12 leads, 10 s, 100 and 500 Hz."""

    facts = CorpusFacts(
        name="ptb_xl",
        title="PTB-XL",
        summary="Clinical 12-lead ECGs with SCP-ECG statements by cardiologists",
        records="21,799 of 18,869 patients (version 1.0.3)",
        leads="12 (I II III aVR aVL aVF V1-V6)",
        sampling_rates="100 or 500 Hz",
        duration="10 s",
        labels="71 SCP statements; tasks " + ", ".join(TASKS),
        split="official folds 1-8 train, 9 validation, 10 test",
        licence="CC BY 4.0",
        citation="Wagner et al., PTB-XL, a large publicly available electrocardiography dataset, "
        "Scientific Data 7, 154 (2020)",
        homepage="https://physionet.org/content/ptb-xl/",
        download="ptb-xl 1.0.3 (records100/ or records500/ will do)",
        layout="ptbxl_database.csv, scp_statements.csv, records100/ and records500/",
        notes=(
            "A likelihood of 0 means 'not stated'; it is counted by default.",
            "age 300 stands for more than 89 years; metadata then says age_over_89.",
            "38 records of older copies were withdrawn in 1.0.3: left out and counted; bad_records='keep' keeps them.",
        ),
    )
    options_class = PTBXLOptions
    marker = ("ptbxl_database.csv",)
    _plus: PTBXLPlus | None = None

    def plan(self) -> CorpusPlan:
        options: PTBXLOptions = self.options
        table_path = self.data_dir / "ptbxl_database.csv"
        if not table_path.exists() and any(path.stem.startswith("HR") for path in walk_files(self.data_dir, ".hea")):
            raise TableError(
                "this is the Challenge's copy of PTB-XL (HR00001.hea …), which has lost folds and statements; load it as "
                "cinc2021 with include=['ptb_xl'].",
                path=self.data_dir,
            )
        table_path = need_file(self.data_dir, [table_path.name], self.facts.layout)
        statements_path = find_file(self.data_dir, ["scp_statements.csv"], depth=0)
        statements = packaged_statements() if statements_path is None else read_statements(statements_path)
        column = "filename_lr" if options.sampling_rate == 100 else "filename_hr"
        table = read_table(table_path, ["ecg_id", "patient_id", "scp_codes", "strat_fold", column])
        self._moved = self._records_elsewhere(table, column)
        parsed = [self._item(row, statements, column, table_path) for row in table]
        names = label_names_of(options.task, statements)
        if options.min_samples > 0:
            counts = Counter(label for item in parsed for label in item.labels)
            names = [name for name in names if counts[name] > options.min_samples]
        plan = self._split(parsed, names, [path for path in (table_path, statements_path) if path is not None])
        if statements_path is None:
            plan.warnings.append("no scp_statements.csv here: the statements are those of version 1.0.3")
        plan.notes.append(note_of_count(len(parsed), RECORDS, "ptb_xl, rows of the table"))
        if len(parsed) == RECORDS:
            found = Counter(label for row in parsed for label in _superclasses(row, statements))
            found["patients"] = len({item.patient_id for item in parsed})
            compare_counts(plan, found, {**SUPERCLASSES, "patients": PATIENTS}, "ptb_xl")
        return plan

    def _records_elsewhere(self, table: list[dict[str, str]], column: str) -> dict[str, Path]:
        """Headers by name, of a copy that has other folders than the table says; empty where one lies in its place."""
        if any((self.data_dir / f"{row[column]}.hea").exists() for row in table):
            return {}
        names = {Path(row[column]).name for row in table}
        found = by_name(path for path in walk_files(self.given_dir, ".hea") if path.stem in names)
        if found:
            self.data_dir = self.given_dir
        return found

    def _split(self, items: list[Item], names: list[str], files: list[Path]) -> CorpusPlan:
        options: PTBXLOptions = self.options
        drop = options.drop_unlabelled
        if drop is None:
            drop = options.task not in (None, "all")
        kept: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        excluded: Counter[str] = Counter()
        allowed = set(names)
        withdrawn = withdrawn_ids()
        here = [item for item in items if item.record_id in withdrawn]
        notes: list[str] = []
        if here and options.bad_records == "keep":
            items, notes = self._with_their_copies(items, here)
        for item in items:
            if item.record_id in withdrawn and options.bad_records == "skip":
                excluded["withdrawn in version 1.0.3 as a copy of another record"] += 1
                continue
            labels = tuple(label for label in item.labels if label in allowed)
            if options.folds is not None and item.fold not in options.folds:
                excluded["not in the folds asked for"] += 1
            elif drop and not labels:
                excluded[f"no label of the task {options.task}"] += 1
            else:
                kept[_SPLIT_OF_FOLD[item.fold or 0]].append(replace(item, labels=labels))
        plan = CorpusPlan(
            splits=kept,
            label_names=names,
            task_kind="multilabel" if names else "unlabelled",
            files=files,
            excluded=dict(excluded),
            notes=notes,
        )
        if options.plus_dir is not None:
            self._plus = PTBXLPlus(options.plus_dir, self.limits)
            plan.files += self._plus.files()
            plan.notes += self._plus.notes([int(item.record_id) for item in plan.each_item()])
        return plan

    def _with_their_copies(self, items: list[Item], withdrawn: list[Item]) -> tuple[list[Item], list[str]]:
        """The withdrawn records in the folds of the records that they repeat, as far as the headers tell."""
        with_sums = []
        for item in items:
            with contextlib.suppress(ECGDataError):  # who reads the record says why
                path = Path(f"{item.path}.hea") if item.path is not None and item.path.suffix != ".hea" else item.path
                assert path is not None
                sums = read_comments(path, self.data_dir, self.limits).lead_sums
                with_sums.append(replace(item, hints={"lead_sums": sums}))
        fold_of = {item.record_id: item.fold for item in items}
        copies = [item.record_id for item in withdrawn]
        moved = {}
        for pair in copies_by_header(with_sums):
            for name, other in (pair, pair[::-1]):
                if name in copies and other not in copies:
                    moved[name] = fold_of[other]
        alone = [name for name in copies if name not in moved]
        notes = [f"{len(moved)} withdrawn records are kept in the folds of the records that they repeat"]
        if alone:
            notes.append(
                f"{len(alone)} withdrawn records are kept in their own folds: no other copy found ({some_of(alone)})"
            )
        return [replace(item, fold=moved.get(item.record_id, item.fold)) for item in items], notes

    def _item(self, row: dict[str, str], statements: dict[str, dict[str, str]], column: str, path: Path) -> Item:
        record = integer(row["ecg_id"], "ecg_id", path)
        if record is None:
            raise TableError("a row has no ecg_id.", path=path)
        name = str(record)
        fold = integer(row["strat_fold"], "strat_fold", path, record=name)
        if fold not in _SPLIT_OF_FOLD:
            raise TableError(f"strat_fold {row['strat_fold']!r} is not 1 to 10.", path=path, record=name)
        patient = integer(row["patient_id"], "patient_id", path, record=name)
        codes = parse_codes(row["scp_codes"], path, name)
        unknown = [code for code in codes if code not in statements]
        if unknown:
            raise LabelError(f"the statements {unknown} are not in scp_statements.csv.", path=path, record=name)
        age = number(row.get("age", ""), "age", path, record=name)
        sex = {"0": "male", "1": "female"}.get(row.get("sex", "").removesuffix(".0"))
        files = [row[name] for name in ("filename_lr", "filename_hr") if row.get(name)]
        metadata: dict[str, Any] = {"age": age, "sex": sex, "scp_codes": codes, "file": row[column]}
        if age is not None and age >= 300:
            metadata.update(age=None, age_over_89=True)
        return Item(
            record_id=name,
            path=self._moved.get(Path(row[column]).name, self.data_dir / row[column]),
            patient_id=None if patient is None else str(patient),
            labels=labels_of(codes, self.options.task, statements, self.options.likelihood_min),
            fold=fold,
            metadata=metadata,
            names=(*files, *(Path(file).name for file in files)),
        )

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        stored = read_wfdb(item.path, root=self.data_dir, limits=self.limits)
        digital = stored.in_16_bits() if isinstance(stored, DigitalRecord) else DigitalRecord.from_record(stored)
        if digital.sampling_rate != self.options.sampling_rate:
            raise ECGDataError(
                f"the header states {digital.sampling_rate} Hz instead of {self.options.sampling_rate} Hz.",
                path=item.path,
                record=item.record_id,
            )
        plus = (
            {} if self._plus is None else {"plus": self._plus.entry(int(item.record_id), self.options.plus_median_beat)}
        )
        digital = digital.with_(
            record_id=item.record_id,
            patient_id=item.patient_id,
            labels=list(item.labels),
            source="ptb_xl",
            metadata={**item.metadata, **plus, **{k: v for k, v in digital.metadata.items() if k == "flags"}},
        )
        yield digital.to_row(plan.label_names, plan.task_kind, fold=item.fold)


def withdrawn_ids() -> dict[str, str]:
    """Ids of version 1.0.1 that 1.0.3 withdrew, with their names in the Challenges."""
    return packaged_column("ptb_xl_withdrawn_ids", "ecg_id", "challenge_record")


def read_statements(path: Path) -> dict[str, dict[str, str]]:
    """`scp_statements.csv` by statement; its first column has no name."""
    rows = read_table(path, ["diagnostic", "form", "rhythm", "diagnostic_class", "diagnostic_subclass"])
    first = next(iter(rows[0]))
    return {row[first]: row for row in rows}


def packaged_statements() -> dict[str, dict[str, str]]:
    """The same of version 1.0.3, for a copy that lacks the file."""
    return {row["statement"]: row for row in packaged_table("ptb_xl_statements")}


def _superclasses(item: Item, statements: dict[str, dict[str, str]]) -> tuple[str, ...]:
    return labels_of(item.metadata["scp_codes"], "superclass", statements, None)


def label_names_of(task: str | None, statements: dict[str, dict[str, str]]) -> list[str]:
    """Sorted class names of a task."""
    names: set[str] = set()
    for code in statements:
        names.update(labels_of({code: 100.0}, task, statements, None))
    return sorted(names)


def labels_of(
    codes: dict[str, float],
    task: str | None,
    statements: dict[str, dict[str, str]],
    likelihood_min: float | None,
) -> tuple[str, ...]:
    """Labels of one record in a task; the likelihood threshold acts on diagnostic statements only."""
    labels: set[str] = set()
    for code, likelihood in codes.items():
        row = statements[code]
        kinds = {kind for kind in ("diagnostic", "form", "rhythm") if row[kind] not in ("", "0", "0.0")}
        weak = likelihood_min is not None and likelihood < likelihood_min
        if weak and ("diagnostic" in kinds) and task not in ("form", "rhythm"):
            continue
        if task == "all" or task in kinds:
            labels.add(code)
        elif task in ("superclass", "subclass") and "diagnostic" in kinds:
            name = row["diagnostic_class" if task == "superclass" else "diagnostic_subclass"]
            labels.update([name] if name else [])
    return tuple(sorted(labels))


def parse_codes(text: str, path: Path, record: str) -> dict[str, float]:
    """`{'NORM': 100.0, 'SR': 0.0}`, a Python literal: parsed as data, never evaluated."""
    try:
        value = ast.literal_eval(text) if len(text) <= _MAX_CODES else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, dict) or not all(
        isinstance(code, str) and isinstance(likelihood, (int, float)) for code, likelihood in value.items()
    ):
        raise TableError(f"scp_codes holds {text[:60]!r}, not statements with likelihoods.", path=path, record=record)
    return {code: float(likelihood) for code, likelihood in value.items()}
