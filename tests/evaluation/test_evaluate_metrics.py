import numpy as np
import pytest

from ecg_transformers.evaluation import metrics


@pytest.fixture(scope="module")
def wrappers():
    from ecg_transformers.evaluation import evaluate_metrics

    return evaluate_metrics


@pytest.fixture
def scored():
    generator = np.random.default_rng(0)
    target = (generator.random((60, 3)) < 0.4).astype(int)
    return target, 1 / (1 + np.exp(-generator.normal(size=target.shape) - target))


def test_metric_objects_give_the_figures_of_the_functions_without_a_network(wrappers, scored, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    target, prob = scored
    auroc = wrappers.MacroAUROC().compute(predictions=prob, references=target)
    assert auroc["macro_auroc"] == pytest.approx(metrics.macro_auroc(target, prob)["value"], abs=1e-12)
    assert auroc["n_classes"] == 3
    auprc = wrappers.MacroAUPRC().compute(predictions=prob, references=target)
    assert auprc["macro_auprc"] == pytest.approx(metrics.macro_auprc(target, prob)["value"], abs=1e-12)
    f1 = wrappers.MacroF1().compute(predictions=prob, references=target, threshold=0.4)
    expected = metrics.f1_scores(target, metrics.hard_predictions(prob, "multilabel", 0.4)).mean()
    assert f1["macro_f1"] == pytest.approx(expected)


def test_batches_add_up_to_the_whole(wrappers, scored):
    target, prob = scored
    metric = wrappers.ECGClassificationReport()
    for rows in (slice(0, 25), slice(25, 60)):
        metric.add_batch(predictions=prob[rows], references=target[rows])
    report = metric.compute(task_kind="multilabel", label_names=["a", "b", "c"])
    assert report == metrics.classification_report(target, prob, "multilabel", ["a", "b", "c"])
