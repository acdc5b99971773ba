"""Small labelled subsets of a training set: drawn by patient, nested, and the same for every method."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.evaluation.statistics import cluster_index

_MAX_DRAWS = 2000


@dataclass(frozen=True)
class LabelSubset:
    """The records of a low-label experiment: sorted positions, their hash, and the classes it cannot teach."""

    indices: NDArray[np.int64]
    sha256: str
    classes_without_positives: list[int]


def label_subset(
    y: ArrayLike,
    fraction: float,
    seed: int,
    patient_ids: Sequence[Hashable] | None = None,
    record_ids: Sequence[str] | None = None,
    min_positives: int = 2,
    nested_from: float = 0.05,
) -> LabelSubset:
    """About `fraction` of the records: whole patients in an order that the seed decides.

    The order is redrawn until the smallest subset of the family (`nested_from`, or `fraction` where that is
    smaller) holds `min_positives` records of every class that has so many. Subsets of one seed and different
    fractions down to `nested_from` are therefore nested: 5 % in 10 % in 100 %.

    Args:
        y: multi-hot `(records, classes)` or class indices `(records,)` of the training records.
        fraction: in (0, 1]; 1 gives every record.
        patient_ids: one a record; without them records are drawn, not patients.
        record_ids: what the hash is made of; the positions where not given.

    Raises:
        ValueError: the fraction is not in (0, 1] or leaves no record.
    """
    labels = np.asarray(y)
    if labels.ndim == 1:
        labels = np.eye(int(labels.max()) + 1)[labels.astype(np.int64)]
    count = len(labels)
    if not 0 < fraction <= 1 or round(fraction * count) < 1:
        raise ValueError(f"The label fraction must be in (0, 1] and leave a record; {fraction} of {count} does not.")
    clusters, _ = cluster_index(patient_ids, count)
    if fraction == 1:
        chosen = np.arange(count)
    else:
        order = _ordered_records(labels, clusters, min(nested_from, fraction), seed, min_positives)
        chosen = np.sort(_whole_patients(order, clusters, round(fraction * count)))
    names: Sequence[Any] = range(count) if record_ids is None else record_ids
    digest = hashlib.sha256("\n".join(str(names[index]) for index in chosen.tolist()).encode()).hexdigest()
    missing = [int(index) for index in np.flatnonzero(~(labels[chosen] > 0).any(axis=0))]
    return LabelSubset(chosen, digest, missing)


def _ordered_records(
    labels: NDArray[Any], clusters: NDArray[np.int64], smallest: float, seed: int, min_positives: int
) -> NDArray[np.int64]:
    """All records, patient after patient, so that the first ones hold enough positives of every class."""
    wanted = np.minimum((labels > 0).sum(axis=0), min_positives)
    generator = np.random.default_rng([seed, 0x5B5E7])
    best, best_shortfall = np.arange(len(labels)), np.inf
    for _ in range(_MAX_DRAWS):
        rank = generator.permutation(int(clusters.max()) + 1)
        order = np.argsort(rank[clusters], kind="stable")
        first = _whole_patients(order, clusters, max(1, round(smallest * len(labels))))
        shortfall = np.maximum(wanted - (labels[first] > 0).sum(axis=0), 0).sum()
        if shortfall < best_shortfall:
            best, best_shortfall = order, shortfall
        if shortfall == 0:
            break
    return best  # where no draw holds every class, the nearest one; the classes it lacks are reported


def _whole_patients(order: NDArray[np.int64], clusters: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The first `size` records of the order, and the rest of the last patient among them."""
    end = size
    while end < len(order) and clusters[order[end]] == clusters[order[end - 1]]:
        end += 1
    return order[:end]
