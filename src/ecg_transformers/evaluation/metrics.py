"""Classification and regression metrics in plain numpy, with every convention named.

Arrays have one row per record and one column per class. Targets are multi-hot `(records, classes)`; a vector of
class indices `(records,)` together with `(records, classes)` scores is read as a one-of-many target and judged
one-vs-rest. A class is *defined* when the targets hold at least one positive and one negative of it; undefined
classes are left out of every macro AUROC and AUPRC and always reported, never replaced by a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.evaluation.weighted import weighted_auprc, weighted_auroc

Array = NDArray[np.float64]
Undefined = Literal["skip", "zero"]


def macro_auroc(y_true: ArrayLike, y_score: ArrayLike, undefined: Undefined = "skip") -> dict[str, Any]:
    """Area under the ROC curve, averaged over the defined classes; ties count one half (mid-ranks).

    Args:
        y_true: multi-hot `(records, classes)`, class indices `(records,)`, or 0/1 `(records,)` for one class.
        y_score: `(records, classes)` or `(records,)`; any monotone score (logit or probability).
        undefined: `"skip"` averages over the defined classes. `"zero"` counts an undefined class as 0, which is
            what torchmetrics does and what the published fine-tuning code of ECG-JEPA therefore reports; only for
            reproducing such figures.

    Returns:
        `value`, `per_class` (None where undefined), `n_defined`, `n_classes`, `undefined` (class indices).

    Raises:
        ValueError: shapes differ, targets are not 0/1, scores are not finite, or no class is defined.
    """
    target, score = check_targets(y_true, y_score)
    return _macro(per_class_auroc(target, score), undefined, "AUROC")


def macro_auprc(y_true: ArrayLike, y_score: ArrayLike) -> dict[str, Any]:
    """Average precision (area under the precision-recall steps), averaged over the defined classes.

    Same arguments, result and errors as `macro_auroc`, plus `prevalence`: the value that a score without
    information reaches, per class.
    """
    target, score = check_targets(y_true, y_score)
    result = _macro(per_class_auprc(target, score), "skip", "AUPRC")
    return {**result, "prevalence": [float(share) for share in target.mean(axis=0)]}


def one_vs_one_auroc(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Multi-class AUROC after Hand and Till (2001): the mean over all pairs of classes, both directions.

    The published linear evaluation of ECG-JEPA reports this one for single-label tasks (its paper says one-vs-rest).

    Args:
        y_true: class indices `(records,)`.
        y_score: `(records, classes)`.

    Raises:
        ValueError: fewer than two classes occur in `y_true`.
    """
    target, score = check_targets(y_true, y_score)
    labels = target.argmax(axis=1)
    present = [int(index) for index in np.flatnonzero(target.any(axis=0))]
    if len(present) < 2:
        raise ValueError(f"One-vs-one AUROC needs records of at least two classes; only {len(present)} occur.")
    values = []
    for position, first in enumerate(present):
        for second in present[position + 1 :]:
            rows = (labels == first) | (labels == second)
            is_first = labels[rows] == first
            both = np.stack([is_first, ~is_first], axis=1).astype(np.float64)
            values.append(float(per_class_auroc(both, score[rows][:, [first, second]]).mean()))
    return float(np.mean(values))


def f1_scores(y_true: ArrayLike, y_pred: ArrayLike) -> Array:
    """F1 of each class `(classes,)` from 0/1 predictions; 0 where neither a positive nor a prediction exists."""
    counts = confusion_counts(y_true, y_pred)
    return _ratio(2 * counts["tp"], 2 * counts["tp"] + counts["fp"] + counts["fn"], empty=0.0)


def confusion_counts(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, Array]:
    """True and false positives and negatives of each class: `tp fp fn tn`, each `(classes,)`."""
    target, predicted = check_targets(y_true, y_pred)
    return {
        "tp": (target * predicted).sum(axis=0),
        "fp": ((1 - target) * predicted).sum(axis=0),
        "fn": (target * (1 - predicted)).sum(axis=0),
        "tn": ((1 - target) * (1 - predicted)).sum(axis=0),
    }


def hard_predictions(
    y_prob: ArrayLike, task_kind: str, thresholds: float | Sequence[float] = 0.5, strict: bool = False
) -> Array:
    """0/1 predictions `(records, classes)`: arg-max for `"multiclass"`, a threshold a class otherwise.

    A probability equal to the threshold counts as positive; `strict=True` counts it as negative, the convention of
    torchmetrics.
    """
    prob = _columns(y_prob)
    if task_kind == "multiclass":
        return np.eye(prob.shape[1])[prob.argmax(axis=1)]
    limit = np.asarray(thresholds, dtype=np.float64)
    return (prob > limit if strict else prob >= limit).astype(np.float64)


def best_f1_thresholds(y_true: ArrayLike, y_prob: ArrayLike) -> list[float]:
    """The threshold of each class with the highest F1. Choose it on the validation part, never on the test part.

    Classes without a positive keep 0.5.
    """
    target, prob = check_targets(y_true, y_prob)
    chosen = []
    for label, score in zip(target.T, prob.T, strict=True):
        order = np.argsort(-score, kind="stable")
        last_of_tie = np.append(np.diff(score[order]) != 0, True)
        true_positives = np.cumsum(label[order])[last_of_tie]
        predicted = np.flatnonzero(last_of_tie) + 1
        f1 = 2 * true_positives / (predicted + label.sum())
        chosen.append(float(score[order][last_of_tie][f1.argmax()]) if label.any() else 0.5)
    return chosen


def classification_report(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    task_kind: str,
    label_names: Sequence[str],
    thresholds: float | Sequence[float] = 0.5,
) -> dict[str, Any]:
    """Everything that a table of a classifier needs, as plain Python numbers (None where a figure is undefined).

    Args:
        y_true: multi-hot `(records, classes)` or class indices `(records,)`.
        y_prob: probabilities `(records, classes)`; of several crops, their mean.
        task_kind: `"multilabel"`, `"binary"` (thresholds) or `"multiclass"` (arg-max, one-vs-rest AUROC).
        label_names: one name a column.
        thresholds: a probability at or above it is a positive; 0.5, or one a class chosen on validation records.

    Returns:
        `macro_auroc`, `macro_auprc`, `macro_f1`, `accuracy` (share of right records for multi-class, share of
        right record-class cells otherwise), `exact_match`, `macro_sensitivity`, `macro_specificity`,
        `n_records`, `n_defined`, `n_classes`, `undefined` (names), the conventions, and `per_class`: for
        each name `auroc auprc prevalence f1 sensitivity specificity ppv n_pos n_neg`.
    """
    target, prob = check_targets(y_true, y_prob)
    names = list(label_names)
    if len(names) != target.shape[1]:
        raise ValueError(f"{len(names)} label names were given for {target.shape[1]} columns of scores: {names}.")
    predicted = hard_predictions(prob, task_kind, thresholds)
    per_class = _per_class_figures(target, prob, predicted)
    thresholded = task_kind != "multiclass"
    exact = float((predicted == target).all(axis=1).mean())
    undefined = [name for name, figures in zip(names, per_class, strict=True) if figures["auroc"] is None]
    return {
        "macro_auroc": _mean_known(per_class, "auroc"),
        "macro_auprc": _mean_known(per_class, "auprc"),
        "macro_f1": _mean_known(per_class, "f1"),
        "accuracy": float((predicted == target).mean()) if thresholded else exact,
        "exact_match": exact,
        "macro_sensitivity": _mean_known(per_class, "sensitivity"),
        "macro_specificity": _mean_known(per_class, "specificity"),
        "n_records": len(target),
        "n_defined": len(names) - len(undefined),
        "n_classes": len(names),
        "undefined": undefined,
        "thresholds": np.asarray(thresholds, dtype=np.float64).tolist() if thresholded else None,
        "multiclass_auroc": None if thresholded else "ovr",
        "per_class": dict(zip(names, per_class, strict=True)),
    }


def probe_metrics(y_true: ArrayLike, y_score: ArrayLike, task_kind: str) -> dict[str, float]:
    """`auroc` and `f1` by the conventions of ECG-JEPA's published linear evaluation.

    Multi-label: AUROC on the logits, averaged over the defined classes; macro F1 at a probability of at least 0.5.
    Multi-class: one-vs-one AUROC on the softmax; macro F1 of the arg-max. F1 is 0 where it is undefined.

    Args:
        y_true: multi-hot `(records, classes)` or class indices `(records,)`.
        y_score: logits `(records, classes)`.
        task_kind: `"multilabel"` or `"multiclass"`.
    """
    logits = _columns(y_score)
    if task_kind == "multiclass":
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        auroc = one_vs_one_auroc(y_true, shifted / shifted.sum(axis=1, keepdims=True))
        target, predicted = check_targets(y_true, hard_predictions(logits, task_kind))
        seen = target.any(axis=0) | predicted.any(axis=0)  # the reference averages over the classes that occur at all
        return {"auroc": auroc, "f1": float(f1_scores(target, predicted)[seen].mean())}
    predicted = hard_predictions(logits, task_kind, 0.0)  # logit 0 is probability 0.5
    return {"auroc": macro_auroc(y_true, logits)["value"], "f1": float(f1_scores(y_true, predicted).mean())}


def regression_report(y_true: ArrayLike, y_pred: ArrayLike) -> dict[str, float]:
    """Mean absolute error with the SD of the absolute errors, RMSE, R², and the error of predicting the mean.

    Args:
        y_true, y_pred: `(records,)` in the unit of the target (beats per minute, milliseconds...).
    """
    truth, predicted = np.asarray(y_true, dtype=np.float64).ravel(), np.asarray(y_pred, dtype=np.float64).ravel()
    if truth.shape != predicted.shape or truth.size == 0:
        raise ValueError(f"Targets {truth.shape} and predictions {predicted.shape} must have the same length.")
    if not (np.isfinite(truth).all() and np.isfinite(predicted).all()):
        raise ValueError("Targets and predictions must be finite; drop records without a target first.")
    error = np.abs(truth - predicted)
    spread = float(((truth - truth.mean()) ** 2).mean())
    return {
        "mae": float(error.mean()),
        "mae_sd": float(error.std()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1.0 - float((error**2).mean()) / spread if spread > 0 else 0.0,
        "mae_of_mean": float(np.abs(truth - truth.mean()).mean()),
        "n_records": float(truth.size),
    }


def per_class_auroc(target: Array, score: Array) -> Array:
    """AUROC of each column `(classes,)`, NaN where undefined; checked arrays `(records, classes)` only."""
    return weighted_auroc(target, score)(np.ones((1, len(target))))[0]


def per_class_auprc(target: Array, score: Array) -> Array:
    """Average precision of each column `(classes,)`, NaN where undefined; checked arrays only."""
    return weighted_auprc(target, score)(np.ones((1, len(target))))[0]


def check_targets(y_true: ArrayLike, y_score: ArrayLike) -> tuple[Array, Array]:
    """Both arrays as float64 `(records, classes)`, class indices made multi-hot.

    Raises:
        ValueError: the arrays do not fit together, are empty, targets are not 0/1, or scores are not finite.
    """
    if np.ma.is_masked(y_true) or np.ma.is_masked(y_score):  # numpy would score what the mask hides
        raise ValueError("The arrays have masked values; leave out the records or classes that are unknown.")
    score = _columns(y_score)
    target = np.asarray(y_true)
    if target.ndim == 1 and score.shape[1] > 1:
        target = _one_hot(target, score.shape[1])
    target = _columns(target)
    if target.shape != score.shape:
        raise ValueError(f"Targets {target.shape} and scores {score.shape} must both have shape (records, classes).")
    if target.size == 0:
        raise ValueError("There are no records to score.")
    if not np.isfinite(score).all():
        rows = np.flatnonzero(~np.isfinite(score).all(axis=1))
        raise ValueError(f"Scores must be finite; {len(rows)} record(s) hold NaN or Inf, the first is row {rows[0]}.")
    if not np.isin(target, (0.0, 1.0)).all():
        raise ValueError("Targets must be 0 or 1; soft labels have to be made hard before they are scored.")
    return target, score


def _one_hot(labels: NDArray[Any], num_classes: int) -> Array:
    index = labels.astype(np.int64)
    if not np.array_equal(index, labels) or (index.size and not 0 <= index.min() <= index.max() < num_classes):
        raise ValueError(f"Class indices must be whole numbers from 0 to {num_classes - 1} (the columns).")
    return np.eye(num_classes)[index]


def _columns(values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(f"Expected (records,) or (records, classes), not an array of shape {array.shape}.")
    return array[:, None] if array.ndim == 1 else array


def _ratio(numerator: Array, denominator: Array, empty: float) -> Array:
    result = np.full(np.shape(numerator), empty, dtype=np.float64)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)


def _macro(per_class: Array, undefined: Undefined, name: str) -> dict[str, Any]:
    defined = np.isfinite(per_class)
    if not defined.any():
        raise ValueError(f"{name} is undefined: no class has both a positive and a negative among the records.")
    value = np.nan_to_num(per_class).mean() if undefined == "zero" else per_class[defined].mean()
    return {
        "value": float(value),
        "per_class": [_known(entry) for entry in per_class],
        "n_defined": int(defined.sum()),
        "n_classes": len(per_class),
        "undefined": [int(index) for index in np.flatnonzero(~defined)],
    }


def _per_class_figures(target: Array, prob: Array, predicted: Array) -> list[dict[str, Any]]:
    counts = confusion_counts(target, predicted)
    columns = {
        "auroc": per_class_auroc(target, prob),
        "auprc": per_class_auprc(target, prob),
        "prevalence": target.mean(axis=0),
        "f1": f1_scores(target, predicted),
        "sensitivity": _ratio(counts["tp"], counts["tp"] + counts["fn"], empty=np.nan),
        "specificity": _ratio(counts["tn"], counts["tn"] + counts["fp"], empty=np.nan),
        "ppv": _ratio(counts["tp"], counts["tp"] + counts["fp"], empty=np.nan),
    }
    positives = target.sum(axis=0)
    return [
        {key: _known(values[index]) for key, values in columns.items()}
        | {"n_pos": int(positives[index]), "n_neg": int(len(target) - positives[index])}
        for index in range(target.shape[1])
    ]


def _mean_known(per_class: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [figures[key] for figures in per_class if figures[key] is not None]
    return float(np.mean(values)) if values else None


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
