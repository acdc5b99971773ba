"""What the corpora of the Challenges of 2020 and 2021 share: sources by letter, labels, gains, parts.

The editions (`cinc2020`, `cinc2021`) and their single parts (`georgia`, `ningbo`, …) are this class with other sources.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ecg_transformers.data.corpora.base import Corpus, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.copies import copies_by_header
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, note_of_count
from ecg_transformers.data.corpora.shared.folds import assign_folds, split_by_folds
from ecg_transformers.data.corpora.shared.headers import HeaderComments, read_challenge_record, read_comments
from ecg_transformers.data.corpora.shared.known import (
    POLICIES,
    KnownRecord,
    apply_known,
    copies_of,
    known_records,
    sentence_of_known,
    withdrawn_ptb_xl,
)
from ecg_transformers.data.corpora.shared.search import some_of, walk_files
from ecg_transformers.data.corpora.shared.snomed import (
    TASKS,
    label_names_of,
    labels_of_codes,
    snomed_rows,
    unknown_codes,
)
from ecg_transformers.data.errors import ECGDataError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.record import DigitalRecord

FIRST_OF_NINGBO = 10647
RECORDS_OF = {
    "cpsc2018": 6877,
    "cpsc_extra": 3453,
    "incart": 74,
    "ptb": 516,
    "ptb_xl": 21837,
    "georgia": 10344,
    "chapman": 10247,
    "ningbo": 34905,
}
WRONG_GAINS = {"ptb": 2_000_000.0, "ptb_xl": 200.0, "georgia": 4880.0}
"""Units per millivolt that the first edition of 2020 states; right is 1000 in all three."""

_KNOWN_AS = {"incart": ("cinc2021_incart",), "ptb": (), "ptb_xl": ()}
_LETTERS = re.compile(r"(A|Q|I|S)(\d{4})\Z|(HR|E|JS)(\d{5})\Z")
_OF_LETTERS = {"A": "cpsc2018", "Q": "cpsc_extra", "I": "incart", "S": "ptb", "HR": "ptb_xl", "E": "georgia"}
NO_PATIENTS = "no patient ids in this copy: parts are drawn by record, copies of a recording stay together"
SOME_PATIENTS = "without patient ids in this copy: their parts are drawn by record, copies of a recording stay together"


def source_of(name: str) -> str | None:
    """The source of a record by its letters (and of JS by the number); None for what is no record."""
    match = _LETTERS.match(name)
    if match is None:
        return None
    if match[3] == "JS":
        return "chapman" if int(match[4]) < FIRST_OF_NINGBO else "ningbo"
    return _OF_LETTERS[match[1] or match[3]]


@dataclass(frozen=True)
class ChallengeOptions:
    """Options of all corpora in the form of the Challenges.

    Attributes:
        task: "all" (every code of the table, by abbreviation), "scored" (classes of the metric, equivalent codes as
            one), "superclass", or None for no labels.
        bad_records: "skip" leaves out, and counts, the records that public sources name as bad: signals damaged or
            missing, copies of other records, withdrawn ones; "skip_all" also records of which one lead is bad (INCART);
            "keep" keeps all, with a flag.
        correct_gain: put the wrong gains of the first edition of 2020 right (1000 per millivolt).
        seed: of the ten folds.
    """

    task: str | None = "all"
    bad_records: str = "skip"
    correct_gain: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("the task", self.task, TASKS)
        check_choice("bad_records", self.bad_records, POLICIES)


class ChallengeCorpus(Corpus):
    """Records of some sources of the Challenges, wherever they lie below the folder."""

    options_class: ClassVar[type] = ChallengeOptions
    edition: ClassVar[int] = 2021
    sources: ClassVar[tuple[str, ...]] = ()
    code_version: ClassVar[int] = 3  # since then copies that the headers tell are in one part

    @classmethod
    def about_known_records(cls) -> str:
        return sentence_of_known(known_of_sources(cls.sources))

    def wanted_sources(self) -> tuple[str, ...]:
        """The sources that are read; an edition has options for them."""
        return self.sources

    def label_names(self) -> list[str]:
        return label_names_of(self.options.task, self.edition)

    def labels_of(self, codes: Sequence[str]) -> tuple[str, ...]:
        return labels_of_codes(codes, self.options.task, self.edition)

    def unknown_codes(self, codes: Sequence[str]) -> list[str]:
        """Codes without any label: they are listed in the report and kept in the metadata."""
        return unknown_codes(codes)

    def plan(self) -> CorpusPlan:
        return self.challenge_plan()

    def challenge_plan(self) -> CorpusPlan:
        """The plan of a folder with headers of the Challenges."""
        found, others, without_header = find_challenge_headers(self.data_dir)
        wanted = self.wanted_sources()
        items, skipped, unknown = [], [], Counter[str]()
        for source in wanted:
            for path in found.get(source, []):
                try:
                    comments = read_comments(path, self.data_dir, self.limits)
                    items.append(self.item_of(path, source, comments))
                except ECGDataError as error:
                    skipped.append((path.stem, error.reason))
                    continue
                unknown.update(self.unknown_codes(comments.codes))
        if not items:
            raise self._nothing(found, skipped)
        excluded = {f"records of {name}": len(paths) for name, paths in found.items() if name not in wanted}
        if others:
            excluded[f"headers that are no record of the Challenge ({some_of(others)})"] = len(others)
        plan = self.finish_plan(items, skipped, excluded, unknown)
        orphans = [path.name for path in without_header if source_of(path.stem) in wanted]
        if orphans:
            plan.warnings.append(
                f"{len(orphans):,} signal files have no header and were left alone ({some_of(orphans, 3)})"
            )
        return plan

    def finish_plan(
        self,
        items: list[Item],
        skipped: list[tuple[str, str]],
        excluded: dict[str, int],
        unknown: Counter[str],
    ) -> CorpusPlan:
        """Known records, folds and the sentences of the report."""
        options: ChallengeOptions = self.options
        counts = Counter(item.metadata["part"] for item in items)
        known = known_of_sources(counts)
        whole = {
            source: code_counts(items, source) for source in sorted(counts) if counts[source] == RECORDS_OF[source]
        }
        items, left_out, notes = apply_known(items, known, options.bad_records)
        pairs = copies_by_header(items)
        items = [replace(item, hints={}) for item in items]  # the sums have done their work
        items = assign_folds(items, options.seed, [*copies_of(known), *pairs])
        if pairs:
            examples = some_of((" = ".join(pair) for pair in pairs), 3)
            notes.append(
                f"{len(pairs)} records repeat another one's leads, by their headers: kept in one part ({examples})"
            )
        notes = [*notes_of_counts(counts), *notes, *_about_patients(items), *self._notes(counts)]
        if unknown:
            listed = ", ".join(f"{code} ({count})" for code, count in unknown.most_common(20))
            notes.append(f"codes without a label here, kept in metadata['snomed']: {listed}")
        names = self.label_names()
        plan = CorpusPlan(
            splits=split_by_folds(items),
            label_names=names,
            task_kind="multilabel" if names else "unlabelled",
            skipped=skipped,
            excluded={**excluded, **left_out},
            notes=notes,
        )
        for source, found in whole.items():
            if found:  # the original of CPSC 2018 has no codes
                published = {row["abbreviation"]: int(row[source]) for row in snomed_rows().values()}
                compare_counts(plan, found, published, source)
        return plan

    def item_of(self, path: Path, source: str, comments: HeaderComments) -> Item:
        metadata: dict[str, Any] = {"age": comments.age, "sex": comments.sex, "part": source}
        metadata["snomed"] = list(comments.codes)
        if comments.age_over_89:
            metadata["age_over_89"] = True
        if source == "ningbo" and comments.age == 0:  # a placeholder there
            metadata["age"] = None
        labels, hints = self.labels_of(comments.codes), {"lead_sums": comments.lead_sums}
        return Item(path.stem, path, self.patient_of(path.stem), labels, None, metadata, hints)

    def patient_of(self, name: str) -> str | None:
        """Whose record it is, where another source than the header says so."""
        return None

    def _notes(self, counts: Counter[str]) -> list[str]:
        notes: list[str] = []
        doubles = {"ptb_xl": "PTB-XL", "ptb": "PTB", "cpsc2018": "CPSC 2018", "chapman": "Chapman", "incart": "INCART"}
        again = [title for source, title in doubles.items() if counts.get(source)]
        if again and len(self.wanted_sources()) > 1:
            notes.append(
                f"the sources {', '.join(again)} also occur as corpora of their own: pre-training here and testing "
                "there leaks (`exclude=` leaves sources out, `ecg-transformers overlap` finds the records)"
            )
        return notes

    def _nothing(self, found: dict[str, list[Path]], skipped: list[tuple[str, str]]) -> ECGDataError:
        if skipped:
            return ECGDataError(
                f"none of the {len(skipped)} headers can be read; the first is {skipped[0][0]}: {skipped[0][1]}",
                path=self.data_dir,
            )
        held = f"; the folder has records of {', '.join(sorted(found))}" if found else ""
        return RecordNotFoundError(
            f"no record of {', '.join(self.wanted_sources())} here{held}; expected is {self.facts.layout}.",
            path=self.data_dir,
        )

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        digital = read_challenge_record(item.path, self.data_dir, self.limits)
        if self.options.correct_gain:
            digital = correct_gain(digital, item.metadata["part"])
        yield finished_row(digital, item, plan, self.facts.name)


def _about_patients(items: Sequence[Item]) -> list[str]:
    """Which records have no patient; a sentence a source of the others where there are such."""
    unknown = [item for item in items if item.patient_id is None]
    if len(unknown) == len(items):
        return [NO_PATIENTS]
    known = Counter(item.metadata["part"] for item in items if item.patient_id is not None)
    people = {part: len({i.patient_id for i in items if i.patient_id and i.metadata["part"] == part}) for part in known}
    notes = [f"{count:,} records of {part} are of {people[part]:,} patients" for part, count in sorted(known.items())]
    return [*notes, f"{len(unknown):,} records {SOME_PATIENTS}"] if unknown else notes


def find_challenge_headers(root: Path) -> tuple[dict[str, list[Path]], list[str], list[Path]]:
    """Headers below a folder by source, names of headers that fit none, and signal files without a header."""
    found: dict[str, list[Path]] = {}
    others: list[str] = []
    signals: list[Path] = []
    headers: set[Path] = set()
    for path in walk_files(root, (".hea", ".mat")):
        source = source_of(path.stem)
        if path.suffix.lower() == ".mat":
            signals.append(path)
            continue
        headers.add(path.with_suffix(""))
        if source is None:
            others.append(path.name)
        else:
            found.setdefault(source, []).append(path)
    return found, others, [path for path in signals if path.with_suffix("") not in headers]


def known_of_sources(sources: Sequence[str] | Counter[str]) -> dict[str, list[KnownRecord]]:
    """Known records of some sources, as the Challenges name them."""
    names = [name for source in sources for name in _KNOWN_AS.get(source, (source,))]
    known = known_records(*names, *(["ecg_arrhythmia"] if {"chapman", "ningbo"} & set(sources) else []))
    return {**known, **(withdrawn_ptb_xl() if "ptb_xl" in sources else {})}


def notes_of_counts(counts: Counter[str]) -> list[str]:
    """A sentence a source: complete, or how many records of how many."""
    notes = []
    for source, count in sorted(counts.items()):
        whole = RECORDS_OF[source]
        notes.append(note_of_count(count, whole, source))
    return notes


def correct_gain(digital: DigitalRecord, source: str) -> DigitalRecord:
    """The samples of the first edition of 2020 are microvolts, whatever its headers say."""
    wrong = WRONG_GAINS.get(source)
    if wrong is None or not (digital.gain == wrong).all():
        return digital
    flags = [*digital.metadata.get("flags", []), "gain_corrected"]
    return digital.with_(gain=digital.gain * 0 + 1000.0, metadata={**digital.metadata, "flags": sorted(flags)})


def code_counts(items: Sequence[Item], source: str) -> Counter[str]:
    """How often each code of the table occurs in a source, by its abbreviation; empty where the records have no codes."""
    rows = snomed_rows()
    return Counter(
        rows[code]["abbreviation"]
        for item in items
        if item.metadata["part"] == source
        for code in item.metadata.get("snomed", ())
        if code in rows
    )
