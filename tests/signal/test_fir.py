"""The FIR band-pass: its gain, and what it asks of a signal."""

import numpy as np
import pytest

from ecg_transformers.signal.fir import fir_band_pass


@pytest.mark.parametrize(
    ("frequency", "gain"), [(0.0, 0.964), (1.0, 0.967), (10.0, 1.0), (45.0, 0.631), (47.0, 0.249), (49.0, 0.042)]
)
def test_gains_are_those_of_the_published_filter(frequency, gain):
    time = np.arange(20_000) / 500
    wave = np.cos(2 * np.pi * frequency * time)
    filtered = fir_band_pass(wave, 0.05, 47.0, 500.0)
    middle = slice(5_000, 15_000)
    assert np.isclose(np.dot(filtered[middle], wave[middle]) / np.dot(wave[middle], wave[middle]), gain, atol=2e-3)


def test_time_may_lie_on_any_axis():
    signal = np.random.default_rng(0).standard_normal((1_000, 3))
    first = fir_band_pass(signal, 0.05, 47.0, 500.0)
    np.testing.assert_array_equal(fir_band_pass(signal.T, 0.05, 47.0, 500.0, axis=-1), first.T)


def test_too_short_a_signal_and_too_low_a_rate_are_refused():
    with pytest.raises(ValueError, match="more than 453 samples"):
        fir_band_pass(np.zeros(453), 0.05, 47.0, 500.0)
    with pytest.raises(ValueError, match="half the rate"):
        fir_band_pass(np.zeros(4_000), 0.05, 47.0, 90.0)
