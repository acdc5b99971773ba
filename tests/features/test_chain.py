"""Chains in a published order: parts that settings fill in, and steps with their own values among them."""

import json
from typing import Any

import numpy as np
import pytest

from ecg_transformers import ECGFeatureExtractor

NOTCH = {"step": "notch", "frequency": 50.0, "quality_factor": 30.0}
SCALED = {"step": "min_max", "scope": "joint", "low": 0.0, "high": 1.0, "eps": 1e-8}
CHAIN = ["resample", NOTCH, "pad", "crop", SCALED]


def extractor(**settings: Any) -> ECGFeatureExtractor:
    return ECGFeatureExtractor(**{"sampling_rate": 250, "seq_len": 1000, "chain": CHAIN, **settings})


def record(length: int = 3000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((length, 12))


def names(one: ECGFeatureExtractor) -> list[str]:
    return [step["step"] for step in one.steps]


def values(one: ECGFeatureExtractor, *args: Any, **kwargs: Any) -> np.ndarray:
    return np.asarray(one(*args, **kwargs)["input_values"])


def test_steps_are_executed_in_the_order_of_the_chain() -> None:
    assert names(extractor()) == ["select_leads", "to_millivolts", "check", "resample", "notch", "crop", "min_max"]
    result = values(extractor(), record(), sampling_rate=500)[0]
    assert (result.min(), result.max()) == (0.0, 1.0)
    early = extractor(chain=["resample", SCALED, "crop"])
    whole = values(early, record(), sampling_rate=500)[0]
    assert whole.max() < 1.0 or whole.min() > 0.0  # scaled by the record's extremes, not the crop's


def test_parts_follow_the_settings_as_in_the_usual_chain() -> None:
    one = extractor(lead_names=["V2", "I"], lead_table=extractor().lead_names, seq_len=500, pad="zero", num_crops=3)
    batch = one(record(), sampling_rate=500)
    assert batch["input_values"].shape == (1, 3, 2, 500)
    assert batch["lead_indices"] == [7, 0]
    assert "pad" in names(one)
    assert names(extractor(seq_len=None))[-2:] == ["notch", "min_max"]
    zeros = extractor(missing_leads="zero")(record()[:, :6], 500, extractor().lead_names[:6])
    assert zeros["input_values"].shape == (1, 12, 1000)


def test_the_usual_chain_written_out_is_the_usual_chain() -> None:
    settings = {"sampling_rate": 250, "seq_len": 1000, "highpass": 0.67, "normalize": "joint", "scale": 2.0}
    usual = ECGFeatureExtractor(**settings)
    written = ECGFeatureExtractor(
        **settings, chain=["resample", "pad", "crop", "resample_crop", "filters", "normalize", "scale"]
    )
    assert written.steps == usual.steps


def test_a_setting_without_a_place_is_refused() -> None:
    for setting in ({"highpass": 0.5}, {"normalize": "joint"}, {"scale": 2.0}, {"clip": 3.0}):
        with pytest.raises(ValueError, match=f"{next(iter(setting))} has no place in this preprocessing"):
            extractor(**setting)
    with pytest.raises(ValueError, match="seq_len has no place"):
        extractor(chain=["resample", SCALED])
    with pytest.raises(ValueError, match="unknown part 'croop'"):
        extractor(chain=["resample", "croop"])
    with pytest.raises(ValueError, match="has no setting frequenzy"):
        extractor(chain=["resample", "pad", "crop", {"step": "notch", "frequenzy": 50.0}])


def test_a_chain_survives_as_json_and_follows_changes() -> None:
    one = extractor(pad="zero")
    saved = json.loads(one.to_json_string())
    again = ECGFeatureExtractor.from_dict(saved)
    assert again.steps == one.steps
    np.testing.assert_array_equal(values(again, record(), 500), values(one, record(), 500))
    shorter = ECGFeatureExtractor.from_dict(saved, seq_len=500, lead_names=["II"])
    assert values(shorter, record(), 500).shape == (1, 1, 500)


def test_prepared_and_finished_equals_at_once() -> None:
    one = extractor()
    prepared = one.prepare(record(), sampling_rate=500)
    np.testing.assert_array_equal(one.finish(prepared), values(one, record(), sampling_rate=500)[0])
    np.testing.assert_array_equal(one.finish(prepared, crop_start=7), values(one, record(), 500, crop_start=7)[0])


def test_records_of_a_batch_do_not_meet() -> None:
    one = extractor(chain=["resample", "crop", {"step": "median_baseline"}, {"step": "band_pass"}, SCALED])
    records = [record(seed=seed) for seed in range(3)]
    together = values(one, records, sampling_rate=500)
    for index, given in enumerate(records):
        np.testing.assert_allclose(together[index], values(one, given, sampling_rate=500)[0], atol=1e-7)


def test_padding_on_both_sides_is_reported() -> None:
    one = extractor(pad="both", chain=["resample", "pad", "crop"])
    with pytest.warns(UserWarning, match="was padded"):
        result = values(one, record(1000), sampling_rate=500)[0]
    assert one.last_report[0]["padded_samples"] == 500
    assert not result[:, :250].any()
    assert not result[:, 750:].any()
    assert result[:, 250:750].any(axis=1).all()


def test_steps_of_single_chains_have_no_form_for_devices() -> None:
    one = extractor(fast=True, resample="fourier")
    with pytest.raises(ValueError, match="'notch' has no form for devices"):
        one(record(), sampling_rate=500, return_tensors="pt", device="cpu")


def test_missing_values_become_zero_where_the_published_code_says_so() -> None:
    broken = record()
    broken[10:20, 4] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        extractor()(broken, sampling_rate=500)
    zeroed = broken.copy()
    zeroed[10:20, 4] = 0.0
    with pytest.warns(UserWarning, match="aVL became zero"):
        result = values(extractor(nan="zero"), broken, sampling_rate=500)
    np.testing.assert_array_equal(result, values(extractor(), zeroed, sampling_rate=500))


def test_a_variant_names_one_of_several_published_chains() -> None:
    own, ked = (ECGFeatureExtractor.for_method("ecg_resnet", variant=name) for name in (None, "ked"))
    assert own.steps != ked.steps
    assert ECGFeatureExtractor.for_method("ked", seq_len=500).seq_len == 500
    with pytest.raises(ValueError, match="no variant"):
        ECGFeatureExtractor.for_method("st_mem", variant="ked")


def test_the_other_published_input_of_ked_is_a_setting() -> None:
    one = ECGFeatureExtractor.for_method("ked", normalize="fixed", mean=[-0.0008], std=[0.236])
    plain = values(ECGFeatureExtractor.for_method("ked"), record(5000), sampling_rate=500)
    np.testing.assert_allclose(values(one, record(5000), sampling_rate=500), (plain + 0.0008) / 0.236, rtol=1e-5)
