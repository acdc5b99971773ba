"""ECG-JEPA against the reference tensors: forward, gradients, teacher, training, downstream, conversion."""

import json
from typing import Any

import pytest
import torch
from safetensors import safe_open
from support.official_names import official_ecg_jepa
from torch import Tensor

from ecg_transformers.layers import cross_pattern_attention as leaf
from ecg_transformers.models.ecg_jepa.convert_ecg_jepa import convert_ecg_jepa
from ecg_transformers.models.ecg_jepa.modeling_ecg_jepa import (
    ECGJEPAForPreTraining,
    ECGJEPAForSequenceClassification,
    ECGJEPAModel,
)
from ecg_transformers.models.shared.state_dicts import CheckpointError

TOLERANCE = 1e-5
SETS = ("lead8", "lead12")


def close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    assert actual.shape == expected.shape
    assert float((actual.detach() - expected).abs().max()) <= tolerance


def metadata(parity: Any, name: str) -> dict[str, Any]:
    with safe_open(parity.path("ecg_jepa", name), framework="pt") as file:
        found = file.metadata()
    return {
        key: value if key in ("torch", "note", "official_commit") else decode(value) for key, value in found.items()
    }


def decode(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def heads(parity: Any, name: str) -> dict[str, int]:
    config = metadata(parity, name)["config"]
    given = {"num_attention_heads": config["heads"]}
    return given | ({"predictor_num_attention_heads": config["pheads"]} if "pheads" in config else {})


def full_model(parity: Any, name: str, **overrides: Any) -> ECGJEPAForPreTraining:
    model = convert_ecg_jepa(parity("ecg_jepa", f"{name}_weights"), **heads(parity, f"{name}_weights"), **overrides)
    assert isinstance(model, ECGJEPAForPreTraining)
    assert not model.training
    return model


def official_gradients(model: ECGJEPAForPreTraining) -> dict[str, Tensor]:
    """Gradients under the official names."""
    carrier = ECGJEPAForPreTraining(model.config)
    with torch.no_grad():
        for (name, parameter), target in zip(model.named_parameters(), carrier.parameters(), strict=True):
            target.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
            assert (parameter.grad is None) == name.startswith("target_encoder.")
    return official_ecg_jepa(carrier)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("structured_from", [0, 10**9])
def test_pretraining_forward_equals_the_reference(parity, name, structured_from, monkeypatch):
    monkeypatch.setattr(leaf, "STRUCTURED_FROM_CPU", structured_from)
    model, tensors = full_model(parity, name), parity("ecg_jepa", f"{name}_forward")
    for attention in ("eager", "sdpa", "cross_pattern"):
        model.set_attn_implementation(attention)
        for case in metadata(parity, f"{name}_forward")["cases"]:
            output = model(tensors["x"], mask=tensors[f"{case}.mask"])
            close(output.predictions, tensors[f"{case}.pred"])
            close(output.targets, tensors[f"{case}.target"])
            close(output.loss, tensors[f"{case}.loss"])
            assert torch.equal(output.mask.bool(), tensors[f"{case}.mask"])


@pytest.mark.parametrize("name", SETS)
def test_float64_loss_equals_the_reference(parity, name):
    model, tensors = full_model(parity, name).double(), parity("ecg_jepa", f"{name}_forward")
    for case in metadata(parity, f"{name}_forward")["cases"]:
        close(model(tensors["x"].double(), mask=tensors[f"{case}.mask"]).loss, tensors[f"{case}.loss_f64"], 1e-12)


@pytest.mark.parametrize("name", SETS)
def test_stages_equal_the_reference(parity, name):
    model, tensors = full_model(parity, name), part(parity("ecg_jepa", f"{name}_forward"), "main.")
    x, mask = parity("ecg_jepa", f"{name}_forward")["x"], tensors["mask"]
    seen: dict[str, Tensor] = {}

    def watch(module: torch.nn.Module, key: str) -> None:
        def note(_: torch.nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            seen[key] = output[0] if isinstance(output, tuple) else output
            seen[f"{key}.in"] = inputs[0]

        module.register_forward_hook(note)

    for prefix, encoder in (("student", model.ecg_jepa), ("teacher", model.target_encoder)):
        watch(encoder.layernorm, f"{prefix}.norm")
        for index, layer in enumerate(encoder.encoder.layer):
            watch(layer, f"{prefix}.block{index}.out")
            watch(layer.attention, f"{prefix}.block{index}.attn")
            watch(layer.output, f"{prefix}.block{index}.mlp")
    watch(model.predictor.embed, "predictor.embed")
    for index, layer in enumerate(model.predictor.blocks.layer):
        watch(layer, f"predictor.block{index}.out")
    model(x, mask=mask)
    compared = set(seen) & set(tensors)
    assert len(compared) > 6 * model.config.num_hidden_layers
    for key in compared:
        close(seen[key], tensors[key])
    close(model.target_encoder.embeddings.projection(x.unflatten(-1, (-1, model.config.patch_size))).flatten(1, 2),
          tensors["teacher.patch_embed"])  # fmt: skip
    visible = (~mask).nonzero().flatten()
    leads = torch.arange(model.config.num_leads)
    close(model.ecg_jepa.embeddings.codes(leads, visible, mask.shape[0])[0][0], tensors["student_pos"])
    close(model.predictor.codes(leads, tensors["pred_order"], 1)[0][0], tensors["pred_pos"])


@pytest.mark.parametrize("name", SETS)
def test_gradients_equal_the_reference(parity, name):
    model, forward = full_model(parity, name), parity("ecg_jepa", f"{name}_forward")
    model(forward["x"], mask=forward["main.mask"]).loss.backward()
    found, expected = official_gradients(model), parity("ecg_jepa", f"{name}_grads_ema")
    for key, value in part(expected, "grad.").items():
        close(found[key], value, 1e-6)
    norms = part(expected, "gradnorm.")
    assert norms
    for key, value in norms.items():
        close(found[key].norm(), value, 1e-6)


@pytest.mark.parametrize("name", SETS)
def test_teacher_steps_equal_the_reference(parity, name):
    expected = parity("ecg_jepa", f"{name}_grads_ema")
    for momentum in sorted({key[4:].rsplit(".", key.count(".") - 1)[0] for key in expected if key.startswith("ema_")}):
        wanted = part(expected, f"ema_{momentum}.")
        model = full_model(parity, name)
        model.update_target(float(momentum))
        found = official_ecg_jepa(model.target_encoder)
        assert wanted
        for key, value in wanted.items():
            close(found[key], value, 1e-6)


def training_pass(parity, mask_type, variant):
    """Model, what its teacher gave, its output, the next random number, and the published tensors."""
    tensors, settings = parity("ecg_jepa", "lead8_train_mode"), metadata(parity, "lead8_train_mode")
    model = convert_ecg_jepa(
        part(tensors, "w."),
        **heads(parity, "lead8_train_mode"),
        drop_path_rate=0.0 if "off" in variant else settings["drop_path_rate"],
        mask_type=mask_type,
        mask_ratio_range=settings["mask_scale"][mask_type],
        teacher_drop_path="teacher_eval" not in variant,
    ).train()
    teacher: list[Tensor] = []
    model.target_encoder.layernorm.register_forward_hook(lambda module, inputs, output: teacher.append(output))
    torch.manual_seed(settings["seed_before_forward"])
    output = model(tensors["x"])
    return model, teacher, output, torch.rand(1), tensors


@pytest.mark.parametrize("mask_type", ["block", "random"])
@pytest.mark.parametrize("variant", ["loss", "loss_if_all_drop_path_off", "loss_if_teacher_eval"])
def test_training_mode_makes_the_draws_of_the_reference(parity, mask_type, variant):
    _, _, output, _, tensors = training_pass(parity, mask_type, variant)
    assert torch.equal(output.mask.bool(), tensors[f"{mask_type}.mask"])
    close(output.loss, tensors[f"{mask_type}.{variant}"])


@pytest.mark.parametrize("mask_type", ["block", "random"])
def test_training_mode_gives_the_gradients_of_the_reference_and_no_draw_more(parity, mask_type):
    model, teacher, output, following, tensors = training_pass(parity, mask_type, "loss")
    assert torch.equal(following, tensors[f"{mask_type}.next_rand"].view(1))
    close(teacher[0], tensors[f"{mask_type}.teacher_norm_out"])
    output.loss.backward()
    found = official_gradients(model)
    for key, value in part(tensors, f"{mask_type}.grad.").items():
        close(found[key], value, 1e-6)


def test_a_training_run_equals_the_reference(parity):
    tensors, settings = parity("ecg_jepa", "lead8_train_steps"), metadata(parity, "lead8_train_steps")
    model = convert_ecg_jepa(
        part(tensors, "init."),
        **heads(parity, "lead8_train_steps"),
        drop_path_rate=settings["drop_path"],
        mask_type=settings["mask_type"],
        mask_ratio_range=settings["mask_scale"],
    ).train()
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups["bias" not in name and parameter.ndim > 1].append(parameter)
    assert any(parameter is model.predictor.mask_token for parameter in groups[True])  # it decays, as released
    optimizer = torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": settings["weight_decay"]},
            {"params": groups[False], "weight_decay": 0},
        ]
    )
    torch.manual_seed(settings["seed_before_loop"])
    total = len(tensors["lr"])
    for step, batch in enumerate(tensors["x"]):
        for group in optimizer.param_groups:
            group["lr"] = float(tensors["lr"][step])
        loss = model(batch).loss
        close(loss.double(), tensors["f32.loss"][step].double())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        assert model.target_momentum(step, total) == pytest.approx(float(tensors["momentum"][step]), abs=1e-15)
        model.training_step_finished(step, total)
    found = official_ecg_jepa(model)
    for key, value in part(tensors, "f32.final.").items():
        close(found[key], value)


def test_momentum_schedule_is_the_published_one(parity):
    tensors, settings = parity("ecg_jepa", "schedules"), metadata(parity, "schedules")["params"]
    model = full_model(parity, "lead8")
    for name in ("tiny", "official_block", "official_random"):
        total = settings[name]["iters_per_epoch"] * settings[name]["epochs"]
        for step, momentum in zip(tensors[f"{name}.step"].tolist(), tensors[f"{name}.momentum"].tolist(), strict=True):
            assert model.target_momentum(step, total) == pytest.approx(momentum, abs=1e-15)


@pytest.fixture
def encoder(parity) -> ECGJEPAModel:
    tensors = part(parity("ecg_jepa", "downstream"), "encoder.")
    model = convert_ecg_jepa({"encoder": tensors, "epoch": 99}, **heads(parity, "downstream"))
    assert isinstance(model, ECGJEPAModel)
    return model


def test_representations_of_all_leads_equal_the_reference(parity, encoder):
    tensors = parity("ecg_jepa", "downstream")
    output = encoder(tensors["x"])
    close(output.pooler_output, tensors["rep.all"])
    close(output.last_hidden_state[:1], tensors["tokens.all"])


def test_reduced_leads_are_left_out_and_keep_their_order(parity, encoder):
    tensors, fewer = parity("ecg_jepa", "downstream"), encoder.config.num_leads - 1
    sets = {"_".join(map(str, leads)): leads for leads in metadata(parity, "downstream")["leadsets"]}
    reduced = {key: leads for key, leads in sets.items() if len(leads) <= fewer}
    for key, leads in reduced.items():
        close(encoder(tensors["x"][:, leads], lead_indices=leads).pooler_output, tensors[f"rep.{key}"])
        rows = torch.tensor([leads] * len(tensors["x"]))
        close(encoder(tensors["x"][:, leads], lead_indices=rows).pooler_output, tensors[f"rep.{key}"])
    with_tokens = {key: leads for key, leads in reduced.items() if f"tokens.{key}" in tensors}
    assert len(reduced) > len(with_tokens) > 0
    for key, leads in with_tokens.items():
        tokens = encoder(tensors["x"][:, leads], lead_indices=leads).last_hidden_state
        close(tokens[:1], tensors[f"tokens.{key}"])


def test_a_full_list_of_leads_keeps_the_order_of_the_table(parity, encoder):
    """The reference ignores a permuted full list: its rows stay in table order, as without `lead_indices` here."""
    tensors = parity("ecg_jepa", "downstream")
    whole = [leads for leads in metadata(parity, "downstream")["leadsets"] if len(leads) == encoder.config.num_leads]
    assert whole
    for leads in whole:
        close(encoder(tensors["x"][:, leads]).pooler_output, tensors[f"rep.{'_'.join(map(str, leads))}"])


def test_zero_filling_is_another_vector_than_leaving_out(parity, encoder):
    tensors = parity("ecg_jepa", "downstream")
    only = torch.zeros_like(tensors["x"])
    only[:, 1] = tensors["x"][:, 1]
    close(encoder(only).pooler_output, tensors["rep.zero_filled_lead1_only"])
    assert float((tensors["rep.zero_filled_lead1_only"] - tensors["rep.1"]).abs().max()) > 1e-3


def test_classification_equals_the_reference(parity, encoder):
    tensors = parity("ecg_jepa", "downstream")
    config = encoder.config
    config.num_labels = tensors["finetune.logits"].shape[1]
    model = ECGJEPAForSequenceClassification(config)
    model.ecg_jepa.load_state_dict(encoder.state_dict())
    model.classifier.load_state_dict(
        {"weight": tensors["finetune.fc.fc.weight"], "bias": tensors["finetune.fc.fc.bias"]}
    )
    model.config.problem_type = "multi_label_classification"
    output = model(tensors["x"], labels=tensors["finetune.labels"])
    close(output.logits, tensors["finetune.logits"])
    close(output.loss, tensors["finetune.bce"])
    output.loss.backward()
    close(model.ecg_jepa.embeddings.projection.weight.grad, tensors["finetune.grad.encoder.W_P.weight"], 1e-6)
    close(model.classifier.weight.grad, tensors["finetune.grad.fc.fc.weight"], 1e-6)
    model.config.problem_type = "single_label_classification"
    close(model(tensors["x"], labels=tensors["finetune.class_labels"]).loss, tensors["finetune.ce"])


def test_regression_from_the_feature_equals_the_reference(parity, encoder):
    tensors = parity("ecg_jepa", "downstream")
    feature = encoder(tensors["x"]).pooler_output
    close(torch.nn.functional.linear(feature, tensors["regression.w"], tensors["regression.b"]).squeeze(-1),
          tensors["regression.out"].view(-1))  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_converting_there_and_back_is_the_identity(parity, name):
    weights = parity("ecg_jepa", f"{name}_weights")
    back = official_ecg_jepa(full_model(parity, name))
    assert set(back) == set(weights)
    for key, value in weights.items():
        close(back[key], value, 1e-6 if key.endswith("pos_embed") else 0.0)


@pytest.mark.parametrize("wrapping", ["bare", "released", "prefixed", "parallel", "nested_prefix"])
def test_every_layout_of_an_encoder_alone_is_accepted(parity, encoder, wrapping):
    bare = part(parity("ecg_jepa", "downstream"), "encoder.")
    layouts: dict[str, dict[str, Any]] = {
        "bare": bare,
        "released": {"encoder": bare, "epoch": 99},
        "prefixed": {f"encoder.{key}": value for key, value in bare.items()},
        "parallel": {f"module.{key}": value for key, value in bare.items()},
        "nested_prefix": {"encoder": {f"encoder.{key}": value for key, value in bare.items()}, "epoch": 4},
    }
    model = convert_ecg_jepa(layouts[wrapping], **heads(parity, "downstream"))
    assert isinstance(model, ECGJEPAModel)
    for key, value in encoder.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)


def test_half_precision_files_are_taken(parity):
    state = {key: value.half() for key, value in parity("ecg_jepa", "lead8_weights").items()}
    model = convert_ecg_jepa(state, **heads(parity, "lead8_weights"))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_a_training_state_split_into_parts_is_accepted(parity):
    weights = parity("ecg_jepa", "lead8_weights")
    names = ("encoder", "target_encoder", "predictor")
    state = {name: part(weights, f"{name}.") for name in names} | {"epoch": 3}
    model = convert_ecg_jepa(state, **heads(parity, "lead8_weights"))
    assert isinstance(model, ECGJEPAForPreTraining)
    assert set(official_ecg_jepa(model)) == set(weights)


def test_the_encoder_of_a_training_state_alone_needs_its_number_of_leads(parity):
    weights = part(parity("ecg_jepa", "lead8_weights"), "encoder.")
    options = {"num_attention_heads": heads(parity, "lead8_weights")["num_attention_heads"]}
    with pytest.raises(CheckpointError, match="num_leads"):
        convert_ecg_jepa(weights, **options)
    model = convert_ecg_jepa(weights, num_leads=8, **options)
    assert model.config.seq_len == weights["pos_embed"].shape[0] // 8 * weights["W_P.weight"].shape[1]


def test_damaged_and_foreign_checkpoints_are_refused_with_a_reason(parity):
    weights, options = parity("ecg_jepa", "lead8_weights"), heads(parity, "lead8_weights")

    def refused(change: dict[str, Tensor], without: str | None = None, **other: Any) -> str:
        state = {key: value for key, value in (weights | change).items() if key != without}
        with pytest.raises(CheckpointError) as caught:
            convert_ecg_jepa(state, **(options | other))
        return str(caught.value)

    assert "rotary" in refused({"encoder.encoder_blocks.blocks.0.attn.rope.freqs": torch.zeros(2)})
    assert "predictor.extra" in refused({"predictor.extra": torch.zeros(2)})
    assert "predictor.mask_token" in refused({}, without="predictor.mask_token")
    assert "sine-cosine" in refused({"encoder.pos_embed": weights["encoder.pos_embed"] + 1e-3})
    assert "Weimann" in refused_names(lambda: convert_ecg_jepa({"vit.patch.weight": torch.zeros(2)}))
    without_table = {key: value for key, value in weights.items() if not key.endswith("pos_embed")}
    assert "rotary" in refused_names(lambda: convert_ecg_jepa(without_table, **options))
    assert "num_attention_heads" in refused_names(
        lambda: convert_ecg_jepa(weights, num_attention_heads=options["num_attention_heads"])
    )
    with pytest.raises(ValueError, match="not divisible"):
        convert_ecg_jepa(weights, **(options | {"num_attention_heads": 7}))


def refused_names(call: Any) -> str:
    with pytest.raises(CheckpointError) as caught:
        call()
    return str(caught.value)


def test_a_trained_position_table_is_taken_when_it_is_called_one(parity):
    weights = dict(parity("ecg_jepa", "lead8_weights"))
    for key in ("encoder.pos_embed", "target_encoder.pos_embed", "predictor.pos_embed"):
        weights[key] = torch.randn_like(weights[key])
    model = convert_ecg_jepa(weights, positions="learnable", **heads(parity, "lead8_weights"))
    assert torch.equal(official_ecg_jepa(model)["encoder.pos_embed"], weights["encoder.pos_embed"])
    assert model.ecg_jepa.embeddings.positions.table.requires_grad
    assert not model.predictor.positions.table.requires_grad  # frozen, as released
