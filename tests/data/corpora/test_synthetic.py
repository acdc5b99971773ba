"""The synthetic corpus: parts by patient, stable when it grows, learnable but not trivial."""

import numpy as np
import pytest

from ecg_transformers.data.errors import OptionError
from ecg_transformers.data.loading import RecordTable, label_names, load_ecg_dataset, task_kind
from ecg_transformers.signal.synthesis import LABELS


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return load_ecg_dataset("synthetic", num_records=240, cache_dir=tmp_path_factory.mktemp("cache"))


def test_all_three_parts_exist_in_the_stated_proportions(corpus):
    sizes = {part: len(dataset) for part, dataset in corpus.items()}
    assert sum(sizes.values()) == 240
    assert abs(sizes["train"] - 168) <= 3
    assert abs(sizes["test"] - 36) <= 3
    assert label_names(corpus) == sorted(LABELS) == list(LABELS)
    assert task_kind(corpus) == "multilabel"


def test_labels_vectors_and_names_agree(corpus):
    for row in corpus["train"].select(range(20)):
        assert row["labels"] == [LABELS[i] for i in row["label_ids"]]
        assert [i for i, on in enumerate(row["label_vector"]) if on] == row["label_ids"]


def test_rounding_to_int16_keeps_einthoven_within_two_units(corpus):
    table = RecordTable(corpus["test"])
    for index in range(len(table)):
        one, two, three, avr = table.samples(index)[:, :4].astype(int).T
        assert np.abs(two - one - three).max() <= 2
        assert np.abs(-(one + two) - 2 * avr).max() <= 4


def test_a_larger_corpus_holds_the_smaller_one_in_the_same_parts(corpus, tmp_path):
    larger = load_ecg_dataset("synthetic", num_records=300, cache_dir=tmp_path)
    for part, dataset in corpus.items():
        ids = set(larger[part]["record_id"])
        assert set(dataset["record_id"]) <= ids
    a, b = RecordTable(corpus["train"]), RecordTable(larger["train"])
    np.testing.assert_array_equal(a.samples(5), b.samples(b.record_ids.index(a.record_ids[5])))


def test_streaming_and_several_processes_give_the_same_rows(corpus, tmp_path):
    streamed = list(load_ecg_dataset("synthetic", split="test", streaming=True, num_records=240, cache_dir=tmp_path))
    built = load_ecg_dataset("synthetic", split="test", num_records=240, cache_dir=tmp_path, num_proc=2)
    for other in (streamed, built):
        assert [dict(row) for row in other] == [dict(row) for row in corpus["test"]]


def test_patients_never_stand_in_two_parts(tmp_path):
    corpus = load_ecg_dataset("synthetic", num_records=120, records_per_patient=3, cache_dir=tmp_path)
    patients = [set(dataset["patient_id"]) for dataset in corpus.values()]
    assert not patients[0] & patients[1]
    assert not patients[0] & patients[2]
    assert not patients[1] & patients[2]
    assert sum(map(len, patients)) == 40


def test_classes_can_be_learnt_from_simple_features_but_not_perfectly(tmp_path):
    linear_model = pytest.importorskip("sklearn.linear_model")
    metrics = pytest.importorskip("sklearn.metrics")
    corpus = load_ecg_dataset("synthetic", num_records=500, cache_dir=tmp_path, test_fraction=0.4, sampling_rate=100)

    def features(table: RecordTable) -> np.ndarray:
        rows = []
        for index in range(len(table)):
            signal = table.signal(index)[:, [0, 1, 6, 8, 10]]
            signal = signal - np.median(signal, axis=0)
            spectrum = np.abs(np.fft.rfft(signal, axis=0))[:300].reshape(30, 10, -1).mean(axis=1)
            quantiles = np.quantile(signal, [0.02, 0.1, 0.3, 0.7, 0.9, 0.98], axis=0)
            rows.append(np.concatenate([np.log(spectrum + 1e-3).ravel(), quantiles.ravel()]))
        return np.array(rows)

    train, test = RecordTable(corpus["train"]), RecordTable(corpus["test"])
    x, y = features(train), features(test)
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
    scores = []
    for column in range(len(LABELS)):
        model = linear_model.LogisticRegression(C=0.05, max_iter=300)
        model.fit((x - mean) / deviation, train.label_matrix()[:, column])
        truth = test.label_matrix()[:, column]
        scores.append(metrics.roc_auc_score(truth, model.decision_function((y - mean) / deviation)))
    assert 0.65 < np.mean(scores) < 0.97, scores


@pytest.mark.parametrize(
    "options",
    [
        {"num_records": 0},
        {"sampling_rate": 1},
        {"duration": 0},
        {"noise": -1},
        {"test_fraction": 2},
        {"task": "beats"},
        {"num_records": "many"},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(OptionError, match="synthetic"):
        load_ecg_dataset("synthetic", **options)
