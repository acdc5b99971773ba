"""R-peak detection: bars on annotated records, invariances, and inputs that hold no heartbeat."""

import sys

import numpy as np
import pytest
import wfdb
from scipy.signal import resample_poly

from ecg_transformers.signal import beats as beats_module
from ecg_transformers.signal.beat_matching import BeatScore, match_beats, score_beats
from ecg_transformers.signal.beats import REFINEMENT_BAND_HZ, band_pass, detect_r_peaks, refine_r_peaks

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
MITDB = ("100", "119", "200", "201", "208", "209", "222", "231")


def synthetic(seconds=20.0, rate=250, bpm=72, noise=0.01, amplitude=1.0, seed=0):
    """P, QRS and T as bumps; returns the lead `(T,)` and the R peaks."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    peaks = np.arange(0.5, seconds - 0.6, 60 / bpm)
    lead = noise * rng.standard_normal(time.size)
    for peak in peaks:
        for offset, height, width in (
            (-0.16, 0.12, 0.02),
            (0.0, 1.0, 0.010),
            (0.025, -0.25, 0.010),
            (0.28, 0.3, 0.05),
        ):
            lead += amplitude * height * np.exp(-0.5 * ((time - peak - offset) / width) ** 2)
    return lead, np.round(peaks * rate).astype(int)


@pytest.fixture(scope="module")
def mitdb(ecg_data_dir):
    """First channel, rate and reference beats of every whole record at hand."""
    records = {}
    for name in MITDB:
        path = str(ecg_data_dir / "mitdb" / name)
        record, marks = wfdb.rdrecord(path, channels=[0]), wfdb.rdann(path, "atr")
        beats = np.asarray([s for s, symbol in zip(marks.sample, marks.symbol) if symbol in BEAT_SYMBOLS])
        records[name] = (record.p_signal[:, 0], record.fs, beats)
    return records


def pooled(cases, tolerance_s):
    scores = (score_beats(beats, peaks, tolerance_s * rate) for beats, peaks, rate in cases)
    return sum(scores, BeatScore(0, 0, 0))


def test_whole_mitbih_records_meet_both_tolerances(mitdb):
    cases = [(beats, detect_r_peaks(lead, rate), rate) for lead, rate, beats in mitdb.values()]
    assert pooled(cases, 0.150).f1 >= 0.998
    assert pooled(cases, 0.075).f1 >= 0.995


@pytest.mark.parametrize(("rate", "up", "down"), [(100, 5, 18), (250, 25, 36)])
def test_ten_second_pieces_meet_both_tolerances_with_beats_at_their_edges(mitdb, rate, up, down):
    cases = []
    for lead, own_rate, beats in mitdb.values():
        for first in range(0, 180 * 3600, 6 * 3600):
            inside = beats[(beats >= first) & (beats < first + 3600)] - first
            piece = resample_poly(lead[first : first + 3600], up, down)
            cases.append((np.round(inside * rate / own_rate), detect_r_peaks(piece, rate), rate))
    assert pooled(cases, 0.150).f1 >= 0.995
    assert pooled(cases, 0.075).f1 >= 0.99


def test_every_lead_of_ludb_meets_both_tolerances(ecg_data_dir):
    cases = []
    for header in sorted((ecg_data_dir / "ludb" / "data").glob("*.hea")):
        path = str(header.with_suffix(""))
        record = wfdb.rdrecord(path)
        for column, lead in enumerate(record.sig_name):
            marks = wfdb.rdann(path, lead)
            beats = np.asarray([s for s, symbol in zip(marks.sample, marks.symbol) if symbol == "N"])
            peaks = detect_r_peaks(record.p_signal[:, column], record.fs)
            reach = 0.150 * record.fs
            cases.append((beats, peaks[(peaks >= beats[0] - reach) & (peaks <= beats[-1] + reach)], record.fs))
    assert len(cases) == 32 * 12
    assert pooled(cases, 0.150).f1 >= 0.997
    assert pooled(cases, 0.075).f1 >= 0.993


def test_noisy_records_keep_most_beats(mitdb):
    rng = np.random.default_rng(0)
    cases = []
    for lead, rate, beats in mitdb.values():
        count = 120 * rate
        noisy = lead[:count] + 0.5 * np.std(lead[:count]) * rng.standard_normal(count)
        cases.append((beats[beats < count], detect_r_peaks(noisy, rate), rate))
    assert pooled(cases, 0.150).f1 >= 0.98


@pytest.mark.parametrize("height", [-2.0, 0.5, 4.0])
def test_pacing_spikes_do_not_hide_or_double_the_wide_beats_they_start(height):
    rate, rng = 360, np.random.default_rng(0)
    time = np.arange(30 * rate) / rate
    lead, beats = 0.02 * rng.standard_normal(time.size), []
    for start in np.arange(0.6, 29.3, 0.85):
        for offset, size, width in ((0.09, 1.0, 0.03), (0.16, -0.5, 0.03), (0.40, -0.4, 0.06)):
            lead += size * np.exp(-0.5 * ((time - start - offset) / width) ** 2)
        lead[int(start * rate)] += height
        beats.append(round((start + 0.09) * rate))
    score = score_beats(beats, detect_r_peaks(lead, rate), 0.075 * rate)
    assert score.f1 == 1.0


@pytest.mark.parametrize("rate", [100, 128, 250, 360, 500, 1000])
@pytest.mark.parametrize("bpm", [40, 72, 150, 200])
def test_every_beat_of_a_clean_lead_is_found_at_its_peak(rate, bpm):
    lead, beats = synthetic(rate=rate, bpm=bpm)
    peaks = detect_r_peaks(lead, rate)
    assert peaks.dtype == np.int64
    assert len(peaks) == len(beats)
    assert np.abs(peaks - beats).max() <= max(1, 0.012 * rate)


def test_scale_polarity_and_offset_do_not_move_peaks():
    lead, _ = synthetic()
    peaks = detect_r_peaks(lead, 250)
    for changed in (7.5 * lead, -lead, lead + 3.0, 1e-6 * lead, 1e120 * lead):
        np.testing.assert_array_equal(detect_r_peaks(changed, 250), peaks)
    np.testing.assert_array_equal(detect_r_peaks(np.round(1000 * lead).astype(np.int16), 250), peaks)


def test_peaks_are_sorted_unique_inside_and_rarely_move_with_the_rate(mitdb):
    for lead, rate, _ in mitdb.values():
        lead = lead[: 300 * rate]
        peaks, doubled = detect_r_peaks(lead, rate), detect_r_peaks(resample_poly(lead, 2, 1), 2 * rate)
        assert (np.diff(peaks) > 0).all()
        assert peaks[0] >= 0
        assert peaks[-1] < len(lead)
        first, second = match_beats(peaks, np.round(doubled / 2), 0.150 * rate)
        moved = np.abs(peaks[first] - doubled[second] / 2) / rate
        assert len(first) >= 0.999 * max(len(peaks), len(doubled))
        assert (moved > 0.020).mean() <= 0.005  # beats with two lobes of nearly the same size
        assert np.median(moved) <= 0.002


@pytest.mark.parametrize(
    "lead",
    [
        np.zeros(5000),
        np.full(5000, 7.3),
        np.full(5000, np.nan),
        np.full(5000, 1e9) + 1e-9 * np.random.default_rng(0).standard_normal(5000),
        np.zeros(0),
        np.ones(1),
        np.random.default_rng(0).standard_normal(99),
        np.zeros(5000, dtype=bool),
    ],
    ids=["zero", "constant", "missing", "rounding", "empty", "one_sample", "under_one_second", "bool"],
)
def test_a_lead_without_signal_has_no_peaks(lead):
    peaks = detect_r_peaks(lead, 100)
    assert peaks.dtype == np.int64
    assert peaks.size == 0


@pytest.mark.parametrize("rate", [100, 250, 500])
def test_noise_alone_has_hardly_ever_a_beat(rate):
    rng = np.random.default_rng(0)
    white = [detect_r_peaks(rng.standard_normal(10 * rate), rate).size for _ in range(30)]
    brown = [detect_r_peaks(np.cumsum(rng.standard_normal(10 * rate)), rate).size for _ in range(30)]
    assert np.mean(np.asarray(white + brown) > 0) <= 0.05


@pytest.mark.parametrize("kind", ["infinite", "step", "impulse", "square", "huge"])
def test_odd_input_never_raises(kind):
    rng = np.random.default_rng(0)
    lead = {
        "infinite": np.where(rng.random(3000) < 0.1, np.inf, rng.standard_normal(3000)),
        "step": np.repeat([0.0, 1.0], 1500),
        "impulse": np.eye(1, 3000, 1500)[0],
        "square": np.sign(np.sin(np.arange(3000) / 50)),
        "huge": 1e300 * rng.standard_normal(3000),
    }[kind]
    peaks = detect_r_peaks(lead, 100)
    assert (np.diff(peaks) > 0).all()
    assert peaks.size <= {"step": 1, "impulse": 1}.get(kind, lead.size)


def test_missing_stretches_leave_the_other_beats_alone():
    lead, beats = synthetic(seconds=30)
    broken = lead.copy()
    broken[2500:3500] = np.nan
    peaks = detect_r_peaks(broken, 250)
    outside = beats[(beats < 2400) | (beats > 3600)]
    assert len(match_beats(outside, peaks, 5)[0]) == len(outside)


def test_blocks_give_the_peaks_of_one_piece(mitdb, monkeypatch):
    lead, rate, _ = mitdb["200"]
    whole = detect_r_peaks(lead[: 1200 * rate], rate)
    monkeypatch.setattr(beats_module, "BLOCK_S", 300.0)
    np.testing.assert_array_equal(detect_r_peaks(lead[: 1200 * rate], rate), whole)


def test_an_overnight_record_needs_little_memory_beyond_itself(mitdb):
    import tracemalloc

    lead, rate, _ = mitdb["100"]
    night = np.tile(lead.astype(np.float32), 8)
    tracemalloc.start()
    peaks = detect_r_peaks(night, rate)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(peaks) > 8 * 2200
    assert peak_bytes < 150e6


def test_the_detector_is_far_faster_than_real_time(mitdb):
    import time

    lead, rate, _ = mitdb["209"]
    start = time.process_time()
    detect_r_peaks(lead, rate)
    assert len(lead) / rate / (time.process_time() - start) >= 2000


def test_refinement_repairs_a_detector_with_a_delay():
    lead, beats = synthetic()
    filtered = band_pass(lead, 250, REFINEMENT_BAND_HZ)
    for delay_s in (-0.06, 0.06):
        moved = refine_r_peaks(filtered, beats + round(delay_s * 250), 250, tolerance_s=0.10)
        assert np.abs(moved - beats).max() <= 3


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="zero_phase"):
        detect_r_peaks(np.zeros(1000), 250, method="pan")
    with pytest.raises(ValueError, match=r"\(T,\)"):
        detect_r_peaks(np.zeros((1000, 2)), 250)
    with pytest.raises(ValueError, match="25 Hz"):
        detect_r_peaks(np.zeros(1000), 0)


@pytest.mark.parametrize(("method", "package"), [("sleepecg", "sleepecg"), ("neurokit", "neurokit2")])
def test_a_library_that_is_not_installed_is_named(monkeypatch, method, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=package):
        detect_r_peaks(np.zeros(1000), 250, method=method)


@pytest.mark.parametrize(("method", "package"), [("sleepecg", "sleepecg"), ("neurokit", "neurokit2")])
def test_a_library_detector_is_called_and_refined(monkeypatch, method, package):
    import types

    lead, beats = synthetic()
    late = beats + 12  # a library with a delay of 48 ms
    library = types.SimpleNamespace(
        detect_heartbeats=lambda x, rate: late,
        ecg_clean=lambda x, sampling_rate, method: x,
        ecg_peaks=lambda x, sampling_rate, method: (None, {"ECG_R_Peaks": late}),
    )
    monkeypatch.setitem(sys.modules, package, library)
    peaks = detect_r_peaks(lead, 250, method=method)
    assert len(peaks) == len(beats)
    assert np.abs(peaks - beats).max() <= 3


def test_matching_is_one_to_one_and_prefers_the_nearer():
    reference, detected = match_beats([100, 200, 300], [95, 103, 190, 420], 50)
    np.testing.assert_array_equal(reference, [0, 1])
    np.testing.assert_array_equal(detected, [1, 2])
    score = score_beats([100, 200, 300], [95, 103, 190, 420], 50)
    assert (score.sensitivity, score.positive_predictivity) == (2 / 3, 2 / 4)
    assert score.f1 == pytest.approx(4 / 7)


def test_scores_of_nothing_are_defined():
    assert score_beats([], [], 10).f1 == 0.0
    assert BeatScore(0, 0, 0).sensitivity == 0.0
