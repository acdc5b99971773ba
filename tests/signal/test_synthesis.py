"""The synthetic ECG: deterministic, labelled truthfully, obeying Einthoven."""

import time

import numpy as np
import pytest

from ecg_transformers.signal.synthesis import LABELS, LEAD_NAMES, RHYTHMS, synthesize_ecg


def first_with(wanted: set[str], without: set[str] = frozenset(), start: int = 0):
    for index in range(start, 4000):
        record = synthesize_ecg(3, index)
        if wanted <= set(record.labels) and not without & set(record.labels):
            return record
    raise AssertionError(f"no record with {wanted}")


def test_a_record_depends_on_seed_and_index_alone():
    forwards = [synthesize_ecg(5, index).signal for index in range(6)]
    backwards = [synthesize_ecg(5, index).signal for index in reversed(range(6))][::-1]
    for a, b in zip(forwards, backwards):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(synthesize_ecg(6, 0).signal, forwards[0])
    assert not np.array_equal(forwards[1], forwards[0])


def test_the_global_generator_is_neither_used_nor_moved():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    synthesize_ecg(0, 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_limb_leads_obey_einthoven_and_goldberger_exactly(noise):
    for index in range(20):
        x = dict(zip(LEAD_NAMES, synthesize_ecg(0, index, noise=noise).signal.T))
        np.testing.assert_array_equal(x["III"], x["II"] - x["I"])
        np.testing.assert_allclose(x["aVR"], -(x["I"] + x["II"]) / 2, atol=1e-12)
        np.testing.assert_allclose(x["aVL"], x["I"] - x["II"] / 2, atol=1e-12)
        np.testing.assert_allclose(x["aVF"], x["II"] - x["I"] / 2, atol=1e-12)


def test_rates_are_what_the_rhythm_says():
    for index in range(150):
        record = synthesize_ecg(1, index)
        assert sum(label in RHYTHMS for label in record.labels) == 1
        low, high = {"sinus": (55, 105), "bradycardia": (33, 62), "tachycardia": (95, 175), "AF": (50, 180)}[
            next(label for label in record.labels if label in RHYTHMS)
        ]
        assert low < record.heart_rate < high, (index, record.labels, record.heart_rate)


def test_af_is_irregular_and_has_no_p_wave():
    def irregularity(record):
        intervals = np.diff(record.r_peaks)
        return intervals.std() / intervals.mean()

    fibrillating = [synthesize_ecg(2, i, labels=("AF",)) for i in range(20)]
    regular = [synthesize_ecg(2, i, labels=("sinus",)) for i in range(20)]
    assert min(map(irregularity, fibrillating)) > max(map(irregularity, regular))
    clean = synthesize_ecg(2, 0, labels=("sinus",), noise=0.0)
    peak = clean.r_peaks[4]
    p_wave = clean.signal[peak - round(0.20 * 250) : peak - round(0.12 * 250), 1]
    assert np.ptp(p_wave) > 0.02  # lead II shows one in sinus rhythm


def test_pvcs_are_marked_early_and_wide():
    record = first_with({"PVC", "sinus"}, {"wide_qrs"})
    beats = np.flatnonzero(np.array(record.beat_symbols) == "V")
    assert beats.size >= 1
    intervals = np.diff(record.r_peaks)
    for beat in beats[(beats > 0) & (beats < len(intervals))]:
        assert intervals[beat - 1] < 0.8 * np.median(intervals)
    assert all(symbol == "N" for symbol in first_with({"sinus"}, {"PVC"}).beat_symbols)


def test_wide_qrs_st_elevation_and_t_inversion_change_the_signal_where_they_should():
    def beat(labels):
        x = synthesize_ecg(4, 1, labels=labels, noise=0.0)
        peak = x.r_peaks[3]
        return x.signal[peak - 60 : peak + 130]

    plain = beat(("sinus",))
    raised = beat(("sinus", "st_elevation"))
    inverted = beat(("sinus", "t_inversion"))
    st, t = slice(60 + 22, 60 + 32), slice(60 + 55, 60 + 95)
    assert (raised[st].mean(axis=0) - plain[st].mean(axis=0)).max() > 0.08
    peaks = np.abs(plain[t]).max(axis=0)
    lead = int(peaks.argmax())
    sign = np.sign(plain[t][np.abs(plain[t][:, lead]).argmax(), lead])
    assert sign * inverted[t][:, lead].mean() < 0 < sign * plain[t][:, lead].mean()

    def width(x):
        steep = np.abs(np.gradient(x[30:100], axis=0)).max(axis=1)
        return (steep > 0.12 * steep.max()).sum()

    assert width(beat(("sinus", "wide_qrs"))) > width(plain)


def test_beats_do_not_move_with_the_sampling_rate():
    slow, fast = synthesize_ecg(0, 3, sampling_rate=100), synthesize_ecg(0, 3, sampling_rate=500)
    np.testing.assert_allclose(slow.r_peaks / 100, fast.r_peaks / 500, atol=0.006)
    assert slow.labels == fast.labels
    clean = [synthesize_ecg(0, 3, sampling_rate=rate, noise=0.0).signal for rate in (250, 500)]
    np.testing.assert_allclose(clean[0], clean[1][::2], atol=1e-4)


def test_r_peaks_stand_on_the_qrs_complex():
    record = synthesize_ecg(0, 0, labels=("sinus",), noise=0.0)
    energy = np.abs(np.gradient(record.signal, axis=0)).sum(axis=1)
    steep = energy > 0.3 * energy.max()
    inner = record.r_peaks[(record.r_peaks > 25) & (record.r_peaks < 2475)]
    assert all(steep[peak - 12 : peak + 13].any() for peak in inner)


def test_patients_share_their_anatomy_and_nothing_else():
    a, b = (synthesize_ecg(0, i, records_per_patient=2, noise=0, labels=("sinus",)) for i in (0, 1))
    other = synthesize_ecg(0, 2, records_per_patient=2, noise=0, labels=("sinus",))
    assert a.patient == b.patient != other.patient

    def shape(record):
        qrs = np.median([record.signal[p - 15 : p + 15] for p in record.r_peaks[2:-2]], axis=0).ravel()
        return qrs / np.linalg.norm(qrs)

    assert shape(a) @ shape(b) > 0.98
    assert shape(a) @ shape(b) > shape(a) @ shape(other)


def test_two_thousand_records_take_less_than_a_minute():
    synthesize_ecg(0, 0)
    started = time.process_time()
    for index in range(100):
        synthesize_ecg(0, index)
    assert (time.process_time() - started) * 20 < 60


def test_every_label_occurs_and_none_is_nearly_constant():
    counts = dict.fromkeys(LABELS, 0)
    for index in range(400):
        for label in synthesize_ecg(9, index, duration=4).labels:
            counts[label] += 1
    assert all(0.08 < count / 400 < 0.6 for count in counts.values()), counts


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampling_rate": 10},
        {"duration": 0.5},
        {"noise": -1},
        {"labels": ("PVC",)},
        {"labels": ("sinus", "AF")},
        {"labels": ("x",)},
    ],
)
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=r"synthetic ECG|noise|labels"):
        synthesize_ecg(0, 0, **arguments)
