"""Parity with ECG-FM, DeepECG-SSL, MELP and D-BETA, and the properties of the one network behind them."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from support.published import named

import ecg_transformers as ecg
from ecg_transformers.layers.objectives import OnePatientError
from ecg_transformers.models.ecg_wav2vec2.labels_ecg_wav2vec2 import (
    DEEPECG_SSL_LABELS,
    ECG_FM_LABELS,
    LABELS_BY_MAXIMUM,
)
from ecg_transformers.models.ecg_wav2vec2.method import MELP_SIZES
from ecg_transformers.models.registry import get_method
from ecg_transformers.models.shared.state_dicts import CheckpointError
from tests.support.released_files import fairseq_keys, melp_keys

CASES = [
    *(("ecg_fm", case) for case in "abce"),
    *(("deepecg_ssl", case) for case in "ab"),
    *(("melp", case) for case in "abe"),
    *(("d_beta", case) for case in "ab"),
]
VARIANTS = ["ecg_fm", "deepecg_ssl", "melp", "d_beta"]
NAMES_HERE = {"features.linear_probe": "linear_probe"}
# The tensors' READMEs: a float64 rerun of the reference differs by up to half of these, so processors may too
TOLERANCES = {"hidden_states": 5e-5, "last_hidden_state": 4e-5}


@pytest.fixture(params=CASES, ids=lambda pair: "-".join(pair))
def case(parity, request):
    """Variant, published weights, inputs with expected outputs, and settings."""
    variant, name = request.param
    folder = f"zoo/{variant}"
    io, config = parity(folder, f"{name}_io"), parity.config(folder, f"{name}_io")
    return variant, parity(folder, f"{name}_weights"), io, config


def converted(weights, config):
    return ecg.convert_checkpoint("ecg_wav2vec2", dict(weights), **config["overrides"])


def tiny(role="base", seed=0, **overrides):
    method = get_method("ecg_wav2vec2")
    torch.manual_seed(seed)
    return method.model_classes[role](method.config_class(**{**method.tiny_config, **overrides})).eval()


def tiny_variant(variant, **overrides):
    sizes = {"shared_emb_dim": 16, "embed_dim_caption": 32, "n_queries_contrast": 3, "n_queries_caption": 5}
    sizes |= {"attn_pooler_heads": 4, "variant": variant, "lead_names": None}
    return tiny(**{**sizes, **overrides})


@torch.no_grad()
def test_every_published_output_is_reproduced(case):
    _, weights, io, config = case
    model = converted(weights, config)
    assert not model.training
    outputs = model.base_model(io["input_values"], output_hidden_states=True)
    for name, expected in io.items():
        if name.startswith("hidden_states."):
            found = outputs.hidden_states[int(name.rpartition(".")[2])]
        elif name in ("last_hidden_state", "pooler_output", "conv_features", "beat_embeddings", "token_embeddings"):
            found = getattr(outputs, name)
        elif name in NAMES_HERE:
            found = getattr(outputs, NAMES_HERE[name])
        elif name in ("logits", "probabilities"):
            found = getattr(model(io["input_values"]), name)
        else:
            continue
        atol = TOLERANCES.get(name.partition(".")[0], 3e-5)
        torch.testing.assert_close(found, expected, rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}")


def test_every_published_gradient_is_reproduced(case):
    _, weights, io, config = case
    model = converted(weights, config)
    model.base_model(io["input_values"]).pooler_output.square().mean().backward()
    for name in named(io, "grad."):
        value = weights[name.removeprefix("grad.")].float()
        same = [p for p in model.parameters() if p.shape == value.shape and torch.equal(p.detach(), value)]
        assert len(same) == 1, name
        scale = float(io[name].abs().max())
        torch.testing.assert_close(same[0].grad, io[name], rtol=0, atol=3e-5 * scale + 1e-7, msg=name)


@torch.no_grad()
def test_attention_weights_and_padded_batches_are_those_of_the_reference(parity):
    io, config = parity("zoo/ecg_fm", "a_io"), parity.config("zoo/ecg_fm", "a_io")
    model = converted(parity("zoo/ecg_fm", "a_weights"), config).base_model
    model.set_attn_implementation("eager")
    outputs = model(io["input_values"], output_attentions=True)
    torch.testing.assert_close(outputs.attentions_mean, io["attentions.mean_over_heads"], rtol=0, atol=1e-5)
    mask = io["padded.attention_mask"]
    padded = model(io["padded.input_values"], attention_mask=mask)
    torch.testing.assert_close(padded.pooler_output, io["padded.pooler_output"], rtol=0, atol=1e-5)
    for row, count in enumerate(model.config.num_tokens(mask.sum(dim=1)).tolist()):
        expected = io["padded.last_hidden_state"][row, :count]
        torch.testing.assert_close(padded.last_hidden_state[row, :count], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_published_preprocessing_is_reproduced(parity, variant):
    tensors = parity(f"zoo/{variant}", "preprocess")
    extractor = ecg.ECGFeatureExtractor.for_method("ecg_wav2vec2", variant=variant)
    for index in [name.removeprefix("out.") for name in named(tensors, "out.")]:
        signal, rate = tensors[f"signal.{index}"].numpy(), int(tensors[f"rate.{index}"])
        found = extractor(signal, sampling_rate=rate)["input_values"][0]
        expected = tensors[f"out.{index}"].numpy()[..., : found.shape[-1]]  # DeepECG-SSL's chain does not cut
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6, err_msg=f"{variant} {index}")


def test_a_melp_record_of_half_the_length_is_padded_before_it_is_scaled(parity):
    tensors = parity("zoo/melp", "preprocess")
    names = [name for name in tensors if name.startswith("short.")]
    assert names
    extractor = ecg.ECGFeatureExtractor.for_method("ecg_wav2vec2", variant="melp")
    signal = np.random.default_rng(0).standard_normal((2500, 12)) + 0.5
    values = extractor(signal, sampling_rate=500)["input_values"][0]
    low, high = min(signal.min(), 0.0), max(signal.max(), 0.0)
    np.testing.assert_allclose(values[:, 2500:], (0.0 - low) / (high - low), atol=1e-6)
    np.testing.assert_allclose(values[4, :2500], (signal[:, 5] - low) / (high - low), atol=1e-6)  # aVF before aVL


def test_ecg_fm_gives_all_whole_segments_of_a_record_standardised_as_a_whole():
    signal = np.random.default_rng(0).standard_normal((8000, 12)) * np.linspace(0.1, 3.0, 8000)[:, None]
    extractor = ecg.ECGFeatureExtractor.for_method("ecg_wav2vec2", variant="ecg_fm")
    values = extractor(signal, sampling_rate=500)["input_values"]
    assert values.shape == (1, 3, 12, 2500)
    assert values[0, 0].std() < 0.5 < values[0, 2].std()
    whole = (signal - signal.mean(0)) / signal.std(0)
    np.testing.assert_allclose(values[0, 1], whole[2500:5000].T, atol=1e-5)
    with pytest.raises(ValueError, match="needs 2500"):
        extractor(signal[:2400], sampling_rate=500)


def test_deepecg_ssl_keeps_every_kth_sample_and_resamples_other_rates():
    signal = np.random.default_rng(0).standard_normal((5500, 12))
    extractor = ecg.ECGFeatureExtractor.for_method("ecg_wav2vec2", variant="deepecg_ssl")
    values = extractor(signal, sampling_rate=500)["input_values"][0]
    np.testing.assert_array_equal(values, signal[:5000:2].T.astype(np.float32))
    assert extractor(signal, sampling_rate=400)["input_values"].shape == (1, 12, 2500)


@torch.no_grad()
def test_the_embedding_does_not_see_a_common_factor_of_all_leads():
    model = tiny()
    x = torch.randn(2, 12, 320)
    torch.testing.assert_close(model(x).pooler_output, model(50 * x + 3).pooler_output, rtol=1e-3, atol=1e-3)
    assert torch.isfinite(model(torch.zeros(1, 12, 320)).pooler_output).all()


@torch.no_grad()
@pytest.mark.parametrize("variant", VARIANTS)
def test_segments_of_a_record_give_their_mean(variant):
    model = tiny_variant(variant, seq_len=320)
    x = torch.randn(2, 3, 12, 320)
    together, alone = model(x), [model(x[:, index]) for index in range(3)]
    torch.testing.assert_close(together.pooler_output, torch.stack([one.pooler_output for one in alone]).mean(0))
    torch.testing.assert_close(together.last_hidden_state, torch.cat([one.last_hidden_state for one in alone], 1))


@torch.no_grad()
def test_absent_leads_are_zeros():
    model = tiny()
    x = torch.randn(2, 2, 320)
    whole = torch.zeros(2, 12, 320)
    whole[:, [7, 1]] = x
    torch.testing.assert_close(model(x, lead_indices=[7, 1]).pooler_output, model(whole).pooler_output)


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "encoder."])
def test_an_encoder_in_published_keys_converts(prefix):
    model = tiny()
    state = {f"{prefix}{key}": value for key, value in fairseq_keys(model).items()}
    sizes = {"num_attention_heads": 2, "seq_len": 320, "sampling_rate": 100}
    again = ecg.convert_checkpoint("ecg_wav2vec2", state, **sizes)
    assert type(again) is ecg.ECGWav2Vec2Model
    x = torch.randn(2, 12, 320)
    torch.testing.assert_close(again(x).last_hidden_state, model(x).last_hidden_state, rtol=0, atol=0)


def test_every_tensor_is_used_or_named():
    state = fairseq_keys(tiny())
    sizes = {"num_attention_heads": 2, "seq_len": 320}
    with pytest.raises(CheckpointError, match="extra"):
        ecg.convert_checkpoint("ecg_wav2vec2", {**state, "extra.weight": torch.zeros(1)}, **sizes)
    for lost in ("encoder.layers.1.fc1.weight", "layer_norm.bias", "feature_extractor.conv_layers.3.0.weight"):
        with pytest.raises(CheckpointError):
            ecg.convert_checkpoint("ecg_wav2vec2", {k: v for k, v in state.items() if k != lost}, **sizes)
    with pytest.raises(CheckpointError, match="no wav2vec"):
        ecg.convert_checkpoint("ecg_wav2vec2", {"weight": torch.zeros(3)})


def test_a_number_of_heads_that_does_not_divide_the_width_is_asked_for():
    with pytest.raises(ValueError, match="num_attention_heads=12 does not divide 32"):
        ecg.convert_checkpoint("ecg_wav2vec2", fairseq_keys(tiny()))


def test_released_sizes_have_the_published_number_of_parameters():
    def parameters(role, **overrides):
        method = get_method("ecg_wav2vec2")
        with torch.device("meta"):
            model = method.model_classes[role](method.config_class(**overrides))
        return sum(parameter.numel() for parameter in model.parameters())

    assert parameters("pretraining") == 90_883_072
    assert parameters("classification", num_labels=17) == 90_373_248 + 17 * 769
    assert parameters("base", variant="d_beta", num_hidden_layers=8) == 63_203_712
    unused = 509_825  # quantiser, projections, mask vector and temperature in MELP's file
    assert parameters("base", variant="melp", num_hidden_layers=8) == 65_593_857 - unused


def test_label_lists_are_complete():
    assert (len(set(ECG_FM_LABELS)), len(set(DEEPECG_SSL_LABELS))) == (17, 77)
    assert set(LABELS_BY_MAXIMUM) < set(ECG_FM_LABELS)


@pytest.mark.parametrize(
    ("variant", "names", "joined"), [("ecg_fm", ECG_FM_LABELS, "ecg_fm"), ("deepecg_ssl", DEEPECG_SSL_LABELS, "mean")]
)
def test_a_published_head_has_the_published_names(variant, names, joined):
    def head(outputs):
        state = {f"encoder.{key}": value for key, value in fairseq_keys(tiny(num_attention_heads=2)).items()}
        state |= {"proj.weight": torch.zeros(outputs, 32), "proj.bias": torch.zeros(outputs)}
        return ecg.convert_checkpoint("ecg_wav2vec2", state, variant=variant, num_attention_heads=2).config

    assert list(head(len(names)).id2label.values()) == names
    assert head(len(names)).crop_aggregation == joined
    assert head(3).id2label[0] == "LABEL_0"


@torch.no_grad()
def test_ecg_fm_takes_the_maximum_for_five_labels_and_the_mean_for_the_others():
    names = dict(enumerate(ECG_FM_LABELS))
    kind = {"problem_type": "multi_label_classification", "crop_aggregation": "ecg_fm"}
    model = tiny("classification", id2label=names, **kind)
    x = torch.randn(2, 3, 12, 320)
    single = torch.stack([model(x[:, index]).probabilities for index in range(3)])
    found = model(x).probabilities
    for index, name in names.items():
        expected = single[..., index].amax(0) if name in LABELS_BY_MAXIMUM else single[..., index].mean(0)
        torch.testing.assert_close(found[:, index], expected)
    with pytest.raises(ValueError, match="Poor data quality"):
        tiny("classification", crop_aggregation="ecg_fm", num_labels=17)


def test_melp_heads_see_what_the_authors_probe_sees():
    torch.manual_seed(0)
    method = get_method("ecg_wav2vec2")
    base = tiny_variant("melp").config
    model = method.model_classes["classification"](base).eval()
    x = torch.randn(2, 12, 320)
    outputs = model.base_model(x)
    torch.testing.assert_close(model(x).logits, model.classifier(outputs.linear_probe))
    assert not torch.allclose(outputs.linear_probe, outputs.pooler_output)


def test_a_factor_of_zero_freezes_the_convolutions():
    model = tiny(feature_grad_mult=0.0).train()
    model(torch.randn(2, 12, 320)).pooler_output.sum().backward()
    assert all(parameter.grad is None for parameter in model.feature_extractor.parameters())
    assert all(not parameter.requires_grad for parameter in model.feature_extractor.parameters())


@torch.no_grad()
def test_a_training_file_of_fairseq_signals_converts(tmp_path):
    model = tiny()
    content = {
        "args": None,
        "cfg": {
            "model": {
                "_name": "wav2vec2_cmsc",
                "conv_feature_layers": "[(256, 2, 2)] * 4",
                "encoder_attention_heads": 2,
                "encoder_layers": 12,
            }
        },
        "model": fairseq_keys(model),
        "criterion": None,
        "optimizer_history": [{"num_updates": 3}],
        "task_state": {},
        "extra_state": {"metrics": {"valid": [np.float64(0.5), np.zeros(3)]}},
        "last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(3)}}},
    }
    torch.save(content, tmp_path / "mimic.pt")
    again = ecg.convert_checkpoint("ecg_wav2vec2", tmp_path / "mimic.pt")
    x = torch.randn(2, 12, 320)
    assert torch.equal(again(x).pooler_output, model(x).pooler_output)
    assert again.config.converted_from == "mimic.pt"
    assert again.config.completed_updates == 3


# pre-training


@pytest.fixture
def published_step(parity):
    io, config = parity("zoo/ecg_fm", "pretrain_io"), parity.config("zoo/ecg_fm", "pretrain_io")
    weights = parity("zoo/ecg_fm", "pretrain_weights")
    model = ecg.convert_checkpoint(
        "ecg_wav2vec2", dict(weights), **config["overrides"], num_negatives=config["num_negatives"]
    )
    names = ("input_values", "mask_time_indices", "negative_indices", "gumbel_noise", "patient_ids", "segment_ids")
    inputs = {name: io[name] for name in names} | {"temperature": config["temperature"]}
    return model, inputs, io, config, weights


def test_every_published_loss_and_gradient_of_pretraining_is_reproduced(published_step):
    model, inputs, io, config, weights = published_step
    outputs = model.train()(**inputs)
    published = {
        "loss": "loss",
        "contrastive_loss": "contrastive_loss_sum",
        "diversity_loss": "diversity_loss_sum",
        "feature_penalty": "feature_penalty_sum",
        "cmsc_loss": "cmsc_loss_sum",
        "prob_perplexity": "prob_perplexity",
        "code_perplexity": "code_perplexity",
    }
    for name, theirs in published.items():
        torch.testing.assert_close(outputs[name], io[theirs], rtol=1e-5, atol=0, msg=name)
    assert float(outputs.accuracy) * config["sample_size"] == pytest.approx(float(io["num_correct"]))
    outputs.loss.backward()
    for name in named(io, "grad."):
        value = weights[name.removeprefix("grad.")]
        same = [p for p in model.parameters() if p.shape == value.shape and torch.equal(p.detach(), value)]
        scale = float(io[name].abs().max())
        torch.testing.assert_close(same[0].grad, io[name], rtol=0, atol=3e-5 * scale + 1e-7, msg=name)


@torch.no_grad()
def test_evaluation_chooses_codes_without_noise_as_published(published_step):
    model, inputs, io, _, _ = published_step
    outputs = model.eval()(**inputs)
    torch.testing.assert_close(outputs.loss, io["eval.loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(outputs.contrastive_loss, io["eval.contrastive_loss_sum"], rtol=1e-5, atol=0)


def test_pairs_may_come_flat_or_side_by_side():
    model = tiny("pretraining").train()
    inputs = model.dummy_inputs
    flat = {**inputs, "input_values": inputs["input_values"].flatten(0, 1)}
    flat["patient_ids"] = inputs["patient_ids"].repeat_interleave(2)
    assert torch.equal(model(**inputs).loss, model(**flat, segment_ids=torch.tensor([0, 1] * 4)).loss)


def test_the_temperature_falls_with_the_steps_and_goes_on_from_a_checkpoints():
    model = tiny("pretraining")
    assert model.temperature == 2.0
    model.training_step_started(60_000, 10**6)
    assert model.temperature == pytest.approx(1.4816353, rel=1e-6)
    later = tiny("pretraining", completed_updates=50_000)
    later.training_step_started(10_000, 10**6)
    assert later.temperature == model.temperature
    model.training_step_started(10**6, 10**6)
    assert model.temperature == 0.5


def test_leads_are_zeroed_by_their_noise():
    model = tiny("pretraining").train()
    inputs = model.dummy_inputs
    by_hand = {**inputs, "lead_noise": torch.ones_like(inputs["lead_noise"])}
    by_hand["input_values"] = inputs["input_values"] * (inputs["lead_noise"] >= 0.5)[..., None]
    assert torch.equal(model(**inputs).loss, model(**by_hand).loss)


def test_one_patient_cannot_be_contrasted():
    model = tiny("pretraining")
    inputs = {**model.dummy_inputs, "patient_ids": torch.zeros(4, dtype=torch.long)}
    with torch.no_grad():
        assert torch.isnan(model(**inputs).loss)
    with pytest.raises(OnePatientError):
        model.train()(**inputs)


def test_the_pretraining_of_other_variants_is_not_offered():
    with pytest.raises(ValueError, match="d_beta"):
        tiny("pretraining", variant="d_beta")


# MELP's Hub repository


def melp_folder(folder, model, **fields):
    """A directory laid out as `fuyingw/MELP_Encoder`: bfloat16, published names, a config that names its own code."""
    save_file(melp_keys(model), folder / "model.safetensors", metadata={"format": "pt"})
    names = ("shared_emb_dim", "embed_dim_caption", "n_queries_contrast", "n_queries_caption", "attn_pooler_heads")
    config = {name: getattr(model.config, name) for name in names} | {"model_type": "melp", "model_size": "small"}
    config |= {"auto_map": {"AutoModel": "modeling_melp.MELPEncoderModel"}, "torch_dtype": "bfloat16", "num_leads": 12}
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    (folder / "modeling_melp.py").write_text('raise SystemExit("remote code was executed")\n')
    return folder


@pytest.fixture
def melp(monkeypatch):
    """A small MELP, of the size that its config calls small."""
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    model = tiny_variant("melp")
    entry = get_method("ecg_wav2vec2").tiny_config
    monkeypatch.setitem(MELP_SIZES, "small", {name: entry[name] for name in names})
    others = ("conv_dim", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups")
    return model, {name: entry[name] for name in others}


@torch.no_grad()
def test_melps_hub_directory_loads_in_float32_without_its_code(tmp_path, melp):
    model, sizes = melp
    model.load_state_dict({key: value.to(torch.bfloat16).float() for key, value in model.state_dict().items()})
    folder = melp_folder(tmp_path, model)
    again, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True, **sizes)
    assert (type(again), again.dtype, again.config.variant) == (ecg.ECGWav2Vec2Model, torch.float32, "melp")
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert again.config.lead_names[4:6] == ["aVF", "aVL"]
    x = torch.randn(2, 12, 320)
    assert torch.equal(again.eval()(x).pooler_output, model(x).pooler_output)
    again.save_pretrained(tmp_path / "ours")
    ours = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    assert torch.equal(ours(x).token_embeddings, model(x).token_embeddings)
    card = (tmp_path / "ours" / "README.md").read_text()
    assert "MELP" in card
    assert "Apache-2.0" in card
    converted = ecg.convert_checkpoint(
        "ecg_wav2vec2", folder / "model.safetensors", num_attention_heads=2, attn_pooler_heads=4
    )
    assert torch.equal(converted(x).pooler_output, model(x).pooler_output)


def test_a_size_that_melp_does_not_have_is_refused(tmp_path, melp):
    folder = melp_folder(tmp_path, melp[0], model_size="huge")
    with pytest.raises(ValueError, match="small, base, large"):
        transformers.AutoConfig.from_pretrained(folder)
