"""Cutting beats: shift, scale and offset invariance, edges, cycles, RR features."""

import numpy as np
import pytest
from scipy.signal import resample

from ecg_transformers.signal.beat_segments import rr_features, segment_beats

RATE = 250


@pytest.fixture
def record():
    rng = np.random.default_rng(0)
    lead = np.cumsum(rng.standard_normal(5000)) * 0.01 + rng.standard_normal(5000) * 0.1
    return lead.astype(np.float32), np.arange(100, 4900, 210)


@pytest.mark.parametrize("mode", ["window", "cycle"])
@pytest.mark.parametrize("norm", ["none", "beat"])
def test_shifted_records_give_bitwise_equal_inner_beats(record, mode, norm):
    lead, peaks = record
    whole = segment_beats(lead, peaks, RATE, mode=mode, norm=norm)
    cut = segment_beats(lead[137:], peaks[2:] - 137, RATE, mode=mode, norm=norm)
    np.testing.assert_array_equal(whole.beats[3:-1], cut.beats[1:-1])
    np.testing.assert_array_equal(whole.samples[2:], cut.samples + 137)
    np.testing.assert_array_equal(whole.rr[3:], cut.rr[1:])


def test_record_scale_survives_a_shift_that_loses_no_beat(record):
    lead, peaks = record
    first = segment_beats(lead, peaks, RATE)
    second = segment_beats(lead[30:], peaks - 30, RATE)
    assert not first.edge.any()
    np.testing.assert_array_equal(first.beats, second.beats)


@pytest.mark.parametrize("mode", ["window", "cycle"])
@pytest.mark.parametrize("norm", ["record", "beat"])
def test_gain_cancels_polarity_flips_and_offset_vanishes(record, mode, norm):
    lead, peaks = record
    beats = segment_beats(lead, peaks, RATE, mode=mode, norm=norm).beats
    for factor in (0.01, 3.0, 1000.0):
        scaled = segment_beats(lead * factor, peaks, RATE, mode=mode, norm=norm).beats
        np.testing.assert_allclose(scaled, beats, atol=1e-4)
        np.testing.assert_allclose(scaled, beats, atol=1e-5 * np.abs(beats).max())
    np.testing.assert_allclose(segment_beats(-lead, peaks, RATE, mode=mode, norm=norm).beats, -beats, atol=1e-5)
    shifted = segment_beats(lead.astype(np.float64) + 2.0, peaks, RATE, mode=mode, norm=norm).beats
    np.testing.assert_allclose(shifted, beats, atol=1e-5)


@pytest.mark.parametrize("factor", [0.8, 1.25])
@pytest.mark.parametrize("rate_follows", [True, False])
def test_cycles_do_not_change_when_time_is_scaled(factor, rate_follows):
    time = np.arange(5000) / RATE
    lead, peaks = np.zeros(5000), np.arange(200, 4800, 200)
    for peak in peaks / RATE:
        lead += np.exp(-0.5 * ((time - peak) / 0.02) ** 2) + 0.3 * np.exp(-0.5 * ((time - peak - 0.25) / 0.05) ** 2)
    beats = segment_beats(lead, peaks, RATE, mode="cycle").beats
    longer = resample(lead, int(5000 * factor))
    scaled = segment_beats(
        longer, np.round(peaks * factor), RATE * factor if rate_follows else RATE, mode="cycle"
    ).beats
    difference = np.sqrt(np.mean((scaled - beats) ** 2)) / np.sqrt(np.mean(beats**2))
    assert difference < 0.05


def test_one_beat_per_peak_and_fewer_only_on_request(record):
    lead, _ = record
    peaks = np.asarray([10, 500, 900, 4990])
    kept = segment_beats(lead, peaks, RATE)
    np.testing.assert_array_equal(kept.samples, peaks)
    np.testing.assert_array_equal(kept.edge, [True, False, False, True])
    dropped = segment_beats(lead, peaks, RATE, drop_edge=True)
    np.testing.assert_array_equal(dropped.samples, [500, 900])
    np.testing.assert_array_equal(dropped.rr, kept.rr[1:3])


def test_outside_the_record_the_edge_value_stands(record):
    lead, _ = record
    beat = segment_beats(lead, [0], RATE, norm="none").beats[0, 0]
    before = beat[: int(0.25 / 0.70 * 128) - 1]
    assert np.ptp(before) == 0


@pytest.mark.parametrize("peaks", [[], [2500]])
@pytest.mark.parametrize("mode", ["window", "cycle"])
def test_records_with_fewer_than_two_peaks_are_cut(record, peaks, mode):
    segments = segment_beats(record[0], np.asarray(peaks, dtype=int), RATE, mode=mode)
    assert segments.beats.shape == (len(peaks), 1, 128)
    assert np.isfinite(segments.beats).all()
    assert not segments.rr.any()


def test_flat_and_missing_leads_give_finite_beats(record):
    lead, peaks = record
    signal = np.stack([lead, np.zeros(5000), np.full(5000, np.nan)], axis=1)
    signal[1000:1300, 0] = np.nan
    segments = segment_beats(signal, peaks, RATE)
    assert segments.beats.shape == (len(peaks), 3, 128)
    assert np.isfinite(segments.beats).all()
    assert not segments.beats[:, 1:].any()


def test_several_leads_are_cut_as_each_alone(record):
    lead, peaks = record
    both = segment_beats(np.stack([lead, -2 * lead], axis=1), peaks, RATE).beats
    np.testing.assert_array_equal(both[:, 0], segment_beats(lead, peaks, RATE).beats[:, 0])
    np.testing.assert_array_equal(both[:, 1], segment_beats(-2 * lead, peaks, RATE).beats[:, 0])


def test_rr_features_are_clipped_logs_and_zero_where_unknown():
    features = rr_features([0, 250, 750, 751, 100000], 250)
    np.testing.assert_allclose(features[0], [0.0, 0.0])
    np.testing.assert_allclose(features[1], [0.0, np.log(2.0)], rtol=1e-6)
    np.testing.assert_allclose(features[2], [np.log(2.0), -2.0], rtol=1e-6)
    np.testing.assert_allclose(features[4], [2.0, 0.0])
    assert rr_features([], 250).shape == (0, 2)


def test_long_records_are_cut_like_short_ones(record):
    lead, peaks = record
    long = np.tile(lead, 300)
    many = (peaks[None] + 5000 * np.arange(300)[:, None]).ravel()
    beats = segment_beats(long, many, RATE, norm="beat").beats
    np.testing.assert_array_equal(beats[len(peaks) * 7 + 3], segment_beats(lead, peaks, RATE, norm="beat").beats[3])


@pytest.mark.parametrize("peaks", [[5, 5], [10, 4], [-1, 4], [5000], [1.5]])
def test_peaks_that_are_no_samples_of_the_record_are_refused(record, peaks):
    with pytest.raises(ValueError, match="R peaks"):
        segment_beats(record[0], peaks, RATE)


@pytest.mark.parametrize("setting", [{"mode": "beat"}, {"norm": "global"}])
def test_unknown_settings_are_refused(record, setting):
    with pytest.raises(ValueError, match="must be one of"):
        segment_beats(record[0], record[1], RATE, **setting)
