"""Parity with the JEPA of Weimann and Conrad, and what is particular to it."""

import numpy as np
import pytest
import torch
from support.published import named

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.hub.official.conversion import convert_checkpoint
from ecg_transformers.layers.masking import hidden_block_mask
from ecg_transformers.layers.momentum import linear_momentum
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.models.weimann_jepa.configuration_weimann_jepa import WeimannJEPAConfig
from ecg_transformers.models.weimann_jepa.convert_weimann_jepa import convert_weimann_jepa
from ecg_transformers.models.weimann_jepa.method import METHOD
from ecg_transformers.models.weimann_jepa.modeling_weimann_jepa import (
    WeimannJEPAForPreTraining,
    WeimannJEPAForSequenceClassification,
    WeimannJEPAModel,
)
from ecg_transformers.training.plan.optimization import warmup_cosine
from tests.support.released_files import weimann_keys as published_layout

GROUP = "zoo/weimann_jepa"
POOLING = {"attention": "attention", "attention_no_register": "attention_patches"}


def small_model(model_class=WeimannJEPAForPreTraining, **overrides):
    torch.manual_seed(0)
    return model_class(WeimannJEPAConfig(**{**METHOD.tiny_config, **overrides})).eval()


def encoder_alone(parity, case):
    config, tensors = parity.config(GROUP, f"{case}_weights"), parity(GROUP, f"{case}_weights")
    overrides = {key: value for key, value in config["overrides"].items() if not key.startswith("predictor_")}
    return {key: value for key, value in tensors.items() if key.startswith("target_encoder.")}, overrides


@pytest.mark.parametrize("case", ["a", "b"])
def test_encoder_and_its_gradients_equal_the_published_ones(parity, case):
    tensors, overrides = encoder_alone(parity, case)
    io, model = parity(GROUP, f"{case}_io"), convert_weimann_jepa(tensors, **overrides)
    output = model(io["input_values"], output_hidden_states=True)
    torch.testing.assert_close(output.last_hidden_state, io["last_hidden_state"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.pooler_output, io["pooler_output"], rtol=0, atol=1e-5)
    last = len(output.hidden_states) - 1
    torch.testing.assert_close(output.hidden_states[last], io[f"hidden_states.{last}"], rtol=0, atol=2e-5)
    short = model(io["short.input_values"]).pooler_output
    torch.testing.assert_close(short, io["short.pooler_output"], rtol=0, atol=1e-5)
    output.pooler_output.square().mean().backward()
    pairs = {"embeddings.projection": "patch_embed.proj", "encoder.layer.0.intermediate": "blocks.0.mlp.fc1"}
    for ours, theirs in pairs.items():
        expected = io[f"grad.target_encoder.{theirs}.weight"]
        found = model.get_submodule(ours).weight.grad
        assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("case", "kind"), [("a", "attention"), ("a", "register"), ("a", "mean"), ("b", "mean")])
def test_heads_equal_the_published_ones(parity, case, kind):
    tensors, overrides = encoder_alone(parity, case)
    tuned = {key.replace("target_encoder.", "encoder."): value for key, value in tensors.items()}
    tuned |= parity(GROUP, f"{case}_head_{kind}")
    model = convert_weimann_jepa(tuned, **overrides, pooling=POOLING.get(kind, kind))
    assert isinstance(model, WeimannJEPAForSequenceClassification)
    io = parity(GROUP, f"{case}_io")
    torch.testing.assert_close(model(io["input_values"]).logits, io[f"logits.{kind}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", ["a", "b"])
def test_a_pretraining_step_equals_the_published_one(parity, case):
    config, io = parity.config(GROUP, f"{case}_weights"), parity(GROUP, f"{case}_pretraining")
    model = convert_weimann_jepa(parity(GROUP, f"{case}_weights"), **config["overrides"]).train()
    model.update_target(config["momentum"])
    output = model(io["input_values"], mask=io["mask"])
    torch.testing.assert_close(output.loss, io["loss"], rtol=0, atol=1e-6)
    torch.testing.assert_close(output.predictions, io["predictions"], rtol=0, atol=1e-5)
    torch.testing.assert_close(output.targets, io["targets"], rtol=0, atol=1e-5)
    output.loss.backward()
    expected = io["grad.predictor.mask_token"]
    assert (model.predictor.mask_token.grad - expected).abs().max() < 1e-4 * expected.abs().max()
    assert all(parameter.grad is None for parameter in model.target_encoder.parameters())


def test_masks_equal_the_published_ones_draw_by_draw(parity):
    masks, settings = parity(GROUP, "masks"), parity.config(GROUP, "masks")
    for case, one in settings.items():
        rng = np.random.RandomState(one["seed"])
        keep = int(np.ceil(rng.uniform(*one["keep"]) * one["num_patches"]))
        rows = [hidden_block_mask(one["num_patches"], keep, one["min_block_size"], rng) for _ in range(one["batch"])]
        assert np.array_equal(np.stack(rows), masks[f"mask.{case}"].numpy())


def test_schedules_equal_the_published_ones(parity):
    tables, settings = parity(GROUP, "schedules"), parity.config(GROUP, "schedules")
    for case, one in settings.items():
        steps, decay = {"total_steps": one["total_steps"]}, one["weight_decay"]
        rate = {"start": one["lr"][0], "final": one["lr"][1], "warmup_steps": one["warmup_steps"]}
        for step, expected in enumerate(tables[f"lr.{case}"].tolist()):
            assert warmup_cosine(step, **rate, **steps) == pytest.approx(expected, rel=1e-12)
        for step, expected in enumerate(tables[f"weight_decay.{case}"].tolist()):
            found = warmup_cosine(step, start=decay[0], final=decay[1], warmup_steps=0, **steps)
            assert found == pytest.approx(expected, rel=1e-12)
        for step, expected in enumerate(tables[f"momentum.{case}"].tolist()):
            assert linear_momentum(step, one["total_steps"], *one["momentum"]) == pytest.approx(expected, rel=1e-12)


def test_preprocessing_equals_the_published_chain_in_single_precision(parity):
    tensors = parity(GROUP, "preprocess")
    extractor = ECGFeatureExtractor.for_method("weimann_jepa", seq_len=1250)
    for key in named(tensors, "out."):
        case = key.partition(".")[2]
        signal, rate = tensors[f"signal.{case}"].numpy(), float(tensors[f"rate.{case}"])
        found = extractor(signal, sampling_rate=rate, crop_start=0)["input_values"][0]
        assert np.abs(found - tensors[key].numpy()).max() < 1e-5
        published = tensors.get(f"out_float16.{case}", tensors[key]).float().numpy()  # kept at some of the rates
        assert np.abs(found - published).max() < 6e-3  # half precision: what the card says


@pytest.mark.parametrize(("num_patches", "min_block"), [(200, 10), (50, 10), (16, 2), (12, 1)])
def test_masks_leave_exactly_the_asked_for_patches_visible(num_patches, min_block):
    rng = np.random.RandomState(0)
    for keep in (1, num_patches // 5, num_patches - min_block):
        assert (~hidden_block_mask(num_patches, keep, min_block, rng)).sum() == keep


def test_a_hidden_block_that_cannot_fit_is_refused():
    with pytest.raises(ValueError, match="min_block_size"):
        hidden_block_mask(12, 10, 3, np.random.RandomState(0))


def test_the_mask_of_a_record_does_not_depend_on_how_the_batch_is_split():
    model = small_model()
    x = torch.zeros(4, 12, 120)
    seeds = torch.stack([model.draw_sample_noise(torch.Generator().manual_seed(i))["mask_seeds"] for i in range(4)])

    def masks(rows):
        batch = {"input_values": x[rows], "mask_seeds": seeds[rows]}
        return model.draw_batch_noise(torch.Generator().manual_seed(9), batch)["mask"]

    whole = masks(slice(0, 4))
    assert torch.equal(whole, torch.cat([masks(slice(0, 1)), masks(slice(1, 4))]))
    assert len({tuple(row) for row in whole.tolist()}) > 1
    assert len(set(whole.sum(1).tolist())) == 1


def test_the_teacher_moves_before_it_makes_targets():
    model = small_model().train()
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(0.1)
    before = model.target_encoder.layernorm.weight.clone()
    model.training_step_started(0, 10)
    expected = 0.998 * before + 0.002 * model.student.layernorm.weight
    torch.testing.assert_close(model.target_encoder.layernorm.weight, expected)


def test_what_is_used_downstream_is_the_teacher(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.target_encoder.layernorm.weight.mul_(2)
    x = torch.randn(2, 12, 120)
    expected = model.target_encoder(x).pooler_output
    assert torch.equal(model.export_encoder()(x).pooler_output, expected)
    model.save_pretrained(tmp_path)
    assert torch.equal(WeimannJEPAModel.from_pretrained(tmp_path).eval()(x).pooler_output, expected)
    classifier = WeimannJEPAForSequenceClassification.from_pretrained(tmp_path, num_labels=3).eval()
    assert torch.equal(classifier.base_model(x).pooler_output, expected)


def test_a_file_says_what_its_tensors_cannot_tell(tmp_path):
    tensors = published_layout(small_model())
    config = {"num_heads": 4, "pred_num_heads": 2, "channel_size": 120, "min_keep_ratio": 0.2, "unknown": "text"}
    torch.save({"model": tensors, "config": config, "step": 5}, tmp_path / "full.pt")
    model = convert_checkpoint("weimann_jepa", tmp_path / "full.pt")
    assert (model.config.num_attention_heads, model.config.seq_len, model.config.min_keep_ratio) == (4, 120, 0.2)
    tuned = {key: value for key, value in tensors.items() if key.startswith("encoder.")}
    tuned |= {"fc.weight": torch.zeros(3, 32)}
    content = {"model": tuned, "config": config, "eval_config": {"use_register": True}, "task": "superclass"}
    torch.save(content, tmp_path / "tuned.pt")
    assert convert_checkpoint("weimann_jepa", tmp_path / "tuned.pt").config.pooling == "register"


def test_hidden_patches_do_not_reach_the_encoder():
    model = small_model()
    x, mask = torch.randn(1, 12, 120), torch.arange(12)[None] >= 3
    changed = x.clone()
    changed[..., 30:] += 1
    assert torch.equal(model(x, mask=mask).last_hidden_state, model(changed, mask=mask).last_hidden_state)


def test_every_form_of_a_published_file_is_told_apart():
    tensors = published_layout(small_model())
    heads = {"num_attention_heads": 4, "predictor_num_attention_heads": 2, "seq_len": 120}
    assert isinstance(convert_weimann_jepa(tensors, **heads), WeimannJEPAForPreTraining)
    for prefix in ("target_encoder.", "encoder."):
        part = {key: value for key, value in tensors.items() if key.startswith(prefix)}
        assert isinstance(convert_weimann_jepa(part, num_attention_heads=4), WeimannJEPAModel)
        bare = {key.removeprefix(prefix): value for key, value in part.items()}
        assert isinstance(convert_weimann_jepa(bare, num_attention_heads=4), WeimannJEPAModel)


def test_published_sizes_need_no_number_of_heads():
    model = small_model(
        hidden_size=192, num_attention_heads=4, predictor_hidden_size=96, predictor_num_attention_heads=4
    )
    config = convert_weimann_jepa(published_layout(model)).config
    assert (config.num_attention_heads, config.predictor_num_attention_heads, config.seq_len) == (4, 4, 5000)


def test_older_files_with_biases_of_the_norms_alone_keep_them():
    tensors = {k: v for k, v in published_layout(small_model()).items() if k.startswith("target_encoder.")}
    plain = convert_weimann_jepa(dict(tensors), num_attention_heads=4)
    norms = {key.replace("weight", "bias"): torch.full_like(v, 0.3) for key, v in tensors.items() if ".norm" in key}
    model = convert_weimann_jepa({**tensors, **norms}, num_attention_heads=4)
    x = torch.randn(1, 12, 120)
    with torch.no_grad():
        assert float((model(x).pooler_output - plain(x).pooler_output).abs().max()) > 0.1
    state = model.state_dict()
    assert torch.equal(state["layernorm.bias"], torch.full((32,), 0.3))
    assert not state["encoder.layer.0.output.bias"].any()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: {k: v for k, v in t.items() if "patch_embed" not in k}, "patch_embed.proj.weight"),
        (lambda t: {k: v for k, v in t.items() if "blocks.1.norm2" not in k}, "blocks.1.norm2.weight"),
        (lambda t: t | {"target_encoder.surprise": torch.zeros(1)}, "surprise"),
        (lambda t: {"W_P.weight": torch.zeros(4, 4)}, "ecg_jepa"),
    ],
)
def test_a_file_that_does_not_fit_is_one_sentence(change, sentence):
    tensors = {k: v for k, v in published_layout(small_model()).items() if k.startswith("target_encoder.")}
    with pytest.raises(CheckpointError, match=sentence):
        convert_weimann_jepa(change(tensors), num_attention_heads=4)


def test_heads_that_tensors_cannot_tell_are_asked_for():
    with pytest.raises(CheckpointError, match="num_attention_heads"):
        convert_weimann_jepa(published_layout(small_model()))


def test_a_pooling_that_the_head_does_not_have_is_refused():
    tensors = {k: v for k, v in published_layout(small_model()).items() if k.startswith("encoder.")}
    with pytest.raises(CheckpointError, match="pools by"):
        convert_weimann_jepa(tensors | {"fc.weight": torch.zeros(3, 32)}, num_attention_heads=4, pooling="attention")


def test_more_patches_than_rows_are_refused_and_a_remainder_is_dropped():
    model = small_model(WeimannJEPAModel)
    x = torch.randn(1, 12, 139)
    with pytest.raises(ValueError, match="13 patches"):
        model(x)
    assert torch.equal(model(x[..., :115]).pooler_output, model(x[..., :110]).pooler_output)


def test_residual_outputs_start_smaller_by_the_depth_of_the_encoder_in_the_predictor_too():
    sizes = {"hidden_size": 128, "predictor_hidden_size": 128, "num_hidden_layers": 8, "intermediate_size": 256}
    model = small_model(**sizes, predictor_intermediate_size=256)
    for layer in (model.student.encoder.layer[0], model.predictor.blocks.layer[0]):
        assert float(layer.output.weight.detach().std()) == pytest.approx(0.02 / 4, rel=0.05)
        assert float(layer.intermediate.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
