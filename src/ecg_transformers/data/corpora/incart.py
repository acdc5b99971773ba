"""St Petersburg INCART: half-hour extracts of Holter records in 12 leads, every beat annotated, several a patient."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.beats import marks_of, windows_with_beats
from ecg_transformers.data.corpora.shared.challenge import ChallengeCorpus, source_of
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, note_of_count
from ecg_transformers.data.corpora.shared.folds import assign_folds, split_by_folds
from ecg_transformers.data.corpora.shared.forms import check_form, chosen_form
from ecg_transformers.data.corpora.shared.headers import HeaderComments, age_in_years, sex_of
from ecg_transformers.data.corpora.shared.known import POLICIES, apply_known, known_records
from ecg_transformers.data.corpora.shared.packaged import packaged_column, packaged_table
from ecg_transformers.data.corpora.shared.search import walk_files
from ecg_transformers.data.errors import ECGDataError, OptionError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.readers.limits import read_bytes

RECORDS, PATIENTS = 75, 32
AAMI_CLASSES = ("F", "N", "Q", "S", "V")
_RECORD = re.compile(r"I\d{2}\Z")
_AGE = re.compile(r"<age>:\s*([^\s<]+)")
_SEX = re.compile(r"<sex>:\s*([A-Za-z]+)")
_DIAGNOSES = re.compile(r"<diagnoses>\s*(.*)")
_PATIENT = re.compile(r"patient\s+(\d+)\s*\Z")


@dataclass(frozen=True)
class INCARTOptions:
    """Options of `incart`.

    Attributes:
        task: "beats" (AAMI class of each beat), or None for no labels.
        window_s: cut the half hours into consecutive windows of this many seconds; None keeps them whole.
        seed: of the ten folds, drawn by patient.
        bad_records: "skip_all" leaves out the records with a lead at the rail; "skip" and "keep" keep them, flagged.
        correct_gain: as for the Challenges, for their copy.
        form: "original" or "challenge", where a folder holds both; None takes the one that is there.
    """

    task: str | None = "beats"
    window_s: float | None = None
    seed: int = 0
    bad_records: str = "skip"
    correct_gain: bool = True
    form: str | None = None

    def __post_init__(self) -> None:
        check_form("incart", self.form)
        if self.task is not None:
            check_choice("incart: the task", self.task, ("beats",))
        check_choice("incart: bad_records", self.bad_records, POLICIES)
        if self.window_s is not None and not 1 <= self.window_s <= 1800:
            raise OptionError(f"incart: window_s {self.window_s} lies outside 1 to 1800 seconds.")


class INCARTCorpus(ChallengeCorpus):
    """75 half-hour records of 32 people."""

    facts = CorpusFacts(
        name="incart",
        title="St Petersburg INCART 12-lead Arrhythmia Database",
        summary="Half-hour Holter extracts in 12 leads with a label for every beat",
        records="75 of 32 patients",
        leads="12",
        sampling_rates="257 Hz",
        duration="30 min",
        labels="beat classes N S V F Q (AAMI)",
        split="none official; ten folds by patient with a seed, 10 test, 9 validation",
        licence="ODC-By 1.0",
        citation="Tihonenko et al., St Petersburg INCART 12-lead Arrhythmia Database, PhysioNet (2008)",
        homepage="https://physionet.org/content/incartdb/",
        download="incartdb 1.0.0",
        layout="I01.hea, I01.dat, I01.atr …, or the Challenges' copy I0001.hea and .mat … (without beats)",
        notes=(
            "The gain differs by record (240 to 1063 per mV).",
            "Beat classes were corrected by hand, positions are those of the automatic detector.",
            "Four records have a lead at the 16-bit rail: kept for their beats and other leads, flagged known_lead.",
        ),
    )
    options_class = INCARTOptions
    sources = ("incart",)

    def plan(self) -> CorpusPlan:
        paths = [path for path in walk_files(self.data_dir, ".hea") if _RECORD.match(path.stem)]
        copies = (path for path in walk_files(self.data_dir, ".hea") if source_of(path.stem) == "incart")
        form = chosen_form(self.options.form, next(iter(paths), None), next(copies, None), self.data_dir)
        if form != "original":
            return self._challenge_copy()
        items, skipped = [], []
        for path in paths:
            try:
                content = read_bytes(path, self.limits.max_header_bytes, self.data_dir)
            except ECGDataError as error:
                skipped.append((path.stem, error.reason))
                continue
            items.append(self._own_item(path, content.decode("utf-8-sig", errors="replace").splitlines()))
        if not items:
            raise self._nothing({}, skipped)
        items, excluded, notes = apply_known(items, known_records("incart"), self.options.bad_records)
        items = assign_folds(items, self.options.seed)
        patients = {item.patient_id for item in items}
        notes = [note_of_count(len(paths), RECORDS, "incart"), f"{len(patients)} patients, by the comments", *notes]
        names = list(AAMI_CLASSES) if self.options.task else []
        plan = CorpusPlan(
            split_by_folds(items), names, "beats" if names else "unlabelled", [], skipped, excluded, notes
        )
        if len(paths) == RECORDS:
            published = {f"beats {row['symbol']}": int(row["count"]) for row in packaged_table("incart_beats")}
            found = {**self._beat_counts(items), "patients": len(patients)}
            compare_counts(plan, found, {**published, "patients": PATIENTS}, "incart")
        plan.files = [item.path.with_suffix(".atr") for item in items if item.path]
        return plan

    def _beat_counts(self, items: Sequence[Item]) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for item in items:
            with contextlib.suppress(ECGDataError):  # who reads the record says why
                counts.update(marks_of(item, self.data_dir, needed=False).symbols.tolist())
        return {f"beats {symbol}": count for symbol, count in counts.items()}

    def _own_item(self, path: Path, lines: list[str]) -> Item:
        comments = [line.strip().lstrip("#").strip() for line in lines if line.strip().startswith("#")]
        text = "\n".join(comments)
        patients = [match[1] for comment in comments if (match := _PATIENT.match(comment))]
        age, sex, diagnoses = _AGE.search(text), _SEX.search(text), _DIAGNOSES.search(text)
        metadata: dict[str, Any] = {
            "age": age_in_years(age[1]) if age else None,
            "sex": sex_of(sex[1]) if sex else None,
            "diagnoses": diagnoses[1].strip() if diagnoses else None,
            "remarks": "; ".join(c for c in comments if c and "<age>" not in c and not _PATIENT.match(c)),
        }
        table = packaged_column("incart_records", "record", "patient")
        return Item(path.stem, path, patients[0] if patients else table.get(path.stem), (), None, metadata)

    def _challenge_copy(self) -> CorpusPlan:
        """Records without beats, but their patients are known by the numbers."""
        plan = self.challenge_plan()
        plan.task_kind = "unlabelled"
        plan.notes.append("the Challenges' copy has no beat marks: the records carry no labels")
        return plan

    def item_of(self, path: Path, source: str, comments: HeaderComments) -> Item:
        return replace(super().item_of(path, source, comments), labels=())

    def patient_of(self, name: str) -> str | None:
        return packaged_column("incart_records", "challenge_record", "patient").get(name)

    def label_names(self) -> list[str]:
        return []

    def labels_of(self, codes: Sequence[str]) -> tuple[str, ...]:
        return ()

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        if item.path.with_suffix(".mat").exists():
            yield from super().rows(item, plan)
            return
        digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
        marks = marks_of(item, self.data_dir, needed=bool(plan.label_names))
        rhythms = [[int(s), n] for s, y, n in zip(marks.samples, marks.symbols, marks.notes) if y == "+"]
        digital.metadata |= {"rhythm_marks": rhythms} if rhythms else {}
        for cut in windows_with_beats(digital, marks, aami_of_symbol(), item, self.options.window_s):
            labels = tuple(cut.labels or ()) if plan.label_names else ()
            own = Item(cut.record_id, item.path, item.patient_id, labels, item.fold, item.metadata)
            yield finished_row(cut, own, plan, "incart")


def aami_of_symbol() -> dict[str, str]:
    """The class of every symbol that is a beat."""
    return {row["symbol"]: row["aami"] for row in packaged_table("incart_beats") if row["aami"]}
