"""What a fine-tuning run leaves behind: selection, predictions, metrics. All of it can be computed again from the
predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.training.checkpoints.folder import write_errors
from ecg_transformers.training.report.log import library_versions
from ecg_transformers.training.samples.splits import Split

INTERVAL_METRICS = ("macro_auroc", "macro_auprc", "macro_f1", "accuracy", "macro_sensitivity", "macro_specificity")


def validation_figures(split: Split, probabilities: np.ndarray, loss: float) -> dict[str, Any]:
    """Macro AUROC (None where no class is defined) and loss on the validation split."""
    from ecg_transformers.evaluation.metrics import macro_auroc

    target = split.multi_hot()
    defined = bool(((target.sum(axis=0) > 0) & (target.sum(axis=0) < len(target))).any())
    auroc = macro_auroc(target, probabilities)["value"] if defined and np.isfinite(probabilities).all() else None
    return {"macro_auroc": auroc, "loss": loss if math.isfinite(loss) else None}


def selection_score(figures: Mapping[str, Any], criterion: str) -> float:
    """Higher is better; without a defined AUROC the loss decides."""
    if criterion == "macro_auroc" and figures["macro_auroc"] is not None:
        return float(figures["macro_auroc"])
    return -float(figures["loss"]) if figures["loss"] is not None else -math.inf


def thresholds_from_validation(split: Split, probabilities: np.ndarray) -> list[float] | None:
    """The threshold of each class with the best F1 on the validation split; None for one-of-many tasks."""
    from ecg_transformers.evaluation.metrics import best_f1_thresholds

    return best_f1_thresholds(split.multi_hot(), probabilities) if split.task_kind == "multilabel" else None


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
    temporary = path.with_name(f".{path.name}.tmp")
    with write_errors("the predictions", path):
        try:
            pq.write_table(pa.concat_tables(tables), temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def test_metrics(
    split: Split,
    scores: Mapping[int, np.ndarray],
    thresholds: Mapping[int, Sequence[float] | None],
    n_boot: int,
) -> dict[str, Any]:
    """Metrics of all seeds on the test split, with mean, SD and the patient bootstrap's 95 % interval.

    Args:
        scores: seed -> probabilities `(N, C)`.
        thresholds: seed -> one threshold a class from the validation split, None for one-of-many tasks.
    """
    from ecg_transformers.evaluation.metrics import classification_report, hard_predictions
    from ecg_transformers.evaluation.statistics import UndefinedMetricError, bootstrap_seeds

    target, kind = split.multi_hot(), split.task_kind
    stored = {seed: score.astype(np.float32).astype(np.float64) for seed, score in scores.items()}
    reports = {
        seed: classification_report(target, score, kind, split.label_names, _or_half(thresholds[seed]))
        for seed, score in stored.items()
    }
    hard = [hard_predictions(score, kind, _or_half(thresholds[seed])) for seed, score in stored.items()]
    result: dict[str, Any] = {}
    for metric in INTERVAL_METRICS:
        ranked = metric in ("macro_auroc", "macro_auprc")
        values = list(stored.values()) if ranked else hard
        try:
            figures = bootstrap_seeds(target, values, split.patient_ids, metric=metric, n_boot=n_boot)
        except (
            UndefinedMetricError
        ):  # a test split without a class that could be told apart: no number, and no run lost
            figures = dict.fromkeys(("mean", "sd", "ci95", "cluster", "n_boot")) | {"per_seed": [None] * len(values)}
        result[metric] = {key: _finite(figures[key]) for key in ("per_seed", "mean", "sd", "ci95", "cluster", "n_boot")}
    result["per_class"] = {name: _class_figures(name, reports) for name in split.label_names}
    first = next(iter(reports.values()))
    result.update({key: first[key] for key in ("n_records", "n_classes", "n_defined", "undefined", "multiclass_auroc")})
    result["thresholds"] = {str(seed): None if values is None else list(values) for seed, values in thresholds.items()}
    result["threshold_source"] = "validation" if kind == "multilabel" else "none"
    return result


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


def describe_data(splits: Sequence[Split]) -> dict[str, Any]:
    """The corpus, its splits with sizes, patients and fingerprints, and the support of the classes."""
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
                "support": dict(zip(split.label_names, split.multi_hot().sum(axis=0).tolist(), strict=True)),
                "fingerprint": split.facts["fingerprint"],
            }
            for split in splits
        },
        "versions": library_versions(),
    }


def _or_half(thresholds: Sequence[float] | None) -> float | Sequence[float]:
    return 0.5 if thresholds is None else thresholds


def _finite(value: Any) -> Any:
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
