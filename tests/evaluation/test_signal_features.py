import numpy as np
import pytest

from ecg_transformers.evaluation.signal_features import (
    FEATURES_PER_LEAD,
    amplitude_features,
    median_beat,
    rhythm_features,
    simple_features,
)


def beats(rate_hz=100, seconds=10, per_minute=60, leads=12):
    """A Gaussian R wave of 1 mV (a growing number of mV with the lead) at a steady rate."""
    time = np.arange(seconds * rate_hz) / rate_hz
    period = 60 / per_minute
    wave = np.exp(-0.5 * (((time + period / 2) % period - period / 2 - 0.0) / 0.02) ** 2)
    return wave[:, None] * (1 + np.arange(leads))


def test_twelve_leads_give_259_figures():
    features = simple_features(beats(), 100)
    assert features.shape == (12 * FEATURES_PER_LEAD + 7,) == (259,)
    assert np.isfinite(features).all()


def test_rhythm_figures_hold_the_heart_rate():
    from ecg_transformers.evaluation.signal_features import band_pass

    for per_minute in (50, 75, 120):
        rhythm = rhythm_features(band_pass(beats(per_minute=per_minute), 100), 100)
        assert rhythm[1] == pytest.approx(60 / per_minute, rel=0.03)  # mean RR
        assert rhythm[2] < 0.02  # and it is steady


def test_figures_of_one_lead_do_not_depend_on_the_others():
    signal = beats()
    other = signal.copy()
    other[:, 3] = np.random.default_rng(0).normal(size=len(signal)) * 0.1
    first, second = (simple_features(part, 100)[:-7].reshape(12, -1) for part in (signal, other))
    np.testing.assert_array_equal(np.delete(first, 3, axis=0), np.delete(second, 3, axis=0))
    assert not np.allclose(first[3], second[3])


def test_amplitude_follows_the_voltage_and_ignores_an_offset():
    features = amplitude_features(beats() + 5.0, 100).reshape(3, 12)
    np.testing.assert_allclose(features[1] / features[1, 0], 1 + np.arange(12), rtol=1e-6)
    np.testing.assert_allclose(features, amplitude_features(beats(), 100).reshape(3, 12), atol=1e-3)


def test_missing_samples_and_flat_leads_stay_finite():
    signal = beats()
    signal[100:130, 2] = np.nan
    signal[:, 5] = np.nan
    signal[:, 7] = 0.0
    assert np.isfinite(simple_features(signal, 100)).all()
    assert np.isfinite(median_beat(signal, 100)).all()
    assert np.isfinite(simple_features(np.zeros((1000, 12)), 100)).all()


def test_median_beat_is_highest_at_the_r_peak():
    beat = median_beat(beats(), 100).reshape(12, 26)
    at = np.linspace(-0.25, 0.45, 26)[beat.argmax(axis=1)]
    assert np.abs(at).max() < 0.03
    np.testing.assert_array_equal(median_beat(np.zeros((1000, 2)), 100), np.zeros(52))


def test_too_short_a_record_is_refused():
    with pytest.raises(ValueError, match="2 s"):
        simple_features(beats(seconds=1), 100)
