"""Decimation of joined leads and plain subsampling."""

import numpy as np
import pytest

from ecg_transformers.signal.decimation import decimate_flattened, keep_every


def test_leads_mix_at_their_seams_and_nowhere_else():
    signal = np.random.default_rng(0).standard_normal((2, 3, 2_500))
    joined = decimate_flattened(signal, 5)
    alone = np.stack([decimate_flattened(signal[:, [lead]], 5)[:, 0] for lead in range(3)], axis=1)
    assert joined.shape == (2, 3, 500)
    difference = np.abs(joined - alone)
    assert difference[..., 60:-60].max() < 1e-4
    assert difference[:, 1, 0].min() > 1e-3


def test_slow_waves_stay_and_fast_ones_go():
    time = np.arange(5_000) / 500
    for frequency, gain in ((5.0, 1.0), (80.0, 0.0)):
        wave = np.sin(2 * np.pi * frequency * time)[None]
        kept = decimate_flattened(wave, 5)[0, 100:-100]
        assert np.isclose(np.abs(kept).max(), gain, atol=0.02)


def test_a_factor_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="does not divide"):
        decimate_flattened(np.zeros((12, 2_501)), 5)


def test_every_kth_sample_is_kept_as_it_is():
    signal = np.arange(11.0)[None]
    np.testing.assert_array_equal(keep_every(signal, 2), [[0, 2, 4, 6, 8, 10]])
    with pytest.raises(ValueError, match="positive"):
        keep_every(signal, 0)
