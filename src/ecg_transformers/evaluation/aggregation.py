"""From the crops of a record to one figure of the record.

The rule of ST-MEM's published evaluation: the loss is taken of the *mean of the logits*, every metric of the *mean of
the probabilities*. The two differ whenever the crops disagree.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def probabilities(logits: ArrayLike, task_kind: str) -> Array:
    """Softmax over the last axis for `"multiclass"`, sigmoid of each logit otherwise; any leading shape."""
    values = np.asarray(logits, dtype=np.float64)
    if task_kind == "multiclass":
        shifted = np.exp(values - values.max(axis=-1, keepdims=True))
        return shifted / shifted.sum(axis=-1, keepdims=True)
    half = np.exp(-np.abs(values))  # never overflows
    return np.where(values >= 0, 1.0, half) / (1.0 + half)


def aggregate_crops(logits: ArrayLike, task_kind: str) -> tuple[Array, Array]:
    """Mean logits and mean probabilities `(records, classes)` of `(records, crops, classes)` logits."""
    values = np.asarray(logits, dtype=np.float64)
    if values.ndim != 3 or values.shape[1] == 0:
        raise ValueError(f"Logits of crops must be (records, crops, classes) with a crop at least, not {values.shape}.")
    return values.mean(axis=1), probabilities(values, task_kind).mean(axis=1)


def aggregate_by_record(scores: ArrayLike, record_ids: Sequence[Hashable]) -> tuple[list[Any], Array]:
    """Mean of the rows of each record, for records with different numbers of crops.

    Args:
        scores: probabilities (for metrics) or logits (for the loss), `(rows, classes)`.
        record_ids: the record of each row.

    Returns:
        The ids in order of first appearance, and `(records, classes)`.
    """
    values = np.asarray(scores, dtype=np.float64)
    if len(values) != len(record_ids):
        raise ValueError(f"{len(values)} rows of scores do not match {len(record_ids)} record ids.")
    position = {record: index for index, record in enumerate(dict.fromkeys(record_ids))}
    rows = np.array([position[record] for record in record_ids], dtype=np.int64)
    sums = np.zeros((len(position), *values.shape[1:]))
    np.add.at(sums, rows, values)
    counts = np.bincount(rows, minlength=len(position)).reshape(-1, *[1] * (values.ndim - 1))
    return list(position), sums / counts


def crop_mean_loss(logits: ArrayLike, y_true: ArrayLike, task_kind: str) -> float:
    """Cross-entropy (`"multiclass"`, class indices) or binary cross-entropy (multi-hot) of the crop-mean logits."""
    mean_logits, _ = aggregate_crops(logits, task_kind)
    target = np.asarray(y_true)
    if task_kind == "multiclass":
        top = mean_logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(mean_logits - top).sum(axis=1)) + top[:, 0]
        return float((log_sum - mean_logits[np.arange(len(target)), target]).mean())
    return float((np.logaddexp(0.0, mean_logits) - target * mean_logits).mean())
