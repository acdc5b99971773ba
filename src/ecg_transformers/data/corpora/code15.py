"""CODE-15%: 345,779 exams of a telehealth network, as HDF5 parts or in the WFDB form of the Challenge 2025.

Exams are joined by `exam_id` inside the part that `trace_file` names: the table is in another order than the parts.
Zero padding at both ends is taken off. The publisher's unit is uncertain: values are given as they are and called
millivolts, with the flag `unit_uncertain`. Specification: corpora, 11.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.columns import fold_column, iterate_table, split_rows
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, note_of_count
from ecg_transformers.data.corpora.shared.folds import assign_folds, split_by_folds
from ecg_transformers.data.corpora.shared.forms import check_form, chosen_form
from ecg_transformers.data.corpora.shared.headers import HeaderComments, age_in_years, read_comments
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import by_name, find_table, some_of, walk_files
from ecg_transformers.data.errors import (
    ECGDataError,
    EmptyRecordError,
    LabelError,
    RecordNotFoundError,
    SignalError,
    TableError,
)
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.readers.hdf5 import hdf5_dataset, read_hdf5
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.data.tables import integer
from ecg_transformers.signal.leads import STANDARD_LEADS

RECORDS, PATIENTS = 345_779, 233_770
RATE = 400.0
SCALES = (1.0, 0.5, 0.1)
_PART = re.compile(r"exams_part\d+\.(hdf5|h5)\Z", re.IGNORECASE)
_EXAM = re.compile(r"\d+\Z")
_TRUE = {"true", "1", "1.0", "t", "yes"}
_FALSE = {"", "false", "0", "0.0", "f", "no"}


@dataclass(frozen=True)
class CODE15Options:
    """Options of `code15`.

    Attributes:
        task: "all" (six abnormalities and the machine's `normal_ecg`), "abnormalities" (six), or None for no labels.
        millivolts_per_unit: what one unit of the deposit is taken for: 1 (as its maintainers advise), 0.5 (which would
            fit the amplitudes of other corpora) or 0.1 (1e-4 V, as the deposit says). Nobody has settled it.
        seed: of the ten folds, drawn by patient.
        form: "original" (HDF5) or "challenge" (WFDB), where a folder holds both; None takes the one that is there.
    """

    task: str | None = "all"
    millivolts_per_unit: float = 1.0
    seed: int = 0
    form: str | None = None

    def __post_init__(self) -> None:
        check_form("code15", self.form)
        if self.task is not None:
            check_choice("code15: the task", self.task, ("all", "abnormalities"))
        check_choice("code15: millivolts_per_unit", self.millivolts_per_unit, SCALES)


@dataclass
class Exams:
    """The columns of `exams.csv` that a plan keeps, one entry an exam that is here."""

    exam_id: np.ndarray
    patient: np.ndarray
    age: np.ndarray
    male: np.ndarray
    labels: np.ndarray
    part: np.ndarray
    row: np.ndarray


class CODE15Corpus(Corpus):
    """15 % of the patients of the CODE study."""

    facts = CorpusFacts(
        name="code15",
        title="CODE-15%",
        summary="12-lead ECGs of a Brazilian telehealth network with six abnormalities",
        records="345,779 of 233,770 patients",
        leads="12",
        sampling_rates="400 Hz",
        duration="up to 10.2 s, mostly 7.3 s (zero padding taken off)",
        labels="1dAVb RBBB LBBB SB ST AF, and normal_ecg (by machine)",
        split="none official; ten folds by patient with a seed, 10 test, 9 validation",
        licence="CC BY 4.0",
        citation="Ribeiro et al., CODE-15%: a large scale annotated dataset of 12-lead ECGs, Zenodo 4916206 (2021)",
        homepage="https://zenodo.org/records/4916206",
        download="exams.csv and any of exams_part0.zip … exams_part17.zip, unpacked",
        needs=("h5py",),
        layout="exams.csv with exams_part0.hdf5 … exams_part17.hdf5 (unpacked; some parts will do), or 1234567.hea and "
        ".dat … of the Challenge 2025, with exams.csv beside for labels",
        notes=(
            "The unit is uncertain: amplitudes are about twice those of other corpora. Normalise each record.",
            "normal_ecg is the machine's, and not the complement of the six: 173,347 exams have none of the seven.",
            "III = II - I does not hold in a part of the exams: do not recompute leads.",
        ),
    )
    options_class = CODE15Options

    def plan(self) -> CorpusPlan:
        table = find_table(self.data_dir, "exams.csv", ["exam_id", *self.label_names()])
        parts = by_name(path for path in walk_files(self.data_dir, (".hdf5", ".h5")) if _PART.match(path.name))
        headers = [path for path in walk_files(self.data_dir, ".hea") if _EXAM.match(path.stem)]
        first_part = min(parts.values(), default=None)
        form = chosen_form(self.options.form, first_part, next(filter(self._is_exam, headers), None), self.data_dir)
        if form == "original" and table is None and self.options.task is not None:
            raise RecordNotFoundError(
                "the parts are here, but no exams.csv, which has the labels; task=None reads them without.",
                path=self.data_dir,
            )
        if form == "original":
            return self._hdf5_plan(table, [parts[name] for name in sorted(parts)])
        if form == "challenge":
            return self._wfdb_plan(headers, table)
        archives = [p.name for p in walk_files(self.data_dir, ".zip") if p.name.lower().startswith("exams_part")]
        unpack = f" (unpack {some_of(archives)})" if archives else ""
        raise RecordNotFoundError(
            f"no part of CODE-15% here{unpack}; expected is {self.facts.layout}.", path=self.data_dir
        )

    def label_names(self) -> list[str]:
        columns = [row["column"] for row in packaged_table("code15_labels")]
        return {"all": columns, "abnormalities": columns[:-1], None: []}[self.options.task]

    def _is_exam(self, header: Path) -> bool:
        """Whether a header with a number for a name is one of the Challenge 2025, as far as it can be read."""
        try:
            return not _is_of_others(read_comments(header, self.data_dir, self.limits))
        except ECGDataError:
            return True

    def _hdf5_plan(self, table: Path | None, parts: list[Path]) -> CorpusPlan:
        places, notes, excluded = self._exam_places(parts)
        skipped: list[tuple[str, str]] = []
        absent = 0
        if table is None:
            exams = _exams_without_table(places)
        else:
            exams, skipped, absent = self._exams(table, parts, places)
        self._exams_here, self._parts = exams, parts
        if absent:
            excluded["exams whose part is not here"] = absent
        in_no_table = sum(map(len, places)) - len(exams.exam_id)
        if in_no_table:
            excluded["exams of the parts that are in no table"] = in_no_table
        people = np.where(exams.patient < 0, -1 - exams.exam_id, exams.patient)  # unknown ones are all different
        folds = fold_column(people, exams.labels, self.options.seed)
        self._folds = folds
        names = self.label_names()
        notes = [note_of_count(len(exams.exam_id), RECORDS, "code15"), self._unit_note(), *notes]
        files = [*parts, *([] if table is None else [table])]
        kind = "multilabel" if names else "unlabelled"
        plan = CorpusPlan(split_rows(folds, self._item), names, kind, files, skipped, excluded, notes)
        if in_no_table:
            plan.warnings.append(
                f"{in_no_table:,} exams of the parts here stand in no row of exams.csv, or in another part's"
            )
        if table is None:
            plan.warnings.append("no exams.csv here: no labels, no patients, so the parts are drawn by exam")
        elif len(exams.exam_id) == RECORDS:
            rows = packaged_table("code15_labels")
            found = {row["column"]: int((exams.labels >> bit & 1).sum()) for bit, row in enumerate(rows)}
            found["patients"] = len(np.unique(people))
            published = {row["column"]: int(row["records"]) for row in rows}
            compare_counts(plan, found, {**published, "patients": PATIENTS}, "code15")
        return plan

    def _exam_places(self, parts: list[Path]) -> tuple[list[dict[int, int]], list[str], dict[str, int]]:
        """For each part where its exams stand; rows with exam 0 are no exams."""
        places: list[dict[int, int]] = []
        empty, notes = 0, []
        for path in parts:
            ids = read_hdf5(hdf5_dataset(path, self.data_dir, "exam_id", 1), slice(None), path)
            tracings = hdf5_dataset(path, self.data_dir, "tracings", 3)
            if len(tracings) != len(ids) or tracings.shape[2] != len(STANDARD_LEADS):
                raise SignalError(
                    f"'tracings' has the shape {tracings.shape}; {len(ids)} exams of {len(STANDARD_LEADS)} leads are "
                    "expected.",
                    path=path,
                )
            place: dict[int, int] = {}
            for row, exam in enumerate(ids.tolist()):
                if int(exam) == 0:
                    empty += 1
                elif place.setdefault(int(exam), row) != row:
                    notes.append(f"exam {exam} stands twice in {path.name}; the first is read")
            places.append(place)
        return places, notes[:20], {"rows with exam_id 0, which are no exams": empty} if empty else {}

    def _exams(
        self, table: Path, parts: list[Path], places: list[dict[int, int]]
    ) -> tuple[Exams, list[tuple[str, str]], int]:
        """The rows of the table that have an exam in the part they name."""
        number_of = {path.stem.lower(): number for number, path in enumerate(parts)}
        columns = [row["column"] for row in packaged_table("code15_labels")]
        needed = ["exam_id", "patient_id", "trace_file", *self.label_names()]
        rows: list[tuple[int, ...]] = []
        skipped: list[tuple[str, str]] = []
        absent = 0
        seen: set[int] = set()
        for line in iterate_table(table, needed, self.data_dir, self.limits):
            exam = integer(line["exam_id"], "exam_id", table)
            if exam is None or exam in seen:
                raise TableError("an exam_id is empty or stands twice.", path=table, record=line["exam_id"])
            seen.add(exam)
            number = number_of.get(Path(line["trace_file"]).stem.lower())
            if number is None:
                absent += 1
                continue
            place = places[number].get(exam)
            if place is None:
                skipped.append((str(exam), f"not in {parts[number].name}, which the table names"))
                continue
            patient = integer(line["patient_id"], "patient_id", table, record=str(exam))
            bits = sum(1 << position for position, name in enumerate(columns) if _is_true(line, name, table))
            age = age_in_years(line.get("age", ""))
            male = -1 if not line.get("is_male") else int(_is_true(line, "is_male", table))
            rows.append(
                (exam, -1 if patient is None else patient, -1 if age is None else int(age), male, bits, number, place)
            )
        if not rows:
            raise RecordNotFoundError(
                f"none of the {len(seen)} exams of the table lies in the parts here ({some_of(p.name for p in parts)}).",
                path=table,
            )
        rows.sort(key=lambda row: (row[5], row[6]))
        return Exams(*(np.array(column) for column in zip(*rows))), skipped, absent

    def _item(self, index: int) -> Item:
        exams, names = self._exams_here, self.label_names()
        labels = tuple(name for position, name in enumerate(names) if int(exams.labels[index]) >> position & 1)
        age, male = int(exams.age[index]), int(exams.male[index])
        metadata: dict[str, Any] = {"age": None if age < 0 else float(age), "sex": {0: "female", 1: "male"}.get(male)}
        patient = int(exams.patient[index])
        return Item(
            str(int(exams.exam_id[index])),
            self._parts[int(exams.part[index])],
            None if patient < 0 else str(patient),
            labels,
            int(self._folds[index]),
            metadata,
            {"row": int(exams.row[index])},
        )

    def _wfdb_plan(self, headers: list[Path], table: Path | None) -> CorpusPlan:
        """The form of the Challenge 2025: patient, age and sex in the header, the six labels in the table, if there."""
        columns = self.label_names()
        listed = {} if table is None else self._labels_by_exam(table, columns)
        items, skipped, excluded = [], [], Counter[str]()
        for path in headers:
            try:
                comments = read_comments(path, self.data_dir, self.limits)
            except ECGDataError as error:
                skipped.append((path.stem, error.reason))
                continue
            if _is_of_others(comments):
                excluded["headers of other corpora"] += 1
                continue
            exam = comments.other("Exam ID") or path.stem
            if table is not None and exam not in listed:
                excluded["exams that are not in exams.csv"] += 1
                continue
            chagas = {"true": True, "false": False}.get(comments.other("Chagas label").lower())
            metadata = {"age": comments.age, "sex": comments.sex, "chagas": chagas}
            patient = comments.other("Patient ID") or None
            items.append(Item(exam, path, patient, listed.get(exam, ()), None, metadata))
        if not items:
            reasons = [f"the header of {name} cannot be read: {reason}" for name, reason in skipped[:1]]
            where = "" if table is None else f" in {table.name}"
            count = excluded["exams that are not in exams.csv"]
            reasons += [f"none of the {count:,} exams that lie here stands{where}."] if count else []
            raise RecordNotFoundError(reasons[0], path=self.data_dir)
        items = assign_folds(items, self.options.seed)
        notes = [note_of_count(len(items), RECORDS, "code15"), self._unit_note()]
        if table is None:
            columns = []
            notes.append("no exams.csv beside the records: they carry no labels but Chagas (metadata['chagas'])")
        kind = "multilabel" if columns else "unlabelled"
        files = [table] if table is not None else []
        plan = CorpusPlan(split_by_folds(items), columns, kind, files, skipped, dict(excluded), notes)
        if strange := excluded["exams that are not in exams.csv"]:
            plan.warnings.append(f"{strange:,} exams here are not in exams.csv and were left alone")
        return plan

    def _labels_by_exam(self, table: Path, columns: list[str]) -> dict[str, tuple[str, ...]]:
        listed: dict[str, tuple[str, ...]] = {}
        for line in iterate_table(table, ["exam_id", *columns], self.data_dir, self.limits):
            exam = str(integer(line["exam_id"], "exam_id", table) or "")
            if not exam or exam in listed:
                raise TableError("an exam_id is empty or stands twice.", path=table, record=line["exam_id"])
            listed[exam] = tuple(name for name in columns if _is_true(line, name, table))
        return listed

    def _unit_note(self) -> str:
        scale = self.options.millivolts_per_unit
        return (
            f"one unit of the deposit is taken for {scale:g} mV (millivolts_per_unit); the publisher's scale is "
            "uncertain: normalise each record"
        )

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        scale = self.options.millivolts_per_unit
        if item.path.suffix == ".hea":
            digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
            digital = digital.with_(gain=digital.gain / scale)
        else:
            digital = self._exam(item, scale)
        flags = sorted({*digital.metadata.get("flags", []), "unit_uncertain"})
        digital.metadata |= {"flags": flags, "unit": "mV (publisher's scale uncertain)"}
        yield finished_row(digital, item, plan, "code15")

    def _exam(self, item: Item, scale: float) -> DigitalRecord:
        assert item.path is not None
        dataset = hdf5_dataset(item.path, self.data_dir, "tracings", 3)
        self.limits.check_shape(dataset.shape[1], dataset.shape[2], path=item.path, record=item.record_id)
        signal = trim_zero_edges(read_hdf5(dataset, item.hints["row"], item.path))
        if not len(signal):
            raise EmptyRecordError("the exam is zero in every lead.", path=item.path, record=item.record_id)
        record = ECGRecord(signal * np.float32(scale), RATE, list(STANDARD_LEADS), item.record_id)
        return DigitalRecord.from_record(record)


def _is_of_others(header: HeaderComments) -> bool:
    """Whether a header with readable signal lines has none of the comments that the Challenge 2025 wrote."""
    return any(header.lead_sums) and not any(header.other(key) for key in ("Exam ID", "Patient ID", "Chagas label"))


def _exams_without_table(places: list[dict[int, int]]) -> Exams:
    """All exams of the parts, of which nothing else is known."""
    rows = [(exam, -1, -1, -1, 0, number, row) for number, place in enumerate(places) for exam, row in place.items()]
    return Exams(*np.array(rows, dtype=np.int64).reshape(-1, 7).T)


def trim_zero_edges(signal: np.ndarray) -> np.ndarray:
    """A record `(T, L)` without the rows at either end in which every lead is zero; zero rows inside stay."""
    rows = np.flatnonzero(signal.any(axis=1))
    return signal[rows[0] : rows[-1] + 1] if rows.size else signal[:0]


def _is_true(line: Mapping[str, str], column: str, table: Path) -> bool:
    text = line.get(column, "").lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise LabelError(
        f"{column} is {line[column][:40]!r}, neither True nor False.", path=table, record=line.get("exam_id")
    )
