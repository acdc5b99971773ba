"""MoCo v3 on ECG: reference step, momentum encoder, frozen parts, backbones, and how the loss starts and falls."""

import math

import pytest
import torch

from ecg_transformers.layers.collapse import uniformity
from ecg_transformers.layers.momentum import cosine_momentum
from ecg_transformers.models.ecg_moco_v3.configuration_ecg_moco_v3 import ECGMoCoV3Config
from ecg_transformers.models.ecg_moco_v3.convert_ecg_moco_v3 import convert_ecg_moco_v3
from ecg_transformers.models.ecg_moco_v3.method import METHOD
from ecg_transformers.models.ecg_moco_v3.modeling_ecg_moco_v3 import (
    ECGMoCoV3ForPreTraining,
    ECGMoCoV3ForSequenceClassification,
    ECGMoCoV3Model,
)
from ecg_transformers.models.registry import get_method
from ecg_transformers.models.shared.state_dicts import CheckpointError


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=atol, rtol=0)


def build(model_class=ECGMoCoV3ForPreTraining, **overrides):
    torch.manual_seed(0)
    return model_class(ECGMoCoV3Config(**{**METHOD.tiny_config, **overrides}))


def two_views(batch=8, seed=0, difference=0.5):
    """Records and a slightly changed copy of each."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(120) / 120
    waves = torch.stack([torch.sin(2 * torch.pi * k * time) for k in range(1, 7)])
    records = torch.randn(batch, 12, 6, generator=generator) @ waves
    return torch.stack([r + difference * torch.randn(r.shape, generator=generator) for r in (records, records)], dim=1)


@pytest.fixture(scope="module")
def reference(parity):
    return parity("st_mem", "moco_v3_vit_io")


@pytest.fixture(scope="module")
def weights(parity):
    return parity("st_mem", "moco_v3_vit_weights")


def converted(parity, weights):
    config = parity.config("st_mem", "moco_v3_vit_io")
    return convert_ecg_moco_v3(
        weights, attention_head_size=config["dim_head"], temperature=config["T"], momentum=config["m"]
    )


def test_one_training_step_equals_the_reference(parity, reference, weights):
    model = converted(parity, weights).train()
    model.set_attn_implementation("eager")  # batch norm over six records amplifies the rounding of fused attention
    model.training_step_started(0, 100)
    output = model(torch.stack([reference["x1"], reference["x2"]], dim=1))
    for index, view in enumerate("12"):
        close(output.embeddings[:, index], reference[f"q{view}"], atol=2e-5)
        close(output.targets[:, index], reference[f"k{view}"], atol=2e-5)
    close(output.loss, reference["loss"])
    output.loss.backward()
    close(model.predictor[0].weight.grad, reference["grad.predictor.0.weight"], atol=5e-5)
    attention = model.ecg_moco_v3.encoder.encoder.layer[0].attention
    packed = torch.cat([attention.query.weight.grad, attention.key.weight.grad, attention.value.weight.grad])
    close(packed, reference["grad.base_encoder.block0.attn.fn.to_qkv.weight"], atol=5e-5)


def test_momentum_weights_and_running_statistics_after_the_step_equal_the_reference(parity, reference, weights):
    model = converted(parity, weights).train()
    model.training_step_started(0, 100)
    model(torch.stack([reference["x1"], reference["x2"]], dim=1))
    layer = "momentum_encoder.encoder.layer.0."
    names = {
        "base_encoder.head.": "projector.",
        "momentum_encoder.head.": "momentum_projector.",
        "momentum_encoder.block0.attn.norm.": f"{layer}layernorm_before.",
        "momentum_encoder.block0.ff.norm.": f"{layer}layernorm_after.",
        "momentum_encoder.norm.": "momentum_encoder.layernorm.",
    }
    state, compared = model.state_dict(), 0
    for key, value in reference.items():
        if not key.startswith("after."):
            continue
        name = key.removeprefix("after.")
        for theirs, ours in names.items():
            if name.startswith(theirs):
                name = ours + name.removeprefix(theirs)
                break
        close(state[name].float(), value.float(), atol=1e-6)
        compared += 1
    assert compared == 29


def test_left_over_and_missing_keys_are_named(weights):
    with pytest.raises(CheckpointError, match="stray"):
        convert_ecg_moco_v3({**weights, "stray": torch.zeros(1)}, attention_head_size=32)
    with pytest.raises(CheckpointError, match="base_encoder"):
        convert_ecg_moco_v3({"encoder.norm.weight": torch.zeros(1)})
    some = {key: value for key, value in weights.items() if not key.startswith("predictor.")}
    with pytest.raises(CheckpointError, match="predictor"):
        convert_ecg_moco_v3(some, attention_head_size=32)


def test_loss_starts_near_the_log_of_the_batch():
    model = build(projection_size=128, projector_hidden_size=128).train()
    x = two_views(32)
    expected = 2 * 2 * 0.2 * math.log(32)
    assert model(x).loss.item() == pytest.approx(expected, rel=0.25)


def test_loss_does_not_depend_on_the_order_of_records():
    model, x = build().train(), two_views()
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    close(model(x[order]).loss, model(x).loss, atol=1e-4)


def test_loss_is_symmetric_in_the_views():
    model, x = build().eval(), two_views()
    close(model(x.flip(1)).loss, model(x).loss)


def test_keys_get_no_gradient_and_queries_do():
    model = build().train()
    model(two_views()).loss.backward()
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith("momentum_"))
    trained = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert [name for name, grad in trained.items() if grad is None or not grad.isfinite().all()] == []


def test_training_brings_views_together_and_spreads_records():
    model = build(projector_hidden_size=64, projection_size=32).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=4e-3)
    held_out = two_views(32, seed=1000)

    def held_out_uniformity():
        model.eval()
        with torch.no_grad():
            spread = uniformity(model(held_out).targets[:, 0]).item()
        model.train()
        return spread

    before, losses, figures = held_out_uniformity(), [], []
    for step in range(60):
        model.training_step_started(step, 60)
        output = model(two_views(32, seed=step))
        losses.append(output.loss.item())
        figures.append(model.monitor(output))
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    assert figures[-1]["alignment"] < 0.8 * figures[0]["alignment"]
    assert figures[-1]["accuracy"] > figures[0]["accuracy"]
    assert figures[-1]["relative_spread"] > 0.9
    assert held_out_uniformity() < before - 0.5


def test_momentum_encoder_starts_as_the_encoder_and_moves_before_each_step():
    model = build()
    slow, fast = model.momentum_encoder.layernorm.weight, model.backbone.layernorm.weight
    assert torch.equal(slow, fast)
    with torch.no_grad():
        fast += 1
    for step in (0, 5):
        momentum = cosine_momentum(step / 10, 0.99)
        expected = momentum * slow.detach() + (1 - momentum) * fast.detach()
        model.training_step_started(step, 10)
        close(slow.detach(), expected, atol=1e-6)


def test_constant_momentum_by_choice():
    model = build(momentum_schedule="constant", momentum=0.5)
    with torch.no_grad():
        model.backbone.layernorm.weight.fill_(3.0)
    model.training_step_started(9, 10)
    close(model.momentum_encoder.layernorm.weight.detach(), torch.full((32,), 2.0))


def test_momentum_encoder_keeps_batch_norm_statistics_of_its_own():
    model, x = build().train(), two_views()
    model(x)
    assert not torch.equal(model.momentum_projector[1].running_mean, torch.zeros(24))
    before = model.momentum_projector[1].running_mean.clone()
    model.training_step_started(0, 10)
    assert torch.equal(model.momentum_projector[1].running_mean, before)


def test_an_encoder_checkpoint_starts_both_encoders_alike(tmp_path):
    build(ECGMoCoV3Model).save_pretrained(tmp_path)
    torch.manual_seed(5)
    model = ECGMoCoV3ForPreTraining.from_pretrained(tmp_path)
    pairs = zip(model.momentum_encoder.state_dict().values(), model.backbone.state_dict().values(), strict=True)
    assert all(torch.equal(slow, fast) for slow, fast in pairs)
    heads = zip(model.momentum_projector.state_dict().values(), model.projector.state_dict().values(), strict=True)
    assert all(torch.equal(slow, fast) for slow, fast in heads)


def test_a_full_checkpoint_keeps_the_momentum_encoder_it_was_saved_with(tmp_path):
    model = build()
    with torch.no_grad():
        model.backbone.layernorm.weight += 1
    model.save_pretrained(tmp_path)
    loaded, info = ECGMoCoV3ForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(loaded.momentum_encoder.layernorm.weight, torch.ones(32))
    assert torch.equal(loaded.backbone.layernorm.weight, torch.full((32,), 2.0))


def frozen(model):
    return {name for name, p in model.named_parameters() if not p.requires_grad and not name.startswith("momentum_")}


def test_patch_projection_and_positions_are_frozen_also_after_loading(tmp_path):
    model = build()
    embeddings = "ecg_moco_v3.encoder.embeddings."
    projection = {f"{embeddings}patch_embeddings.projection.{kind}" for kind in ("weight", "bias")}
    assert frozen(model) == projection | {f"{embeddings}position_embeddings"}
    model.save_pretrained(tmp_path)
    assert frozen(ECGMoCoV3ForPreTraining.from_pretrained(tmp_path)) == frozen(model)
    assert frozen(build(freeze_patch_projection=False, freeze_position_embeddings=False)) == set()
    assert not any(
        not p.requires_grad for p in ECGMoCoV3ForSequenceClassification.from_pretrained(tmp_path).parameters()
    )


def test_the_momentum_encoder_never_trains_also_after_loading(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    for candidate in (model, ECGMoCoV3ForPreTraining.from_pretrained(tmp_path)):
        assert not any(p.requires_grad for p in candidate.momentum_encoder.parameters())
        assert not any(p.requires_grad for p in candidate.momentum_projector.parameters())


def resnet_config():
    return {"model_type": "ecg_resnet", **get_method("ecg_resnet").tiny_config}


def test_a_residual_network_can_be_the_backbone_and_gets_the_published_heads():
    model = build_with(resnet_config())
    assert type(model.backbone).__name__ == "ECGResNetModel"
    assert (model.config.projector_num_layers, model.config.predictor_last_norm) == (2, False)
    x = torch.randn(4, 2, 12, 128)
    output = model.train()(x)
    output.loss.backward()
    assert output.loss.isfinite()
    assert frozen(model) == set()


PROJECTIONS = {
    "st_mem": "patch_embeddings.projection",
    "mtae": "patch_embeddings.projection",
    "mlae": "patch_embeddings.projection",
    "ecg_jepa": "projection",
}


@pytest.mark.parametrize("name", PROJECTIONS)
def test_other_encoders_can_be_the_backbone_and_keep_their_random_patches(name):
    method = get_method(name)
    model = build_with({"model_type": name, **method.tiny_config})
    assert type(model.backbone) is method.model_classes["base"]
    expected = {f"{PROJECTIONS[name]}.weight", f"{PROJECTIONS[name]}.bias"}
    if isinstance(getattr(model.backbone.embeddings, "position_embeddings", None), torch.nn.Parameter):
        expected.add("position_embeddings")
    assert frozen(model) == {f"ecg_moco_v3.encoder.embeddings.{part}" for part in expected}
    assert model(torch.randn(4, 2, model.config.num_leads, model.config.seq_len)).loss.isfinite()


def build_with(backbone_config):
    torch.manual_seed(0)
    config = ECGMoCoV3Config(backbone_config=backbone_config, projector_hidden_size=24, projection_size=16)
    return ECGMoCoV3ForPreTraining(config)


def test_config_shows_what_its_backbone_has_and_survives_saving(tmp_path):
    config = ECGMoCoV3Config(backbone_config=resnet_config())
    assert (config.num_leads, config.seq_len, config.sampling_rate, config.hidden_size) == (12, 128, 100, 32)
    config.save_pretrained(tmp_path)
    assert ECGMoCoV3Config.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_sizes_at_the_top_shape_the_backbone():
    config = ECGMoCoV3Config(**METHOD.tiny_config)
    assert config.backbone_config["hidden_size"] == 32
    assert config.backbone_config["seq_len"] == 120
    assert config.backbone_config["initializer"] == "xavier_per_projection"
    assert ECGMoCoV3Config().hidden_size == 768


def test_contradicting_sizes_are_refused():
    with pytest.raises(ValueError, match="hidden_size=64 contradicts"):
        ECGMoCoV3Config(hidden_size=64, backbone_config={"model_type": "ecg_vit", "hidden_size": 32})


def test_attention_choice_reaches_the_backbone_and_attentions_come_out():
    model = build(ECGMoCoV3ForSequenceClassification).eval()
    model.set_attn_implementation("eager")
    output = model(torch.randn(2, 12, 120), output_attentions=True, output_hidden_states=True)
    assert [tuple(a.shape) for a in output.attentions] == [(2, 2, 9, 9)] * 2
    assert len(output.hidden_states) == 3


def test_inputs_without_two_views_are_refused():
    with pytest.raises(ValueError, match="two views"):
        build()(torch.randn(2, 12, 120))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"momentum": 1.5}, "momentum"), ({"temperature": 0.0}, "temperature"), ({"loss_scale": "tau"}, "loss_scale")],
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ECGMoCoV3Config(**settings)
