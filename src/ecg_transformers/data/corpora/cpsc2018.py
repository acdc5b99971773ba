"""CPSC 2018, in the original layout (MATLAB structs and REFERENCE.csv) or as a part of the Challenges.

The copy in the Challenges sorts the codes of a record by class, so the *first* label, which the contest scored, is
lost there; REFERENCE.csv has it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.challenge import RECORDS_OF, ChallengeCorpus
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, leave_out_absent
from ecg_transformers.data.corpora.shared.folds import as_in_merl, check_protocol
from ecg_transformers.data.corpora.shared.forms import check_form, chosen_form
from ecg_transformers.data.corpora.shared.headers import HeaderComments
from ecg_transformers.data.corpora.shared.known import POLICIES
from ecg_transformers.data.corpora.shared.packaged import packaged_column
from ecg_transformers.data.corpora.shared.search import by_name, find_file, walk_files
from ecg_transformers.data.errors import DuplicateRecordError, LabelError, OptionError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.tables import first_bytes, first_cells, read_table

_NAME = re.compile(r"A\d{4}\Z")
_LABEL_COLUMNS = ("First_label", "Second_label", "Third_label")
CLASSES = ("NORM", "AF", "IAVB", "LBBB", "RBBB", "PAC", "PVC", "STD", "STE")


@dataclass(frozen=True)
class CPSC2018Options:
    """Options of `cpsc2018`.

    Attributes:
        task: "all" (nine classes, several a record), "first" (the first label only, as the contest scored; needs
            REFERENCE.csv), or None for no labels.
        protocol: "folds" (ten folds by label with a seed, copies together) or "merl_split" (the random split of Liu et al.,
            4,950 / 551 / 1,376).
        seed: of the folds.
        bad_records: "skip" or "keep", as for the Challenges.
        form: "original" or "challenge", where a folder holds both; None takes the one that is there.
    """

    task: str | None = "all"
    protocol: str = "folds"
    seed: int = 0
    bad_records: str = "skip"
    correct_gain: bool = True
    form: str | None = None

    def __post_init__(self) -> None:
        check_form("cpsc2018", self.form)
        if self.task is not None:
            check_choice("cpsc2018: the task", self.task, ("all", "first"))
        check_protocol("cpsc2018", self.protocol)
        check_choice("cpsc2018: bad_records", self.bad_records, POLICIES)


class CPSC2018Corpus(ChallengeCorpus):
    """The public training set of the China Physiological Signal Challenge 2018."""

    facts = CorpusFacts(
        name="cpsc2018",
        title="CPSC 2018",
        summary="12-lead ECGs of eleven hospitals with nine classes",
        records="6,877; no patient ids",
        leads="12",
        sampling_rates="500 Hz",
        duration="6 to 144 s",
        labels="9 classes, 476 records with several: " + ", ".join(CLASSES),
        split="none official; ten folds by label with a seed, 10 test, 9 validation; or protocol=merl_split",
        licence="CC BY 4.0",
        citation="Liu et al., J. Med. Imaging Health Inform. 8 (2018) 1368",
        homepage="http://2018.icbeb.org/Challenge.html",
        download="the Challenge 2021 (training/cpsc_2018); the links of the original contest are dead",
        layout="A0001.mat … with REFERENCE.csv (original), or A0001.hea and A0001.mat … (Challenges), at any depth",
        notes=(
            "The copy in the Challenges has lost the first label: task='first' needs REFERENCE.csv.",
            "250 groups of records are identical, most of them not public by id.",
        ),
    )
    options_class = CPSC2018Options
    sources = ("cpsc2018",)
    _numbers: dict[str, list[str]] = {}
    """Labels of REFERENCE.csv by record, where it lies beside the Challenge's copy."""

    def plan(self) -> CorpusPlan:
        reference = find_file(self.data_dir, ["REFERENCE.csv"], fits=self._is_ours)
        labels = {} if reference is None else self._reference(reference)
        header = next((path for path in walk_files(self.data_dir, ".hea") if _NAME.match(path.stem)), None)
        structs = [path for path in walk_files(self.data_dir, ".mat") if _is_original(path)]
        original = next((path for path in structs if header is None or _is_matlab_5(path, self.data_dir)), None)
        form = chosen_form(self.options.form, original, header, self.data_dir)
        if form == "challenge":
            self._numbers = labels
            if self.options.task == "first" and not labels:
                raise OptionError(
                    "cpsc2018: the first label is lost in the Challenge's copy (codes are sorted by class); put "
                    "REFERENCE.csv of the original beside it, or take task='all'.",
                )
            plan = self.challenge_plan()
        elif form == "original":
            plan = self._original_plan(by_name(structs), reference, labels)
        else:
            raise self._nothing({}, [])
        plan.files += [reference] if reference is not None else []
        return as_in_merl(plan, "split_cpsc2018_merl") if self.options.protocol == "merl_split" else plan

    def _is_ours(self, reference: Path) -> bool:
        """Whether a REFERENCE.csv is not that of the Challenge 2017, which has records of five digits and no headings."""
        return not re.match(r"A\d{5}\Z", next(iter(first_cells(reference, self.data_dir)), ""))

    def label_names(self) -> list[str]:
        return [] if self.options.task is None else list(CLASSES)

    def labels_of(self, codes: Sequence[str]) -> tuple[str, ...]:
        if self.options.task is None:
            return ()
        table = packaged_column("cpsc2018_classes", "snomed_in_challenge_header", "abbreviation")
        return tuple(sorted({table[code] for code in codes if code in table}))

    def item_of(self, path: Path, source: str, comments: HeaderComments) -> Item:
        item = super().item_of(path, source, comments)
        numbers = self._numbers.get(path.stem)
        if numbers is None and self.options.task == "first":
            raise LabelError("REFERENCE.csv does not name it: which label is the first is not known.", path=path)
        return item if numbers is None else self._with_numbers(item, numbers)

    def finish_plan(
        self, items: list[Item], skipped: list[tuple[str, str]], excluded: dict[str, int], unknown: Counter[str]
    ) -> CorpusPlan:
        plan = super().finish_plan(items, skipped, excluded, unknown)
        if self.options.task == "first":
            plan.task_kind = "multiclass"
        return plan

    def _original_plan(
        self, paths: dict[str, Path], reference: Path | None, labels: dict[str, list[str]]
    ) -> CorpusPlan:
        if reference is None:
            if self.options.task is not None:
                raise RecordNotFoundError(
                    "the records are here, but no REFERENCE.csv, which has the labels; task=None reads them without.",
                    path=self.data_dir,
                )
            items = [Item(name, path, metadata={"part": "cpsc2018"}) for name, path in paths.items()]
            plan = self.finish_plan(items, [], {}, Counter())
            plan.warnings.append("no REFERENCE.csv here: no labels")
            return plan
        skipped: list[tuple[str, str]] = []
        items = []
        for name, path in paths.items():
            if name not in labels:
                skipped.append((name, "not in REFERENCE.csv"))
                continue
            items.append(self._with_numbers(Item(name, path, metadata={"part": "cpsc2018"}), labels[name]))
        if not items:
            raise RecordNotFoundError(f"none of its {len(labels):,} records is here.", path=reference)
        plan = self.finish_plan(items, skipped, {}, Counter())
        leave_out_absent(plan, [name for name in labels if name not in paths], reference)
        if len(labels) == RECORDS_OF["cpsc2018"]:
            names = packaged_column("cpsc2018_classes", "number", "abbreviation")
            for which, chosen in (("first", slice(1)), ("any", slice(None))):
                published = packaged_column("cpsc2018_classes", "abbreviation", f"records_{which}_label")
                found = Counter(names[number] for numbers in labels.values() for number in set(numbers[chosen]))
                compare_counts(plan, found, {name: int(n) for name, n in published.items()}, f"cpsc2018, {which} label")
        return plan

    def _with_numbers(self, item: Item, numbers: list[str]) -> Item:
        """An item with the labels of REFERENCE.csv."""
        names = packaged_column("cpsc2018_classes", "number", "abbreviation")
        ordered = [names[number] for number in numbers]
        chosen = ordered[:1] if self.options.task == "first" else ordered
        metadata = {**item.metadata, "first_label": ordered[0], "reference_labels": ordered}
        labels = tuple(sorted(set(chosen))) if self.options.task is not None else ()
        return replace(item, labels=labels, metadata=metadata)

    def _reference(self, path: Path) -> dict[str, list[str]]:
        known = packaged_column("cpsc2018_classes", "number", "abbreviation")
        labels: dict[str, list[str]] = {}
        for row in read_table(path, ["Recording", "First_label"], root=self.data_dir, limits=self.limits):
            name = row["Recording"].removesuffix(".mat")
            numbers = [row[column].removesuffix(".0") for column in _LABEL_COLUMNS if row.get(column)]
            wrong = [number for number in numbers if number not in known]
            if wrong or not numbers:
                raise LabelError(f"the labels {numbers} are not numbers of 1 to 9.", path=path, record=name)
            if name in labels:
                raise DuplicateRecordError("REFERENCE.csv names this record twice.", path=path, record=name)
            labels[name] = numbers
        return labels

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        if item.path.suffix == ".hea":
            yield from super().rows(item, plan)
            return
        digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
        if digital.metadata.get("age", 0.0) < 0:
            digital.metadata.pop("age")
        yield finished_row(digital, item, plan, "cpsc2018")


def _is_original(path: Path) -> bool:
    """Whether a file is called as a record, and has no header as the Challenge's copies have."""
    return _NAME.match(path.stem) is not None and not path.with_suffix(".hea").exists()


def _is_matlab_5(path: Path, root: Path) -> bool:
    """The original's files; a signal file of the Challenge (MATLAB 4) may have lost its header."""
    return first_bytes(path, root).startswith(b"MATLAB 5")
