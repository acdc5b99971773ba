import json
from types import SimpleNamespace

import numpy as np

from ecg_transformers.training.classifier.results import metrics_of_seeds, thresholds_from_validation, untrained_classes


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


def test_nothing_is_learned_of_classes_that_no_training_record_or_every_one_carries() -> None:
    target = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1]], np.int8)
    training = type("Split", (), {"label_names": ["all", "none", "some"], "__len__": lambda self: 3})()
    training.multi_hot = lambda: target
    assert untrained_classes(training) == ["all", "none"]


def test_no_class_that_could_be_learned_gives_no_average() -> None:
    target = np.eye(2, dtype=np.int8)[[0, 1, 0, 1, 1, 0]]
    split = SimpleNamespace(
        multi_hot=lambda: target, task_kind="multiclass", label_names=["A", "B"], patient_ids=list("abcdef")
    )
    scores = {0: np.linspace(0.1, 0.9, 12).reshape(6, 2)}
    figures = metrics_of_seeds(split, scores, {0: None}, n_boot=10, untrained=["A", "B"])
    assert figures["macro_auroc"]["mean"] is None
    assert figures["macro_f1"]["mean"] is None
    assert figures["accuracy"]["mean"] is not None


def test_a_class_without_training_records_does_not_answer_yes_to_all() -> None:
    split = SimpleNamespace(
        task_kind="multilabel",
        label_names=["AF", "rare"],
        multi_hot=lambda: np.array([[1, 0], [0, 1], [0, 0]], np.int8),
    )
    scores = np.array([[0.9, 1e-9], [0.1, 2e-9], [0.2, 1e-9]])
    assert thresholds_from_validation(split, scores, ["rare"]) == [0.9, 0.5]
    assert thresholds_from_validation(split, scores) == [0.9, 2e-9]
