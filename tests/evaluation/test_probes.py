import numpy as np
import pytest

from ecg_transformers.evaluation import metrics
from ecg_transformers.evaluation.probes import LinearProbe, RidgeProbe, Standardizer, knn_scores
from ecg_transformers.evaluation.trained_probes import AttentionProbe, LastEpochProbe


def planted(seed=0, records=400, features=30, classes=3, signal=1.5):
    generator = np.random.default_rng(seed)
    target = (generator.random((records, classes)) < 0.3).astype(int)
    x = generator.normal(size=(records, features)) * generator.uniform(0.1, 50, features) + 7.0
    x[:, :classes] += signal * target * x[:, :classes].std(axis=0)
    return x, target


def parts(x, y):
    return x[:200], y[:200], x[200:300], y[200:300], x[300:], y[300:]


def test_planted_feature_is_found_and_its_absence_is_not():
    for signal, expected in ((5.0, 0.95), (0.0, None)):
        x, y, x_val, y_val, x_test, y_test = parts(*planted(signal=signal))
        value = metrics.macro_auroc(y_test, LinearProbe().fit(x, y, x_val, y_val).predict_proba(x_test))["value"]
        assert value > expected if expected else 0.35 < value < 0.65


def test_shuffled_labels_give_a_half():
    x, y = planted(records=700, signal=3.0)
    values = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(300)
        probe = LinearProbe().fit(x[:300], y[:300][order], x[300:400], y[300:400])
        values.append(metrics.macro_auroc(y[400:], probe.predict_proba(x[400:]))["value"])
    # three classes of about 90 positives and 210 negatives: null SD .036 a class, .021 the macro mean, .009 of five
    assert abs(np.mean(values) - 0.5) < 0.05


@pytest.mark.parametrize("features", [12, 350])  # fewer and more features than records
def test_solution_is_the_minimum_of_the_stated_objective(features):
    x, y, x_val, y_val, *_ = parts(*planted(features=features))
    probe = LinearProbe(strengths=[0.03]).fit(x, y, x_val, y_val)
    standard = probe.standardizer(x)
    error = 1 / (1 + np.exp(-(standard @ probe.weight.T + probe.bias))) - y
    np.testing.assert_allclose(error.T @ standard / len(x) + 0.03 * probe.weight, 0.0, atol=1e-4)
    np.testing.assert_allclose(error.mean(axis=0), 0.0, atol=1e-4)


def test_softmax_probe_gives_probabilities_that_sum_to_one():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 300)
    x = generator.normal(size=(300, 5)) + 2 * np.eye(5)[labels]
    probe = LinearProbe("multiclass").fit(x[:150], labels[:150], x[150:200], labels[150:200])
    prob = probe.predict_proba(x[200:])
    np.testing.assert_allclose(prob.sum(axis=1), 1.0)
    assert (prob.argmax(axis=1) == labels[200:]).mean() > 0.7


def test_strength_is_the_best_on_validation_records():
    x, y, x_val, y_val, *_ = parts(*planted())
    probe = LinearProbe().fit(x, y, x_val, y_val)
    assert probe.selection == "macro_auroc"
    assert probe.validation_scores[probe.strength] == max(probe.validation_scores.values())
    value = metrics.macro_auroc(y_val, probe.decision_function(x_val))["value"]
    assert value == pytest.approx(max(probe.validation_scores.values()))


def test_without_a_defined_validation_class_the_loss_chooses():
    x, y, x_val, _, *_ = parts(*planted())
    assert LinearProbe().fit(x, y, x_val, np.zeros((100, 3), dtype=int)).selection == "mean_loss"


def test_probe_as_a_linear_layer_gives_the_same_logits():
    x, y, x_val, y_val, x_test, _ = parts(*planted())
    probe = LinearProbe().fit(x, y, x_val, y_val)
    weight, bias = probe.as_linear_layer()
    np.testing.assert_allclose(x_test @ weight.T + bias, probe.decision_function(x_test), atol=1e-9)


def test_statistics_come_from_training_records_and_outliers_are_limited():
    x = np.column_stack([np.arange(10.0), np.full(10, 3.0)])
    standardize = Standardizer(x)
    assert standardize(x)[:, 0].mean() == pytest.approx(0.0)
    assert (standardize(x)[:, 1] == 0).all()  # a constant feature says nothing
    assert standardize([[1e9, 3.0]])[0, 0] == 10.0


@pytest.mark.parametrize("features", [8, 900])
def test_ridge_is_the_closed_form(features):
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(60, features)), generator.normal(size=(60, 2))
    probe = RidgeProbe(strengths=[0.4], clip=None).fit(x, y, x, y)
    standard = probe.standardizer(x)
    gram = standard.T @ standard + 0.4 * 60 * np.eye(features)
    expected = np.linalg.solve(gram, standard.T @ (y - y.mean(axis=0)))
    np.testing.assert_allclose(probe.weight, expected, atol=1e-8)


def test_ridge_reads_a_number_better_than_its_mean():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(300, 20))
    rate = 70 + 10 * x[:, 0] + generator.normal(size=300)
    probe = RidgeProbe().fit(x[:150], rate[:150], x[150:200], rate[150:200])
    report = metrics.regression_report(rate[200:], probe.predict(x[200:])[:, 0])
    assert report["mae"] < 0.2 * report["mae_of_mean"]


def test_nearest_neighbour_of_a_training_record_is_itself():
    x, y = planted()
    np.testing.assert_array_equal(knn_scores(x, y, x, k=1), y)
    scores = knn_scores(x, y, x, k=20)
    assert scores.min() >= 0
    assert scores.max() <= 1
    with pytest.raises(ValueError, match="between 1 and"):
        knn_scores(x, y, x, k=len(x) + 1)


def test_features_that_are_not_finite_are_refused():
    x, y, x_val, y_val, *_ = parts(*planted())
    x[3, 4] = np.nan
    with pytest.raises(ValueError, match="finite"):
        LinearProbe().fit(x, y, x_val, y_val)


@pytest.mark.parametrize("task_kind", ["multilabel", "multiclass"])
def test_published_linear_evaluation(parity, task_kind):
    tensors = {key: value.numpy() for key, value in parity("ecg_jepa", "metrics_probe").items()}
    case = {key.split(".")[2]: value for key, value in tensors.items() if key.startswith(f"probe.{task_kind}.")}
    probe = LastEpochProbe(task_kind, epochs=4, batch_size=8, shuffle=False, initial_weight=case["w0"])
    probe.fit(case["x"], case["y"])
    np.testing.assert_allclose(probe.layer.weight.detach().numpy(), case["w"], atol=1e-5)
    np.testing.assert_allclose(probe.layer.bias.detach().numpy(), case["b"], atol=1e-5)
    result = metrics.probe_metrics(case["yt"], probe.decision_function(case["xt"]), task_kind)
    assert result["auroc"] == pytest.approx(case["auc"].item(), abs=1e-9)
    assert result["f1"] == pytest.approx(case["f1"].item(), abs=1e-9)


def test_published_schedule_uses_a_tenth_twice(parity):
    used = parity("ecg_jepa", "schedules")["probe.lr_used"].numpy()
    probe = LastEpochProbe()
    rates = [0.1 * probe.learning_rate] + [probe.rate(step, len(used)) for step in range(len(used) - 1)]
    np.testing.assert_allclose(rates, used, atol=1e-12)
    assert rates[0] == rates[1] == pytest.approx(0.001)


def test_attention_probe_finds_the_token_that_matters_and_repeats_with_its_seed():
    import torch

    generator = np.random.default_rng(0)
    tokens = generator.normal(size=(500, 6, 16)).astype(np.float32)
    y = (generator.random((500, 1)) < 0.4).astype(int)
    tokens[np.arange(500), generator.integers(0, 6, 500), 0] += 6 * y[:, 0]  # a spike in any one token
    state = torch.random.get_rng_state()
    fitted = [AttentionProbe(epochs=15).fit(tokens[:300], y[:300], tokens[300:400], y[300:400]) for _ in "ab"]
    assert torch.equal(torch.random.get_rng_state(), state)  # the global generator is not touched
    scores = [probe.predict_proba(tokens[400:]) for probe in fitted]
    np.testing.assert_array_equal(*scores)
    assert metrics.macro_auroc(y[400:], scores[0])["value"] > 0.9


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="multiple"):
        AttentionProbe(num_heads=3).fit(np.zeros((4, 2, 16)), np.eye(4)[:, :1], np.zeros((4, 2, 16)), np.eye(4)[:, :1])
