"""Which recordings occur in two sets: duplicates between corpora, and test records in a training set.

Sets are compared by the fingerprints of `data.content`; names of records do not matter.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.building.plan import plan_of
from ecg_transformers.data.building.report import REPORT_NAME, BuildReport, split_files
from ecg_transformers.data.content import NUM_BITS, ContentFingerprints, content_fingerprints, joined
from ecg_transformers.data.corpora import CORPORA, corpus_class, make_corpus
from ecg_transformers.data.errors import ECGDataError, RecordNotFoundError

MAX_DISTANCE = 24
"""Bits of a lead in which two copies may differ; different recordings differ in about 128."""

FINGERPRINTS = "content_fingerprints.npz"
"""The file in a model's folder that holds the fingerprints of what it was trained on."""

_BANDS = 16
_BLOCK = 2**20


@dataclass(frozen=True)
class Pair:
    """Two records with the same content: `distance` is the share of bits in which their leads differ."""

    record_a: str
    source_a: str
    split_a: str
    record_b: str
    source_b: str
    split_b: str
    distance: float


@dataclass
class Overlap:
    """Which records of a set `b` occur in a set `a`.

    Attributes:
        name_a, name_b: what the sets were called.
        records_a, records_b: records with a fingerprint.
        pairs: copies.
        splits_b: records of `b` by split.
        without, unreadable: records of both sets that are flat or short, and that could not be read.
    """

    name_a: str
    name_b: str
    records_a: int
    records_b: int
    pairs: list[Pair] = field(default_factory=list)
    splits_b: dict[str, int] = field(default_factory=dict)
    without: int = 0
    unreadable: int = 0

    def found(self, split: str | None = None) -> int:
        """Records of `b` (of one split) that occur in `a`."""
        return len({(p.source_b, p.split_b, p.record_b) for p in self.pairs if split in (None, p.split_b)})

    def sentence(self) -> str:
        """The result in one sentence, with the numbers of each split."""
        if not self.pairs:
            return (
                f"No record of {self.name_b} ({self.records_b:,} records) occurs in {self.name_a} ({self.records_a:,})."
            )
        parts = ", ".join(f"{split or 'all'} {self.found(split):,} of {n:,}" for split, n in self.splits_b.items())
        examples = ", ".join(f"{pair.record_b} = {pair.record_a}" for pair in self.pairs[:3])
        return (
            f"OVERLAP: {self.found():,} of {self.records_b:,} records of {self.name_b} occur in {self.name_a} ({parts}; "
            f"for example {examples})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        values = dataclasses.asdict(self)
        return {**values, "found": self.found(), "found_by_split": {s: self.found(s) for s in self.splits_b}}


def compare(a: ContentFingerprints, b: ContentFingerprints, name_a: str, name_b: str) -> Overlap:
    """The overlap of two sets that are already fingerprinted."""
    return Overlap(
        name_a,
        name_b,
        len(a),
        len(b),
        find_overlap(a, b),
        dict(Counter(b.splits)),
        a.without + b.without,
        a.unreadable + b.unreadable,
    )


def overlap(a: str, b: str) -> Overlap:
    """The overlap of two sets, each `NAME=DIR` (a corpus), a folder of records, a prepared build, or a model's folder.

    Nothing is written, and unreadable records are counted, not fatal.

    Raises:
        ECGDataError: no such corpus or folder, or nothing readable in it.
    """
    return compare(fingerprints_of(a), fingerprints_of(b), a, b)


def fingerprints_of(text: str) -> ContentFingerprints:
    """The fingerprints of a set by its name on the command line."""
    name, separator, folder = text.partition("=")
    if separator and not Path(text).exists():
        corpus_class(name)  # says what is known
        result = fingerprints_of_corpus(name, folder)
    elif text in CORPORA and not corpus_class(text).needs_data_dir:
        result = fingerprints_of_corpus(text, None)
    elif not Path(text).is_dir():
        raise RecordNotFoundError(
            "there is no such folder; a set is NAME=DIR, a folder or a prepared build.", path=text
        )
    elif (Path(text) / FINGERPRINTS).is_file():
        result = ContentFingerprints.load(Path(text) / FINGERPRINTS)
    elif any(Path(text).glob(REPORT_NAME)) or any(Path(text).glob(f"part-*/{REPORT_NAME}")):
        result = fingerprints_of_build(Path(text))
    else:
        result = fingerprints_of_corpus("folder", text)
    if not len(result):
        raise ECGDataError(
            f"no record can be compared: {result.unreadable} could not be read, {result.without} are flat or short.",
            path=text,
        )
    return result


def fingerprints_of_corpus(name: str, data_dir: str | Path | None) -> ContentFingerprints:
    """The fingerprints of all records of a corpus, with and without labels, known bad ones too."""
    cls = corpus_class(name)
    known = {option.name: option.default for option in dataclasses.fields(cls.options_class)}
    everything = {key: value for key, value in {"task": None, "bad_records": "keep"}.items() if key in known}
    rates = [{}, {"sampling_rate": 500}] if known.get("sampling_rate") == 100 else [{}]
    result = ContentFingerprints()
    for rate in rates:  # PTB-XL is often kept in one of its two rates only
        corpus = make_corpus(name, data_dir, {**everything, **rate})
        plan = plan_of(corpus)
        failures = [0]

        def rows(items: Any, corpus: Any = corpus, plan: Any = plan, failures: list[int] = failures) -> Iterator[Any]:
            for item in items:
                try:
                    yield from corpus.rows(item, plan)
                except ECGDataError:
                    failures[0] += 1

        result = joined([content_fingerprints(rows(items), split) for split, items in plan.splits.items()])
        result.unreadable = failures[0]
        if len(result):
            break
    return result


def fingerprints_of_build(folder: Path) -> ContentFingerprints:
    """The fingerprints of a build that `ecg-transformers build` or the cache made."""
    parts = []
    for report in [*folder.glob(REPORT_NAME), *sorted(folder.glob(f"part-*/{REPORT_NAME}"))]:
        name = BuildReport.load(report.parent).corpus
        for split in ("train", "validation", "test"):
            for path in split_files(report.parent, name, split):
                parts.append(content_fingerprints(_rows_of_file(path), split))
    return joined(parts)


def _rows_of_file(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows of a parquet or Arrow file, a few at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(batch_size=16):
            yield from batch.to_pylist()
        return
    with pa.memory_map(str(path)) as source:
        for batch in pa.ipc.open_stream(source):
            yield from batch.to_pylist()


def find_overlap(a: ContentFingerprints, b: ContentFingerprints) -> list[Pair]:
    """Pairs of records of two sets with the same content, best first for each record of `b`.

    Memory and time grow with the sizes of the sets, not with their product: only records that share 16 bits at one of
    16 places are compared.
    """
    distances: dict[tuple[int, int], list[int]] = {}
    for name in sorted(set(a.leads.ravel().tolist()) & set(b.leads.ravel().tolist()) - {""}):
        for i, j, distance in _close_leads(a, b, name):
            distances.setdefault((i, j), []).append(distance)
    pairs = []
    for (i, j), near in distances.items():
        bits = _common_distances(a, b, i, j)
        if near and np.median(bits) <= MAX_DISTANCE and max(bits) <= 2 * MAX_DISTANCE:
            share = float(np.median(bits)) / NUM_BITS
            pairs.append(
                Pair(a.record_ids[i], a.sources[i], a.splits[i], b.record_ids[j], b.sources[j], b.splits[j], share)
            )
    return sorted(pairs, key=lambda pair: (pair.record_b, pair.distance, pair.record_a))


def _close_leads(a: ContentFingerprints, b: ContentFingerprints, name: str) -> Iterable[tuple[int, int, int]]:
    """Records whose lead of this name differs in few bits."""
    rows_a, slots_a = np.nonzero(a.leads == name)
    rows_b, slots_b = np.nonzero(b.leads == name)
    bytes_a, bytes_b = a.codes[rows_a, slots_a], b.codes[rows_b, slots_b]
    words_a, words_b = (np.ascontiguousarray(codes).view(np.uint64) for codes in (bytes_a, bytes_b))
    keys_a, keys_b = (np.ascontiguousarray(codes).view(np.uint16) for codes in (bytes_a, bytes_b))
    seen: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        order = np.argsort(keys_b[:, band], kind="stable")
        ordered = keys_b[order, band]
        first = np.searchsorted(ordered, keys_a[:, band], "left")
        count = np.searchsorted(ordered, keys_a[:, band], "right") - first
        for start, stop in _blocks(count):
            numbers = count[start:stop]
            i = np.repeat(np.arange(start, stop), numbers)
            within = np.arange(len(i)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
            j = order[np.repeat(first[start:stop], numbers) + within]
            bits = np.bitwise_count(words_a[i] ^ words_b[j]).sum(axis=1)
            for x, y, distance in zip(*(values[bits <= MAX_DISTANCE].tolist() for values in (i, j, bits))):
                if (x, y) not in seen:
                    seen.add((x, y))
                    yield int(rows_a[x]), int(rows_b[y]), int(distance)


def _blocks(count: np.ndarray) -> Iterable[tuple[int, int]]:
    """Ranges of records with about a million candidates each."""
    total = np.cumsum(count)
    edges = [0]
    while edges[-1] < len(count):
        reached = total[edges[-1] - 1] if edges[-1] else 0
        edges.append(max(int(np.searchsorted(total, reached + _BLOCK, "right")), edges[-1] + 1))
    return list(pairwise(edges))


def _common_distances(a: ContentFingerprints, b: ContentFingerprints, i: int, j: int) -> list[int]:
    """Bits in which the leads that both records have differ."""
    names_b = b.leads[j].tolist()
    distances = []
    for slot, name in enumerate(a.leads[i].tolist()):
        if name and name in names_b:
            other = b.codes[j, names_b.index(name)]
            distances.append(int(np.bitwise_count(a.codes[i, slot] ^ other).sum()))
    return distances
