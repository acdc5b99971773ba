"""Paced beats, true pauses, slow and fast rhythms: synthetic leads of any rate, and the records that were got wrong."""

import numpy as np
import pytest
import wfdb
import wfdb.processing
from scipy.signal import butter, resample_poly, sosfiltfilt

from ecg_transformers.signal.beat_matching import BeatScore, score_beats
from ecg_transformers.signal.beats import detect_r_peaks

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
RATES = (100, 128, 250, 360, 500, 1000)
NARROW = ((-0.025, -0.12, 0.008), (0.0, 1.0, 0.010), (0.028, -0.25, 0.010))
T_WAVE = ((0.30, 0.25, 0.05),)
SPIKE_TO_LOWEST_S, SPIKE_TO_HIGHEST_S = 0.095, 0.090
WIDE_NEGATIVE = ((SPIKE_TO_LOWEST_S, -1.0, 0.030), (0.40, 0.3, 0.06))
WIDE_POSITIVE = ((SPIKE_TO_HIGHEST_S, 1.0, 0.028), (0.165, -0.35, 0.030), (0.40, -0.35, 0.06))


def lead_of(times, waves, rate, seconds, noise=0.01, seed=0):
    """Gaussian `waves` (offset s, mV, width s) around every time, on noise: a lead `(T,)`."""
    rng = np.random.default_rng(seed)
    clock = np.arange(int(seconds * rate)) / rate
    lead = noise * rng.standard_normal(clock.size)
    for moment in times:
        for offset, height, width in waves:
            first, last = np.searchsorted(clock, (moment + offset - 5 * width, moment + offset + 5 * width))
            lead[first:last] += height * np.exp(-0.5 * ((clock[first:last] - moment - offset) / width) ** 2)
    return lead


def spikes_of(times, rate, seconds, height):
    """Pacing spikes of one millisecond as a recorder with an anti-aliasing filter gives them."""
    fine = 4000
    train = np.zeros(int(seconds * fine) + 8)
    for moment in times:
        train[int(moment * fine) : int(moment * fine) + 4] = height
    smooth = sosfiltfilt(butter(2, min(150, 0.45 * rate), fs=fine, output="sos"), train)
    return np.interp(np.arange(int(seconds * rate)) / rate, np.arange(train.size) / fine, smooth)


def pauses(rng, seconds):
    """Beat times at about 75 a minute with pauses of 2 to 6 s."""
    times = [0.6]
    while times[-1] < seconds - 1:
        times.append(
            times[-1] + (rng.uniform(2, 6) if rng.random() < 0.15 else 0.8 * (1 + 0.03 * rng.standard_normal()))
        )
    return np.array(times[:-1])


def f1_within(times, peaks, rate, tolerance_s):
    return score_beats(np.round(np.asarray(times) * rate).astype(int), peaks, tolerance_s * rate).f1


@pytest.mark.parametrize("rate", [250, 360, 500, 1000])
@pytest.mark.parametrize("height", [-4.0, -1.0, 1.5, 4.0])
def test_a_negative_paced_complex_is_marked_near_its_spike_and_its_lowest_point(rate, height):
    times = np.arange(0.6, 19.3, 0.85)
    lead = lead_of(times, WIDE_NEGATIVE, rate, 20) + spikes_of(times, rate, 20, height)
    peaks = detect_r_peaks(lead, rate) / rate
    assert len(peaks) == len(times)
    assert np.abs(peaks - times).max() <= 0.075
    assert np.abs(peaks - times - SPIKE_TO_LOWEST_S).max() <= 0.075


@pytest.mark.parametrize("rate", [250, 360, 500, 1000])
@pytest.mark.parametrize("height", [-10.0, -1.0, 0.6, 10.0])
def test_a_positive_paced_complex_is_marked_at_its_r_peak_however_tall_the_spike(rate, height):
    times = np.arange(0.6, 19.3, 0.85)
    lead = lead_of(times, WIDE_POSITIVE, rate, 20) + spikes_of(times, rate, 20, height)
    peaks = detect_r_peaks(lead, rate) / rate
    assert len(peaks) == len(times)
    assert np.abs(peaks - times - SPIKE_TO_HIGHEST_S).max() <= 0.03


@pytest.mark.parametrize("rate", RATES)
def test_a_negative_wide_complex_without_a_spike_keeps_its_mark(rate):
    times = np.arange(0.6, 19.3, 0.85)
    peaks = detect_r_peaks(lead_of(times, WIDE_NEGATIVE, rate, 20), rate) / rate
    assert np.abs(peaks - times - SPIKE_TO_LOWEST_S).max() <= 0.02


def test_single_artefacts_before_negative_complexes_move_no_mark():
    times = np.arange(0.6, 59.3, 0.85)
    lead = lead_of(times, WIDE_NEGATIVE, 500, 60)
    struck = lead + spikes_of(times[[10, 40]], 500, 60, 2.0)
    np.testing.assert_allclose(detect_r_peaks(struck, 500), detect_r_peaks(lead, 500), atol=5)


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("p_waves", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_true_pause_holds_no_beat(rate, p_waves, sign):
    rng = np.random.default_rng(rate)
    times = pauses(rng, 60)
    lead = lead_of(times, NARROW + T_WAVE, rate, 60, noise=0.02)
    if p_waves:
        lead += lead_of(np.arange(0.44, 60, 0.8), ((0.0, 0.12, 0.022),), rate, 60, noise=0)
    assert f1_within(times, detect_r_peaks(sign * lead, rate), rate, 0.05) >= 0.99


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("rail", [-5.0, 0.0, 1.5, 50.0])
def test_an_electrode_that_is_off_for_a_while_has_no_beats(rate, rail):
    times = np.arange(0.5, 29.5, 0.8)
    lead = lead_of(times, NARROW + T_WAVE, rate, 30, noise=0.02)
    lead[10 * rate : 202 * rate // 10] = rail
    assert f1_within(times[(times < 10) | (times > 20.2)], detect_r_peaks(lead, rate), rate, 0.05) == 1.0


@pytest.mark.parametrize("bpm", [20, 40])
def test_a_coarse_recorder_that_rests_between_beats_keeps_them(bpm):
    times = np.arange(0.5, 29.5, 60 / bpm)
    lead = np.round(10 * lead_of(times, ((0.0, 1.0, 0.015),), 30, 30, noise=0)) / 10
    assert f1_within(times, detect_r_peaks(lead, 30), 30, 0.05) == 1.0


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("bpm", [24, 32, 40])
@pytest.mark.parametrize("seconds", [10, 60])
def test_a_slow_rhythm_with_p_waves_of_their_own_keeps_its_level(rate, bpm, seconds):
    times = np.arange(0.7, seconds - 0.4, 60 / bpm)
    lead = lead_of(times, NARROW + T_WAVE, rate, seconds, noise=0.02)
    lead += lead_of(np.arange(0.1, seconds, 0.71), ((0.0, 0.15, 0.022),), rate, seconds, noise=0)
    assert f1_within(times, detect_r_peaks(lead, rate), rate, 0.05) == 1.0


@pytest.mark.parametrize("rate", RATES)
def test_small_early_beats_of_a_clean_lead_are_found(rate):
    times = np.arange(0.7, 59, 0.8)
    small = times[10::20] + 0.36
    lead = lead_of(times, NARROW + T_WAVE, rate, 60, noise=0.005)
    lead += 0.27 * lead_of(small, NARROW, rate, 60, noise=0)
    every = np.sort(np.concatenate([times, small]))
    assert f1_within(every, detect_r_peaks(lead, rate), rate, 0.05) == 1.0


@pytest.mark.parametrize("rate", RATES)
def test_a_beat_that_an_end_of_the_record_cuts_is_found(rate):
    times = np.linspace(0.01, 9.99, 11)
    lead = lead_of(times, NARROW + T_WAVE, rate, 10, noise=0.01)
    peaks = detect_r_peaks(lead, rate)
    assert peaks[0] < 0.1 * rate
    assert peaks[-1] > 9.9 * rate


@pytest.mark.parametrize("rate", RATES)
def test_blocked_p_waves_are_no_beats_however_high_some_of_them_are(rate):
    times = np.arange(1.0, 59, 1.7)
    rng = np.random.default_rng(0)
    lead = lead_of(times, NARROW, rate, 60, noise=0.01)
    for blocked in times + 0.7:
        lead += lead_of([blocked], ((0.0, rng.uniform(0.3, 0.42), 0.018),), rate, 60, noise=0)
    assert f1_within(times, detect_r_peaks(lead, rate), rate, 0.05) >= 0.95


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("bpm", [200, 240, 280, 320])
@pytest.mark.parametrize("scale", [1.0, -0.04])
def test_a_fast_rhythm_keeps_every_beat(rate, bpm, scale):
    times = np.arange(0.5, 29.5, 60 / bpm)
    times = times + 0.002 * np.random.default_rng(bpm).standard_normal(times.size)
    waves = (*NARROW, (0.55 * 60 / bpm, 0.2, 10 / bpm))
    lead = lead_of(times, waves, rate, 30, noise=0.02)
    assert f1_within(times, detect_r_peaks(scale * lead, rate), rate, 0.05) >= 0.99


def test_a_fast_rhythm_that_starts_and_ends_is_found_between_slow_beats():
    slow, fast = np.arange(0.5, 10, 0.8), np.arange(10.4, 20, 0.22)
    times = np.concatenate([slow, fast, np.arange(20.8, 30, 0.8)])
    peaks = detect_r_peaks(lead_of(times, NARROW, 250, 31), 250)
    assert f1_within(times, peaks, 250, 0.05) >= 0.98


@pytest.mark.parametrize("bpm", [125, 140, 160])
@pytest.mark.parametrize("rate", RATES)
def test_tall_t_waves_halfway_between_beats_are_no_fast_rhythm(bpm, rate):
    times = np.arange(0.6, 29.5, 60 / bpm)
    lead = lead_of(times, (*NARROW, (30 / bpm, 1.0, 0.035)), rate, 30)
    assert f1_within(times, detect_r_peaks(lead, rate), rate, 0.05) == 1.0


def test_odd_input_of_any_rate_and_length_gives_increasing_samples():
    rng = np.random.default_rng(0)
    for _ in range(150):
        rate = float(rng.choice([25, 30, 62.5, 100, 128, 250, 333.3, 500, 1000]))
        size = int(rng.integers(0, 12 * rate))
        lead = rng.standard_normal(size) * 10.0 ** rng.integers(-200, 200)
        where = rng.random(size)
        lead[where < rng.choice([0, 0.01, 0.5])] = rng.choice([0, np.nan, np.inf, 1e30, -1e30])
        lead[where > rng.choice([0.3, 0.99, 1])] = 0
        peaks = detect_r_peaks(lead, rate)
        assert peaks.dtype == np.int64
        assert (np.diff(peaks) > 0).all()
        assert ((peaks >= 0) & (peaks < size)).all()


@pytest.fixture(scope="module")
def hard_beats(ecg_data_dir):
    """The folder of whole records with paced beats and pauses."""
    folder = ecg_data_dir / "hard-beats"
    if not folder.is_dir():
        pytest.skip("no hard-beats/ among the real records")
    return folder


def beats_of(record, extension):
    marks = wfdb.rdann(record, extension)
    return np.asarray([s for s, symbol in zip(marks.sample, marks.symbol) if symbol in BEAT_SYMBOLS])


@pytest.mark.parametrize(
    ("record", "channel", "wide", "narrow"),
    [("107", 0, 0.998, 0.998), ("107", 1, 0.998, 0.98), ("232", 0, 0.999, 0.999), ("232", 1, 0.99, 0.985)],
)
def test_paced_records_and_records_with_pauses_meet_both_tolerances(hard_beats, record, channel, wide, narrow):
    path = str(hard_beats / "mitdb" / record)
    signal, beats = wfdb.rdrecord(path, channels=[channel]), beats_of(path, "atr")
    peaks = detect_r_peaks(signal.p_signal[:, 0], signal.fs)
    assert score_beats(beats, peaks, 0.150 * signal.fs).f1 >= wide
    assert score_beats(beats, peaks, 0.075 * signal.fs).f1 >= narrow


@pytest.mark.parametrize(("rate", "up", "down", "narrow"), [(100, 5, 18, 0.8), (128, 16, 45, 0.9)])
def test_paced_beats_of_a_slowly_sampled_record_are_marked_near_their_spike(hard_beats, rate, up, down, narrow):
    path = str(hard_beats / "mitdb" / "107")
    signal, beats = wfdb.rdrecord(path, channels=[1]), beats_of(path, "atr")
    peaks = detect_r_peaks(resample_poly(signal.p_signal[:, 0], up, down), rate)
    assert f1_within(beats / signal.fs, peaks, rate, 0.075) >= narrow


def test_pauses_of_sick_sinus_hold_hardly_a_beat(hard_beats):
    path = str(hard_beats / "mitdb" / "232")
    signal, beats = wfdb.rdrecord(path, channels=[0]), beats_of(path, "atr")
    peaks = detect_r_peaks(signal.p_signal[:, 0], signal.fs)
    long = np.flatnonzero(np.diff(beats) > 2 * signal.fs)
    margin = 0.2 * signal.fs
    filled = sum(((peaks > beats[i] + margin) & (peaks < beats[i + 1] - margin)).any() for i in long)
    assert len(long) == 116
    assert filled <= 1


def test_paced_leads_of_ludb_meet_both_tolerances(hard_beats):
    scores = {0.150: BeatScore(0, 0, 0), 0.075: BeatScore(0, 0, 0)}
    for subject in ("34", "95"):
        path = str(hard_beats / "ludb" / "data" / subject)
        record = wfdb.rdrecord(path)
        for column, lead in enumerate(record.sig_name):
            beats = beats_of(path, lead.lower())
            peaks = detect_r_peaks(record.p_signal[:, column], record.fs)
            reach = 0.150 * record.fs
            peaks = peaks[(peaks >= beats[0] - reach) & (peaks <= beats[-1] + reach)]
            for tolerance in scores:
                scores[tolerance] += score_beats(beats, peaks, tolerance * record.fs)
    assert scores[0.150].f1 >= 0.99
    assert scores[0.075].f1 >= 0.98


@pytest.mark.parametrize(("record", "channel"), [("107", 0), ("107", 1), ("232", 0)])
def test_counts_are_those_of_the_comparison_in_wfdb(hard_beats, record, channel):
    path = str(hard_beats / "mitdb" / record)
    signal, beats = wfdb.rdrecord(path, channels=[channel]), beats_of(path, "atr")
    peaks = detect_r_peaks(signal.p_signal[:, 0], signal.fs)
    for tolerance in (0.150, 0.075):
        ours = score_beats(beats, peaks, tolerance * signal.fs)
        theirs = wfdb.processing.compare_annotations(beats, peaks, int(tolerance * signal.fs))
        assert ours.true_positives == theirs.tp
        assert ours.num_detected == theirs.tp + theirs.fp
