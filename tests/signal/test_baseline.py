"""Baseline wander taken out by a running median."""

import numpy as np
import pytest

from ecg_transformers.signal.baseline import subtract_median


@pytest.mark.parametrize("length", [50, 401, 1000])
def test_every_sample_loses_the_median_of_its_window_with_zeros_outside(length: int) -> None:
    signal = np.random.default_rng(0).standard_normal((2, 3, length)) + 2.0
    padded = np.pad(signal, ((0, 0), (0, 0), (20, 20)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 41, axis=-1)
    expected = signal - np.median(windows, axis=-1)
    np.testing.assert_array_equal(subtract_median(signal, 100.0, 0.4), expected)


def test_an_even_window_gets_one_sample_more() -> None:
    signal = np.random.default_rng(1).standard_normal((1, 300))
    np.testing.assert_array_equal(subtract_median(signal, 100.0, 0.39), subtract_median(signal, 100.0, 0.4))


def test_a_constant_becomes_zero_and_the_dtype_is_kept() -> None:
    result = subtract_median(np.full((1, 2, 500), 3.0, dtype=np.float32), 100.0)
    assert result.dtype == np.float32
    assert not result[..., 25:-25].any()
    with pytest.raises(ValueError, match="positive number of seconds"):
        subtract_median(np.zeros((1, 10)), 100.0, 0.0)
