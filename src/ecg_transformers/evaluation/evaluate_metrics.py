"""The metrics of this package as `evaluate.Metric` objects; no network is needed to make or to use one.

`evaluate` costs seconds to import, so this module is imported only by those who want its interface; the functions of
`ecg_transformers.evaluation.metrics` give the same figures at once.

>>> metric = MacroAUROC()                                    # doctest: +SKIP
>>> metric.add_batch(predictions=probabilities, references=labels)        # doctest: +SKIP
>>> metric.compute()["macro_auroc"]                                       # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np

from ecg_transformers.evaluation import metrics

_INPUTS = """
Args:
    predictions: scores (probabilities or logits), one list of `num_classes` numbers per record.
    references: 0 or 1, one list of `num_classes` per record.
"""


class _MultilabelMetric(evaluate.Metric):
    """Scores `(records, classes)` against multi-hot references; a subclass names itself and its function."""

    title = ""
    citation = ""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.title,
            citation=self.citation,
            inputs_description=_INPUTS,
            features=datasets.Features(
                {
                    "predictions": datasets.Sequence(datasets.Value("float64")),
                    "references": datasets.Sequence(datasets.Value("int8")),
                }
            ),
        )


class MacroAUROC(_MultilabelMetric):
    """`compute()` gives `macro_auroc` and the per-class values, supports and undefined classes."""

    title = "Area under the ROC curve, mid-ranks for ties, averaged over the classes that have both labels."

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return _prefixed("macro_auroc", metrics.macro_auroc, predictions, references, **options)


class MacroAUPRC(_MultilabelMetric):
    """`compute()` gives `macro_auprc` with the prevalence of each class beside it."""

    title = "Average precision, averaged over the classes that have both labels."

    def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
        return _prefixed("macro_auprc", metrics.macro_auprc, predictions, references, **options)


class MacroF1(_MultilabelMetric):
    """`compute(threshold=0.5)` gives `macro_f1` and `per_class`; a score equal to the threshold is positive."""

    title = "F1 at a fixed threshold, averaged over classes, 0 where undefined."

    def _compute(self, predictions: Any, references: Any, threshold: float = 0.5) -> dict[str, Any]:
        predicted = metrics.hard_predictions(predictions, "multilabel", threshold)
        per_class = metrics.f1_scores(references, predicted)
        return {"macro_f1": float(per_class.mean()), "per_class": per_class.tolist()}


class ECGClassificationReport(_MultilabelMetric):
    """`compute(task_kind=..., label_names=...)` gives everything of `classification_report`."""

    title = "Macro AUROC, AUPRC, F1, accuracy and per-class figures with supports."

    def _compute(
        self, predictions: Any, references: Any, task_kind: str = "multilabel", label_names: list[str] | None = None
    ) -> dict[str, Any]:
        scores = np.asarray(predictions)
        names = label_names or [str(index) for index in range(scores.shape[1])]
        return metrics.classification_report(references, scores, task_kind, names)


def _prefixed(
    name: str, function: Callable[..., dict[str, Any]], predictions: Any, references: Any, **options: Any
) -> dict[str, Any]:
    result = function(references, predictions, **options)
    return {name: result.pop("value"), **result}
