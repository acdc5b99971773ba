"""The end of the way of a record: what the plan knows joined with what the reader saw, as one row; and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.base import CorpusPlan, Item
from ecg_transformers.data.corpora.shared.search import some_of
from ecg_transformers.data.millivolts import INVALID
from ecg_transformers.data.record import DigitalRecord


def note_of_count(count: int, published: int, what: str) -> str:
    """A sentence: all records are here, or how many of how many."""
    if count == published:
        return f"{what}: complete, all {published:,} records are here"
    if count < published:
        return f"{what}: {count:,} of {published:,} records, an incomplete copy"
    return f"{what}: {count:,} records, more than the {published:,} published"


def compare_counts(plan: CorpusPlan, found: Mapping[str, int], published: Mapping[str, int], what: str) -> None:
    """Of a complete corpus: a note where everything is there as often as published, a warning with what is not."""
    wrong = [
        f"{name} {found.get(name, 0):,} instead of {count:,}"
        for name, count in published.items()
        if found.get(name, 0) != count
    ]
    if wrong:
        plan.warnings.append(f"{what}: counts that are not those published: {', '.join(wrong[:20])}")
    else:
        plan.notes.append(f"{what}: every label occurs as often as published")


def leave_out_absent(plan: CorpusPlan, absent: Sequence[str], table: Path) -> None:
    """Records that a table names and whose files are not here, as in a partial download: counted and told."""
    if absent:
        plan.excluded[f"records of {table.name} whose file is not here"] = len(absent)
        plan.warnings.append(
            f"{len(absent):,} records of {table.name} have no file here, as in a partial download ({some_of(absent, 3)}): "
            f"the other {plan.num_items:,} are read"
        )


def finished_row(digital: DigitalRecord, item: Item, plan: CorpusPlan, corpus: str) -> dict[str, Any]:
    """The row of a record with what the plan knows of it; flags of plan and reader are put together."""
    flags = sorted({*digital.metadata.get("flags", []), *item.metadata.get("flags", []), *signal_flags(digital)})
    metadata = {**{k: v for k, v in digital.metadata.items() if k != "comments"}, **item.metadata}
    metadata.pop("flags", None)
    record = digital.with_(
        record_id=item.record_id,
        patient_id=item.patient_id,
        labels=list(item.labels),
        source=corpus,
        metadata={**metadata, "flags": flags} if flags else metadata,
    )
    return record.to_row(plan.label_names, plan.task_kind, fold=item.fold)


def signal_flags(digital: DigitalRecord) -> list[str]:
    """`missing_samples` where a sample has no value, `flat_lead` where a lead holds one value."""
    samples = digital.samples
    flags = ["missing_samples"] if samples.min() == INVALID else []
    low, high = samples.min(axis=0), samples.max(axis=0)
    return flags + (["flat_lead"] if (low == high).any() else [])
