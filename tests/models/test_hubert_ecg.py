"""Parity with HuBERT-ECG and the properties of our classes."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.published import named

import ecg_transformers as ecg
from ecg_transformers.models.hubert_ecg.configuration_hubert_ecg import HubertECGConfig
from ecg_transformers.models.hubert_ecg.convert_hubert_ecg import convert_hubert_ecg
from ecg_transformers.models.hubert_ecg.labels_hubert_ecg import CARDIO_LEARNING_LABELS
from ecg_transformers.models.registry import get_method
from ecg_transformers.models.shared.state_dicts import CheckpointError
from tests.support.released_files import WEIGHT_NORM_NAMES
from tests.support.released_files import hubert_keys as published_keys

FOLDER = "zoo/hubert_ecg"
PUBLISHED_CONFIG = {
    "model_type": "hubert_ecg",
    "architectures": ["HuBERTECG"],
    "auto_map": {"AutoConfig": "hubert_ecg.HuBERTECGConfig", "AutoModel": "hubert_ecg.HuBERTECG"},
    "apply_spec_augment": True,
    "mask_time_prob": 0.33,
    "layerdrop": 0.1,
    "vocab_sizes": 500,
    "vocab_size": 100,
    "num_feat_extract_layers": 5,
    "do_stable_layer_norm": False,
    "torch_dtype": "float32",
    "transformers_version": "4.38.1",
}


def tiny(role="base", seed=0, **overrides):
    method = get_method("hubert_ecg")
    torch.manual_seed(seed)
    return method.model_classes[role](method.config_class(**{**method.tiny_config, **overrides})).eval()


def published_folder(folder, model, generation="new", classifier=False, **fields):
    """A directory laid out as the authors' Hub repositories."""
    sizes = {name: getattr(model.config, name) for name in get_method("hubert_ecg").tiny_config if name != "num_leads"}
    config = {**PUBLISHED_CONFIG, **sizes, **fields}
    state = published_keys(model, generation, "hubert_ecg." if classifier else "")
    if classifier:
        config |= {"model_type": "hubert_ecg_classification", "architectures": ["HuBERTECGForClassification"]}
        config |= {"num_labels": model.config.num_labels, "task_type": "multi_label"}
    else:
        state |= {"final_proj.0.weight": torch.zeros(4, 32), "label_embedding.0.weight": torch.zeros(500, 4)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "hubert_ecg.py").write_text('raise SystemExit("remote code was executed")\n')
    return folder


@pytest.fixture(params=["a", "b"])
def case(parity, request):
    io, config = parity(FOLDER, f"{request.param}_io"), parity.config(FOLDER, f"{request.param}_io")
    return request.param, parity(FOLDER, f"{request.param}_weights"), io, config


@torch.no_grad()
def test_every_published_output_is_reproduced(case):
    _, weights, io, config = case
    model = ecg.convert_checkpoint("hubert_ecg", dict(weights), **config["overrides"])
    outputs = model(io["input_values"], output_hidden_states=True)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(outputs[name], io[name], rtol=0, atol=1e-5, msg=name)
    for name in named(io, "hidden_states."):
        found = outputs.hidden_states[int(name.rpartition(".")[2])]
        torch.testing.assert_close(found, io[name], rtol=0, atol=1e-5, msg=name)
    flat = model(io["input_values"].flatten(1))
    assert torch.equal(flat.last_hidden_state, outputs.last_hidden_state)


def test_every_published_gradient_is_reproduced(case):
    _, weights, io, config = case
    model = ecg.convert_checkpoint("hubert_ecg", dict(weights), **config["overrides"])
    model(io["input_values"]).pooler_output.square().mean().backward()
    parameters = dict(model.named_parameters())
    for name in named(io, "grad."):
        scale = float(io[name].abs().max())
        found = parameters[name.removeprefix("grad.")].grad
        torch.testing.assert_close(found, io[name], rtol=0, atol=1e-5 * scale, msg=name)


@torch.no_grad()
def test_every_published_head_is_reproduced(case, parity):
    name, weights, io, config = case
    encoder = {
        f"hubert_ecg.{key}": value
        for key, value in weights.items()
        if not key.startswith(("final_proj.", "label_embedding."))
    }
    assert config["heads"]
    for kind in config["heads"]:
        head = parity(FOLDER, f"{name}_head_{kind}")
        model = ecg.convert_checkpoint("hubert_ecg", {**encoder, **head}, **config["overrides"])
        logits = model(io["input_values"]).logits
        torch.testing.assert_close(logits, io[f"logits.{kind}"], rtol=0, atol=1e-5, msg=kind)


def test_the_published_preprocessing_is_reproduced(parity):
    tensors = parity(FOLDER, "preprocess")
    extractor = ecg.ECGFeatureExtractor.for_method("hubert_ecg")
    for index in [name.removeprefix("out.") for name in named(tensors, "out.")]:
        signal, rate = tensors[f"signal.{index}"].numpy(), float(tensors[f"rate.{index}"])
        found = extractor(signal, sampling_rate=rate, crop_start=0)["input_values"][0]
        np.testing.assert_allclose(found, tensors[f"out.{index}"].numpy(), rtol=0, atol=2e-6, err_msg=index)


def test_a_longer_record_gives_other_values_for_the_same_five_seconds():
    signal = np.random.default_rng(0).standard_normal((5000, 12))
    signal[4000] = 9.0
    extractor = ecg.ECGFeatureExtractor.for_method("hubert_ecg")
    long, short = (extractor(part, sampling_rate=500)["input_values"][0] for part in (signal, signal[:2600]))
    assert np.abs(long).max() < np.abs(short).max()


@torch.no_grad()
@pytest.mark.parametrize("generation", WEIGHT_NORM_NAMES)
def test_a_hub_directory_of_either_generation_loads_without_its_code(tmp_path, generation):
    model = tiny()
    x = torch.randn(2, 12, 60)
    folder = published_folder(tmp_path, model, generation)
    for options in ({}, {"trust_remote_code": True}):
        again, info = transformers.AutoModel.from_pretrained(folder, output_loading_info=True, **options)
        assert type(again) is ecg.HubertECGModel
        assert not info["missing_keys"]
        assert not info["unexpected_keys"]
        assert torch.equal(again.eval()(x).last_hidden_state, model(x).last_hidden_state)
    assert "CC BY-NC" in again.config.weights_licence
    again.save_pretrained(tmp_path / "ours")
    config = json.loads((folder / "config.json").read_text())
    del config["auto_map"]  # as the authors' package writes it
    (folder / "config.json").write_text(json.dumps(config))
    assert transformers.AutoConfig.from_pretrained(folder).weights_licence == again.config.weights_licence
    assert set(load_file(tmp_path / "ours" / "model.safetensors")) == set(model.state_dict())
    assert "CC BY-NC" in (tmp_path / "ours" / "README.md").read_text()


@torch.no_grad()
@pytest.mark.parametrize("head", [{}, {"classifier_hidden_size": 8, "activation": "relu"}])
def test_a_fine_tuned_hub_directory_loads_as_classifier_and_as_encoder(tmp_path, head):
    model = tiny("classification", num_labels=164, problem_type="multi_label_classification", **head)
    folder = published_folder(tmp_path, model, classifier=True, **head)
    x = torch.randn(2, 12, 60)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert torch.equal(again(x).logits, model(x).logits)
    assert torch.equal(again(x).probabilities, again(x).logits.sigmoid())
    assert list(again.config.id2label.values()) == CARDIO_LEARNING_LABELS
    assert again.config.head_dropout == 0.1
    encoder = transformers.AutoModel.from_pretrained(folder).eval()
    assert torch.equal(encoder(x).pooler_output, model.base_model(x).pooler_output)


@torch.no_grad()
def test_a_label_embedding_is_a_head_of_cosines(tmp_path):
    model = tiny("classification", num_labels=3, use_label_embedding=True)
    folder = published_folder(tmp_path, model, classifier=True, use_label_embedding=True)
    state = load_file(folder / "model.safetensors")
    state["label_embedding.weight"] = state.pop("classifier.weight")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    x = torch.randn(2, 12, 60)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert torch.equal(again(x).logits, model(x).logits)
    assert float(model(x).logits.abs().max()) <= 1.0
    converted = convert_hubert_ecg(state, num_attention_heads=2)
    assert torch.equal(converted(x).logits, model(x).logits)


@torch.no_grad()
def test_files_without_the_mask_vector_load_and_files_without_anything_else_do_not(tmp_path):
    model = tiny("classification", num_labels=3)
    folder = published_folder(tmp_path, model, classifier=True)
    state = load_file(folder / "model.safetensors")
    del state["hubert_ecg.masked_spec_embed"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    x = torch.randn(2, 12, 60)
    again = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert torch.equal(again(x).logits, model(x).logits)
    assert torch.equal(convert_hubert_ecg(state, num_attention_heads=2)(x).logits, model(x).logits)
    del state["hubert_ecg.encoder.layer_norm.bias"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder\.layer_norm\.bias"):
        transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    with pytest.raises(CheckpointError, match=r"encoder\.layer_norm\.bias"):
        convert_hubert_ecg(state, num_attention_heads=2)


def test_an_option_that_no_released_model_has_is_refused(tmp_path):
    folder = published_folder(tmp_path, tiny(), do_stable_layer_norm=True)
    with pytest.raises(ValueError, match="do_stable_layer_norm"):
        transformers.AutoModel.from_pretrained(folder)


def test_nothing_is_masked_unless_asked_for():
    model = tiny(hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0).train()
    x = torch.randn(2, 12, 60)
    assert torch.equal(model(x).last_hidden_state, model(x).last_hidden_state)
    mask = torch.zeros(2, model.config.num_tokens(720), dtype=torch.bool)
    mask[0, 3] = True
    masked = model(x, mask_time_indices=mask)
    assert not torch.allclose(masked.pooler_output[0], model(x).pooler_output[0])
    assert torch.allclose(masked.pooler_output[1], model(x).pooler_output[1])


@torch.no_grad()
def test_leads_are_joined_in_the_order_of_the_table_and_absent_ones_left_out():
    model = tiny()
    x = torch.randn(2, 12, 60)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist()
    assert torch.equal(model(x[:, order], lead_indices=order).pooler_output, model(x).pooler_output)
    two = model(x[:, [5, 1]], lead_indices=[[5, 1], [5, 1]])
    assert torch.equal(two.pooler_output, model(x[:, [1, 5]].flatten(1)).pooler_output)


def test_the_published_fine_tuning_keeps_the_convolutions():
    model = tiny(freeze_feature_encoder=True)
    assert not any(parameter.requires_grad for parameter in model.feature_extractor.parameters())
    assert all(parameter.requires_grad for parameter in model.encoder.parameters())
    assert not model.masked_spec_embed.requires_grad


def test_what_tensors_cannot_tell_is_asked_for():
    state = published_keys(tiny())
    with pytest.raises(CheckpointError, match="num_attention_heads=…"):
        convert_hubert_ecg(state)
    lost = {key: value for key, value in state.items() if "conv_layers.4" not in key}
    with pytest.raises(CheckpointError, match="conv_stride=…"):
        convert_hubert_ecg(lost, num_attention_heads=2)
    with pytest.raises(CheckpointError, match="extra"):
        convert_hubert_ecg({**state, "extra": torch.zeros(1)}, num_attention_heads=2)
    with pytest.raises(CheckpointError, match="no HuBERT-ECG"):
        convert_hubert_ecg({"weight": torch.zeros(3)})


@pytest.mark.parametrize(
    ("recipe", "parameters", "heads"),
    [("small", 30_209_664, 8), ("published", 92_798_848, 12), ("large", 187_644_736, 12)],
)
def test_released_sizes_have_the_published_number_of_parameters_and_heads(recipe, parameters, heads):
    config = HubertECGConfig(**get_method("hubert_ecg").recipe(recipe).config)
    with torch.device("meta"):
        model = ecg.HubertECGModel(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    assert config.num_attention_heads == heads
    assert config.num_tokens(6_000) == 93


def test_the_label_list_is_complete():
    assert len(set(CARDIO_LEARNING_LABELS)) == 164
    assert (CARDIO_LEARNING_LABELS[0], CARDIO_LEARNING_LABELS[-1]) == ("PAC|SVPB", "3AVB")


@torch.no_grad()
def test_a_training_file_with_its_pickled_config_converts(tmp_path):
    model = tiny()
    content = {
        "model_state_dict": published_keys(model, "old"),
        "model_config": transformers.HubertConfig(hidden_size=32),
        "optimizer_state_dict": {"state": {}, "param_groups": [{"lr": 1e-5}]},
        "pretraining_vocab_sizes": [500],
    }
    torch.save(content, tmp_path / "hubert_ecg_small.pt")
    again = ecg.convert_checkpoint("hubert_ecg", tmp_path / "hubert_ecg_small.pt", num_attention_heads=2)
    x = torch.randn(2, 12, 60)
    assert torch.equal(again(x).pooler_output, model(x).pooler_output)


@torch.no_grad()
def test_the_encoder_is_transformers_own_hubert():
    model = tiny()
    names = [
        name for name in get_method("hubert_ecg").tiny_config if name not in ("num_leads", "seq_len", "sampling_rate")
    ]
    sizes = {name: getattr(model.config, name) for name in (*names, "conv_kernel", "conv_stride")}
    hubert = transformers.HubertModel(transformers.HubertConfig(**sizes)).eval()
    hubert.load_state_dict(published_keys(model))
    x = torch.randn(2, 12, 60)
    torch.testing.assert_close(model(x).last_hidden_state, hubert(x.flatten(1)).last_hidden_state)
