"""What a build did: read, left out, skipped and why, counted; written next to the data as `build_report.json`."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.shards import ShardFacts
from ecg_transformers.data.building.store import Store
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.errors import ECGDataError, EmptyRecordError, MissingDependencyError, SkippedRecordsError

REPORT_NAME = "build_report.json"
SKIPPED_NAME = "skipped.jsonl"


@dataclass
class BuildReport:
    """What a build did.

    Attributes:
        corpus: its name.
        options: the options as they took effect.
        records: rows by split.
        read: records read.
        skipped: records that failed, each with `record`, `kind` (error class) and `reason`.
        reasons: number of skipped records by kind.
        excluded: records left out on purpose (task, folds, protocol), counted by reason.
        flags: what readers repaired or assumed, counted (`gain_defaulted`, `length_inferred`, …).
        notes: further sentences.
        label_counts: records per label and split.
        path: folder of the data.
    """

    corpus: str
    options: dict[str, Any]
    records: dict[str, int] = field(default_factory=dict)
    read: int = 0
    skipped: list[dict[str, str]] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    label_counts: dict[str, dict[str, int]] = field(default_factory=dict)
    path: str = ""

    def save(self, store: Store) -> None:
        """Write `skipped.jsonl` and `build_report.json`."""
        lines = "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in self.skipped)
        store.write_text(SKIPPED_NAME, lines)
        text = json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False, default=str)
        store.write_text(REPORT_NAME, text + "\n")

    @classmethod
    def load(cls, folder: str | Path | Store) -> BuildReport:
        """The report of a finished build."""
        store = folder if isinstance(folder, Store) else Store(folder)
        text = store.read_text(REPORT_NAME)
        if text is None:
            raise ECGDataError("there is no build report here.", path=store.url(REPORT_NAME))
        return cls(**json.loads(text))

    def __str__(self) -> str:
        parts = ", ".join(f"{split} {count}" for split, count in self.records.items())
        text = f"{self.corpus}: {self.read} records read ({parts}), {len(self.skipped)} skipped"
        text += f" ({', '.join(f'{kind} {count}' for kind, count in self.reasons.items())})" if self.reasons else ""
        for sentence in needs_extras(self.skipped):
            text += f", {sentence}"
        left_out = sum(self.excluded.values())
        return text + (f", {left_out} left out by choice" if left_out else "") + "."


def needs_extras(skipped: Sequence[Mapping[str, str]]) -> list[str]:
    """The sentences about formats whose extra is not installed, each once."""
    missing = [entry["reason"] for entry in skipped if entry["kind"] == MissingDependencyError.__name__]
    return list(dict.fromkeys(reason[reason.rfind(": this is") + 2 :].rstrip(".") for reason in missing))


def check_skipped(skipped: list[tuple[str, str]], total: int, max_skipped: float, corpus: str) -> None:
    """Raise when more than a share `max_skipped` of `total` records failed."""
    if not skipped or len(skipped) <= max_skipped * total:
        return
    record, reason = skipped[0]
    way_out = f" (max_skipped={math.ceil(1000 * len(skipped) / total) / 1000} would go on without them.)"
    names = [repr(name) for name, _ in skipped[1:10]]
    others = f" Then {', '.join(names)}{' …' if len(skipped) > 10 else ''}." if names else ""
    raise SkippedRecordsError(
        f"{len(skipped)} of {total} records of {corpus!r} cannot be read, more than the {max_skipped:.0%} allowed. "
        f"The first is {record!r}: {reason}{others}{way_out if len(skipped) < total else ''}"
    )


def check_splits(plan: CorpusPlan, report: BuildReport) -> None:
    """Raise when a split ends empty and one of its records or more could not be read, whatever share that is."""
    for split, items in plan.splits.items():
        if len(items) and not report.records.get(split):
            failed = {entry["record"]: entry["reason"] for entry in report.skipped}
            first = next((item.record_id for item in items if item.record_id in failed), None)
            if first is None:  # left out on purpose, as records without any signal are: the report counts them
                continue
            raise SkippedRecordsError(
                f"the split {split!r} of {report.corpus!r} ends empty: none of its {len(items)} records can be read; the "
                f"first is {first!r}: {failed[first]}"
            )


def make_report(
    corpus: Corpus, plan: CorpusPlan, facts: Sequence[ShardFacts], folder: str, *, whole: bool = True
) -> BuildReport:
    """The report of the shards of a build, or (`whole=False`) of a part of it."""
    in_order = sorted(facts, key=lambda one: one.file)  # of the files: by split, and in it as planned
    failed = [entry for one in in_order for entry in one.failed]
    empty = [entry for entry in failed if entry["kind"] == EmptyRecordError.__name__]
    failed = [entry for entry in failed if entry["kind"] != EmptyRecordError.__name__]
    listed = plan.skipped if whole else []
    skipped = [{"record": name, "kind": "Listed", "reason": reason} for name, reason in listed] + failed
    report = BuildReport(
        corpus=corpus.facts.name,
        options=dataclasses.asdict(corpus.options),
        read=sum(one.records for one in facts) - len(empty) - len(failed),
        skipped=skipped,
        reasons=dict(Counter(entry["kind"] for entry in skipped)),
        excluded=dict(plan.excluded) if whole else {},
        notes=[*plan.notes, *plan.warnings, *needs_extras(skipped)],
        path=folder,
    )
    if empty:  # left out by the corpus's own rule: no failures
        report.excluded["no signal at all"] = len(empty)
        report.notes.append(
            f"records without any signal, left out: {', '.join(entry['record'] for entry in empty[:50])}"
        )
    flags: Counter[str] = Counter()
    for split in dict.fromkeys(one.split for one in facts):
        own = [one for one in facts if one.split == split]
        report.records[split] = sum(one.rows for one in own)
        counted: Counter[str] = Counter()
        for one in own:
            counted.update(one.labels)
            flags.update(one.flags)
        report.label_counts[split] = {name: counted.get(name, 0) for name in plan.label_names or sorted(counted)}
    report.flags = dict(flags)
    return report


def split_files(folder: Path, name: str, split: str) -> list[Path]:
    """Data files of one split in their order."""
    return sorted(path for path in Path(folder).glob(f"{name}-{split}*") if path.suffix in (".arrow", ".parquet"))
