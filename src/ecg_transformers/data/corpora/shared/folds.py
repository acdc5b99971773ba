"""Ten folds for corpora without official parts: by patient, spread over label sets, a function of a seed.

Fold 10 is the test part and fold 9 validation, as in all corpora with folds. `as_in_merl` takes a published split instead.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ecg_transformers.data.corpora.base import CorpusPlan, Item
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.options import check_choice

PROTOCOLS = ("folds", "merl_split")
NUM_FOLDS = 10
DEALT = (10, 9, 1, 2, 3, 4, 5, 6, 7, 8)  # so that few records still fill test and validation
SPLIT_OF_FOLD = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}


def assign_folds(items: Sequence[Item], seed: int, copies: Iterable[tuple[str, str]] = ()) -> list[Item]:
    """The items with a fold each: one person, and copies of one recording (pairs of ids), are in one fold."""
    groups = _groups(items, copies)
    labels: dict[str, set[str]] = {}
    for item, group in zip(items, groups):
        labels.setdefault(group, set()).update(item.labels)
    drawn = {g: hashlib.sha256(f"{seed}|{g}".encode(errors="surrogateescape")).digest()[:8] for g in labels}
    ordered = sorted(labels, key=lambda group: (sorted(labels[group]), drawn[group]))
    dealt = DEALT if len(ordered) >= 3 else (1,)  # one or two people are training data
    fold_of = {group: dealt[position % len(dealt)] for position, group in enumerate(ordered)}
    return [replace(item, fold=fold_of[group]) for item, group in zip(items, groups)]


def split_by_folds(items: Sequence[Item]) -> dict[str, list[Item]]:
    """Items by part."""
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    for item in items:
        splits[SPLIT_OF_FOLD[item.fold or 1]].append(item)
    return splits


def check_protocol(corpus: str, value: str) -> None:
    """The option `protocol` of the corpora that MERL splits."""
    check_choice(f"{corpus}: protocol", value, PROTOCOLS)


def as_in_merl(plan: CorpusPlan, table: str) -> CorpusPlan:
    """The plan with its records in the parts of a split of MERL (Liu et al. 2024), by their names in the Challenges.

    Records that the split does not name are left out and counted; those that it names and are not here are told.
    """
    part_of = {row["record"]: row["part"] for row in packaged_table(table)}
    splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    for item in plan.items:
        part = part_of.get(item.metadata.get("challenge_record", item.record_id))
        if part is not None:
            splits[part].append(replace(item, fold=None))
    named = sum(map(len, splits.values()))
    outside = plan.num_items - named
    return replace(
        plan,
        splits=splits,
        excluded={**plan.excluded, **({"not in the split of MERL": outside} if outside else {})},
        notes=[
            *plan.notes,
            f"parts as in MERL (Liu et al. 2024), a random split: {named:,} of its {len(part_of):,} records are here; "
            "copies of a recording may lie in two parts",
        ],
    )


def _groups(items: Sequence[Item], copies: Iterable[tuple[str, str]]) -> list[str]:
    """One name for all records that belong together: of one person, copies, and copies of copies."""
    whose = {item.record_id: f"patient {item.patient_id}" for item in items if item.patient_id}
    root: dict[str, str] = {}

    def top(name: str) -> str:
        while root.get(name, name) != name:
            name = root[name]
        return name

    for pair in copies:
        low, high = sorted(top(whose.get(name, f"record {name}")) for name in pair)
        if low != high:
            root[high] = low
    return [top(whose.get(item.record_id, f"record {item.record_id}")) for item in items]
