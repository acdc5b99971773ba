"""Noise, hum and steps are no heartbeats, whatever a model marks in them; ECGs are."""

import time

import numpy as np
import pytest

import ecg_transformers as ecg
from ecg_transformers.features.wave_labels import marked_waves
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.qrs_witness import MANY_LEADS, doubt_of_qrs
from ecg_transformers.signal.synthesis import synthesize_ecg
from ecg_transformers.signal.wave_intervals import wave_intervals
from ecg_transformers.signal.waves import Wave

RATES = (100, 250, 500)


def complexes(at, width=0.09):
    return [Wave("QRS", time - width / 2, time, time + width / 2) for time in at]


def coloured(draw, count, rate, exponent):
    """Noise whose amplitude falls with frequency to this power."""
    spectrum = np.fft.rfft(draw.standard_normal(count))
    return np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(count, 1 / rate), 0.3) ** exponent, count)


def anywhere(draw, seconds):
    """Times of beats of a regular rhythm, as a model may find them anywhere."""
    return np.arange(draw.uniform(0.3, 0.8), seconds - 0.3, draw.uniform(0.35, 1.1))


@pytest.mark.parametrize("seed", range(30))
def test_noise_and_hum_are_doubted_wherever_beats_were_found(seed):
    draw = np.random.default_rng(seed)
    rate, seconds = float(draw.choice(RATES)), draw.uniform(8, 30)
    times = np.arange(round(seconds * rate)) / rate
    found = complexes(anywhere(draw, seconds))
    kinds = [coloured(draw, len(times), rate, exponent) for exponent in (0, 0.5, 1, 1.5)]
    kinds += [np.sin(2 * np.pi * frequency * times + draw.uniform(0, 6)) for frequency in draw.uniform(0.4, 40, 4)]
    kinds += [kinds[-1] + draw.uniform(0.02, 0.5) * kinds[0] / kinds[0].std()]
    for values in kinds:
        said = doubt_of_qrs({"II": found}, {"II": draw.uniform(0.01, 10) * values}, rate)
        assert "does not stand out by its slope" in said
        assert wave_intervals({"II": found}, said).refused == [said]
    leads = {lead: coloured(draw, len(times), rate, draw.choice([0, 0.5, 1, 1.5])) for lead in STANDARD_LEADS}
    assert "slope in any lead" in doubt_of_qrs(dict.fromkeys(STANDARD_LEADS, found), leads, rate)


@pytest.mark.parametrize("hertz", [0.7, 1.0, 1.6, 2.3])
@pytest.mark.parametrize("rate", RATES)
def test_steps_are_doubted_in_several_leads_and_not_in_one(hertz, rate):
    """An ST segment may be as high as its QRS complex, though not in all leads."""
    times = np.arange(10 * rate) / rate
    square = np.sign(np.sin(2 * np.pi * hertz * times + 0.1))
    edges = (np.flatnonzero(np.diff(square)) + 0.5) / rate
    leads = STANDARD_LEADS[:MANY_LEADS]
    signals = {lead: scale * square for lead, scale in zip(leads, (1.0, -0.4, 0.7), strict=True)}
    waves = {lead: complexes(edges) for lead in leads}
    assert "are steps" in doubt_of_qrs(waves, signals, rate)
    assert doubt_of_qrs({"I": waves["I"]}, signals, rate) is None


@pytest.mark.parametrize("index", range(24))
def test_ecgs_are_not_doubted(index):
    """Of all rhythms, with noise, few seconds, in all leads and in each."""
    draw = np.random.default_rng(index)
    made = synthesize_ecg(0, index, sampling_rate=500.0)
    rate, step = made.sampling_rate, int(draw.choice([1, 2, 5]))
    count = round(draw.uniform(4, 10) * rate)
    noise = draw.choice([0.0, 0.05]) * draw.standard_normal(made.signal[:count].shape)
    signal = (draw.choice([0.05, 1.0]) * (made.signal[:count] + noise))[::step]
    beats = complexes([peak / rate for peak in made.r_peaks if 0.1 * rate < peak < count - 0.1 * rate])
    signals = dict(zip(STANDARD_LEADS, signal.T, strict=True))
    assert doubt_of_qrs(dict.fromkeys(STANDARD_LEADS, beats), signals, rate / step) is None
    assert doubt_of_qrs({"II": beats}, signals, rate / step) is None


def test_no_lead_of_a_real_record_is_doubted(ecg_data_dir, own_cache):
    dataset = ecg.load_ecg_dataset("ludb", ecg_data_dir / "ludb", split="train")
    seen = 0
    for index in range(len(dataset)):
        record = ecg.ECGRecord.from_row(dataset[index])
        waves = marked_waves(record.annotations, record.sampling_rate)
        signals = dict(zip(record.lead_names, np.asarray(record.signal).T, strict=True))
        for chosen in (list(waves), *([lead] for lead in waves)):
            assert doubt_of_qrs({lead: waves[lead] for lead in chosen}, signals, record.sampling_rate) is None
            seen += 1
    assert seen > 200


def test_padding_is_no_quiet_stretch_of_a_record():
    draw = np.random.default_rng(0)
    values = np.concatenate([np.zeros(200), draw.standard_normal(400), np.zeros(400)])
    found = {"II": complexes([1.0, 2.0, 3.0])}
    assert doubt_of_qrs(found, {"II": values}, 100.0, shift=200.0, last_s=3.99) is not None
    assert doubt_of_qrs(found, {"II": values}, 100.0) is None


def test_where_nothing_was_found_or_little_is_known_nothing_is_doubted():
    assert doubt_of_qrs({"II": []}, {"II": np.zeros(1000)}, 100.0) is None
    assert doubt_of_qrs({"II": complexes([0.2])}, {"II": np.arange(40.0)}, 100.0) is None
    assert doubt_of_qrs({"II": complexes([1.0])}, {"II": np.ones(1000)}, 100.0) is None


def test_a_day_of_beats_takes_seconds():
    found = complexes(np.arange(1, 80_000, 0.8))
    values = np.random.default_rng(0).standard_normal(80_000 * 100)
    started = time.process_time()
    assert doubt_of_qrs({"II": found}, {"II": values}, 100.0) is not None
    assert time.process_time() - started < 5
