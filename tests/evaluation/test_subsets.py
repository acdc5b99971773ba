import numpy as np
import pytest

from ecg_transformers.evaluation.subsets import label_subset


@pytest.fixture
def training_set():
    generator = np.random.default_rng(0)
    labels = (generator.random((860, 5)) < [0.5, 0.2, 0.25, 0.2, 0.12]).astype(int)
    return labels, generator.integers(0, 780, 860).tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_subsets_of_one_seed_are_nested_and_hold_every_class(training_set, seed):
    labels, patients = training_set
    small, middle, full = (label_subset(labels, fraction, seed, patients) for fraction in (0.05, 0.1, 1.0))
    assert set(small.indices) <= set(middle.indices) <= set(full.indices)
    assert len(full.indices) == 860
    assert 43 <= len(small.indices) <= 50
    assert (labels[small.indices].sum(axis=0) >= 2).all()
    assert small.classes_without_positives == []


def test_patients_are_never_divided(training_set):
    labels, patients = training_set
    inside = set(label_subset(labels, 0.3, 0, patients).indices)
    chosen = {patients[index] for index in inside}
    assert {index for index, patient in enumerate(patients) if patient in chosen} == inside


def test_seed_decides_the_subset_and_its_hash(training_set):
    labels, patients = training_set
    first, again, other = (label_subset(labels, 0.1, seed, patients) for seed in (0, 0, 1))
    assert first.sha256 == again.sha256 != other.sha256


def test_class_that_cannot_be_taught_is_listed(training_set):
    labels, patients = training_set
    labels[:, 3] = 0
    assert label_subset(labels, 0.1, 0, patients).classes_without_positives == [3]


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.5, 1e-5])
def test_fraction_without_records_is_refused(training_set, fraction):
    with pytest.raises(ValueError, match="fraction"):
        label_subset(training_set[0], fraction, 0)
