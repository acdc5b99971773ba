"""Ten folds for corpora without official parts: by patient, spread over label sets, a function of a seed.

Fold 10 is the test part and fold 9 validation, as in all corpora with folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ecg_transformers.data.corpora.base import Item

NUM_FOLDS = 10
DEALT = (10, 9, 1, 2, 3, 4, 5, 6, 7, 8)  # so that few records still fill test and validation
SPLIT_OF_FOLD = {**dict.fromkeys(range(1, 9), "train"), 9: "validation", 10: "test"}


def assign_folds(items: Sequence[Item], seed: int, copies: Mapping[str, str] | None = None) -> list[Item]:
    """The items with a fold each: one person, and known copies of one recording, are in one fold."""
    groups = _groups(items, copies or {})
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


def _groups(items: Sequence[Item], copies: Mapping[str, str]) -> list[str]:
    """One name for all records that belong together."""
    root: dict[str, str] = {}

    def top(name: str) -> str:
        while root.get(name, name) != name:
            name = root[name]
        return name

    for name, other in copies.items():
        root[max(top(name), top(other))] = min(top(name), top(other))
    return [f"patient {item.patient_id}" if item.patient_id else f"record {top(item.record_id)}" for item in items]
