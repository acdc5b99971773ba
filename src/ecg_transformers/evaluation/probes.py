"""Readouts in float64 numpy: L2 logistic regression, ridge regression, nearest neighbours.

Each takes features `(records, features)` of a frozen encoder and is chosen on validation records, never on test
records. Statistics (mean, SD) come from the training records only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.evaluation.aggregation import cross_entropy, probabilities
from ecg_transformers.evaluation.metrics import check_targets, per_class_auroc

Array = NDArray[np.float64]

STRENGTHS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
RIDGE_STRENGTHS = tuple(float(value) for value in np.logspace(-3, 3, 13))


class Standardizer:
    """Mean and SD of the training records, and a limit in SDs; constant features become 0."""

    def __init__(self, features: ArrayLike, clip: float | None = 10.0) -> None:
        values = _matrix(features)
        self.mean = values.mean(axis=0)
        deviation = values.std(axis=0)
        constant = deviation <= 1e-8 * np.maximum(1.0, np.abs(self.mean))
        self.scale = np.where(constant, np.inf, deviation)
        self.clip = clip

    def __call__(self, features: ArrayLike) -> Array:
        values = (_matrix(features) - self.mean) / self.scale
        return values if self.clip is None else np.clip(values, -self.clip, self.clip)


class LinearProbe:
    """L2-regularised logistic regression on standardised features, solved to convergence by L-BFGS.

    The objective is `mean loss + strength / 2 · |weights|²` without a penalty on the bias; a strength is chosen by
    the macro AUROC on validation records (by the mean loss where no class is defined there).

    Args:
        task_kind: `"multilabel"`/`"binary"` (one logistic regression a class) or `"multiclass"` (softmax).
        strengths: the strengths to try.
        clip: limit of standardised features, in SDs.

    After `fit`: `strength`, `selection` (what chose it), `validation_scores` (a strength), `weight`
    `(classes, features)` and `bias` `(classes,)` for standardised features.
    """

    def __init__(
        self, task_kind: str = "multilabel", strengths: Sequence[float] = STRENGTHS, clip: float | None = 10.0
    ) -> None:
        self.task_kind, self.clip = task_kind, clip
        self.strengths = sorted(strengths, reverse=True)

    def fit(self, x: ArrayLike, y: ArrayLike, x_val: ArrayLike, y_val: ArrayLike, num_classes: int = 0) -> LinearProbe:
        """Fit every strength on `x, y` and keep the best on `x_val, y_val`.

        Args:
            x, x_val: `(records, features)`.
            y, y_val: multi-hot `(records, classes)` or class indices `(records,)`.
            num_classes: for class indices; 0 takes the largest index of both parts.
        """
        classes = num_classes or 1 + int(max(np.max(y), np.max(y_val)))
        target, target_val = (_multi_hot(part, classes, self.task_kind) for part in (y, y_val))
        self.standardizer = Standardizer(x, self.clip)
        basis, reduced = _row_space(self.standardizer(x))
        reduced_val = self.standardizer(x_val) @ basis
        start = np.zeros((target.shape[1], reduced.shape[1] + 1))
        start[:, -1] = _log_odds(target)
        self.validation_scores: dict[float, float] = {}
        best, best_score = start, -np.inf
        for strength in self.strengths:  # from strong to weak, each from the last solution
            start = _logistic_regression(reduced, target, strength, start, self.task_kind)
            logits = reduced_val @ start[:, :-1].T + start[:, -1]
            score, self.selection = _selection_score(target_val, logits, self.task_kind)
            self.validation_scores[strength] = score
            if score > best_score:
                best, best_score, self.strength = start, score, strength
        self.weight, self.bias = best[:, :-1] @ basis.T, best[:, -1]
        return self

    def decision_function(self, x: ArrayLike) -> Array:
        """Logits `(records, classes)`."""
        return self.standardizer(x) @ self.weight.T + self.bias

    def predict_proba(self, x: ArrayLike) -> Array:
        """Probabilities `(records, classes)`."""
        return probabilities(self.decision_function(x), self.task_kind)

    def as_linear_layer(self) -> tuple[Array, Array]:
        """Weight `(classes, features)` and bias for features as they come from the encoder, standardising included.

        The same logits as `decision_function` wherever no feature lies beyond the clip limit.
        """
        weight = self.weight / self.standardizer.scale
        return weight, self.bias - weight @ self.standardizer.mean


class RidgeProbe:
    """Ridge regression on standardised features, for numbers (heart rate) or, with targets of ±1, for classes.

    The strength is chosen on validation records: by mean absolute error for `"regression"`, by macro AUROC for
    `"classification"`. Works in the space of the records, so many thousand features cost little.

    After `fit`: `strength`, `validation_scores` (higher is better), `weight` and `bias`.
    """

    def __init__(
        self,
        kind: Literal["regression", "classification"] = "regression",
        strengths: Sequence[float] = RIDGE_STRENGTHS,
        clip: float | None = 10.0,
    ) -> None:
        self.kind, self.clip, self.strengths = kind, clip, sorted(strengths, reverse=True)

    def fit(self, x: ArrayLike, y: ArrayLike, x_val: ArrayLike, y_val: ArrayLike) -> RidgeProbe:
        """Fit on `x (records, features)`, `y (records,)` or `(records, targets)`; choose on the other two."""
        self.standardizer = Standardizer(x, self.clip)
        train, validation = self.standardizer(x), self.standardizer(x_val)
        target, target_val = _matrix(y), _matrix(y_val)
        if self.kind == "classification":
            target = 2 * target - 1
        self.bias = target.mean(axis=0)
        center = train.mean(axis=0)  # clipping moves the mean a little
        left, singular, right = _thin_svd(train - center)
        projected = left.T @ (target - self.bias)
        self.validation_scores: dict[float, float] = {}
        best = -np.inf
        for strength in self.strengths:
            shrink = singular / (singular**2 + strength * len(train))
            weight = right.T @ (shrink[:, None] * projected)
            predicted = (validation - center) @ weight + self.bias
            score = self._score(target_val, predicted)
            self.validation_scores[strength] = score
            if score > best:
                best, self.strength, self.weight = score, strength, weight
        self.bias = self.bias - center @ self.weight
        return self

    def predict(self, x: ArrayLike) -> Array:
        """`(records, targets)`: numbers in the unit of the target, or scores of the classes."""
        return self.standardizer(x) @ self.weight + self.bias

    def _score(self, target: Array, predicted: Array) -> float:
        if self.kind == "classification":
            return _selection_score(target, predicted, "multilabel")[0]
        return -float(np.abs(target - predicted).mean())


def knn_scores(x_train: ArrayLike, y_train: ArrayLike, x: ArrayLike, k: int = 20, temperature: float = 0.07) -> Array:
    """Weighted share of each class among the k nearest training records by cosine: `(records, classes)`.

    Args:
        x_train, x: features `(records, features)`, used as they are (standardise them before, if wanted).
        y_train: multi-hot `(records, classes)`.
        temperature: a neighbour weighs `exp(cosine / temperature)`.
    """
    train, query = (_unit_rows(_matrix(part)) for part in (x_train, x))
    labels = _matrix(y_train)
    if not 1 <= k <= len(train):
        raise ValueError(f"k must be between 1 and the {len(train)} training records, not {k}.")
    similarity = query @ train.T
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    closeness = np.take_along_axis(similarity, nearest, axis=1)
    weight = np.exp((closeness - closeness.max(axis=1, keepdims=True)) / temperature)
    votes = (weight[:, :, None] * labels[nearest]).sum(axis=1)
    return np.asarray(votes / weight.sum(axis=1, keepdims=True))


def _logistic_regression(x: Array, target: Array, strength: float, start: Array, task_kind: str) -> Array:
    """Weights and bias `(classes, features + 1)` at the minimum, from `start`."""
    from scipy.optimize import fmin_l_bfgs_b

    def objective(flat: Array) -> tuple[float, Array]:
        parameters = flat.reshape(start.shape)
        weight, bias = parameters[:, :-1], parameters[:, -1]
        logits = x @ weight.T + bias
        loss = float(cross_entropy(logits, target, task_kind).mean()) + 0.5 * strength * float((weight**2).sum())
        error = (probabilities(logits, task_kind) - target) / len(x)
        gradient = np.concatenate([error.T @ x + strength * weight, error.sum(axis=0)[:, None]], axis=1)
        return loss, gradient.ravel()

    solution = fmin_l_bfgs_b(objective, start.ravel(), factr=1e4, pgtol=1e-6, maxiter=2000, maxfun=4000)
    return np.asarray(solution[0]).reshape(start.shape)


def _selection_score(target: Array, logits: Array, task_kind: str) -> tuple[float, str]:
    per_class = per_class_auroc(target, probabilities(logits, task_kind) if task_kind == "multiclass" else logits)
    if np.isfinite(per_class).any():
        return float(np.nanmean(per_class)), "macro_auroc"
    return -float(cross_entropy(logits, target, task_kind).mean()), "mean_loss"


def _row_space(x: Array) -> tuple[Array, Array]:
    """An orthonormal basis `(features, rank)` of the rows, and the rows in it.

    L2-regularised solutions lie in the span of the training rows, so nothing is lost and few labels are fast.
    """
    if x.shape[1] <= x.shape[0]:
        return np.eye(x.shape[1]), x
    left, singular, right = _thin_svd(x)
    return right.T, left * singular


def _thin_svd(x: Array) -> tuple[Array, Array, Array]:
    """`x = (left · singular) @ right` without the directions of singular value 0."""
    if x.shape[1] <= 2 * x.shape[0]:
        left, singular, right = np.linalg.svd(x, full_matrices=False)
    else:  # many more features than records: from the Gram matrix of the records
        values, left = np.linalg.eigh(x @ x.T)
        singular = np.sqrt(np.maximum(values[::-1], 0.0))
        left = left[:, ::-1]
        right = np.divide(left.T @ x, singular[:, None], out=np.zeros((len(singular), x.shape[1])),
                          where=singular[:, None] > 1e-7 * singular[0])  # fmt: skip
    keep = singular > 1e-7 * max(float(singular[0]), 1e-300)
    return left[:, keep], singular[keep], right[keep]


def _multi_hot(y: ArrayLike, num_classes: int, task_kind: str) -> Array:
    values = np.asarray(y)
    width = values.shape[1] if values.ndim == 2 else num_classes if task_kind == "multiclass" else 1
    return check_targets(values, np.zeros((len(values), width)))[0]


def _log_odds(target: Array) -> Array:
    share = (target.sum(axis=0) + 0.5) / (len(target) + 1.0)
    return np.asarray(np.log(share / (1 - share)))


def _unit_rows(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _matrix(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ValueError(f"Expected finite numbers (records, features), not an array of shape {array.shape}.")
    return array
