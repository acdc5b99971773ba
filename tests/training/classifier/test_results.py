import json
from types import SimpleNamespace

import numpy as np

from ecg_transformers.training.classifier.results import metrics_of_seeds, thresholds_from_validation


def test_a_test_split_without_a_defined_class_has_no_number_but_a_result() -> None:
    target = np.zeros((6, 2), dtype=np.int8)
    split = SimpleNamespace(
        multi_hot=lambda: target, task_kind="multilabel", label_names=["A", "B"], patient_ids=list("abcdef")
    )
    scores = {0: np.linspace(0.1, 0.9, 12).reshape(6, 2)}
    figures = metrics_of_seeds(split, scores, {0: [0.5, 0.5]}, n_boot=10)
    assert figures["macro_auroc"]["mean"] is None
    assert figures["n_defined"] == 0
    json.dumps(figures)


def test_a_class_without_training_records_stays_out_of_the_averages() -> None:
    rng = np.random.default_rng(0)
    target = rng.integers(0, 2, (40, 3)).astype(np.int8)
    split = SimpleNamespace(
        multi_hot=lambda: target,
        task_kind="multilabel",
        label_names=["A", "B", "C"],
        patient_ids=[str(n) for n in range(40)],
    )
    scores = {0: rng.random((40, 3))}
    figures = metrics_of_seeds(split, scores, {0: [0.5] * 3}, n_boot=10, untrained=["B"])
    of_class = [figures["per_class"][name]["auroc"]["mean"] for name in ("A", "C")]
    assert figures["untrained"] == ["B"]
    np.testing.assert_allclose(figures["macro_auroc"]["mean"], np.mean(of_class), atol=1e-7)


def test_a_class_without_training_records_does_not_answer_yes_to_all() -> None:
    split = SimpleNamespace(
        task_kind="multilabel",
        label_names=["AF", "rare"],
        multi_hot=lambda: np.array([[1, 0], [0, 1], [0, 0]], np.int8),
    )
    scores = np.array([[0.9, 1e-9], [0.1, 2e-9], [0.2, 1e-9]])
    assert thresholds_from_validation(split, scores, ["rare"]) == [0.9, 0.5]
    assert thresholds_from_validation(split, scores) == [0.9, 2e-9]
