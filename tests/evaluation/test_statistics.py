import time

import numpy as np
import pytest

from ecg_transformers.evaluation import metrics, statistics
from ecg_transformers.evaluation.weighted import WEIGHTED_METRICS


def simulated(seed=0, records=300, classes=3, strength=1.0, prevalence=0.3):
    generator = np.random.default_rng(seed)
    target = (generator.random((records, classes)) < prevalence).astype(int)
    score = (strength * target + generator.normal(size=target.shape)).round(2)
    patients = [f"p{number}" for number in generator.integers(0, int(0.8 * records), records)]
    return target, score, patients


@pytest.mark.parametrize("metric", sorted(WEIGHTED_METRICS))
def test_weights_give_the_value_of_copied_records(metric):
    target, score, patients = simulated()
    clusters, _ = statistics.cluster_index(patients, len(target))
    weights = statistics.resample_weights(clusters, 4, np.random.default_rng(3))
    build = WEIGHTED_METRICS[metric]
    fast = build(target.astype(float), score, 0.5)(weights)
    for row, weight in enumerate(weights.astype(int)):
        copied = np.repeat(np.arange(len(target)), weight)
        slow = build(target[copied].astype(float), score[copied], 0.5)(np.ones((1, len(copied))))
        np.testing.assert_allclose(fast[row], slow[0], atol=1e-12)


def test_weighted_metrics_agree_with_the_report():
    target, score, _ = simulated()
    prob = 1 / (1 + np.exp(-score))
    report = metrics.classification_report(target, prob, "multilabel", list("abc"))
    for name, build in WEIGHTED_METRICS.items():
        value = build(target.astype(float), prob, 0.5)(np.ones((1, len(target)))).mean()
        expected = report.get(name, np.mean([figures["ppv"] for figures in report["per_class"].values()]))
        assert value == pytest.approx(expected, abs=1e-12), name


def test_all_records_of_a_patient_are_drawn_together():
    clusters, kind = statistics.cluster_index(["a", "b", "a", None, None], 5)
    assert kind == "patient"
    assert clusters[0] == clusters[2]
    assert len(set(clusters.tolist())) == 4  # a record without a patient stands for itself
    weights = statistics.resample_weights(clusters, 50, np.random.default_rng(0))
    np.testing.assert_array_equal(weights[:, 0], weights[:, 2])


def test_without_patients_the_cluster_is_the_record():
    target, score, _ = simulated()
    assert statistics.bootstrap(target, score, None, n_boot=20)["cluster"] == "record"


def test_interval_holds_the_value_and_covers_the_truth_as_often_as_it_says():
    expected = 0.76025  # P(N(1, 1) > N(0, 1))
    covered = 0
    for seed in range(40):
        target, score, _ = simulated(seed, records=150, classes=1, prevalence=0.4)
        low, high = statistics.bootstrap(target, score, None, n_boot=300, seed=seed)["ci95"]
        covered += low <= expected <= high
    assert covered >= 33  # 95 % of 40 is 38; fewer than 33 has probability under 0.001


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_interval_repeats_with_the_seed_and_surrounds_the_value(method):
    target, score, patients = simulated()
    first, again = (statistics.bootstrap(target, score, patients, method=method, n_boot=400, seed=7) for _ in "ab")
    assert first == again
    assert first["ci95"][0] < first["value"] < first["ci95"][1]
    assert first["value"] == pytest.approx(metrics.macro_auroc(target, score)["value"], abs=1e-12)


def test_clusters_widen_the_interval_of_repeated_records():
    target, score, _ = simulated(records=120)
    target, score = np.repeat(target, 4, axis=0), np.repeat(score, 4, axis=0)
    patients = [number // 4 for number in range(len(target))]
    by_patient = statistics.bootstrap(target, score, patients, n_boot=500)["ci95"]
    by_record = statistics.bootstrap(target, score, None, n_boot=500)["ci95"]
    assert by_patient[1] - by_patient[0] > 1.5 * (by_record[1] - by_record[0])


def test_rare_class_is_reported_as_undefined_in_its_share_of_resamples():
    target, score, _ = simulated(records=200, classes=2)
    target[:, 1] = 0
    target[5, 1] = 1
    result = statistics.bootstrap(target, score, None, n_boot=1000)
    assert result["undefined_fraction"][0] == 0.0
    assert result["undefined_fraction"][1] == pytest.approx(np.exp(-1), abs=0.06)


def test_class_set_is_fixed_on_the_full_set():
    target, score, patients = simulated(classes=2)
    with_empty = np.concatenate([target, np.zeros((len(target), 1), dtype=int)], axis=1)
    wider = np.concatenate([score, score[:, :1]], axis=1)
    assert (
        statistics.bootstrap(with_empty, wider, patients, n_boot=50)["ci95"]
        == statistics.bootstrap(target, score, patients, n_boot=50)["ci95"]
    )


def test_model_against_itself_has_no_difference():
    target, score, patients = simulated()
    result = statistics.paired_bootstrap(target, score, 2 * score, patients, n_boot=200)
    assert result == {"difference": 0.0, "ci95": [0.0, 0.0], "p_value": 1.0}


def test_difference_is_a_minus_b_and_changes_sign():
    target, score, patients = simulated()
    worse = score + np.random.default_rng(9).normal(size=score.shape)
    forward = statistics.paired_bootstrap(target, score, worse, patients, n_boot=500)
    backward = statistics.paired_bootstrap(target, worse, score, patients, n_boot=500)
    assert forward["difference"] > 0
    assert forward["ci95"][0] > 0
    assert forward["p_value"] == pytest.approx(1 / 501 * (1 + 0), abs=1e-12)
    assert backward["difference"] == -forward["difference"]
    np.testing.assert_allclose(backward["ci95"], [-forward["ci95"][1], -forward["ci95"][0]])


def test_p_value_follows_its_formula_and_stops_at_one():
    assert statistics.bootstrap_p_value([1.0, 2.0, -1.0]) == (1 + 2) / 4
    assert statistics.bootstrap_p_value([0.0, 0.0]) == 1.0


def test_paired_delong_agrees_with_the_bootstrap():
    target, score, _ = simulated(records=400, classes=1)
    other = score + 0.7 * np.random.default_rng(2).normal(size=score.shape)
    exact = statistics.delong(target, score, other)
    resampled = statistics.paired_bootstrap(target, score, other, None, n_boot=4000)
    assert exact["difference"] == pytest.approx(resampled["difference"], abs=1e-12)
    np.testing.assert_allclose(exact["ci95"], resampled["ci95"], atol=0.008)
    assert exact["auroc_a"] == pytest.approx(metrics.macro_auroc(target, score)["value"], abs=1e-12)


def test_delong_of_equal_scores_finds_nothing():
    target, score, _ = simulated(classes=1)
    assert statistics.delong(target, score, score)["p_value"] == 1.0


def test_holm_steps_down():
    assert statistics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert statistics.holm({"a": 0.5, "b": 0.6}) == {"a": 1.0, "b": 1.0}
    assert statistics.holm([]) == []


def test_holm_never_falls_below_the_raw_value_nor_changes_the_order():
    raw = np.random.default_rng(0).random(20)
    adjusted = np.array(statistics.holm(raw.tolist()))
    assert (adjusted >= raw).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()


def test_resampling_seeds_widens_the_interval():
    target, score, patients = simulated(records=600)
    scores = [score + noise * np.random.default_rng(seed).normal(size=score.shape)
              for seed, noise in enumerate((0.0, 1.0, 3.0))]  # fmt: skip
    fixed = statistics.bootstrap_seeds(target, scores, patients, n_boot=400)
    nested = statistics.bootstrap_seeds(target, scores, patients, n_boot=400, resample="seeds_and_patients")
    assert fixed["per_seed"] == nested["per_seed"]
    assert fixed["mean"] == pytest.approx(np.mean(fixed["per_seed"]))
    assert fixed["sd"] == pytest.approx(np.std(fixed["per_seed"], ddof=1))
    assert nested["ci95"][1] - nested["ci95"][0] > 1.5 * (fixed["ci95"][1] - fixed["ci95"][0])


def test_one_seed_has_no_sd():
    target, score, patients = simulated()
    assert statistics.bootstrap_seeds(target, [score], patients, n_boot=10)["sd"] is None


def test_two_thousand_resamples_of_the_ptb_xl_test_fold_take_seconds():
    target, score, patients = simulated(records=2158, classes=5)
    started = time.process_time()
    statistics.bootstrap(target, score, patients, n_boot=2000)
    assert time.process_time() - started < 5


def test_unknown_metric_is_named():
    target, score, _ = simulated()
    with pytest.raises(ValueError, match="macro_auroc"):
        statistics.bootstrap(target, score, metric="auc")


def test_wrong_number_of_patients_is_refused():
    target, score, patients = simulated()
    with pytest.raises(ValueError, match="patient ids"):
        statistics.bootstrap(target, score, patients[:-1])
