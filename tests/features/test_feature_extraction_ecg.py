"""The extractor: parity with the published chains, inputs of every kind, and one clear sentence for bad ones."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecg_transformers.data.record import DigitalRecord, ECGRecord, record_features
from ecg_transformers.features.feature_extraction_beats import ECGSLFeatureExtractor
from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor, ECGSignalWarning
from ecg_transformers.signal.leads import STANDARD_LEADS


def twelve_leads(length: int = 5000, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    """A record (T, 12) whose limb leads obey Einthoven and Goldberger."""
    one, two, *chest = np.random.default_rng(seed).standard_normal((8, length))
    limb = [one, two, two - one, -(one + two) / 2, one - two / 2, two - one / 2]
    return np.stack([*limb, *chest], axis=1).astype(dtype)


@pytest.fixture(scope="module")
def st_mem() -> ECGFeatureExtractor:
    return ECGFeatureExtractor.for_method("st_mem")


def values(extractor: ECGFeatureExtractor, *args: Any, **kwargs: Any) -> np.ndarray:
    return np.asarray(extractor(*args, **kwargs)["input_values"])


@pytest.mark.parametrize(("fast", "error"), [(False, 0.0), (True, 1e-5)])
@pytest.mark.parametrize("case", ["code400", "ptbxl500", "same250", "odd257"])
def test_st_mem_preprocessing_is_reproduced(parity: Any, case: str, fast: bool, error: float) -> None:
    tensors, settings = parity("st_mem", "preprocess"), parity.config("st_mem", "preprocess")[case]
    extractor = ECGFeatureExtractor.for_method("st_mem", lead_names=["I", "II"], seq_len=settings["crop"], fast=fast)
    raw, start = tensors[f"{case}.raw"].numpy().T, int(tensors[f"{case}.train.crop_offset"])
    one = values(extractor, raw, sampling_rate=settings["fs"], crop_start=start)
    np.testing.assert_allclose(one[0], tensors[f"{case}.train.tensor"].numpy(), atol=1e-5)
    three = values(extractor, raw, sampling_rate=settings["fs"], num_crops=3)
    np.testing.assert_allclose(three[0], tensors[f"{case}.eval.tensor"].numpy(), rtol=0, atol=error)
    centre = int(tensors[f"{case}.center_crop_start"])
    np.testing.assert_array_equal(
        values(extractor, raw, sampling_rate=settings["fs"]),
        values(extractor, raw, sampling_rate=settings["fs"], crop_start=centre),
    )


def test_ecg_jepa_preprocessing_is_reproduced(parity: Any) -> None:
    tensors = parity("ecg_jepa", "preprocess")
    extractor = ECGFeatureExtractor.for_method("ecg_jepa")
    for name, rate in (("r500", 500), ("r257", 257)):
        record = tensors[f"wfdb.{name}.adc"].numpy() / 1000
        result = values(extractor, record, sampling_rate=rate, lead_names=STANDARD_LEADS, crop_start=0)
        np.testing.assert_allclose(result[0], tensors[f"wfdb.{name}.out_2500"].numpy(), atol=1e-5, err_msg=name)
    record = tensors["ptbxl.record5_adc"].numpy() / 1000
    np.testing.assert_allclose(values(extractor, record, 500)[0], tensors["ptbxl.record5_out"].numpy(), atol=1e-5)


def test_ecg_jepa_code15_records_are_reproduced_at_their_effective_rate(parity: Any) -> None:
    tensors = parity("ecg_jepa", "preprocess")
    extractor = ECGFeatureExtractor.for_method("ecg_jepa")
    records = (tensors["code15.tracings_milli"].numpy() / 1000).astype(np.float32)
    for record, name in zip(records, ("out_0", "out_2")):
        # The published code squeezes 4096 samples (10.24 s) into 2500: as if they had been taken at 409.6 Hz.
        result = values(extractor, record, sampling_rate=409.6)
        np.testing.assert_allclose(result[0], tensors[f"code15.{name}"].numpy(), atol=1e-5)


def test_ecg_jepa_fine_tuning_filters_are_reproduced(parity: Any) -> None:
    tensors = parity("ecg_jepa", "preprocess")
    extractor = ECGFeatureExtractor.for_method("ecg_jepa", highpass=0.67, lowpass=40.0)
    result = values(extractor, tensors["ft.x"].numpy().T, sampling_rate=250, lead_names=extractor.lead_names)
    np.testing.assert_allclose(result[0], tensors["ft.high_low"].numpy(), atol=1e-5)


def test_ecg_jepa_changes_neither_scale_nor_offset() -> None:
    extractor = ECGFeatureExtractor.for_method("ecg_jepa")
    wave = 0.3 + np.sin(2 * np.pi * 2 * np.arange(5000) / 500)[:, None] * np.linspace(0.2, 1.0, 12)
    result = values(extractor, wave, sampling_rate=500)
    np.testing.assert_allclose(result[0, 0], wave[::2, 0], atol=1e-5)


@pytest.mark.parametrize("method", ["st_mem", "ecg_jepa", "ecg_cpc"])
def test_a_batch_of_unlike_records_equals_the_records_alone(method: str) -> None:
    extractor = ECGFeatureExtractor.for_method(method)
    lengths, rates = (5000, 5000, 6400, 3000, 5000), (500, 500, 500, 250, 400)
    records = [twelve_leads(length, seed, np.float32) for seed, length in enumerate(lengths)]
    together = values(extractor, records, sampling_rate=list(rates))
    for record, rate, row in zip(records, rates, together):
        np.testing.assert_array_equal(values(extractor, record, sampling_rate=rate)[0], row)
        np.testing.assert_array_equal(extractor.finish(extractor.prepare(record, sampling_rate=rate)), row)
    crops = values(extractor, records, sampling_rate=list(rates), num_crops=3)
    for record, rate, row in zip(records, rates, crops):
        np.testing.assert_array_equal(values(extractor, record, sampling_rate=rate, num_crops=3)[0], row)


def test_random_crops_repeat_with_the_generator_and_follow_the_order_of_records(st_mem: ECGFeatureExtractor) -> None:
    records = [twelve_leads(length, seed) for seed, length in enumerate((5000, 5400, 5000))]
    first = values(st_mem, records, sampling_rate=500, generator=np.random.default_rng(7))
    np.testing.assert_array_equal(first, values(st_mem, records, 500, generator=np.random.default_rng(7)))
    generator = np.random.default_rng(7)
    alone = np.concatenate([values(st_mem, record, 500, generator=generator) for record in records])
    np.testing.assert_array_equal(first, alone)
    pairs = values(st_mem, records, 500, generator=np.random.default_rng(7), num_crops=2)
    assert pairs.shape == (3, 2, 12, 2250)
    assert not np.array_equal(pairs[0, 0], pairs[0, 1])


def test_crop_start_may_differ_between_records(st_mem: ECGFeatureExtractor) -> None:
    records = [twelve_leads(5000, seed) for seed in range(2)]
    both = values(st_mem, records, sampling_rate=500, crop_start=[10, 200])
    np.testing.assert_array_equal(both[1], values(st_mem, records[1], sampling_rate=500, crop_start=200)[0])
    prepared = st_mem.prepare(records[0], sampling_rate=500)
    several = st_mem.finish(prepared, crop_start=[10, 200])
    np.testing.assert_array_equal(several[0], both[0])


def test_crop_policies_differ_only_in_the_number_of_crops() -> None:
    record = twelve_leads(4506)
    exact = ECGFeatureExtractor.for_method("st_mem")
    official = ECGFeatureExtractor.for_method("st_mem", crop_policy="official")
    assert values(exact, record, sampling_rate=500, num_crops=3).shape[1] == 3
    assert values(official, record, sampling_rate=500, num_crops=3).shape[1] == 4


def test_long_records_are_covered_by_sliding_crops() -> None:
    sliding = ECGFeatureExtractor.for_method("st_mem", crop="sliding", crop_stride=1000)
    record = twelve_leads(7000)
    crops = values(sliding, record, sampling_rate=250)
    assert crops.shape == (1, 5, 12, 2250)
    extractor = ECGFeatureExtractor.for_method("st_mem")
    prepared = extractor.prepare(record, sampling_rate=250)
    starts = extractor.sliding_crop_starts(prepared, stride=1000)
    assert starts == [0, 1000, 2000, 3000, 4000, 4750]
    np.testing.assert_array_equal(extractor.finish(prepared, crop_start=starts)[:5], crops[0])
    jepa = ECGFeatureExtractor.for_method("ecg_jepa")
    prepared = jepa.prepare(record, sampling_rate=250)
    assert jepa.sliding_crop_starts(prepared) == [0, 2500, 4500]


@pytest.mark.parametrize("before", [True, False])
def test_the_fast_form_equals_the_exact_chain(before: bool) -> None:
    settings = {"seq_len": 1000, "crop_before_filter": before}
    exact = ECGFeatureExtractor.for_method("st_mem", **settings)
    fast = ECGFeatureExtractor.for_method("st_mem", fast=True, **settings)
    records = [twelve_leads(length, seed) + 2.0 for seed, length in enumerate((2500, 2500, 3000))]
    expected = values(exact, records, sampling_rate=500, num_crops=2)
    assert np.abs(values(fast, records, sampling_rate=500, num_crops=2) - expected).max() < 1e-5
    on_device = fast(records, sampling_rate=500, num_crops=2, return_tensors="pt", device="cpu")["input_values"]
    assert np.abs(on_device.numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("normalize", ["per_lead", "fixed", None])
def test_every_step_has_a_form_for_devices(normalize: str | None) -> None:
    settings: dict[str, Any] = {"sampling_rate": 100, "seq_len": 600, "lowpass": 40.0, "pad": "edge", "fast": True}
    settings |= {"normalize": normalize, "mean": [0.1] * 12, "std": [0.5] * 12, "scale": 2.0, "clip": 3.0}
    fast = ECGFeatureExtractor(**settings)
    exact = ECGFeatureExtractor(**(settings | {"fast": False}))
    record = twelve_leads(2500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ECGSignalWarning)
        expected = values(exact, record, sampling_rate=500)
        result = fast(record, sampling_rate=500, return_tensors="pt", device="cpu")["input_values"]
        assert np.abs(values(fast, record, sampling_rate=500) - expected).max() < 1e-5
    assert np.abs(result.numpy() - expected).max() < 1e-5
    assert np.abs(expected).max() <= 3.0


def test_a_record_a_row_and_an_array_give_the_same(st_mem: ECGFeatureExtractor) -> None:
    record = ECGRecord(twelve_leads(5000, dtype=np.float32), 500.0, list(STANDARD_LEADS), "r1")
    row = record.to_row()
    stored = ECGRecord.from_row(row)
    expected = values(st_mem, stored.signal, sampling_rate=500, lead_names=STANDARD_LEADS)
    for given in (stored, row, {"signal": stored.signal, "sampling_rate": 500, "lead_names": STANDARD_LEADS}):
        np.testing.assert_array_equal(values(st_mem, given), expected)
        np.testing.assert_array_equal(values(st_mem, [given, given])[1], expected[0])
    with pytest.raises(ValueError, match=r"r1.*says 500 Hz, the call says 250"):
        st_mem(record, sampling_rate=250)


def test_a_real_file_gives_the_same_as_its_array(ecg_data_dir: Path, st_mem: ECGFeatureExtractor) -> None:
    import wfdb

    path = sorted((ecg_data_dir / "ptb-xl").rglob("*_hr.hea"))[0].with_suffix("")
    signal, fields = wfdb.rdsamp(str(path))
    expected = values(st_mem, signal.astype(np.float32), fields["fs"], fields["sig_name"], units=fields["units"])
    np.testing.assert_allclose(values(st_mem, str(path)), expected, atol=1e-5)
    np.testing.assert_array_equal(values(st_mem, [path, str(path)])[0], values(st_mem, path)[0])


def test_torch_tensors_stacks_and_single_leads_are_taken(st_mem: ECGFeatureExtractor) -> None:
    import torch

    records = np.stack([twelve_leads(5000, seed, np.float32) for seed in range(2)])
    expected = values(st_mem, list(records), sampling_rate=500)
    np.testing.assert_array_equal(values(st_mem, records, sampling_rate=500), expected)
    np.testing.assert_array_equal(values(st_mem, torch.from_numpy(records), sampling_rate=500), expected)
    result = st_mem(records, sampling_rate=500, return_tensors="pt")["input_values"]
    assert isinstance(result, torch.Tensor)
    assert result.dtype == torch.float32
    one = ECGFeatureExtractor.for_method("st_mem", lead_names=["II"])
    assert values(one, records[0, :, 1], sampling_rate=500, lead_names=["MLII"]).shape == (1, 1, 2250)


def test_permuting_leads_with_their_names_changes_nothing(st_mem: ECGFeatureExtractor) -> None:
    record, order = twelve_leads(), np.random.default_rng(3).permutation(12)
    names = [STANDARD_LEADS[i].upper() for i in order]
    expected = values(st_mem, record, sampling_rate=500, lead_names=STANDARD_LEADS)
    np.testing.assert_array_equal(values(st_mem, record[:, order], sampling_rate=500, lead_names=names), expected)
    swapped = ["II", "I", *STANDARD_LEADS[2:]]
    assert not np.allclose(values(st_mem, record, sampling_rate=500, lead_names=swapped), expected)


def test_the_same_record_in_any_unit_gives_the_same(st_mem: ECGFeatureExtractor) -> None:
    record = twelve_leads()
    expected = values(ECGFeatureExtractor.for_method("ecg_jepa"), record, sampling_rate=500)
    for unit, factor in (("µV", 1e3), ("V", 1e-3), ("nV", 1e6)):
        result = values(ECGFeatureExtractor.for_method("ecg_jepa"), record * factor, sampling_rate=500, units=unit)
        np.testing.assert_allclose(result, expected, atol=1e-6)
    own = ECGFeatureExtractor.for_method("ecg_jepa", units="uV")
    np.testing.assert_allclose(values(own, record * 1e3, sampling_rate=500), expected, atol=1e-6)


def test_series_without_lead_names_have_any_number_of_leads() -> None:
    extractor = ECGFeatureExtractor.for_method("st_mem", lead_names=None, lead_table=None, seq_len=300, highpass=None)
    record = np.random.default_rng(0).standard_normal((400, 31))
    result = extractor(record, sampling_rate=250)
    assert result["input_values"].shape == (1, 31, 300)
    assert "lead_indices" not in result
    assert values(extractor, record[:, :3], sampling_rate=250, lead_names=["a", "b", "c"]).shape == (1, 3, 300)


def test_unnamed_twelve_lead_records_are_taken_in_the_standard_order() -> None:
    record = twelve_leads()
    for method in ("ecg_jepa", "ecg_cpc"):
        extractor = ECGFeatureExtractor.for_method(method)
        named = values(extractor, record, sampling_rate=500, lead_names=STANDARD_LEADS)
        np.testing.assert_array_equal(values(extractor, record, sampling_rate=500), named)
        assert extractor.last_report[0]["assumed_leads"] == list(STANDARD_LEADS)


def test_missing_limb_leads_are_derived_and_said_so(st_mem: ECGFeatureExtractor) -> None:
    record = twelve_leads()
    kept = [0, 1, *range(6, 12)]
    names = [STANDARD_LEADS[i] for i in kept]
    with pytest.warns(ECGSignalWarning, match="III, aVR, aVL, aVF were derived"):
        result = st_mem(record[:, kept], sampling_rate=500, lead_names=names, return_report=True)
    np.testing.assert_allclose(result["input_values"], values(st_mem, record, sampling_rate=500), atol=1e-5)
    assert set(result["report"][0]["derived_leads"]) == {"III", "aVR", "aVL", "aVF"}


def test_lead_indices_point_into_the_methods_own_table() -> None:
    record = twelve_leads()
    assert "lead_indices" not in ECGFeatureExtractor.for_method("st_mem")(record, sampling_rate=500)
    for method, leads, indices in (
        ("st_mem", ["II"], [1]),
        ("st_mem", ["V6", "aVR", "i"], [11, 3, 0]),
        ("ecg_jepa", ["II", "V1"], [1, 2]),
        ("ecg_cpc", ["III", "I"], [8, 0]),
    ):
        result = ECGFeatureExtractor.for_method(method, lead_names=leads)(record, sampling_rate=500)
        assert result["lead_indices"] == indices
        assert result["input_values"].shape[1] == len(leads)


def test_leads_that_a_record_lacks_can_be_dropped_or_zero_filled() -> None:
    record, names = twelve_leads()[:, :7], STANDARD_LEADS[:7]
    dropping = ECGFeatureExtractor.for_method("st_mem", missing_leads="drop")
    with pytest.warns(ECGSignalWarning, match="left out"):
        result = dropping(record, sampling_rate=500, lead_names=names)
    assert result["lead_indices"] == list(range(7))
    with pytest.warns(ECGSignalWarning, match="filled with zeros"):
        zeros = ECGFeatureExtractor.for_method("ecg_jepa", missing_leads="zero")(record, 500, names)["input_values"]
    assert not zeros[0, 3:].any()
    assert zeros[0, :3].any()


def test_fixed_statistics_follow_their_leads() -> None:
    record = twelve_leads()
    full = values(ECGFeatureExtractor.for_method("ecg_cpc"), record, sampling_rate=500)
    some = values(ECGFeatureExtractor.for_method("ecg_cpc", lead_names=["aVF", "V2"]), record, sampling_rate=500)
    np.testing.assert_allclose(some[0], full[0, [11, 3]], atol=1e-6)
    dropping = ECGFeatureExtractor.for_method("ecg_cpc", missing_leads="drop")
    with pytest.warns(ECGSignalWarning):
        dropped = dropping(record[:, :7], sampling_rate=500, lead_names=STANDARD_LEADS[:7])
    indices = dropped["lead_indices"]
    np.testing.assert_allclose(dropped["input_values"][0], full[0, indices], atol=1e-6)


def broken(value: float, where: Any = (slice(100, 103), 1)) -> np.ndarray:
    record = twelve_leads()
    record[where] = value
    return record


@pytest.mark.parametrize(
    ("record", "settings", "message"),
    [
        (twelve_leads(), {}, r"raw array: its rate cannot be guessed"),
        (twelve_leads().T, {"sampling_rate": 500}, r"\(num_leads, seq_len\): transpose it"),
        (twelve_leads().T, {"sampling_rate": 500, "lead_names": STANDARD_LEADS}, r"transpose it"),
        (twelve_leads()[:, :5], {"sampling_rate": 500}, r"give lead_names"),
        (
            twelve_leads()[:, :5],
            {"sampling_rate": 500, "lead_names": ["I", "V1", "V2", "V3", "V4"]},
            r"no lead II, III",
        ),
        (twelve_leads()[:, :2], {"sampling_rate": 500, "lead_names": ["II", "MLII"]}, r"all mean lead II"),
        (twelve_leads(4000), {"sampling_rate": 500}, r"2000 samples, the crop needs 2250"),
        (broken(np.nan), {"sampling_rate": 500}, r"lead II has 3 NaN samples from sample 100"),
        (broken(np.inf), {"sampling_rate": 500}, r"lead II is infinite at sample 100"),
        (broken(-np.inf, (7, 11)), {"sampling_rate": 500}, r"lead V6 is infinite at sample 7"),
        (np.zeros((5000, 12)), {"sampling_rate": 500}, r"every lead is flat"),
        (broken(np.nan, (slice(None), 1)), {"sampling_rate": 500}, r"lead II has 5000 NaN samples.*no value at all"),
        (twelve_leads(), {"sampling_rate": 0}, r"between 1 and 100000 Hz"),
        (twelve_leads(), {"sampling_rate": float("nan")}, r"between 1 and 100000 Hz"),
        (twelve_leads(), {"sampling_rate": 100_000}, r"changes the rate by more than"),
        (twelve_leads(), {"sampling_rate": 500, "units": "furlong"}, r"unknown unit 'furlong'"),
        (twelve_leads(), {"sampling_rate": 500, "crop_start": 251}, r"crop_start 251 is outside.*0 and 250"),
        (twelve_leads(), {"sampling_rate": 500, "crop_start": -1}, r"crop_start -1 is outside"),
        (twelve_leads(), {"sampling_rate": 500, "crop_start": 0, "num_crops": 2}, r"neither num_crops nor generator"),
        (twelve_leads(), {"sampling_rate": 500, "num_crops": 0}, r"num_crops must be"),
        (twelve_leads(), {"sampling_rate": 500, "return_tensors": "tf"}, r"return_tensors"),
        (twelve_leads(), {"sampling_rate": 500, "device": "cpu"}, r'return_tensors="pt"'),
        ([], {"sampling_rate": 500}, r"empty list"),
        ([[0.1, 0.2], [0.3, 0.4]], {"sampling_rate": 500}, r"nested Python lists"),
        (np.zeros((0, 12)), {"sampling_rate": 500}, r"not empty"),
        (np.zeros((2, 3, 4, 5)), {"sampling_rate": 500}, r"a record is \(seq_len, num_leads\)"),
        (np.array([["a", "b"]]), {"sampling_rate": 500}, r"real numbers"),
        (twelve_leads().astype(complex), {"sampling_rate": 500}, r"real numbers"),
        ([twelve_leads()] * 2, {"sampling_rate": [500]}, r"1 sampling rates were given for 2 records"),
        (17, {"sampling_rate": 500}, r"is a int"),
        ({"train": [1]}, {"sampling_rate": 500}, r"dictionary without a signal \(it has train\)"),
    ],
)
def test_bad_input_is_one_clear_sentence(
    st_mem: ECGFeatureExtractor, record: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        st_mem(record, **settings)


def test_lead_names_may_be_one_text(st_mem: ECGFeatureExtractor) -> None:
    record = twelve_leads()
    named = values(st_mem, record, sampling_rate=500, lead_names=", ".join(STANDARD_LEADS))
    np.testing.assert_array_equal(named, values(st_mem, record, sampling_rate=500, lead_names=STANDARD_LEADS))


def test_errors_name_the_record(st_mem: ECGFeatureExtractor) -> None:
    with pytest.raises(ValueError, match=r"^record 1: lead II has 3 NaN"):
        st_mem([twelve_leads(), broken(np.nan)], sampling_rate=500)
    short = ECGRecord(twelve_leads(400, dtype=np.float32), 500.0, list(STANDARD_LEADS), "patient7")
    with pytest.raises(ValueError, match=r"patient7.*200 samples"):
        st_mem([short])


def test_short_gaps_are_interpolated_on_request_and_reported() -> None:
    extractor = ECGFeatureExtractor.for_method("st_mem", nan="interpolate", max_gap=0.02)
    with pytest.warns(ECGSignalWarning, match="interpolated"):
        result = extractor(broken(np.nan), sampling_rate=500)
    assert extractor.last_report[0]["interpolated_samples"] == {"II": 3}
    assert np.isfinite(result["input_values"]).all()
    with pytest.raises(ValueError, match=r"20 NaN samples.*max_gap"):
        extractor(broken(np.nan, (slice(0, 20), 4)), sampling_rate=500)


@pytest.mark.parametrize(("nan", "gap"), [("zero_lead", slice(100, 200)), ("zero", slice(None))])
def test_a_record_of_which_zeros_for_nan_leave_nothing_names_the_gap(nan: str, gap: slice) -> None:
    extractor = ECGFeatureExtractor.for_method("st_mem", nan=nan)
    size = len(twelve_leads()[gap])
    with pytest.raises(
        ValueError, match=rf"lead I has {size} NaN samples from sample {gap.start or 0} on.*nothing is left"
    ):
        extractor(broken(np.nan, gap), sampling_rate=500)


def test_a_lead_without_values_is_not_interpolated() -> None:
    extractor = ECGFeatureExtractor.for_method("st_mem", nan="interpolate", max_gap=100)
    with pytest.raises(ValueError, match=r"lead II has 5000 NaN samples.*no value at all"):
        extractor(broken(np.nan, (slice(None), 1)), sampling_rate=500)


def test_short_records_are_padded_on_request_and_reported() -> None:
    extractor = ECGFeatureExtractor.for_method("st_mem", pad="zero")
    with pytest.warns(ECGSignalWarning, match="padded"):
        result = extractor(twelve_leads(4000), sampling_rate=500)
    assert result["input_values"].shape == (1, 12, 2250)
    assert extractor.last_report[0]["padded_samples"] == 250
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        extractor(twelve_leads(5000), sampling_rate=500)
    assert "padded_samples" not in extractor.last_report[0]


def test_microvolts_taken_for_millivolts_are_noticed(st_mem: ECGFeatureExtractor) -> None:
    with pytest.warns(ECGSignalWarning, match="was it in microvolts"):
        st_mem(twelve_leads() * 1000, sampling_rate=500)
    assert "microvolts" in st_mem.last_report[0]["suspicions"][0]


def test_flat_leads_are_reported_and_stay_flat(st_mem: ECGFeatureExtractor) -> None:
    record = broken(0.7, (slice(None), 4))
    per_lead = ECGFeatureExtractor.for_method("st_mem", normalize="per_lead")
    assert not values(per_lead, record, sampling_rate=500)[0, 4].any()
    assert per_lead.last_report[0]["flat_leads"] == ["aVL"]
    unfiltered = ECGFeatureExtractor(sampling_rate=100, normalize="per_lead")
    assert not values(unfiltered, record, sampling_rate=500)[0, 4].any()
    fast = ECGFeatureExtractor.for_method("st_mem", normalize="per_lead", fast=True)
    assert not values(fast, record, sampling_rate=500)[0, 4].any()
    assert not fast(record, sampling_rate=500, return_tensors="pt", device="cpu")["input_values"][0, 4].any()
    joint = values(st_mem, record, sampling_rate=500)[0]
    assert joint[4].std() == 0
    assert joint.std() == pytest.approx(1, abs=1e-5)
    lenient = ECGFeatureExtractor.for_method("st_mem", flat="zero")
    assert not values(lenient, np.full((5000, 12), 0.7), sampling_rate=500).any()


def test_a_flat_crop_of_a_good_record_is_zero_not_noise(st_mem: ECGFeatureExtractor) -> None:
    record = twelve_leads(6000)
    record[:2500] = 0.25
    assert not values(st_mem, record, sampling_rate=250, crop_start=0).any()


def test_what_a_record_says_of_itself_is_not_overruled(st_mem: ECGFeatureExtractor) -> None:
    signal, other = twelve_leads(), list(reversed(STANDARD_LEADS))
    record = ECGRecord(signal, 500, list(STANDARD_LEADS), "r1")
    row = {"signal": signal, "sampling_rate": 500, "lead_names": list(STANDARD_LEADS), "units": "mV"}
    for given in (record, row):
        with pytest.raises(ValueError, match="leave lead_names out"):
            st_mem(given, lead_names=other)
        with pytest.raises(ValueError, match="leave units out"):
            st_mem(given, units="uV")
        spelt = [name.upper() for name in STANDARD_LEADS]
        np.testing.assert_array_equal(values(st_mem, given, lead_names=spelt, units="mv"), values(st_mem, given))
    mixed = {**row, "units": ["mV"] * 11 + ["uV"]}
    with pytest.raises(ValueError, match="leave units out"):
        st_mem(mixed, units=["uV"] + ["mV"] * 11)
    np.testing.assert_array_equal(values(st_mem, mixed, units=mixed["units"]), values(st_mem, mixed))
    np.testing.assert_array_equal(values(st_mem, row, units=["mV"] * 12), values(st_mem, row))
    in_microvolts = ECGFeatureExtractor.for_method("st_mem", units="uV")  # of raw arrays; the record is in millivolts
    np.testing.assert_array_equal(values(in_microvolts, record), values(st_mem, record))


def test_tensors_of_a_training_loop_are_taken(st_mem: ECGFeatureExtractor) -> None:
    import torch

    batch = np.stack([twelve_leads(seed=1, dtype=np.float32), twelve_leads(seed=2, dtype=np.float32)])
    expected = values(st_mem, batch, sampling_rate=500)
    tensor = torch.tensor(batch, requires_grad=True)
    np.testing.assert_array_equal(values(st_mem, tensor, sampling_rate=500), expected)
    np.testing.assert_allclose(values(st_mem, tensor.bfloat16(), sampling_rate=500), expected, atol=0.1)


def test_a_batch_of_columns_is_told_apart_from_rows(st_mem: ECGFeatureExtractor) -> None:
    columns = {"signal": [b"", b""], "sampling_rate": [500.0, 500.0]}
    with pytest.raises(ValueError, match="list of rows"):
        st_mem(columns)


@pytest.mark.parametrize("start", [1.7, [1.7, 2.0], np.array([1.7, 2.0]), "3", ["3", "4"]])
def test_a_crop_starts_at_a_whole_sample(st_mem: ECGFeatureExtractor, start: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        st_mem([twelve_leads(), twelve_leads(seed=1)], sampling_rate=500, crop_start=start)


def test_bad_batches_are_refused(st_mem: ECGFeatureExtractor) -> None:
    whole = ECGFeatureExtractor.for_method("st_mem", seq_len=None)
    with pytest.raises(ValueError, match="different shapes"):
        whole([twelve_leads(5000), twelve_leads(5200)], sampling_rate=500)
    with pytest.raises(ValueError, match="2 crop starts were given for 1 records"):
        st_mem(twelve_leads(), sampling_rate=500, crop_start=[1, 2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lead_names": ["II", "X"]}, "the model has no lead X"),
        ({"seq_length": 100}, "did you mean 'seq_len'"),
        ({"highpass": 0}, "highpass must lie between"),
        ({"lowpass": 125}, "lowpass must lie between"),
        ({"seq_len": 0}, "seq_len must be a positive"),
        ({"seq_len": 2.5}, "seq_len must be a positive"),
        ({"crop": "middle"}, "crop must be"),
        ({"resample": "spline"}, "resample must be"),
        ({"normalize": "minmax"}, "normalize must be"),
        ({"normalize": "fixed"}, "needs mean"),
        ({"normalize": "fixed", "mean": [0.0], "std": [0.0]}, "positive"),
        ({"missing_leads": "guess"}, "missing_leads must be"),
        ({"units": "apples"}, "unknown unit"),
        ({"pad": "wrap"}, "pad must be"),
        ({"seq_len": None, "num_crops": 3}, "need a seq_len"),
        ({"do_patch": True, "patch_size": 77}, "divides seq_len"),
        ({"lead_names": []}, "lead_names is empty"),
        ({"sampling_rate": -1}, "sampling_rate must lie"),
    ],
)
def test_settings_without_meaning_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ECGFeatureExtractor.for_method("st_mem", **settings)


def test_a_method_with_another_extractor_is_refused() -> None:
    with pytest.raises(ValueError, match="ECGSLFeatureExtractor"):
        ECGFeatureExtractor.for_method("ecg_sl")


def test_patches_are_consecutive_pieces() -> None:
    extractor = ECGFeatureExtractor.for_method("st_mem", do_patch=True, patch_size=75)
    result = extractor(twelve_leads(), sampling_rate=500, num_crops=2)
    assert result["patches"].shape == (1, 2, 12, 30, 75)
    np.testing.assert_array_equal(result["patches"][0, 1, 3, 2], result["input_values"][0, 1, 3, 150:225])


@pytest.mark.parametrize("method", ["st_mem", "ecg_jepa", "ecg_cpc"])
def test_saving_and_loading_gives_the_same_extractor(tmp_path: Path, method: str) -> None:
    from transformers import AutoFeatureExtractor

    extractor = ECGFeatureExtractor.for_method(method, nan="interpolate", pad="edge", missing_leads="drop")
    assert extractor.save_pretrained(tmp_path) == [str(tmp_path / "preprocessor_config.json")]
    loaded = AutoFeatureExtractor.from_pretrained(tmp_path)
    assert type(loaded) is ECGFeatureExtractor
    assert loaded.to_dict() == extractor.to_dict()
    record = twelve_leads()
    np.testing.assert_array_equal(
        values(loaded, record, sampling_rate=500), values(extractor, record, sampling_rate=500)
    )
    saved = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    assert saved["feature_extractor_type"] == "ECGFeatureExtractor"
    assert saved["auto_map"] == {"AutoFeatureExtractor": "hub_shim.ECGFeatureExtractor"}
    assert [step["step"] for step in saved["steps"]][:3] == ["select_leads", "to_millivolts", "check"]
    assert (tmp_path / "hub_shim.py").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"hub_shim.py", "preprocessor_config.json"}


def test_loading_with_changes_changes_the_steps(tmp_path: Path) -> None:
    ECGFeatureExtractor.for_method("st_mem").save_pretrained(tmp_path)
    changed = ECGFeatureExtractor.from_pretrained(tmp_path, lead_names=["V1"], seq_len=750)
    result = changed(twelve_leads(), sampling_rate=500)
    assert result["input_values"].shape == (1, 1, 750)
    assert result["lead_indices"] == [6]


def test_an_edited_list_of_steps_is_what_is_executed(tmp_path: Path) -> None:
    extractor = ECGFeatureExtractor.for_method("st_mem")
    steps = [step for step in extractor.steps if step["step"] != "normalize"]
    steps.append({"step": "scale", "factor": 4.0})
    edited = ECGFeatureExtractor.for_method("st_mem", steps=steps)
    plain = ECGFeatureExtractor.for_method("st_mem", normalize=None)
    record = twelve_leads()
    expected = values(plain, record, sampling_rate=500) * 4
    np.testing.assert_allclose(values(edited, record, sampling_rate=500), expected, rtol=1e-6)
    edited.save_pretrained(tmp_path)
    loaded = ECGFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.steps == edited.steps
    np.testing.assert_array_equal(values(loaded, record, sampling_rate=500), values(edited, record, sampling_rate=500))
    with pytest.raises(ValueError, match="own steps"):
        ECGFeatureExtractor.from_pretrained(tmp_path, lead_names=["II"])


def test_batches_are_put_together_without_a_mask_unless_it_is_asked_for(tmp_path: Path) -> None:
    plain = ECGFeatureExtractor.for_method("st_mem")
    plain.save_pretrained(tmp_path)
    rows = [dict(plain(twelve_leads(seed=seed), sampling_rate=500)) for seed in (0, 1)]
    rows = [{name: values[0] for name, values in row.items()} for row in rows]
    for extractor in (plain, ECGFeatureExtractor.from_pretrained(tmp_path)):
        assert set(extractor.pad(rows, return_tensors="np")) == {"input_values"}
        assert "attention_mask" in extractor.pad(rows, return_attention_mask=True)
    assert "attention_mask" in ECGFeatureExtractor.for_method("st_mem", return_attention_mask=True).pad(rows)


def test_unknown_steps_and_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown preprocessing step 'denoise'"):
        ECGFeatureExtractor(steps=[{"step": "denoise"}])
    with pytest.raises(ValueError, match="has no setting cutof"):
        ECGFeatureExtractor(steps=[{"step": "filter", "cutof": 3}])


def test_a_load_through_the_shim_leaves_no_mark_on_the_class() -> None:
    ECGFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
    assert ECGFeatureExtractor._auto_class is None


def test_extractors_can_be_pickled_and_sent_to_workers(st_mem: ECGFeatureExtractor) -> None:
    import pickle

    record = twelve_leads()
    copy = pickle.loads(pickle.dumps(st_mem))
    np.testing.assert_array_equal(values(copy, record, sampling_rate=500), values(st_mem, record, sampling_rate=500))


def test_misplaced_columns_without_names_are_told(st_mem: ECGFeatureExtractor) -> None:
    record = synthetic_record()
    with warnings.catch_warnings():
        warnings.simplefilter("error", ECGSignalWarning)
        st_mem(record, sampling_rate=500)
    with pytest.warns(ECGSignalWarning, match="Einthoven"):
        st_mem(record[:, [1, 0, *range(2, 12)]], sampling_rate=500)


def test_noise_of_a_small_lead_is_no_misplaced_column(
    st_mem: ECGFeatureExtractor, recwarn: pytest.WarningsRecorder
) -> None:
    record = synthetic_record()
    record[:, 0], record[:, 1] = 0.6 * record[:, 1], record[:, 1]  # an axis at which aVL is a tenth of lead II
    first, second = record[:, 0], record[:, 1]
    limbs = [second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    record[:, 2:6] = np.stack(limbs, axis=1)
    record += 0.01 * np.random.default_rng(0).standard_normal(record.shape)
    st_mem(record, sampling_rate=500)
    assert not recwarn.list


@pytest.mark.parametrize("peak", [0.5, 1.2, 3.0])
@pytest.mark.parametrize("method", ["st_mem", "ecg_sl"])
def test_every_extractor_tells_another_unit_and_a_flat_lead(method: str, peak: float) -> None:
    cls = ECGSLFeatureExtractor if method == "ecg_sl" else ECGFeatureExtractor
    extractor, record = cls.for_method(method), synthetic_record()
    record = record * (peak / np.abs(record).max())
    for factor, unit in ((1e3, "microvolts"), (1e-3, "volts")):
        with pytest.warns(ECGSignalWarning, match=unit):
            extractor(record * factor, sampling_rate=500, lead_names=list(STANDARD_LEADS))
    record[:, 1] = 5.0
    with pytest.warns(ECGSignalWarning, match="II flat"):
        extractor(record, sampling_rate=500, lead_names=list(STANDARD_LEADS))


def test_the_columns_of_a_data_frame_are_its_leads(st_mem: ECGFeatureExtractor) -> None:
    pandas = pytest.importorskip("pandas")
    record = synthetic_record()
    frame = pandas.DataFrame(record[:, ::-1], columns=list(STANDARD_LEADS)[::-1])
    np.testing.assert_array_equal(
        values(st_mem, frame, sampling_rate=500),
        values(st_mem, record, sampling_rate=500, lead_names=list(STANDARD_LEADS)),
    )


def test_a_batch_of_columns_gives_what_its_rows_give(st_mem: ECGFeatureExtractor) -> None:
    rows = [
        ECGRecord(synthetic_record(seed).astype(np.float32), 500, list(STANDARD_LEADS), f"r{seed}").to_row()
        for seed in (0, 1)
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    np.testing.assert_array_equal(st_mem(columns)["input_values"], st_mem(rows)["input_values"])
    two = ECGFeatureExtractor.for_method("st_mem", lead_names=["II", "V1"])
    np.testing.assert_array_equal(two(columns)["lead_indices"], [[1, 6], [1, 6]])


@pytest.mark.parametrize(
    ("kind", "labels", "numbers"),
    [
        ("multilabel", [["b"], []], [[0, 1], [0, 0]]),
        ("multiclass", [["b"], ["a"]], [1, 0]),
        ("multiclass", [["b"], []], [1, -100]),
    ],
)
def test_a_batch_of_columns_has_the_labels_that_a_classifier_takes(
    st_mem: ECGFeatureExtractor, kind: str, labels: list[list[str]], numbers: list[Any]
) -> None:
    rows = [
        ECGRecord(synthetic_record(), 500, list(STANDARD_LEADS), "r", labels=own).to_row(["a", "b"], kind)
        for own in labels
    ]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    np.testing.assert_array_equal(st_mem(columns)["labels"], numbers)
    tensors = st_mem(columns, return_tensors="pt")
    assert tensors["labels"].tolist() == st_mem(columns)["labels"].tolist()
    assert "labels" not in st_mem(rows)
    assert "labels" not in st_mem({**columns, "task_kind": ["unlabelled"] * 2})


@pytest.mark.parametrize(
    ("name", "labels", "kind"), [("label", [2, 0], "i"), ("labels", [[0, 1], [1, 1]], "f"), ("label", [0.5, 2.0], "f")]
)
def test_rows_of_other_datasets_keep_numbers_as_labels(
    st_mem: ECGFeatureExtractor, name: str, labels: list[Any], kind: str
) -> None:
    rows = {"signal": [synthetic_record()] * 2, "sampling_rate": [500.0] * 2, name: labels}
    got = st_mem(rows)["labels"]
    np.testing.assert_array_equal(got, labels)
    assert got.dtype.kind == kind


@pytest.mark.parametrize(("name", "labels"), [("label", ["AF", "N"]), ("labels", [["AF"], ["AF", "N"]])])
def test_text_in_a_column_of_labels_is_told(st_mem: ECGFeatureExtractor, name: str, labels: list[Any]) -> None:
    rows = {"signal": [synthetic_record()] * 2, "sampling_rate": [500.0] * 2, name: labels}
    with pytest.warns(ECGSignalWarning, match=f"column '{name}' holds no numbers.*class_encode_column"):
        assert "labels" not in st_mem(rows)


@pytest.mark.parametrize("form", ["torch", "numpy", "pandas"])
def test_rows_in_another_format_of_datasets_are_the_same(st_mem: ECGFeatureExtractor, form: str) -> None:
    datasets = pytest.importorskip("datasets")
    signal = synthetic_record()
    signal[4000:] = 0.0  # numpy drops zero bytes at the end
    record = ECGRecord(signal, 500, list(STANDARD_LEADS), "r", labels=["b"])
    row = DigitalRecord.from_record(record).with_(offset=np.zeros(12)).to_row(["a", "b"], "multilabel")
    row["signal"] = row["signal"][: -2 * 12 * 1000] + bytes(2 * 12 * 1000)
    dataset = datasets.Dataset.from_list([row, row], features=record_features(["a", "b"]))
    formatted = dataset.with_format(form)
    row = formatted[0] if form != "pandas" else formatted[:1].to_dict("records")[0]
    again = ECGRecord.from_row(row)
    assert (again.num_samples, again.labels, again.record_id) == (5000, ["b"], "r")
    expected = st_mem(dataset[:2])
    for batch in (formatted[:2], formatted.map(st_mem, batched=True).with_format("numpy")[:2]):
        got = st_mem(batch) if "input_values" not in batch else batch
        np.testing.assert_allclose(np.asarray(got["input_values"]), expected["input_values"], atol=1e-5)
        np.testing.assert_array_equal(np.asarray(got["labels"]), [[0, 1], [0, 1]])


def test_columns_that_trainer_took_out_are_told(st_mem: ECGFeatureExtractor) -> None:
    with pytest.raises(ValueError, match=r"TrainingArguments\(remove_unused_columns=False\)"):
        st_mem({"labels": [["AF"]], "label_ids": [[0]]})


def test_an_unknown_argument_is_refused_with_the_nearest(st_mem: ECGFeatureExtractor) -> None:
    with pytest.raises(ValueError, match="'sampling_rte'; did you mean 'sampling_rate'"):
        st_mem(twelve_leads(), sampling_rte=500)
    with pytest.raises(ValueError, match="'maxbeats'; did you mean 'max_beats'"):
        ECGSLFeatureExtractor.for_method("ecg_sl", maxbeats=3)


def synthetic_record(seed: int = 0) -> np.ndarray:
    """Ten seconds of twelve leads that obey Einthoven's law, `(5000, 12)` in millivolts."""
    rng = np.random.default_rng(seed)
    beat = np.exp(-0.5 * (np.linspace(-1, 1, 500) / 0.03) ** 2)
    first, second = np.tile(beat, 10), np.tile(np.roll(beat, 20), 10) * 1.5
    limbs = [first, second, second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    chest = [np.tile(np.roll(beat, shift), 10) * rng.uniform(0.5, 1.5) for shift in range(6)]
    return np.stack([*limbs, *chest], axis=1)
