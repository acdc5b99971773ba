"""LUDB: the boundaries and peaks of P, QRS and T, marked in every lead on its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.finishing import note_of_count
from ecg_transformers.data.corpora.shared.search import by_name, find_file, walk_files
from ecg_transformers.data.errors import AnnotationError, OptionError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.readers.wfdb.annotations import Annotations, read_annotations
from ecg_transformers.data.readers.wfdb.header import read_header
from ecg_transformers.data.record import standard_lead_name
from ecg_transformers.data.tables import number, read_table

RECORDS = 200
NUM_FOLDS = 5


@dataclass(frozen=True)
class LUDBOptions:
    """Options of `ludb`.

    Attributes:
        task: "delineation" (wave marks per lead), "rhythm" (labels from the table), or None.
        test_fold, validation_fold: two of the five folds (by record; one record per person).
    """

    task: str | None = "delineation"
    test_fold: int = 5
    validation_fold: int = 4

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("ludb: the task", self.task, ("delineation", "rhythm"))
        folds = (self.test_fold, self.validation_fold)
        if folds[0] == folds[1] or not all(1 <= fold <= NUM_FOLDS for fold in folds):
            raise OptionError(
                f"ludb: test_fold and validation_fold {folds} are not two different folds of 1 to {NUM_FOLDS}."
            )


class LUDBCorpus(Corpus):
    """200 people, 12 leads, every wave delineated in every lead."""

    facts = CorpusFacts(
        name="ludb",
        title="LUDB",
        summary="12-lead ECGs with the boundaries and peaks of P, QRS and T in every lead",
        records="200 of 200 people",
        leads="12",
        sampling_rates="500 Hz",
        duration="10 s",
        labels="wave marks per lead; rhythms",
        split="none official; five folds by record number, 5 test and 4 validation",
        licence="ODC-By 1.0",
        citation="Kalyakulina et al., LUDB: a new open-access validation tool for ECG delineation algorithms, "
        "IEEE Access 8 (2020)",
        homepage="https://physionet.org/content/ludb/",
        download="ludb 1.0.1",
        layout="ludb.csv and data/1.hea, data/1.i, …",
        notes=(
            "The first and last beats are not annotated: score only between the first and last mark of a lead.",
            "Every lead is scaled to 1 mV from its lowest to its highest sample: these are no real millivolts, "
            "Einthoven's law does not hold between leads, and joint normalisation over leads means nothing.",
        ),
    )
    options_class = LUDBOptions
    marker = ("ludb.csv",)

    def plan(self) -> CorpusPlan:
        options: LUDBOptions = self.options
        table_path = find_file(self.data_dir, self.marker, depth=0) or self.data_dir / self.marker[0]
        here = table_path.exists()
        table = {row["ID"]: row for row in read_table(table_path, ["ID", "Rhythms"])} if here else {}
        paths = by_name(path for path in walk_files(self.data_dir, ".hea") if path.stem in table or _is_record(path))
        if not paths:
            raise RecordNotFoundError("no record of LUDB here (data/1.hea with 1.i, 1.ii, …).", path=self.data_dir)
        splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        skipped = []
        for record in sorted(map(int, paths)):
            path = paths[str(record)]
            row = table.get(str(record)) if here else self._row_of_header(path)
            if row is None:
                skipped.append((str(record), "not in ludb.csv"))
                continue
            fold = (record - 1) % NUM_FOLDS + 1
            part = {options.test_fold: "test", options.validation_fold: "validation"}.get(fold, "train")
            splits[part].append(self._item(path, row, fold, table_path if here else path))
        names = sorted({label for items in splits.values() for item in items for label in item.labels})
        names = names if options.task == "rhythm" else []
        kind = {"delineation": "delineation", "rhythm": "multilabel", None: "unlabelled"}[options.task]
        files = [table_path] if here else []
        for folder in sorted({path.parent for path in paths.values()}):
            files += sorted(path for path in folder.iterdir() if path.is_file())
        plan = CorpusPlan(splits, names, kind, files, skipped)
        plan.notes.append(note_of_count(plan.num_items, RECORDS, "ludb"))
        if not here:
            plan.warnings.append("no ludb.csv here: ages, sexes and rhythms are those of the headers")
        return plan

    def _row_of_header(self, path: Path) -> dict[str, str]:
        """What the table says of a record, from the comments of its header: `<age>: 51`, `<sex>: F`, `Rhythm: …`."""
        row = {"Rhythms": ""}
        for comment in read_header(path, self.limits, self.data_dir).comments:
            key, _, value = comment.partition(":")
            column = {"<age>": "Age", "<sex>": "Sex", "Rhythm": "Rhythms"}.get(key.strip())
            if column is not None:
                row[column] = value.strip()
        return row

    def _item(self, path: Path, row: dict[str, str], fold: int, table: Path) -> Item:
        record = path.stem
        rhythms = tuple(sorted({line.strip().rstrip(".") for line in row["Rhythms"].splitlines() if line.strip()}))
        metadata: dict[str, Any] = {
            "sex": {"M": "male", "F": "female"}.get(row.get("Sex", "")),
            "rhythms": list(rhythms),
        }
        age = row.get("Age", "").lstrip(">")
        metadata["age"] = number(age, "Age", table, record=record) if age else None
        return Item(record, path, record, rhythms, fold, metadata)

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
        leads: list[str] = []
        samples: list[np.ndarray] = []
        symbols: list[np.ndarray] = []
        for lead in digital.lead_names:
            marks = self._marks(item.path.with_suffix(f".{lead.lower()}"), item.record_id, digital.samples.shape[0])
            leads += [standard_lead_name(lead)] * len(marks)
            samples.append(marks.samples)
            symbols.append(marks.symbols)
        record = digital.with_(
            record_id=item.record_id,
            patient_id=item.patient_id,
            labels=list(item.labels) if plan.label_names else [],
            source="ludb",
            metadata={**digital.metadata, **item.metadata},
            annotations={
                "wave_leads": np.array(leads, dtype=object),
                "wave_samples": np.concatenate(samples),
                "wave_symbols": np.concatenate(symbols),
            },
        )
        yield record.to_row(plan.label_names, plan.task_kind, fold=item.fold)

    def _marks(self, path: Path, record: str, length: int) -> Annotations:
        marks = read_annotations(path, root=self.data_dir, record=record)
        if len(marks) and (last := marks.samples.max()) >= length:
            raise AnnotationError(
                f"a mark stands at sample {last}, behind the end of the record ({length} samples): the file is damaged, or "
                "belongs to another record.",
                path=path,
                record=record,
            )
        return marks


def _is_record(path: Path) -> bool:
    """A header of a number, with the marks of its leads beside, which no other corpus has."""
    return path.stem.isdigit() and any(path.with_suffix(f".{lead}").exists() for lead in ("i", "ii", "v1"))
