import numpy as np
import pytest

from ecg_transformers.evaluation import metrics
from ecg_transformers.evaluation.aggregation import probabilities


def pair_count(label, score):
    """AUROC by its definition: the share of positive-negative pairs in the right order, ties one half."""
    above, below = score[label == 1], score[label == 0]
    return float(((above[:, None] > below) + 0.5 * (above[:, None] == below)).mean())


@pytest.fixture
def scored():
    generator = np.random.default_rng(0)
    target = (generator.random((200, 4)) < [0.5, 0.2, 0.1, 0.03]).astype(int)
    return target, (target + generator.normal(size=target.shape)).round(1)  # rounding makes ties


def test_auroc_is_the_share_of_ordered_pairs(scored):
    target, score = scored
    result = metrics.macro_auroc(target, score)
    expected = [pair_count(target[:, index], score[:, index]) for index in range(4)]
    np.testing.assert_allclose(result["per_class"], expected, atol=1e-12)
    assert result["value"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert (result["n_defined"], result["n_classes"], result["undefined"]) == (4, 4, [])


def test_constant_perfect_and_negated_scores(scored):
    target, score = scored
    assert metrics.macro_auroc(target, np.zeros_like(score))["value"] == 0.5
    assert metrics.macro_auroc(target, target)["value"] == 1.0
    negated = metrics.macro_auroc(target, -score)["value"]
    assert negated == pytest.approx(1 - metrics.macro_auroc(target, score)["value"], abs=1e-12)


def test_auroc_ignores_monotone_maps_and_record_order(scored):
    target, score = scored
    value = metrics.macro_auroc(target, score)["value"]
    order = np.random.default_rng(1).permutation(len(target))
    assert metrics.macro_auroc(target, np.exp(score / 3))["value"] == pytest.approx(value, abs=1e-12)
    assert metrics.macro_auroc(target[order], score[order])["value"] == pytest.approx(value, abs=1e-12)


def test_undefined_classes_are_left_out_and_named(scored):
    target, score = scored
    target = target.copy()
    target[:, 1], target[:, 2] = 0, 1
    for function in (metrics.macro_auroc, metrics.macro_auprc):
        result = function(target, score)
        assert result["undefined"] == [1, 2]
        assert result["per_class"][1] is None
        assert result["value"] == pytest.approx(np.mean([result["per_class"][0], result["per_class"][3]]))
        assert (result["n_defined"], result["n_classes"]) == (2, 4)


def test_no_defined_class_is_an_error():
    with pytest.raises(ValueError, match="undefined"):
        metrics.macro_auroc(np.ones((3, 2)), np.zeros((3, 2)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_an_error(scored, bad):
    target, score = scored
    score[7, 2] = bad
    with pytest.raises(ValueError, match="row 7"):
        metrics.macro_auroc(target, score)


@pytest.mark.parametrize(
    ("target", "score", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 4)), "shape"),
        (np.full((3, 2), 0.5), np.zeros((3, 2)), "0 or 1"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "no records"),
        (np.array([0, 1, 4]), np.zeros((3, 3)), "from 0 to 2"),
        (np.ma.array(np.eye(3), mask=np.eye(3)), np.eye(3), "masked"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_a_sentence(target, score, message):
    with pytest.raises(ValueError, match=message):
        metrics.macro_auroc(target, score)


def test_class_indices_mean_one_versus_rest(scored):
    _, score = scored
    labels = np.arange(200) % 4
    result = metrics.macro_auroc(labels, score)
    expected = [pair_count((labels == index).astype(int), score[:, index]) for index in range(4)]
    np.testing.assert_allclose(result["per_class"], expected, atol=1e-12)


def test_average_precision_of_a_score_without_information_is_the_prevalence(scored):
    target, score = scored
    result = metrics.macro_auprc(target, np.ones_like(score))
    np.testing.assert_allclose(result["per_class"], result["prevalence"], atol=1e-12)
    assert metrics.macro_auprc(target, target)["value"] == 1.0


def test_figures_agree_with_scikit_learn(scored):
    sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is only in the bench extra")
    target, score = scored
    assert metrics.macro_auroc(target, score)["value"] == pytest.approx(sklearn_metrics.roc_auc_score(target, score))
    assert metrics.macro_auprc(target, score)["value"] == pytest.approx(
        sklearn_metrics.average_precision_score(target, score)
    )
    prob = probabilities(score, "multiclass")
    labels = np.arange(200) % 4
    assert metrics.one_vs_one_auroc(labels, prob) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, prob, multi_class="ovo")
    )
    predicted = metrics.hard_predictions(score, "multilabel", 0.5)
    np.testing.assert_allclose(
        metrics.f1_scores(target, predicted), sklearn_metrics.f1_score(target, predicted, average=None)
    )


def test_report_counts_supports_and_names_undefined_classes(scored):
    target, score = scored
    target = target.copy()
    target[:, 3] = 0
    report = metrics.classification_report(target, probabilities(score, "multilabel"), "multilabel", list("abcd"))
    assert report["undefined"] == ["d"]
    assert report["per_class"]["d"]["auroc"] is None
    for index, name in enumerate("abcd"):
        figures = report["per_class"][name]
        assert figures["n_pos"] == target[:, index].sum()
        assert figures["n_pos"] + figures["n_neg"] == report["n_records"] == 200


def test_sensitivity_specificity_and_ppv_from_counts():
    target = np.array([[1], [1], [1], [0], [0]])
    prob = np.array([[0.9], [0.5], [0.4], [0.6], [0.1]])  # 0.5 counts as positive
    figures = metrics.classification_report(target, prob, "multilabel", ["af"])["per_class"]["af"]
    assert figures["sensitivity"] == pytest.approx(2 / 3)
    assert figures["specificity"] == pytest.approx(1 / 2)
    assert figures["ppv"] == pytest.approx(2 / 3)
    assert figures["f1"] == pytest.approx(2 / 3)


def test_multiclass_accuracy_is_that_of_the_arg_max():
    prob = np.array([[0.4, 0.35, 0.25], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]])
    report = metrics.classification_report([0, 2, 1], prob, "multiclass", list("abc"))
    assert report["accuracy"] == pytest.approx(2 / 3)
    assert report["multiclass_auroc"] == "ovr"


def test_report_of_one_undefined_class_gives_none_and_no_nan():
    report = metrics.classification_report(np.ones((4, 1)), np.full((4, 1), 0.9), "multilabel", ["x"])
    assert report["macro_auroc"] is None
    assert report["macro_specificity"] is None
    assert report["accuracy"] == 1.0


def test_best_f1_threshold_is_the_best_of_all_thresholds(scored):
    target, score = scored
    prob = probabilities(score, "multilabel")
    chosen = metrics.best_f1_thresholds(target, prob)
    reached = metrics.f1_scores(target, metrics.hard_predictions(prob, "multilabel", chosen))
    for index in range(4):
        every = [
            metrics.f1_scores(target[:, index], (prob[:, index] >= value).astype(float))[0]
            for value in np.unique(prob[:, index])
        ]
        assert reached[index] == pytest.approx(max(every))


@pytest.mark.parametrize("case", ["plain", "one_class_column", "never_predicted"])
def test_published_multilabel_probe_metrics(parity, case):
    tensors = {key: value.numpy() for key, value in parity("ecg_jepa", "metrics_probe").items()}
    logits, labels = tensors[f"ml.{case}.logits"], tensors[f"ml.{case}.labels"]
    result = metrics.probe_metrics(labels, logits, "multilabel")
    assert result["auroc"] == pytest.approx(tensors[f"ml.{case}.auc"].item(), abs=1e-12)
    assert result["f1"] == pytest.approx(tensors[f"ml.{case}.f1"].item(), abs=1e-12)
    finetuning = metrics.macro_auroc(labels, logits, undefined="zero")["value"]
    assert finetuning == pytest.approx(float(tensors[f"ml.{case}.torchmetrics.MultilabelAUROC"]), abs=1e-6)
    strict = metrics.hard_predictions(logits, "multilabel", 0.0, strict=True)
    f1 = metrics.f1_scores(labels, strict).mean()
    assert f1 == pytest.approx(float(tensors[f"ml.{case}.torchmetrics.MultilabelF1Score"]), abs=1e-6)
    accuracy = (strict == labels).mean()
    assert accuracy == pytest.approx(float(tensors[f"ml.{case}.torchmetrics.MultilabelAccuracy"]), abs=1e-6)


def test_published_multiclass_probe_metrics(parity):
    tensors = {key: value.numpy() for key, value in parity("ecg_jepa", "metrics_probe").items()}
    logits, labels = tensors["mc.logits"], tensors["mc.labels"]
    result = metrics.probe_metrics(labels, logits, "multiclass")
    assert result["auroc"] == pytest.approx(tensors["mc.auc_ovo"].item(), abs=1e-12)
    assert result["f1"] == pytest.approx(tensors["mc.f1"].item(), abs=1e-12)
    report = metrics.classification_report(labels, probabilities(logits, "multiclass"), "multiclass", list("abcd"))
    assert report["macro_auroc"] == pytest.approx(tensors["mc.auc_ovr_for_contrast"].item(), abs=1e-6)
    assert report["accuracy"] == pytest.approx(float(tensors["mc.torchmetrics.MulticlassAccuracy"]), abs=1e-6)


def test_regression_report_knows_predicting_the_mean():
    truth = np.array([60.0, 70.0, 80.0])
    report = metrics.regression_report(truth, np.full(3, 70.0))
    assert report["mae"] == report["mae_of_mean"] == pytest.approx(20 / 3)
    assert report["r2"] == pytest.approx(0.0)
    with pytest.raises(ValueError, match="finite"):
        metrics.regression_report([1.0, np.nan], [1.0, 2.0])
