"""The benchmark script of the simple baselines, on signals that hold a planted answer."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rocket():
    return load("minirocket")


def series(seed=0, records=40, leads=3, length=200):
    return np.random.default_rng(seed).normal(size=(records, leads, length)).astype(np.float32)


def test_minirocket_has_9996_features_between_zero_and_one(rocket):
    features = rocket.MiniRocket().fit(series())(series(1, records=3))
    assert features.shape == (3, 9996)
    assert features.min() >= 0
    assert features.max() <= 1


def test_minirocket_feature_is_a_share_of_positive_convolution_values(rocket):
    x = series(records=5)
    transform = rocket.MiniRocket(num_features=84 * 4, seed=1).fit(x)
    weight = transform.weights[0].reshape(84, 3, 9)
    kernel, record = 0, x[2]  # first dilation, even kernel: padded
    padded = np.pad(record, ((0, 0), (4, 4)))
    response = [(weight[kernel] * padded[:, start : start + 9]).sum() for start in range(record.shape[1])]
    expected = (np.array(response) > transform.biases[0][kernel, 0]).mean()
    assert transform(x[2:3])[0, 0] == pytest.approx(expected, abs=1.5 / 200)
    assert (np.sort(weight[kernel][weight[kernel].any(axis=1)][0]) == [-1] * 6 + [2] * 3).all()


def test_minirocket_repeats_with_its_seed_and_changes_with_it(rocket):
    x = series(records=4)
    first, again, other = (rocket.MiniRocket(840, seed).fit(x)(x) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.fixture
def corpus_parts(rocket):
    """Two classes: a high voltage, and a fast rhythm."""
    script = load("simple_baselines")
    generator = np.random.default_rng(0)
    time = np.arange(300) / 100
    parts = {}
    for name, count in (("train", 40), ("validation", 20), ("test", 30)):
        labels = (generator.random((count, 2)) < 0.4).astype(np.int8)
        labels[:4] = [[1, 0], [0, 1], [1, 1], [0, 0]]
        period = np.where(labels[:, 1] == 1, 0.5, 0.9)[:, None]
        wave = np.exp(-0.5 * ((time % period - 0.2) / 0.02) ** 2) * (1 + labels[:, :1])
        signals = wave[:, :, None] * [1.0, 0.6] + 0.02 * generator.normal(size=(count, 300, 2))
        ids = [f"{name}{index}" for index in range(count)]
        facts = {"name": "planted", "task": "planted", "options": {}, "fingerprint": "0"}
        split = script.Split(name, [], ids, ids, labels, ["high", "fast"], "multilabel", facts)
        parts[name] = script.Part(split, signals, 100.0)
    return script, parts


def test_every_baseline_finds_a_planted_answer_and_writes_its_cell(corpus_parts, tmp_path):
    script, parts = corpus_parts
    for method in script.METHODS:
        cell = script.run_method(method, parts, [1.0], [0])[1.0]
        metrics = script.write_cell(tmp_path / method, cell, parts, {"method": method})
        assert metrics["test"]["macro_auroc"]["mean"] > 0.95, method
        written = json.loads((tmp_path / method / "metrics.json").read_text())
        assert written["test"]["macro_auroc"]["per_seed"] == metrics["test"]["macro_auroc"]["per_seed"]
        assert (tmp_path / method / "predictions.parquet").exists()


def test_missing_data_ends_with_code_2_and_one_sentence(corpus_parts, tmp_path, capsys):
    script, _ = corpus_parts
    code = script.main(["--data_dir", str(tmp_path / "absent"), "--output_dir", str(tmp_path / "out")])
    assert code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
