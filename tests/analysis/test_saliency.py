"""Saliency: the same function for models on signals and on beats, mapped to time and summed over waves."""

import numpy as np
import pytest
import torch

import ecg_transformers as ecg
from ecg_transformers.analysis.saliency import beats_to_time, explain_record, input_saliency, wave_regions, wave_shares
from ecg_transformers.data.record import ECGRecord
from ecg_transformers.models.registry import get_method

METHODS = ("gradient", "smoothgrad", "integrated_gradients")


def record(seconds=10, rate=100, leads=12):
    time = np.arange(seconds * rate) / rate
    lead = np.zeros(time.size)
    for peak in np.arange(0.5, seconds - 0.5, 0.8):
        lead += np.exp(-0.5 * ((time - peak) / 0.02) ** 2) + 0.3 * np.exp(-0.5 * ((time - peak - 0.28) / 0.05) ** 2)
    names = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"][:leads]
    noise = 0.01 * np.random.default_rng(0).standard_normal((time.size, leads))
    return ECGRecord(lead[:, None] * np.linspace(0.5, 1.5, leads) + noise, rate, names, "r")


def classifier(method, seed=0, **overrides):
    entry = get_method(method)
    torch.manual_seed(seed)
    config = entry.config_class(**{**entry.tiny_config, "num_labels": 3, **overrides})
    return entry.model_classes["classification"](config).eval()


def on_beats(seed=0):
    return classifier("ecg_sl", seed), ecg.ECGSLFeatureExtractor(beat_len=32)


def on_signals(method="ecg_resnet"):
    model = classifier(method)
    extractor = ecg.ECGFeatureExtractor(sampling_rate=100, seq_len=model.config.seq_len, normalize="per_lead")
    return model, extractor


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["beats", "signals"])
def test_one_function_explains_models_on_beats_and_on_signals(method, kind):
    model, extractor = on_beats() if kind == "beats" else on_signals()
    explained = explain_record(model, extractor, record(), method=method, num_samples=4)
    assert explained.values.shape[0] == len(explained.covered)
    assert explained.values.min() >= 0
    assert explained.values.max() > 0
    assert np.isfinite(explained.values).all()
    assert set(explained.shares) == {"P", "QRS", "ST-T", "rest"}
    assert not explained.values[~explained.covered].any()


def test_gradients_equal_finite_differences():
    model, extractor = on_beats()
    model = model.double()
    features = extractor(record(), return_tensors="pt")
    features["beats"] = features["beats"].double()
    gradient = input_saliency(model, features, target=1, signed=True)
    moved = {**features, "beats": features["beats"].clone()}
    moved["beats"][0, 3, 10] += 1e-5
    with torch.no_grad():
        difference = float(model(**moved).logits[0, 1] - model(**features).logits[0, 1]) / 1e-5
    assert float(gradient[0, 3, 10]) == pytest.approx(difference, rel=1e-3, abs=1e-8)


def test_integrated_gradients_sum_to_the_change_of_the_logit():
    model, extractor = on_beats()
    features = extractor(record(), return_tensors="pt")
    total = input_saliency(model, features, 0, "integrated_gradients", num_samples=256, signed=True).sum()
    with torch.no_grad():
        end = model(**features).logits[0, 0]
        start = model(**{**features, "beats": torch.zeros_like(features["beats"])}).logits[0, 0]
    assert float(total) == pytest.approx(float(end - start), rel=0.01)


def test_smoothgrad_without_noise_is_the_gradient_and_noise_is_repeatable():
    model, extractor = on_beats()
    features = extractor(record(), return_tensors="pt")
    plain = input_saliency(model, features, 0)
    torch.testing.assert_close(input_saliency(model, features, 0, "smoothgrad", noise_level=0.0, num_samples=2), plain)
    first = input_saliency(model, features, 0, "smoothgrad", num_samples=3)
    assert torch.equal(first, input_saliency(model, features, 0, "smoothgrad", num_samples=3))
    assert not torch.equal(first, plain)


def test_padding_is_not_salient():
    model, extractor = on_beats()
    features = extractor(record(), padding="max_length", return_tensors="pt")
    assert not input_saliency(model, features)[~features["beat_mask"]].any()


def test_saliency_changes_when_weights_are_randomised():
    from scipy.stats import spearmanr

    values = [explain_record(*on_beats(seed), record(), target=0).values[:, 0] for seed in (0, 1)]
    assert abs(spearmanr(*values).statistic) < 0.9


def test_the_model_is_left_as_it_was():
    model, extractor = on_beats()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explain_record(model, extractor, record())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_beats_go_back_to_their_place_and_overlaps_are_averaged():
    extractor = ecg.ECGSLFeatureExtractor(beat_len=70)
    values = np.stack([np.full((1, 70), 2.0), np.full((1, 70), 4.0)])
    out, covered = beats_to_time(values, np.asarray([100, 140]), 100, 300, extractor)
    np.testing.assert_allclose(out[75:115, 0], 2.0)
    np.testing.assert_allclose(out[115:145, 0], 3.0)
    np.testing.assert_allclose(out[145:185, 0], 4.0)
    assert covered[75:185].all()
    assert not covered[:75].any()
    assert not covered[185:].any()


@pytest.mark.parametrize("mode", ["window", "cycle"])
def test_a_point_of_a_beat_returns_to_its_sample(mode):
    extractor = ecg.ECGSLFeatureExtractor(beat_len=128, beat_mode=mode, beat_norm="none")
    one = record(leads=2)
    lead = one.signal[:, 1]
    features = extractor(one)
    out, covered = beats_to_time(features["beats"][0][:, None], features["beat_samples"][0], 100, len(lead), extractor)
    inner = covered.copy()
    inner[:120] = inner[-120:] = False
    assert np.corrcoef(out[inner, 0], lead[inner])[0, 1] > 0.97


def test_shares_are_one_for_uniform_and_large_where_saliency_is():
    peaks, rate = np.arange(100, 900, 100), 100
    assert all(value == pytest.approx(1.0) for value in wave_shares(np.ones(1000), peaks, rate).values())
    regions = wave_regions(peaks, rate, 1000)
    assert sum(region.sum() for region in regions.values()) == 1000
    only_qrs = regions["QRS"].astype(float)
    shares = wave_shares(only_qrs, peaks, rate)
    assert shares["P"] == shares["ST-T"] == shares["rest"] == 0
    assert shares["QRS"] == pytest.approx(1000 / regions["QRS"].sum())
    assert np.isnan(wave_shares(np.zeros(1000), peaks, rate)["QRS"])


def test_fast_rhythms_give_qrs_before_p_before_st():
    regions = wave_regions(np.asarray([100, 130]), 100, 300)
    assert regions["QRS"][125]
    assert regions["P"][115]
    assert not regions["ST-T"][115]


def test_training_mode_and_unknown_methods_are_refused():
    model, extractor = on_beats()
    with pytest.raises(ValueError, match="method must be"):
        explain_record(model, extractor, record(), method="occlusion")
    with pytest.raises(ValueError, match="eval"):
        explain_record(model.train(), extractor, record(), target=0)
