"""MIMIC-IV-ECG: 800,035 records of an emergency and inpatient population, with the cart's machine reports.

Tables are read line by line and kept as numpy columns, so a plan of the whole corpus stays small. Specification: corpora, 12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.mimic_iv_ecg.places import (
    DEMO,
    FULL,
    OTHER,
    Presence,
    folder_of_patients,
    path_below,
    usual_path,
)
from ecg_transformers.data.corpora.mimic_iv_ecg.reports import (
    REPORT_LINES,
    joined_report,
    label_bits,
    labels_of_bits,
    measured,
)
from ecg_transformers.data.corpora.shared.columns import (
    fold_column,
    iterate_table,
    iterate_with_offsets,
    row_at,
    split_rows,
)
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, note_of_count
from ecg_transformers.data.corpora.shared.headers import age_in_years, sex_of
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import by_name, find_file, walk_files, with_columns
from ecg_transformers.data.errors import DuplicateRecordError, RecordNotFoundError, TableError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.readers.limits import read_bytes
from ecg_transformers.data.tables import integer

RECORDS, PATIENTS = 800_035, 161_352
_MEASURED = (
    "rr_interval",
    "p_onset",
    "p_end",
    "qrs_onset",
    "qrs_end",
    "t_end",
    "p_axis",
    "qrs_axis",
    "t_axis",
)
_PEOPLE = ("subject_id", "gender", "anchor_age", "anchor_year")
_STUDY = re.compile(r"\d{5,12}\Z")
_SUBJECT = re.compile(r"#\s*(\d{8})\b")


@dataclass(frozen=True)
class MIMICIVECGOptions:
    """Options of `mimic_iv_ecg`.

    Attributes:
        task: "reports" (24 labels by rules on the machine report), or None for no labels.
        patients: `patients.csv` of MIMIC-IV for age and sex (default: the file in the folder, if there).
        seed: of the ten folds, drawn by subject.
    """

    task: str | None = "reports"
    patients: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("mimic_iv_ecg: the task", self.task, ("reports",))


@dataclass
class Studies:
    """Columns of the plan, one entry a record: everything else is looked up when the record is read."""

    subject: np.ndarray
    study: np.ndarray
    year: np.ndarray
    layout: np.ndarray
    labels: np.ndarray
    offset: np.ndarray
    folds: np.ndarray


class MIMICIVECGCorpus(Corpus):
    """Diagnostic ECGs matched with MIMIC-IV."""

    facts = CorpusFacts(
        name="mimic_iv_ecg",
        title="MIMIC-IV-ECG",
        summary="12-lead ECGs of a hospital's patients with machine reports",
        records="800,035 of 161,352 patients",
        leads="12, in the order I II III aVR aVF aVL V1-V6",
        sampling_rates="500 Hz",
        duration="10 s",
        labels="24 labels by rules on the machine report",
        split="none official; ten folds by subject with a seed, 10 test, 9 validation",
        licence="open database licence according to surveys; check the release (nothing of it is shipped here)",
        citation="Gow et al., MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset, PhysioNet (2023), "
        "10.13026/4nqg-sb35",
        homepage="https://physionet.org/content/mimic-iv-ecg/",
        download="mimic-iv-ecg 1.0 (records may be a part of it; record_list.csv is read)",
        layout="record_list.csv, machine_measurements.csv and files/p1000/p10000032/s40689238/40689238.hea …",
        notes=(
            "Labels come from the machine, not from a cardiologist; a 'possible' finding counts.",
            "10,554 records hold samples without a value, 1,950 an all-zero lead: kept and flagged.",
            "The demo has no machine_measurements.csv: its records carry no labels.",
        ),
    )
    options_class = MIMICIVECGOptions

    def plan(self) -> CorpusPlan:
        table = find_file(self.data_dir, ["record_list.csv"])
        self._paths: dict[int, str] = {}
        folder = folder_of_patients(self.data_dir, None if table is None else table.parent)
        self._base, self._nested = folder or self.data_dir, folder is not None
        studies, absent, strangers = self._walked() if table is None else self._listed(table)
        notes = [note_of_count(len(studies.study), RECORDS, "mimic_iv_ecg")]
        self._measurements: Path | None = None
        warnings = [f"{strangers:,} patients' folders are named by no row of record_list.csv"] if strangers else []
        if self.options.task is not None:
            self._label_by_reports(studies, notes, warnings)
        patients = self._patients_table()
        self._people, note = self._demographics(patients)
        notes.append(note)
        studies.folds = fold_column(studies.subject, studies.labels, self.options.seed)
        self._studies = studies
        names: list[str] = self.label_names() if self._measurements is not None else []
        self._names = tuple(names)
        files = [path for path in (table, self._measurements, patients) if path is not None]
        excluded = {"records of record_list.csv whose folder is not here": absent} if absent else {}
        plan = CorpusPlan(
            split_rows(studies.folds, self._item),
            names,
            "multilabel" if names else "unlabelled",
            files,
            [],
            excluded,
            notes,
            warnings,
        )
        if len(studies.study) == RECORDS:
            found = {"patients": len(np.unique(studies.subject))}
            compare_counts(plan, found, {"patients": PATIENTS}, "mimic_iv_ecg")
        return plan

    def label_names(self) -> list[str]:
        return [] if self.options.task is None else [row["label"] for row in packaged_table("mimic_report_rules")]

    def _listed(self, table: Path) -> tuple[Studies, int, int]:
        """The records of the list whose patient (or, in an unusual place, whose header) is here; how many are not, and how
        many patients are here that it does not name.
        """
        rows: list[tuple[int, int, int, int]] = []
        absent = 0
        present = Presence(self._base)
        elsewhere = {} if self._nested else self._headers_by_study()
        for line in iterate_table(table, ["subject_id", "study_id", "path"], self.data_dir, self.limits):
            subject = integer(line["subject_id"], "subject_id", table)
            study = integer(line["study_id"], "study_id", table)
            if subject is None or study is None:
                raise TableError("a row has no subject_id or no study_id.", path=table)
            listed = f"/{line['path'].removesuffix('.hea').removesuffix('.dat')}"
            usual = [kind for kind in (FULL, DEMO) if listed.endswith(f"/{usual_path(subject, study, kind)}")]
            own = None if usual else table.parent / f"{listed[1:]}.hea"
            path = own if own is not None and own.exists() else None
            kinds = (*usual, FULL, DEMO) if path is None else ()
            layout = next((kind for kind in kinds if present(usual_path(subject, study, kind))), OTHER)
            if layout == OTHER:
                path = path or elsewhere.get(str(study))
                if path is None:
                    absent += 1
                    continue
                self._paths[len(rows)] = path_below(path, self._base)
            year = line.get("ecg_time", "")[:4]
            rows.append((subject, study, int(year) if year.isdigit() else 0, layout))
        if not rows:
            raise RecordNotFoundError(f"none of the {absent} records of the list is here.", path=table)
        return _studies(rows, table), absent, present.strangers() if self._nested else 0

    def _headers_by_study(self) -> dict[str, Path]:
        """Where the headers of a copy lie that has other folders than the publisher's, or none."""
        return by_name(path for path in walk_files(self.data_dir, ".hea") if _STUDY.match(path.stem))

    def _walked(self) -> tuple[Studies, int, int]:
        """Without a list: headers below `p<subject>/s<study>/`, and others whose comment names the subject."""
        rows: list[tuple[int, int, int, int]] = []
        for path in walk_files(self.data_dir, ".hea"):
            if not _STUDY.match(path.stem):
                continue
            subject = path.parent.parent.name.removeprefix("p")
            if not (subject.isdigit() and path.parent.name == f"s{path.stem}"):
                subject = self._subject_in(path)
            if subject:
                self._paths[len(rows)] = path_below(path, self._base)
                rows.append((int(subject), int(path.stem), 0, OTHER))
        if not rows:
            raise RecordNotFoundError(
                f"no record of MIMIC-IV-ECG here; expected is {self.facts.layout}.", path=self.data_dir
            )
        return _studies(rows, self.data_dir), 0, 0

    def _subject_in(self, path: Path) -> str:
        """The subject that the comment of a header names; empty where it names none, as in other corpora."""
        text = read_bytes(path, self.limits.max_header_bytes, self.data_dir).decode("utf-8", errors="replace")
        found = next(filter(None, map(_SUBJECT.match, text.splitlines())), None)
        return "" if found is None else found[1]

    def _label_by_reports(self, studies: Studies, notes: list[str], warnings: list[str]) -> None:
        """Labels where the table of the reports is here; what is said of them goes to notes and warnings."""
        self._measurements = find_file(self.data_dir, ["machine_measurements.csv"])
        if self._measurements is None:
            warnings.append("no machine_measurements.csv here (as in the demo): no labels")
            return
        notes.append("labels by the rules of mimic_report_rules (version 1) on the machine reports")
        if missing := self._label(studies, self._measurements):
            warnings.append(
                f"{missing:,} of {len(studies.study):,} records have no row in {self._measurements.name}: no label is set, "
                "which a classifier takes for none of them"
            )

    def _label(self, studies: Studies, table: Path) -> int:
        """Labels of each record by its report, and where its row stands in the table; the number without a row."""
        index_of = {study: index for index, study in enumerate(studies.study.tolist())}
        found = 0
        for offset, line in iterate_with_offsets(table, ["study_id", *REPORT_LINES[:1]], self.data_dir, self.limits):
            index = index_of.get(integer(line["study_id"], "study_id", table) or 0)
            if index is None:
                continue
            studies.offset[index] = offset
            studies.labels[index] = label_bits(joined_report(line))
            found += 1
        return len(studies.study) - found

    def _patients_table(self) -> Path | None:
        if self.options.patients is None:
            return find_file(self.data_dir, ["patients.csv"], fits=with_columns(self.data_dir, _PEOPLE))
        if not Path(self.options.patients).exists():
            raise RecordNotFoundError("there is no such table of patients.", path=self.options.patients)
        return Path(self.options.patients)

    def _demographics(self, path: Path | None) -> tuple[dict[int, tuple[int, int, str]], str]:
        if path is None:
            return {}, "no patients.csv of MIMIC-IV here: no age, no sex"
        people: dict[int, tuple[int, int, str]] = {}
        for line in iterate_table(path, _PEOPLE, path.parent, self.limits):
            values = [integer(line[name], name, path) or 0 for name in ("subject_id", "anchor_age", "anchor_year")]
            people[values[0]] = (values[1], values[2], line["gender"])
        return people, f"age and sex from {path.name} of MIMIC-IV"

    def _path(self, index: int) -> Path:
        studies = self._studies
        kind = int(studies.layout[index])
        name = self._paths.get(index) or usual_path(int(studies.subject[index]), int(studies.study[index]), kind)
        return Path(f"{self._base}/{name}.hea")

    def _item(self, index: int) -> Item:
        studies = self._studies
        labels = labels_of_bits(self._names, int(studies.labels[index]))
        subject = int(studies.subject[index])
        return Item(
            str(int(studies.study[index])),
            self._path(index),
            str(subject),
            labels,
            int(studies.folds[index]),
            {},
            {"index": index},
        )

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
        index = item.hints["index"]
        metadata: dict[str, Any] = {"age": None, "sex": None}
        person = self._people.get(int(self._studies.subject[index]))
        if person is not None:
            age, anchor, gender = person
            year = int(self._studies.year[index])
            metadata = {"age": age_in_years(str(age + year - anchor)) if year else None, "sex": sex_of(gender)}
        offset = int(self._studies.offset[index])
        if self._measurements is not None and offset >= 0:
            line = row_at(self._measurements, offset)
            metadata["report"] = [line[name] for name in REPORT_LINES if line.get(name)]
            metadata["measurements"] = {name: measured(line.get(name, "")) for name in _MEASURED}
            metadata |= {name: line[name] for name in ("bandwidth", "filtering") if line.get(name)}
        full = Item(item.record_id, item.path, item.patient_id, item.labels, item.fold, metadata)
        yield finished_row(digital, full, plan, "mimic_iv_ecg")


def _studies(rows: list[tuple[int, int, int, int]], where: Path) -> Studies:
    columns = np.array(rows, dtype=np.int64).T
    unique, counts = np.unique(columns[1], return_counts=True)
    if counts.max() > 1:
        raise DuplicateRecordError("a study_id stands twice.", path=where, record=str(unique[counts.argmax()]))
    nothing = np.zeros(len(rows), dtype=np.int64)
    return Studies(columns[0], columns[1], columns[2], columns[3], nothing, nothing - 1, nothing)
