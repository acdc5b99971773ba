"""What a corpus is: a fact sheet, options, a plan of its records, and how one record becomes rows.

A corpus knows nothing of Arrow or `datasets`: `data.building` turns any of them into a dataset. To add one, write a file
with a `Corpus` subclass and name it in `corpora/__init__.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from ecg_transformers.data.corpora.shared.search import find_file
from ecg_transformers.data.errors import OptionError, RecordNotFoundError
from ecg_transformers.data.readers.limits import Limits


@dataclass(frozen=True)
class CorpusFacts:
    """The fact sheet of a corpus, as `ecg-transformers datasets NAME` shows it.

    `layout` is the folder that is expected, `download` what to fetch from `homepage` and unpack, `needs` the optional
    packages without which it (or one of its forms) cannot be read.
    """

    name: str
    title: str
    summary: str
    records: str
    leads: str
    sampling_rates: str
    duration: str
    labels: str
    split: str
    licence: str
    citation: str
    homepage: str = ""
    layout: str = ""
    notes: tuple[str, ...] = ()
    version: str = "1"
    download: str = ""
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One record of a plan: what to read, what the tables say about it, `hints` for the reader of its format.

    `names` are further ones by which tables of others call it.
    """

    record_id: str
    path: Path | None = None
    patient_id: str | None = None
    labels: tuple[str, ...] = ()
    fold: int | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    hints: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()


@dataclass
class CorpusPlan:
    """All records of a corpus with some options, by split.

    Attributes:
        splits: items by split name, in the order in which they are stored.
        label_names: names in the order of `label_vector`.
        task_kind: see `data.record`.
        files: files whose size and time of change belong to the cache key, besides those of the items.
        skipped: records that are left out although the corpus lists them, with the reason: they count as failures.
        excluded: records left out by an option or the protocol, counted by reason: they are no failures.
        notes: sentences for the build report.
        warnings: sentences for it that are also logged: files left alone, patients that are not known.
    """

    splits: Mapping[str, Sequence[Item]]
    label_names: list[str] = field(default_factory=list)
    task_kind: str = "unlabelled"
    files: list[Path] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    excluded: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def items(self) -> list[Item]:
        """All items as a list; of a large corpus rather iterate over `each_item`."""
        return list(self.each_item())

    @property
    def num_items(self) -> int:
        return sum(len(items) for items in self.splits.values())

    def each_item(self) -> Iterator[Item]:
        """All items, one after the other: they need not be in memory together."""
        for items in self.splits.values():
            yield from items


class Corpus(ABC):
    """One corpus with its options. Subclasses are light: no import of `datasets`, torch or pandas."""

    facts: ClassVar[CorpusFacts]
    options_class: ClassVar[type]
    needs_data_dir: ClassVar[bool] = True
    marker: ClassVar[tuple[str, ...]] = ()
    """Files by which the corpus's folder is known: it may lie up to four levels below `data_dir` (mirrors nest it)."""

    code_version: ClassVar[int] = 1
    """Raised whenever the same files would give other rows: it is part of the cache key."""

    def __init__(self, data_dir: str | PathLike[str] | None, options: Any, limits: Limits | None = None) -> None:
        self.options = options
        self.limits = limits or Limits()
        if self.needs_data_dir:
            if data_dir is None:
                raise OptionError(
                    f"the corpus {self.facts.name!r} needs data_dir=…, the folder with "
                    f"{self.facts.layout or 'its files'}."
                )
            if not Path(data_dir).is_dir():
                what = "this is a file, not a folder" if Path(data_dir).exists() else "there is no such folder"
                raise RecordNotFoundError(
                    f"{what}; data_dir must hold {self.facts.layout or 'the corpus'}.", path=Path(data_dir)
                )
        self.given_dir = self.data_dir = Path(data_dir) if data_dir is not None else Path()
        found = find_file(self.data_dir, self.marker) if self.marker else None
        if found is not None:
            self.data_dir = found.parent

    @classmethod
    def about_known_records(cls) -> str:
        """A sentence for the fact sheet where records that public sources name as bad are left out."""
        return ""

    @classmethod
    def units_of(cls, options: object) -> str:
        """What the signals are with some options: "mV", or "z-score" where a publisher gives nothing else."""
        return "mV"

    @abstractmethod
    def plan(self) -> CorpusPlan:
        """List the records, without reading signals."""

    @abstractmethod
    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        """Read one item and give its row (or rows); raises ECGDataError when the record is unusable."""


def every_fifth(names: Sequence[str]) -> list[str]:
    """Whole records held out for validation where a corpus has no validation part: the 3rd, 8th, 13th… of a list."""
    if len(names) < 2:
        return []
    return [name for index, name in enumerate(names) if index % 5 == 2] or [names[-1]]
