"""From the crops of a record to one figure of the record.

The rule of ST-MEM's published evaluation: the loss is taken of the *mean of the logits*, every metric of the *mean of
the probabilities*. The two differ whenever the crops disagree.
"""

from __future__ import annotations

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


def cross_entropy(logits: ArrayLike, target: ArrayLike, task_kind: str) -> Array:
    """Loss of each record `(records,)`: cross-entropy for `"multiclass"`, else the sum of the classes' binary ones.

    Args:
        logits: `(records, classes)`.
        target: multi-hot, of the same shape.
    """
    values, wanted = np.asarray(logits, dtype=np.float64), np.asarray(target)
    if task_kind == "multiclass":
        top = values.max(axis=1)
        log_sum = np.log(np.exp(values - top[:, None]).sum(axis=1)) + top
        return np.asarray(log_sum - (values * wanted).sum(axis=1))
    return np.asarray((np.logaddexp(0.0, values) - wanted * values).sum(axis=1))
