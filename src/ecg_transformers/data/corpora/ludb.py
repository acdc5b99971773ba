"""LUDB: the boundaries and peaks of P, QRS and T, marked in every lead on its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.errors import OptionError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.readers.wfdb.annotations import read_annotations
from ecg_transformers.data.record import standard_lead_name
from ecg_transformers.data.tables import number, read_table

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
        table_path = self.data_dir / "ludb.csv"
        table = {row["ID"]: row for row in read_table(table_path, ["ID", "Rhythms"])}
        numbers = sorted(int(path.stem) for path in (self.data_dir / "data").glob("*.hea") if path.stem.isdigit())
        if not numbers:
            raise RecordNotFoundError("the folder data/ holds no record of LUDB (1.hea, …).", path=self.data_dir)
        splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        skipped = []
        for record in numbers:
            row = table.get(str(record))
            if row is None:
                skipped.append((str(record), "not in ludb.csv"))
                continue
            fold = (record - 1) % NUM_FOLDS + 1
            part = {options.test_fold: "test", options.validation_fold: "validation"}.get(fold, "train")
            splits[part].append(self._item(record, row, fold, table_path))
        names = sorted({label for items in splits.values() for item in items for label in item.labels})
        names = names if options.task == "rhythm" else []
        kind = {"delineation": "delineation", "rhythm": "multilabel", None: "unlabelled"}[options.task]
        return CorpusPlan(splits, names, kind, [table_path, *sorted((self.data_dir / "data").iterdir())], skipped)

    def _item(self, record: int, row: dict[str, str], fold: int, table: Path) -> Item:
        rhythms = tuple(sorted({line.strip().rstrip(".") for line in row["Rhythms"].splitlines() if line.strip()}))
        metadata: dict[str, Any] = {
            "sex": {"M": "male", "F": "female"}.get(row.get("Sex", "")),
            "rhythms": list(rhythms),
        }
        age = row.get("Age", "").lstrip(">")
        metadata["age"] = number(age, "Age", table, record=str(record)) if age else None
        path = self.data_dir / "data" / f"{record}.hea"
        return Item(str(record), path, str(record), rhythms, fold, metadata)

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
        leads: list[str] = []
        samples: list[np.ndarray] = []
        symbols: list[np.ndarray] = []
        for lead in digital.lead_names:
            path = item.path.with_suffix(f".{lead.lower()}")
            marks = read_annotations(path, root=self.data_dir, record=item.record_id)
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
