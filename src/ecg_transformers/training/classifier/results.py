"""What a fine-tuning run leaves behind: predictions, and the metrics that can be computed again from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.evaluation.metrics import best_f1_thresholds, classification_report, hard_predictions
from ecg_transformers.evaluation.statistics import UndefinedMetricError, bootstrap_seeds
from ecg_transformers.files import QuietFile, replacing
from ecg_transformers.training.errors import write_errors
from ecg_transformers.training.report.summary import library_versions
from ecg_transformers.training.samples.splits import Split

INTERVAL_METRICS = (
    *("macro_auroc", "macro_auprc", "macro_f1", "accuracy", "exact_match"),
    *("macro_sensitivity", "macro_specificity"),
)
# what `accuracy` counts, by kind of task: as `classification_report` has it
ACCURACY = {"multiclass": "share of records", "multilabel": "share of record-class cells (1 - Hamming loss)"}


def thresholds_from_validation(
    split: Split, probabilities: np.ndarray, untrained: Sequence[str] = ()
) -> list[float] | None:
    """The threshold of each class with the best F1 on the validation split; None for one-of-many tasks.

    An untrained class keeps 0.5: it scores next to nothing everywhere, and a threshold below that would say yes to all.
    """
    if split.task_kind != "multilabel":
        return None
    target = split.multi_hot()
    target[:, [name in untrained for name in split.label_names]] = 0
    return best_f1_thresholds(target, probabilities)


def write_predictions(path: Path, split: Split, scores: Mapping[int, np.ndarray]) -> None:
    """`predictions.parquet`: one row a record and seed, true and predicted value of every class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = split.multi_hot()
    tables = []
    for seed, score in scores.items():
        columns: dict[str, Any] = {
            "record_id": pa.array(split.record_ids, pa.string()),
            "patient_id": pa.array([None if value is None else str(value) for value in split.patient_ids], pa.string()),
            "seed": pa.array([seed] * len(split), pa.int64()),
        }
        for index, name in enumerate(split.label_names):
            columns[f"y_true_{name}"] = pa.array(target[:, index], pa.int8())
        for index, name in enumerate(split.label_names):
            columns[f"y_score_{name}"] = pa.array(score[:, index].astype(np.float32), pa.float32())
        tables.append(pa.table(columns))
    with write_errors("the predictions", path), replacing(path) as beside, QuietFile(beside) as file:
        pq.write_table(pa.concat_tables(tables), file)


def metrics_of_seeds(
    split: Split,
    scores: Mapping[int, np.ndarray],
    thresholds: Mapping[int, Sequence[float] | None],
    n_boot: int,
    untrained: Sequence[str] = (),
) -> dict[str, Any]:
    """Metrics of all seeds on the test split, with mean, SD and the patient bootstrap's 95 % interval.

    Args:
        scores: seed -> probabilities `(N, C)`.
        thresholds: seed -> one threshold a class from the validation split, None for one-of-many tasks.
        untrained: classes of which training tells nothing, whose figures measure nothing: left out of the macro averages.
    """
    target, kind = split.multi_hot(), split.task_kind
    stored = {seed: score.astype(np.float32).astype(np.float64) for seed, score in scores.items()}
    cuts = {seed: 0.5 if values is None else values for seed, values in thresholds.items()}
    reports = {
        seed: classification_report(target, score, kind, split.label_names, cuts[seed])
        for seed, score in stored.items()
    }
    hard = [hard_predictions(score, kind, cuts[seed]) for seed, score in stored.items()]
    kept = [index for index, name in enumerate(split.label_names) if name not in untrained]
    result: dict[str, Any] = {}
    for metric in INTERVAL_METRICS:
        values = list(stored.values()) if metric in ("macro_auroc", "macro_auprc") else hard
        averaged = kept if metric.startswith("macro_") else slice(None)
        result[metric] = _interval(
            split, [v[:, averaged] for v in values], interval_metric(metric, kind), n_boot, averaged
        )
    result["accuracy"]["counts"] = ACCURACY["multilabel" if kind == "multilabel" else "multiclass"]
    result["per_class"] = {name: _class_figures(name, reports) for name in split.label_names}
    first = next(iter(reports.values()))
    result.update({key: first[key] for key in ("n_records", "n_classes", "n_defined", "undefined", "multiclass_auroc")})
    result["untrained"] = [name for name in split.label_names if name in untrained]
    result["thresholds"] = {str(seed): None if values is None else list(values) for seed, values in thresholds.items()}
    result["threshold_source"] = "validation" if kind == "multilabel" else "none"
    return result


def interval_metric(metric: str, task_kind: str) -> str:
    """The key of `WEIGHTED_METRICS` that a metric of a task means: one class of many is right or wrong as a record."""
    return "exact_match" if metric == "accuracy" and task_kind != "multilabel" else metric


def untrained_classes(training: Split) -> list[str]:
    """Classes that no record of the training part carries, or all of them: nothing is learned of these."""
    counts = training.multi_hot().sum(axis=0)
    return [name for name, count in zip(training.label_names, counts) if not 0 < count < len(training)]


def _interval(
    split: Split, values: Sequence[np.ndarray], metric: str, n_boot: int, classes: list[int] | slice
) -> dict[str, Any]:
    keys = ("per_seed", "mean", "sd", "ci95", "cluster", "n_boot")
    try:
        if classes == []:
            raise UndefinedMetricError("nothing is learned of any class.")
        figures = bootstrap_seeds(
            split.multi_hot()[:, classes], values, split.patient_ids, metric=metric, n_boot=n_boot
        )
    except UndefinedMetricError:  # no class that could be told apart: no number, and no run lost
        return {**dict.fromkeys(keys), "per_seed": [None] * len(values)}
    return {key: _finite(figures[key]) for key in keys}


def _class_figures(name: str, reports: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    rows = [report["per_class"][name] for report in reports.values()]
    figures: dict[str, Any] = {
        "support": rows[0]["n_pos"],
        "n_neg": rows[0]["n_neg"],
        "prevalence": rows[0]["prevalence"],
    }
    for key in ("auroc", "auprc", "f1", "sensitivity", "specificity", "ppv"):
        values = [row[key] for row in rows]
        known = [value for value in values if value is not None]
        figures[key] = {"per_seed": values, "mean": float(np.mean(known)) if len(known) == len(values) else None}
    return figures


def describe_data(
    splits: Sequence[Split], class_table: Callable[[Split], np.ndarray] = Split.multi_hot
) -> dict[str, Any]:
    """The corpus, its splits with sizes, patients and fingerprints, and the support of the classes.

    `class_table` gives how often each class stands in each record, `(N, C)`.
    """
    return {
        "dataset": splits[0].facts["name"],
        "task": splits[0].facts["task"],
        "options": splits[0].facts["options"],
        "kind": splits[0].task_kind,
        "classes": splits[0].label_names,
        "splits": {
            split.name: {
                "records": len(split),
                "patients": len(set(split.patient_ids)) if None not in split.patient_ids else None,
                "support": dict(zip(split.label_names, class_table(split).sum(axis=0).tolist(), strict=True)),
                "fingerprint": split.facts["fingerprint"],
            }
            for split in splits
        },
        "versions": library_versions(),
    }


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
