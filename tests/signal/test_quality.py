"""What is found wrong with a signal."""

from typing import Any

import numpy as np
import pytest

from ecg_transformers.signal.quality import (
    flat_leads,
    interpolate_gaps,
    keep_flat,
    nan_gaps,
    starts_recorded,
    zero_gaps,
)


def test_gaps_are_found_with_start_and_length() -> None:
    lead = np.ones(10)
    lead[[0, 4, 5, 9]] = np.nan
    assert nan_gaps(lead) == [(0, 1), (4, 2), (9, 1)]
    assert nan_gaps(np.ones(3)) == []


def test_short_gaps_are_filled_by_lines_and_counted() -> None:
    record = np.stack([np.arange(10.0), np.ones(10)], axis=1)
    broken = record.copy()
    broken[3:5, 0] = np.nan
    broken[0, 0] = np.nan
    repaired, filled = interpolate_gaps(broken, 2)
    expected = record.copy()
    expected[0, 0] = 1.0  # the nearest sample
    np.testing.assert_allclose(repaired, expected)
    assert filled == [3, 0]
    assert np.isnan(broken[3, 0])


def test_long_gaps_and_empty_leads_are_refused() -> None:
    record = np.ones((20, 1))
    record[5:9] = np.nan
    with pytest.raises(ValueError, match="4 NaN samples at sample 5"):
        interpolate_gaps(record, 3)
    with pytest.raises(ValueError, match="nothing but NaN"):
        interpolate_gaps(np.full((5, 1), np.nan), 10)


def test_flat_leads_hold_one_value() -> None:
    signal = np.zeros((2, 3, 50))
    signal[0, 1, 7] = 1  # neither first, middle nor last
    assert flat_leads(signal).tolist() == [[True, False, True], [True, True, True]]


def test_flat_leads_are_put_back_to_their_constant() -> None:
    signal = np.random.default_rng(0).standard_normal((3, 50))
    signal[1] = 0.7
    noisy = np.ones((3, 20)) + 1e-17
    assert (keep_flat(signal, noisy.copy())[1] == 0.7).all()
    assert not keep_flat(signal, noisy.copy(), passes_constants=False)[1].any()
    np.testing.assert_array_equal(keep_flat(signal, noisy.copy())[[0, 2]], noisy[[0, 2]])


def test_the_published_drop_rule_is_reproduced(parity: Any) -> None:
    tensors = parity("ecg_jepa", "preprocess")
    waves, valid = tensors["invalid.waves"].numpy(), tensors["invalid.valid"].numpy()
    assert [starts_recorded(wave.T) for wave in waves] == valid.astype(bool).tolist()


def test_missing_samples_or_their_leads_become_zero_and_are_counted() -> None:
    record = np.ones((10, 3), dtype=np.float32)
    record[[2, 5], 1] = np.nan
    samples, counts = zero_gaps(record)
    assert counts == [0, 2, 0]
    assert samples.dtype == np.float32
    assert samples[:, 1].tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 1, 1]
    leads, _ = zero_gaps(record, whole_leads=True)
    assert not leads[:, 1].any()
    assert leads[:, [0, 2]].all()
    assert np.isnan(record).any()  # the record itself is left as it was
