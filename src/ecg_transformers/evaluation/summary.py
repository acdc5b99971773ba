"""The test section of ``metrics.json`` and the rows of ``predictions.parquet``, for several training seeds."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.evaluation.metrics import check_targets, hard_predictions, per_class_auroc
from ecg_transformers.evaluation.statistics import bootstrap_seeds, cluster_index

Array = NDArray[np.float64]


def evaluation_summary(
    y_true: ArrayLike,
    y_prob: Mapping[int, ArrayLike],
    task_kind: str,
    label_names: Sequence[str],
    patient_ids: Sequence[Hashable] | None = None,
    *,
    n_boot: int = 2000,
    bootstrap_seed: int = 0,
) -> dict[str, Any]:
    """Metrics of each seed, their mean and SD, and patient-level intervals of the mean over seeds.

    Args:
        y_true: multi-hot ``(records, classes)`` or class indices ``(records,)``.
        y_prob: seed to probabilities ``(records, classes)``, all of the same records.
        task_kind: ``"multilabel"``, ``"binary"`` or ``"multiclass"``; thresholds are fixed at 0.5.
        label_names: one a column.
        patient_ids: one a record; None makes the record the unit of resampling, and the result says so.

    Returns:
        plain values: ``macro_auroc``, ``macro_auprc``, ``macro_f1``, ``accuracy``, each with ``per_seed``, ``mean``,
        ``sd`` (None for one seed) and ``ci95``, all None where undefined; ``per_class`` (``auroc`` in the same form,
        ``n_pos``, ``n_neg``); ``n_records``, ``n_patients`` (None without ids), ``n_defined``, ``n_classes``,
        ``undefined`` (names), ``seeds``, ``intervals`` (how they were made, with ``undefined_fraction``).
    """
    if not y_prob:
        raise ValueError("There are no predictions to summarise: give the probabilities of one seed at least.")
    checked = [check_targets(y_true, prob) for prob in y_prob.values()]
    target, scores = checked[0][0], [score for _, score in checked]
    if len(label_names) != target.shape[1]:
        raise ValueError(f"{len(label_names)} label names were given for {target.shape[1]} columns of scores.")
    hard = [hard_predictions(score, task_kind) for score in scores]
    options = {"n_boot": n_boot, "seed": bootstrap_seed}
    accuracy = "exact_match" if task_kind == "multiclass" else "accuracy"
    defined = np.isfinite(per_class_auroc(target, scores[0]))
    clusters, cluster = cluster_index(patient_ids, len(target))
    result: dict[str, Any] = {
        "macro_auroc": _entry(target, scores, patient_ids, "macro_auroc", options, bool(defined.any())),
        "macro_auprc": _entry(target, scores, patient_ids, "macro_auprc", options, bool(defined.any())),
        "macro_f1": _entry(target, hard, patient_ids, "macro_f1", options, True),
        "accuracy": _entry(target, hard, patient_ids, accuracy, options, True),
    }
    undefined_fraction, per_class = {}, {}
    for index, name in enumerate(label_names):
        column = [score[:, [index]] for score in scores]
        entry = _entry(target[:, [index]], column, patient_ids, "macro_auroc", options, bool(defined[index]))
        undefined_fraction[name] = entry.pop("undefined_fraction", [1.0])[0]
        positives = int(target[:, index].sum())
        per_class[name] = {"auroc": entry, "n_pos": positives, "n_neg": len(target) - positives}
    for entry in result.values():
        entry.pop("undefined_fraction", None)
    return {
        **result,
        "per_class": per_class,
        "n_records": len(target),
        "n_patients": int(clusters.max()) + 1 if cluster == "patient" else None,
        "n_defined": int(defined.sum()),
        "n_classes": len(label_names),
        "undefined": [name for name, known in zip(label_names, defined, strict=True) if not known],
        "seeds": [int(seed) for seed in y_prob],
        "threshold": None if task_kind == "multiclass" else 0.5,
        "multiclass_auroc": "ovr" if task_kind == "multiclass" else None,
        "intervals": {
            "method": "percentile",
            "level": 0.95,
            "cluster": cluster,
            "of": "mean over seeds",
            **options,
            "undefined_fraction": undefined_fraction,
        },
    }


def write_predictions(
    path: str | Path,
    record_ids: Sequence[str],
    patient_ids: Sequence[str | None] | None,
    y_true: ArrayLike,
    y_prob: Mapping[int, ArrayLike],
    label_names: Sequence[str],
) -> None:
    """Write ``predictions.parquet``: one row a record and seed, scores as float32 probabilities.

    Columns: ``record_id``, ``patient_id`` (null where unknown), ``seed``, and for each class ``y_true_<class>`` and
    ``y_score_<class>``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for seed, prob in y_prob.items():
        target, score = check_targets(y_true, prob)
        columns: dict[str, Any] = {
            "record_id": pa.array([str(name) for name in record_ids], pa.string()),
            "patient_id": pa.array(patient_ids or [None] * len(target), pa.string()),
            "seed": pa.array([int(seed)] * len(target), pa.int64()),
        }
        for index, name in enumerate(label_names):
            columns[f"y_true_{name}"] = pa.array(target[:, index].astype(np.int8))
            columns[f"y_score_{name}"] = pa.array(score[:, index].astype(np.float32))
        tables.append(pa.table(columns))
    partial = Path(path).with_name(f".{Path(path).name}.partial")
    try:
        pq.write_table(pa.concat_tables(tables), partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _entry(
    target: Array,
    scores: Sequence[Array],
    patient_ids: Sequence[Hashable] | None,
    metric: str,
    options: Mapping[str, Any],
    defined: bool,
) -> dict[str, Any]:
    if not defined:
        return {"per_seed": [None] * len(scores), "mean": None, "sd": None, "ci95": None}
    result = bootstrap_seeds(target, scores, patient_ids, metric=metric, **options)
    return {key: result[key] for key in ("per_seed", "mean", "sd", "ci95", "undefined_fraction")}
