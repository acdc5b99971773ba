"""PTB Diagnostic ECG Database: 15 leads at 1000 Hz, the diagnosis in the comments of the header."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.challenge import ChallengeCorpus, source_of
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, note_of_count
from ecg_transformers.data.corpora.shared.folds import assign_folds, split_by_folds
from ecg_transformers.data.corpora.shared.forms import check_form, chosen_form
from ecg_transformers.data.corpora.shared.headers import HeaderComments, read_comments, read_signal_files
from ecg_transformers.data.corpora.shared.known import POLICIES
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import find_files, walk_files
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers.limits import read_bytes

RECORDS, PATIENTS = 549, 290
TASKS = ("all", "superclass", "mi")
_RECORD = re.compile(r"s\d{4}[a-z_]*re\Z")
_PATIENT = re.compile(r"patient\d{3}\Z", re.IGNORECASE)
_LISTED = re.compile(r"(patient\d{3})/(\w+)\s*\Z")
_REASON = "reason for admission"
_KEPT = {
    "acute infarction (localization)": "acute_infarction",
    "former infarction (localization)": "former_infarction",
    "additional diagnoses": "additional_diagnoses",
    "smoker": "smoker",
}


@dataclass(frozen=True)
class PTBOptions:
    """Options of `ptb`.

    Attributes:
        task: "all" (14 reasons for admission), "superclass" (MI, NORM, CD, HYP), "mi" (infarction against healthy), or
            None for no labels.
        leads: 15 (with the Frank leads vx vy vz), or 12.
        seed: of the ten folds, drawn by patient.
        bad_records, correct_gain: as for the Challenges, for their copy of PTB.
        form: "original" or "challenge", where a folder holds both; None takes the one that is there.
    """

    task: str | None = "all"
    leads: int = 15
    seed: int = 0
    bad_records: str = "skip"
    correct_gain: bool = True
    form: str | None = None

    def __post_init__(self) -> None:
        check_form("ptb", self.form)
        if self.task is not None:
            check_choice("ptb: the task", self.task, TASKS)
        check_choice("ptb: leads", self.leads, (12, 15))
        check_choice("ptb: bad_records", self.bad_records, POLICIES)


class PTBCorpus(ChallengeCorpus):
    """549 records of 290 people."""

    facts = CorpusFacts(
        name="ptb",
        title="PTB Diagnostic ECG Database",
        summary="15-lead ECGs with a diagnosis, most of infarction or of healthy people",
        records="549 of 290 patients",
        leads="15 (12 and the Frank leads VX VY VZ)",
        sampling_rates="1000 Hz",
        duration="32 to 120 s",
        labels="reason for admission; tasks " + ", ".join(TASKS),
        split="none official; ten folds by patient with a seed, 10 test, 9 validation",
        licence="ODC-By 1.0",
        citation="Bousseljot et al., Biomed. Tech. 40 Suppl. 1 (1995) 317",
        homepage="https://physionet.org/content/ptbdb/",
        download="ptbdb 1.0.0",
        layout="patient001/s0010_re.hea, .dat and .xyz …, or the Challenges' copy S0001.hea and .mat …",
        notes=(
            "27 records of 22 people state no reason for admission: they carry no label.",
            "A copy without .xyz files gives the twelve leads, flagged frank_leads_missing.",
            "The Challenges' copy has 12 leads and has lost the patients.",
        ),
    )
    options_class = PTBOptions
    sources = ("ptb",)
    code_version = 4  # since then RECORDS tells the patients of a flat copy

    def plan(self) -> CorpusPlan:
        paths = [path for path in walk_files(self.data_dir, ".hea") if _RECORD.match(path.stem)]
        copies = (path for path in walk_files(self.data_dir, ".hea") if source_of(path.stem) == "ptb")
        form = chosen_form(self.options.form, next(iter(paths), None), next(copies, None), self.data_dir)
        if form != "original":
            return self._only_labelled(self.challenge_plan())
        flat = not all(_PATIENT.match(path.parent.name) for path in paths)
        lists = find_files(self.data_dir, ["RECORDS"]) if flat else []
        items, skipped, unknown = self._read_headers(paths, self._listed_patients(lists))
        if not items:
            raise self._nothing({}, skipped)
        items = assign_folds(items, self.options.seed)
        known = {item.patient_id for item in items if item.patient_id}
        notes = [note_of_count(len(items), RECORDS, "ptb"), f"{len(known)} patients, by the folders patient001 …"]
        missing = [item for item in items if "frank_leads_missing" in item.metadata.get("flags", [])]
        if missing:
            notes.append(f"{len(missing)} records lie here without their .xyz file: their twelve leads are read")
        if unknown:
            notes.append(f"reasons for admission outside the table, without a label: {dict(unknown)}")
        names = self.label_names()
        plan = CorpusPlan(split_by_folds(items), names, "multilabel" if names else "unlabelled", [], skipped, {}, notes)
        if alone := sum(item.patient_id is None for item in items):
            plan.warnings.append(
                f"{alone} records lie outside a folder patient001 … and no RECORDS names theirs: their patient is unknown, "
                "and one person may be in two parts"
            )
        if len(items) == RECORDS:
            published = {row["reason_for_admission"]: int(row["records"]) for row in packaged_table("ptb_diagnoses")}
            found = Counter(_published_name(item.metadata["diagnosis"]) for item in items)
            found["patients"] = len({item.patient_id for item in items})
            compare_counts(plan, found, {**published, "patients": PATIENTS}, "ptb")
        plan.files = [*lists, *(item.path.with_suffix(".xyz") for item in items if item.path)]
        return self._only_labelled(plan)

    def _read_headers(
        self, paths: list[Path], patients: dict[str, str]
    ) -> tuple[list[Item], list[tuple[str, str]], Counter[str]]:
        """Records, headers that cannot be read, and reasons for admission that the table does not have."""
        items, skipped, unknown = [], [], Counter[str]()
        for path in paths:
            try:
                comments = read_comments(path, self.data_dir, self.limits)
            except ECGDataError as error:
                skipped.append((path.stem, error.reason))
                continue
            reason = comments.other(_REASON)
            if reason.lower() not in reasons() and reason.lower() not in ("", "n/a"):
                unknown[reason] += 1
            items.append(self._own_item(path, comments, patients.get(path.stem)))
        return items, skipped, unknown

    def _listed_patients(self, lists: list[Path]) -> dict[str, str]:
        """Patients by record, as the publisher's list of paths has them: a flat copy has lost the folders."""
        texts = [read_bytes(path, self.limits.max_header_bytes, self.data_dir).decode("latin-1") for path in lists]
        found = filter(None, map(_LISTED.search, "\n".join(texts).splitlines()))
        return {match[2]: match[1] for match in found}

    def _own_item(self, path: Path, comments: HeaderComments, listed: str | None) -> Item:
        reason = comments.other(_REASON)
        patient = path.parent.name.lower() if _PATIENT.match(path.parent.name) else listed
        flags = [] if path.with_suffix(".xyz").exists() else ["frank_leads_missing"]
        metadata: dict[str, Any] = {"age": comments.age, "sex": comments.sex, "diagnosis": _stated(reason)}
        metadata |= {name: _stated(comments.other(key)) for key, name in _KEPT.items()}
        row = reasons().get(reason.lower())
        metadata["snomed"] = [row["snomed"]] if row and row["snomed"] else []
        if flags:
            metadata["flags"] = flags
        return Item(path.stem, path, patient, self._labels_of_reason(reason), None, metadata)

    def label_names(self) -> list[str]:
        if self.options.task is None:
            return []
        return sorted(
            {label for row in reasons().values() for label in self._labels_of_reason(row["reason_for_admission"])}
        )

    def labels_of(self, codes: Sequence[str]) -> tuple[str, ...]:
        """Labels of the Challenges' copy, where a code stands for one of the reasons."""
        by_code = {row["snomed"]: row["reason_for_admission"] for row in reasons().values() if row["snomed"]}
        found = [label for code in codes if code in by_code for label in self._labels_of_reason(by_code[code])]
        return tuple(sorted(set(found)))

    def _labels_of_reason(self, reason: str) -> tuple[str, ...]:
        row, task = reasons().get(reason.lower()), self.options.task
        if row is None or task is None:
            return ()
        if task == "all":
            return (row["reason_for_admission"],)
        label = row["superclass"]
        return (label,) if label and (task == "superclass" or label in ("MI", "NORM")) else ()

    def _only_labelled(self, plan: CorpusPlan) -> CorpusPlan:
        """Tasks of one class a record leave out the records without one, counted."""
        if self.options.task not in ("superclass", "mi"):
            return plan
        before = plan.num_items
        plan.splits = {part: [item for item in items if len(item.labels) == 1] for part, items in plan.splits.items()}
        if plan.num_items < before:
            plan.excluded[f"no label of the task {self.options.task}"] = before - plan.num_items
        plan.task_kind = "multiclass"
        return plan

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        if item.path.with_suffix(".mat").exists():
            yield from super().rows(item, plan)
            return
        all_files = self.options.leads == 15 and item.path.with_suffix(".xyz").exists()
        suffixes = (".dat", ".xyz") if all_files else (".dat",)
        digital = read_signal_files(item.path, self.data_dir, self.limits, suffixes)
        yield finished_row(digital, item, plan, "ptb")


@lru_cache(maxsize=1)
def reasons() -> dict[str, dict[str, str]]:
    """The reasons for admission in small letters, without `n/a`."""
    rows = packaged_table("ptb_diagnoses")
    return {row["reason_for_admission"].lower(): row for row in rows if row["reason_for_admission"] != "n/a"}


def _published_name(diagnosis: str | None) -> str:
    """A reason for admission as the table spells it."""
    row = reasons().get((diagnosis or "").lower())
    return diagnosis or "n/a" if row is None else row["reason_for_admission"]


def _stated(text: str) -> str | None:
    return None if text.lower() in ("", "n/a", "unknown") else text
