"""Per-class metrics as functions of record weights: `weights (resamples, records) -> (resamples, classes)`.

A bootstrap resample only says how often each record occurs. Sorting each class once and summing weights therefore
gives thousands of resamples in a second, with the same values as copying the records.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
WeightedMetric = Callable[[Array], Array]
Builder = Callable[[Array, Array, float], WeightedMetric]


def weighted_auroc(target: Array, score: Array, threshold: float = 0.5) -> WeightedMetric:
    """AUROC of each class, ties by mid-ranks, NaN where a resample lacks positives or negatives."""
    columns = _sorted_columns(target, score)

    def evaluate(weights: Array) -> Array:
        result = np.full((len(weights), len(columns)), np.nan)
        for index, (order, label, starts) in enumerate(columns):
            sorted_weights = weights[:, order]
            positive = np.add.reduceat(sorted_weights * label, starts, axis=1)  # one column a distinct score
            negative = np.add.reduceat(sorted_weights, starts, axis=1) - positive
            below = np.cumsum(negative, axis=1) - 0.5 * negative
            pairs = positive.sum(axis=1) * negative.sum(axis=1)
            np.divide((positive * below).sum(axis=1), pairs, out=result[:, index], where=pairs > 0)
        return result

    return evaluate


def weighted_auprc(target: Array, score: Array, threshold: float = 0.5) -> WeightedMetric:
    """Average precision of each class, NaN where a resample lacks positives or negatives."""
    columns = _sorted_columns(target, -score)

    def evaluate(weights: Array) -> Array:
        result = np.full((len(weights), len(columns)), np.nan)
        for index, (order, label, starts) in enumerate(columns):
            sorted_weights = weights[:, order]
            positive = np.add.reduceat(sorted_weights * label, starts, axis=1)
            everyone = np.cumsum(np.add.reduceat(sorted_weights, starts, axis=1), axis=1)
            found = np.cumsum(positive, axis=1)
            precision = np.divide(found, everyone, out=np.zeros_like(found), where=everyone > 0)
            total = found[:, -1]
            defined = (total > 0) & (everyone[:, -1] > total)
            np.divide((positive * precision).sum(axis=1), total, out=result[:, index], where=defined)
        return result

    return evaluate


def _thresholded(numerator: tuple[str, ...], denominator: tuple[str, ...], empty: float) -> Builder:
    """Ratio of sums of the cells tp, fp, fn, tn, at a fixed threshold; `empty` where the denominator is 0."""

    def build(target: Array, score: Array, threshold: float = 0.5) -> WeightedMetric:
        predicted = (score >= threshold).astype(np.float64)
        cells = {
            "tp": target * predicted,
            "fp": (1 - target) * predicted,
            "fn": target * (1 - predicted),
            "tn": (1 - target) * (1 - predicted),
        }
        above = sum((cells[name] for name in numerator), np.zeros_like(target))
        under = sum((cells[name] for name in denominator), np.zeros_like(target))

        def evaluate(weights: Array) -> Array:
            total = weights @ under
            return np.divide(weights @ above, total, out=np.full(total.shape, empty), where=total > 0)

        return evaluate

    return build


def weighted_exact_match(target: Array, score: Array, threshold: float = 0.5) -> WeightedMetric:
    """Share of records with every class right (one column); for 0/1 arg-max predictions the multi-class accuracy."""
    right = ((score >= threshold) == (target == 1)).all(axis=1).astype(np.float64)

    def evaluate(weights: Array) -> Array:
        return ((weights @ right) / weights.sum(axis=1))[:, None]

    return evaluate


WEIGHTED_METRICS: dict[str, Builder] = {
    "macro_auroc": weighted_auroc,
    "macro_auprc": weighted_auprc,
    "macro_f1": _thresholded(("tp", "tp"), ("tp", "tp", "fp", "fn"), empty=0.0),
    "accuracy": _thresholded(("tp", "tn"), ("tp", "fp", "fn", "tn"), empty=float("nan")),
    "exact_match": weighted_exact_match,
    "macro_sensitivity": _thresholded(("tp",), ("tp", "fn"), empty=float("nan")),
    "macro_specificity": _thresholded(("tn",), ("tn", "fp"), empty=float("nan")),
    "macro_ppv": _thresholded(("tp",), ("tp", "fp"), empty=float("nan")),
}


def _sorted_columns(target: Array, score: Array) -> list[tuple[NDArray[np.intp], Array, NDArray[np.intp]]]:
    """Of each class: the order of ascending scores, its labels in it, and where each group of equal scores starts."""
    columns = []
    for label, column in zip(target.T, score.T, strict=True):
        order = np.argsort(column, kind="stable")
        starts = np.flatnonzero(np.append(True, np.diff(column[order]) != 0))
        columns.append((order, label[order], starts))
    return columns
