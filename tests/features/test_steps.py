"""The steps one by one: what they do, and that they survive as plain data."""

import json

import numpy as np
import pytest

from ecg_transformers.features.execution import Chain, CropRequest
from ecg_transformers.features.steps import (
    STEPS,
    BandPass,
    CheckSignal,
    ConvertUnits,
    Crop,
    DecimateFlattened,
    Filter,
    FIRBandPass,
    KeepEvery,
    MedianBaseline,
    MinMax,
    Normalize,
    Notch,
    Pad,
    RecordReport,
    RecordState,
    Resample,
    ResampleWindows,
    Scale,
    SelectLeads,
    run_signal_steps,
    step_from_dict,
)

EXAMPLES = [
    SelectLeads(["I", "II"], "drop"),
    ConvertUnits(),
    CheckSignal("interpolate", 0.1, "zero"),
    Resample(100.0, "polyphase"),
    Pad(500, "edge"),
    Crop(400, 100.0, "sliding", None, "official", 50),
    Filter("lowpass", 40.0, 3),
    Normalize("fixed", 0.0, [0.0, 0.1], [1.0, 2.0]),
    Scale(2.0, 5.0),
    Notch(60.0, 20.0),
    BandPass(0.5, 47.0, 3),
    MedianBaseline(0.6),
    MinMax("per_lead", -1.0, 1.0, 0.0),
    ResampleWindows(240.0, 480, "polyphase", "ratio_first"),
    FIRBandPass(0.1, 40.0, 0.2),
    DecimateFlattened(4),
    KeepEvery(100.0),
]


def state(**settings: object) -> RecordState:
    given = {"where": "record 0", "lead_names": None, "units": "mV", "sampling_rate": 100.0, "report": RecordReport()}
    return RecordState(**(given | settings))  # type: ignore[arg-type]


def test_every_step_survives_as_json() -> None:
    assert {type(step) for step in EXAMPLES} == set(STEPS.values())
    for step in EXAMPLES:
        again = step_from_dict(json.loads(json.dumps(step.to_dict())))
        assert again == step
        assert again.to_dict()["step"] == step.name


def test_units_given_for_each_lead_are_applied_before_leads_are_combined() -> None:
    record = np.array([[1000.0, 3.0]] * 10)
    given = state(lead_names=["I", "II"], units=["uV", "mV"])
    selected = SelectLeads(["III"]).apply(record, given)
    np.testing.assert_allclose(ConvertUnits().apply(selected, given), 2.0)


def test_fast_execution_merges_neighbouring_filters() -> None:
    steps = [Filter("highpass", 0.67, 5), Filter("lowpass", 40.0, 5), Normalize("joint")]
    signal = np.random.default_rng(0).standard_normal((3, 2, 500))
    exact, fast = (run_signal_steps(steps, signal, 250.0, fast) for fast in (False, True))
    assert 0 < np.abs(exact - fast).max() < 1e-8


def test_a_length_too_long_for_the_fast_form_takes_the_exact_one() -> None:
    steps = [Filter("lowpass", 40.0, 5)]
    signal = np.random.default_rng(0).standard_normal((1, 1, 30_000))
    np.testing.assert_array_equal(run_signal_steps(steps, signal, 250.0, True), run_signal_steps(steps, signal, 250.0))


def test_crops_cut_at_another_rate_start_at_whole_samples() -> None:
    chain = Chain([Resample(500.0), Crop(1000, 500.0), Resample(250.0, "fourier", 500.0)], 250.0, False)
    assert chain.starts(2000, CropRequest(start=7)) == [14]
    assert chain.starts(2000, CropRequest(start=[0, 500])) == [0, 1000]
    assert chain.starts(2000, CropRequest(num_crops=3)) == [0, 500, 1000]
    with pytest.raises(ValueError, match="between 0 and 500"):
        chain.starts(2000, CropRequest(start=501))


def test_a_chain_has_one_crop() -> None:
    with pytest.raises(ValueError, match="one crop step at most"):
        Chain([Crop(10), Crop(5)], 250.0, False)


def test_random_crops_without_a_generator_are_refused() -> None:
    with pytest.raises(ValueError, match="need a generator"):
        Crop(10, mode="random").starts(20)
    assert Crop(10, mode="start").starts(20) == [0]


def test_a_good_record_needs_no_repair() -> None:
    given = state(lead_names=["I", "II"])
    record = np.random.default_rng(0).standard_normal((100, 2))
    np.testing.assert_array_equal(CheckSignal().apply(record, given), record)
    assert given.report.to_dict() == {}
    assert given.report.repairs() == []


def test_every_window_is_resampled_as_if_it_were_alone_and_a_remainder_is_dropped() -> None:
    signal = np.random.default_rng(0).standard_normal((2, 3, 1100))
    step = ResampleWindows(240.0, 240, "resampy")
    joined = step.apply(signal, 500.0)
    assert joined.shape == (2, 3, 480) == (2, 3, step.length_after(1100, 500.0))
    alone = Resample(240.0, "resampy").apply(signal[..., 500:1000], 500.0)
    np.testing.assert_allclose(joined[..., 240:], alone, atol=1e-12)


def test_windows_of_any_rate_are_whole_and_short_records_stay_short() -> None:
    step = ResampleWindows(240.0, 600, "resampy", "ratio_first")
    for rate in (100.0, 257.0, 360.0, 977.0):
        signal = np.zeros((1, int(5.2 * rate)))
        assert step.apply(signal, rate).shape[-1] == 1200 == step.length_after(signal.shape[-1], rate)
        short = np.zeros((1, int(rate)))
        assert step.apply(short, rate).shape[-1] == step.length_after(short.shape[-1], rate) < 600
