"""Apnea-ECG: one ECG lead through the night, with a label for every minute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item, every_fifth
from ecg_transformers.data.corpora.shared.finishing import note_of_count
from ecg_transformers.data.errors import AnnotationError, ECGDataError, OptionError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.readers.limits import read_bytes
from ecg_transformers.data.readers.wfdb.annotations import read_annotations

LEARNING = (
    *(f"a{n:02d}" for n in range(1, 21)),
    *(f"b{n:02d}" for n in range(1, 6)),
    *(f"c{n:02d}" for n in range(1, 11)),
)
TEST = tuple(f"x{n:02d}" for n in range(1, 36))
DUPLICATE = ("c06", "c05")
"""c06 is the same recording as c05, shifted by some 80 seconds."""

_TEST_LABELS = ("event-2-answers", "event-2-answers.txt")
_APNEA_MINUTES = 5  # fewer is the publishers' group C (normal)


@dataclass(frozen=True)
class ApneaECGOptions:
    """Options of `apnea_ecg`.

    Attributes:
        task: "minutes" (apnea or not in every minute), or None for no labels.
        window_minutes: None gives whole nights with `minute_labels`; an odd number gives one row per labelled minute,
            with as much context on both sides, labelled by its middle minute. Minutes without full context are left
            out.
        duplicates: "drop" leaves out c06, the second copy of c05; "keep" keeps both, as one patient in one part.
        validation_records: learning records held out; default every fifth that is there.
    """

    task: str | None = "minutes"
    window_minutes: int | None = None
    duplicates: str = "drop"
    validation_records: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("apnea_ecg: the task", self.task, ("minutes",))
        check_choice("apnea_ecg: duplicates", self.duplicates, ("drop", "keep"))
        if self.window_minutes is not None and (self.window_minutes < 1 or self.window_minutes % 2 == 0):
            raise OptionError(f"apnea_ecg: window_minutes {self.window_minutes} is not an odd number of minutes.")
        if self.validation_records is not None:
            given = tuple(str(record) for record in self.validation_records)
            wrong = [record for record in given if record not in LEARNING]
            if wrong:
                raise OptionError(f"apnea_ecg: the validation records {wrong} are not in the learning set.")
            object.__setattr__(self, "validation_records", given)


class ApneaECGCorpus(Corpus):
    """70 nights with a label for every minute."""

    facts = CorpusFacts(
        name="apnea_ecg",
        title="Apnea-ECG Database",
        summary="Single-lead night recordings with apnea marked in every minute",
        records="70 (35 learning, 35 test)",
        leads="1",
        sampling_rates="100 Hz",
        duration="7 to 10 hours",
        labels="apnea (includes hypopnea) per minute",
        split="official: a, b, c learning (every fifth record validation), x test",
        licence="ODC-By 1.0",
        citation="Penzel et al., The Apnea-ECG Database, Computers in Cardiology 27 (2000)",
        homepage="https://physionet.org/content/apnea-ecg/",
        download="apnea-ecg 1.0.0",
        layout="a01.hea, a01.dat, a01.apn, …, x35.hea and the test labels (x01.apn, … or event-2-answers)",
        notes=("c05 and c06 are one recording; c06 is left out by default.", "Polarity differs between records."),
    )
    options_class = ApneaECGOptions
    marker = tuple(f"{record}.hea" for record in (*LEARNING, *TEST))

    def plan(self) -> CorpusPlan:
        options: ApneaECGOptions = self.options
        present = {path.stem for path in self.data_dir.glob("*.hea")}
        learning = [record for record in LEARNING if record in present]
        test = [record for record in TEST if record in present]
        if not learning and not test:
            raise RecordNotFoundError("the folder holds no record of Apnea-ECG (a01.hea, …).", path=self.data_dir)
        excluded: dict[str, int] = {}
        if options.duplicates == "drop" and set(DUPLICATE) <= set(learning):
            learning.remove(DUPLICATE[0])
            excluded["c06 is the same recording as c05"] = 1
        held_out = set(options.validation_records or every_fifth(learning))
        if held_out & set(DUPLICATE):  # one recording never stands on two sides
            held_out |= set(DUPLICATE)
        files = [path for name in _TEST_LABELS if (path := self.data_dir / name).exists()]
        files += [self.data_dir / f"{record}.apn" for record in learning + test]
        splits = {
            "train": [self._item(record) for record in learning if record not in held_out],
            "validation": [self._item(record) for record in learning if record in held_out],
            "test": [self._item(record) for record in test],
        }
        notes = [note_of_count(len(present & {*LEARNING, *TEST}), len(LEARNING) + len(TEST), "apnea_ecg")]
        if not options.task:
            return CorpusPlan(splits, [], "unlabelled", files, [], excluded, notes)
        kind = "minutes" if options.window_minutes is None else "multilabel"
        return CorpusPlan(splits, ["apnea"], kind, files, [], excluded, notes)

    def _item(self, record: str) -> Item:
        patient = DUPLICATE[1] if record == DUPLICATE[0] else record
        return Item(record, self.data_dir / f"{record}.hea", patient_id=patient)

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
        digital = digital.with_(
            patient_id=item.patient_id,
            source="apnea_ecg",
            metadata={**digital.metadata, "group": item.record_id[0], "record": item.record_id},
        )
        if not plan.label_names:
            yield digital.with_(labels=[]).to_row(plan.label_names, plan.task_kind)
            return
        labels = self._minute_labels(item)
        minute = round(60 * digital.sampling_rate)
        labels = labels[: digital.samples.shape[0] // minute]
        if self.options.window_minutes is None:
            positive = ["apnea"] if int(labels.sum()) >= _APNEA_MINUTES else []
            whole = digital.with_(labels=positive, annotations={"minute_labels": labels})
            yield whole.to_row(plan.label_names, plan.task_kind)
            return
        side = self.options.window_minutes // 2
        for number in range(side, len(labels) - side):
            start = (number - side) * minute
            cut = digital.with_(
                samples=digital.samples[start : start + self.options.window_minutes * minute],
                record_id=f"{item.record_id}/{number:04d}",
                labels=["apnea"] if labels[number] else [],
                metadata={**digital.metadata, "minute": number},
            )
            yield cut.to_row(plan.label_names, plan.task_kind)

    def _minute_labels(self, item: Item) -> np.ndarray:
        """0/1 per minute, from the annotation file of the record or, for test records, the publishers' answers."""
        assert item.path is not None
        path = item.path.with_suffix(".apn")
        if path.exists():
            symbols = read_annotations(path, root=self.data_dir, record=item.record_id).symbols
            wrong = sorted(set(symbols.tolist()) - {"A", "N"})
            if wrong:
                raise AnnotationError(f"the marks {wrong} are neither A nor N.", path=path, record=item.record_id)
            return (symbols == "A").astype(np.int8)
        for name in _TEST_LABELS:
            if (self.data_dir / name).exists():
                answers = read_answers(self.data_dir / name)
                if item.record_id in answers:
                    return answers[item.record_id]
        raise ECGDataError(
            f"there are no minute labels: {path.name} or event-2-answers is needed "
            "(task=None reads the signals alone).",
            path=path,
            record=item.record_id,
        )


def read_answers(path: Path) -> dict[str, np.ndarray]:
    """The publishers' test labels: a record name on a line, then lines with an hour number and letters A and N."""
    text = read_bytes(path, 2**20).decode("ascii", errors="replace")
    answers: dict[str, str] = {}
    current = None
    for line in text.splitlines():
        name = re.match(r"\s*(x\d\d)\b\s*(.*)", line)
        if name:
            current, line = name[1], name[2]
            answers[current] = ""
        letters = re.sub(r"[^AN]", "", re.sub(r"^\s*\d+", "", line))
        if current is not None and re.fullmatch(r"[\sAN\d]*", line):
            answers[current] += letters
    return {
        record: np.array([letter == "A" for letter in letters], dtype=np.int8) for record, letters in answers.items()
    }
