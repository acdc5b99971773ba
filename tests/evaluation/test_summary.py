import json

import numpy as np
import pytest

from ecg_transformers.evaluation import metrics
from ecg_transformers.evaluation.summary import evaluation_summary, write_predictions

NAMES = ["CD", "MI", "NORM"]


@pytest.fixture
def scored():
    generator = np.random.default_rng(0)
    target = (generator.random((120, 3)) < 0.3).astype(int)
    probs = {seed: 1 / (1 + np.exp(-2 * target - generator.normal(size=target.shape))) for seed in (0, 1, 2)}
    return target, probs, [f"p{index // 2}" for index in range(120)]


def test_mean_and_interval_belong_to_the_seeds(scored):
    target, probs, patients = scored
    summary = evaluation_summary(target, probs, "multilabel", NAMES, patients, n_boot=200)
    entry = summary["macro_auroc"]
    assert entry["per_seed"] == pytest.approx([metrics.macro_auroc(target, prob)["value"] for prob in probs.values()])
    assert entry["mean"] == pytest.approx(np.mean(entry["per_seed"]))
    assert entry["ci95"][0] < entry["mean"] < entry["ci95"][1]
    report = metrics.classification_report(target, probs[1], "multilabel", NAMES)
    for name in ("macro_auprc", "macro_f1", "accuracy"):
        assert summary[name]["per_seed"][1] == pytest.approx(report[name]), name
    assert summary["per_class"]["MI"]["n_pos"] == target[:, 1].sum()
    assert summary["n_patients"] == 60
    assert summary["intervals"]["cluster"] == "patient"


def test_multiclass_accuracy_and_f1_are_those_of_the_arg_max():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 90)
    prob = np.eye(3)[labels] * 0.4 + generator.dirichlet(np.ones(3), 90)
    prob /= prob.sum(axis=1, keepdims=True)
    summary = evaluation_summary(labels, {0: prob}, "multiclass", NAMES, n_boot=50)
    report = metrics.classification_report(labels, prob, "multiclass", NAMES)
    for name in ("macro_auroc", "macro_f1", "accuracy"):
        assert summary[name]["mean"] == pytest.approx(report[name]), name
    assert summary["macro_auroc"]["sd"] is None
    assert summary["intervals"]["cluster"] == "record"
    assert summary["n_patients"] is None


def test_undefined_classes_are_null_and_the_result_is_strict_json(scored):
    target, probs, patients = scored
    target[:, 1] = 0
    summary = evaluation_summary(target, probs, "multilabel", NAMES, patients, n_boot=20)
    assert summary["undefined"] == ["MI"]
    assert summary["per_class"]["MI"]["auroc"]["mean"] is None
    assert summary["intervals"]["undefined_fraction"]["MI"] == 1.0
    json.dumps(summary, allow_nan=False)
    target[:] = 0
    empty = evaluation_summary(target, probs, "multilabel", NAMES, patients, n_boot=20)
    assert empty["macro_auroc"]["mean"] is None
    json.dumps(empty, allow_nan=False)


def test_figures_can_be_made_again_from_the_predictions_file(scored, tmp_path):
    import pyarrow.parquet as pq

    target, probs, patients = scored
    path = tmp_path / "predictions.parquet"
    write_predictions(path, [str(index) for index in range(120)], patients, target, probs, NAMES)
    rows = pq.read_table(path).to_pandas()
    assert list(rows.columns[:3]) == ["record_id", "patient_id", "seed"]
    assert list(tmp_path.iterdir()) == [path]
    for seed, part in rows.groupby("seed"):
        truth = part[[f"y_true_{name}" for name in NAMES]].to_numpy()
        score = part[[f"y_score_{name}" for name in NAMES]].to_numpy()
        expected = metrics.macro_auroc(target, probs[int(seed)])["value"]
        assert metrics.macro_auroc(truth, score)["value"] == pytest.approx(expected, abs=1e-6)
