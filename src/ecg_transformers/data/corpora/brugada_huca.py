"""Brugada-HUCA: one 12 s record each of 363 people who were investigated for Brugada syndrome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, leave_out_absent, note_of_count
from ecg_transformers.data.corpora.shared.folds import assign_folds, split_by_folds
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import by_name, need_file, walk_files
from ecg_transformers.data.errors import DuplicateRecordError, LabelError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.tables import read_table

RECORDS = 363
CLASSES = {"0": "not diagnosed", "1": "Brugada", "2": "other or atypical"}


@dataclass(frozen=True)
class BrugadaHUCAOptions:
    """Options of `brugada_huca`.

    Attributes:
        task: "all" (three classes), "binary" (Brugada against not diagnosed; the seven atypical ones are left out), or
            None for no labels.
        seed: of the ten folds.
    """

    task: str | None = "all"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("brugada_huca: the task", self.task, ("all", "binary"))


class BrugadaHUCACorpus(Corpus):
    """363 people, 69 of them with Brugada syndrome."""

    facts = CorpusFacts(
        name="brugada_huca",
        title="Brugada-HUCA",
        summary="12-lead ECGs of people investigated for Brugada syndrome",
        records="363 of 363 patients",
        leads="12",
        sampling_rates="100 Hz",
        duration="12 s",
        labels="not diagnosed (287), Brugada (69), other or atypical (7); tasks all, binary",
        split="none official; ten folds by label with a seed, 10 test, 9 validation",
        licence="CC BY-SA 4.0",
        citation="Brugada-HUCA 1.0.0, PhysioNet (Hospital Universitario Central de Asturias)",
        homepage="https://physionet.org/content/brugada-huca/",
        download="brugada-huca 1.0.0",
        layout="metadata.csv and files/<id>/<id>.hea and .dat",
        notes=("RECORDS names 596382 twice: the table is read, not RECORDS.",),
    )
    options_class = BrugadaHUCAOptions

    def plan(self) -> CorpusPlan:
        columns = ["patient_id", "basal_pattern", "sudden_death", "brugada"]
        table = need_file(self.data_dir, ["metadata.csv"], self.facts.layout, columns)
        rows = read_table(table, columns, root=self.data_dir, limits=self.limits)
        headers = list(walk_files(self.data_dir, ".hea"))
        beside = [path for path in headers if path.is_relative_to(table.parent)]
        listed = {row["patient_id"].removesuffix(".0") for row in rows}
        elsewhere = [path for path in headers if path.stem in listed]  # a folder of many corpora holds those of others
        paths = by_name(dict.fromkeys([*beside, *elsewhere] if beside else headers))
        items, absent, atypical = self._items(rows, paths, table)
        if not items and not atypical:
            raise RecordNotFoundError(f"none of its {len(rows)} people has a record here.", path=table)
        skipped = [(name, "not in metadata.csv") for name in paths if name not in listed]
        items = assign_folds(items, self.options.seed)
        names = {"all": list(CLASSES.values()), "binary": list(CLASSES.values())[:2], None: []}[self.options.task]
        plan = CorpusPlan(
            split_by_folds(items),
            names,
            "multiclass" if names else "unlabelled",
            [table],
            skipped,
            {"other or atypical, left out of the binary task": atypical} if atypical else {},
            [note_of_count(len(items) + atypical, RECORDS, "brugada_huca")],
        )
        leave_out_absent(plan, absent, table)
        if len(rows) == RECORDS:
            published = {f"{r['column']} {r['value']}": int(r["records"]) for r in packaged_table("brugada_labels")}
            cells = Counter(f"{name} {row[name].removesuffix('.0')}" for row in rows for name in columns[1:])
            compare_counts(plan, cells, published, "brugada_huca")
        return plan

    def _items(
        self, rows: list[dict[str, str]], paths: Mapping[str, Path], table: Path
    ) -> tuple[list[Item], list[str], int]:
        """The people of the table whose record is here, those whose is not, and how many are atypical and left out."""
        items: list[Item] = []
        absent: list[str] = []
        atypical = 0
        seen: set[str] = set()
        for row in rows:
            name = row["patient_id"].removesuffix(".0")
            if name in seen:
                raise DuplicateRecordError("metadata.csv names this person twice.", path=table, record=name)
            seen.add(name)
            value = row["brugada"].removesuffix(".0")
            if value not in CLASSES:
                raise LabelError(f"brugada is {row['brugada']!r}, not 0, 1 or 2.", path=table, record=name)
            if name not in paths:
                absent.append(name)
            elif self.options.task == "binary" and value == "2":
                atypical += 1
            else:
                labels = (CLASSES[value],) if self.options.task else ()
                metadata = {key: row[key].removesuffix(".0") == "1" for key in ("basal_pattern", "sudden_death")}
                items.append(Item(name, paths[name], name, labels, None, {**metadata, "brugada": int(value)}))
        return items, absent, atypical

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        yield finished_row(read_digital(item.path, root=self.data_dir, limits=self.limits), item, plan, "brugada_huca")
