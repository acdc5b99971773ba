"""Standardisation."""

from typing import Any

import numpy as np
import pytest

from ecg_transformers.signal.normalization import min_max, standardize, standardize_fixed


def test_published_standardisation_is_reproduced(parity: Any) -> None:
    tensors = parity("st_mem", "preprocess")
    given = tensors["standardize.in"].numpy()
    for mode in ("joint", "per_lead"):
        np.testing.assert_allclose(standardize(given, mode), tensors[f"standardize.{mode}"].numpy(), atol=1e-9)
    constant = tensors["standardize.constant_in"].numpy()
    np.testing.assert_array_equal(standardize(constant), tensors["standardize.constant_out"].numpy())


def test_batches_equal_single_records_to_the_bit() -> None:
    batch = np.random.default_rng(0).standard_normal((5, 3, 12, 400)).astype(np.float32)
    for mode in ("joint", "per_lead"):
        together = standardize(batch, mode)
        alone = np.stack([np.stack([standardize(crop, mode) for crop in record]) for record in batch])
        np.testing.assert_array_equal(together, alone)


def test_a_flat_lead_gives_zeros_and_leaves_the_others_alone() -> None:
    record = np.random.default_rng(0).standard_normal((3, 100))
    record[1] = 4.2
    result = standardize(record, "per_lead")
    assert not result[1].any()
    np.testing.assert_allclose(result[[0, 2]].std(axis=1), 1)


def test_eps_is_added_to_the_deviation() -> None:
    record = np.random.default_rng(0).standard_normal((3, 100))
    expected = (record - record.mean()) / (record.std() + 0.5)
    np.testing.assert_allclose(standardize(record, "joint", eps=0.5), expected)


def test_fixed_statistics_belong_to_leads() -> None:
    record = np.ones((2, 2, 5), np.float32)
    result = standardize_fixed(record, [0.0, 1.0], [2.0, 4.0])
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result[0, :, 0], [0.5, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: standardize(x, "robust"), "joint"),
        (lambda x: standardize_fixed(x, [0.0, 0.0, 0.0], [1.0]), "3 values for 2 leads"),
        (lambda x: standardize_fixed(x, [0.0], [0.0]), "positive"),
    ],
)
def test_normalisations_without_meaning_are_refused(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 5)))


@pytest.mark.parametrize("scope", ["joint", "per_lead"])
def test_extremes_are_mapped_to_the_ends_of_the_range(scope: str) -> None:
    signal = np.random.default_rng(0).standard_normal((4, 3, 200))
    result = min_max(signal, scope, -1.0, 1.0)
    axes = (-2, -1) if scope == "joint" else -1
    np.testing.assert_allclose(result.min(axis=axes), -1.0)
    np.testing.assert_allclose(result.max(axis=axes), 1.0)
    order = np.argsort(signal[1, 2])
    assert (np.diff(result[1, 2][order]) > 0).all()


def test_what_is_flat_becomes_the_lower_end() -> None:
    signal = np.ones((2, 10), dtype=np.float32)
    signal[1, 0] = 3.0
    per_lead = min_max(signal, "per_lead", -1.0, 1.0)
    assert per_lead.dtype == np.float32
    assert (per_lead[0] == -1.0).all()
    assert not min_max(np.full((2, 10), 5.0)).any()
    with pytest.raises(ValueError, match="joint"):
        min_max(signal, "record")


def test_the_added_epsilon_counts() -> None:
    signal = np.array([[0.0, 1e-8]])
    np.testing.assert_allclose(min_max(signal, "joint", eps=1e-8), [[0.0, 0.5]])
