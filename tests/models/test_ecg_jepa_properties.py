"""ECG-JEPA's invariants: who sees what, the teacher's life, masks, positions, options; no reference tensors needed."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ecg_transformers.layers import cross_pattern_attention as leaf
from ecg_transformers.layers.collapse import token_figures
from ecg_transformers.models.ecg_jepa.configuration_ecg_jepa import ECGJEPAConfig
from ecg_transformers.models.ecg_jepa.masking_ecg_jepa import draw_time_mask, draw_time_masks
from ecg_transformers.models.ecg_jepa.modeling_ecg_jepa import (
    ECGJEPAForPreTraining,
    ECGJEPAForSequenceClassification,
    ECGJEPAModel,
)
from ecg_transformers.models.registry import get_method

METHOD = get_method("ecg_jepa")


def tiny_config(**overrides: Any) -> ECGJEPAConfig:
    return ECGJEPAConfig(**{**METHOD.tiny_config, **overrides})


def build(cls: Any = ECGJEPAForPreTraining, seed: int = 0, scale: float = 5.0, **overrides: Any) -> Any:
    """A model in eval mode whose weights are large enough for every path to matter."""
    torch.manual_seed(seed)
    model = cls(tiny_config(initializer_range=0.02 * scale, **overrides)).eval()
    return model


def signal(batch: int = 3, leads: int = 8, seq_len: int = 120, seed: int = 1) -> Tensor:
    return torch.randn(batch, leads, seq_len, generator=torch.Generator().manual_seed(seed))


MASK = torch.tensor([False, True, True, False, False, True, False, False])


def close(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual, expected, atol=tolerance, rtol=0)


def test_masked_patches_do_not_reach_the_student_but_reach_the_targets():
    model, x = build(), signal()
    before = model(x, mask=MASK)
    x.unflatten(-1, (8, -1))[:, :, MASK] += 1.0
    after = model(x, mask=MASK)
    assert torch.equal(before.last_hidden_state, after.last_hidden_state)
    assert torch.equal(before.predictions, after.predictions)
    assert not torch.allclose(before.targets, after.targets)


def test_predictions_of_a_lead_depend_on_the_students_tokens_of_that_lead_only():
    model = build()
    student = torch.randn(2, 8 * 5, model.config.hidden_size)
    order = MASK.to(torch.uint8).argsort(stable=True)
    before = model.predictor(student, torch.arange(8), order, 5).unflatten(1, (8, 3))
    student.unflatten(1, (8, 5))[:, 3] += 1.0
    after = model.predictor(student, torch.arange(8), order, 5).unflatten(1, (8, 3))
    others = [lead for lead in range(8) if lead != 3]
    assert torch.equal(before[:, others], after[:, others])
    assert not torch.allclose(before[:, 3], after[:, 3])


@pytest.mark.parametrize("structured_from", [0, 10**9])
def test_one_block_mixes_a_lead_and_a_time_only(structured_from, monkeypatch):
    monkeypatch.setattr(leaf, "STRUCTURED_FROM_CPU", structured_from)
    model, x = build(ECGJEPAModel, num_hidden_layers=1), signal()
    before = model.tokens_by_lead(model(x).last_hidden_state, 8)
    x.unflatten(-1, (8, -1))[:, 2, 5] += 1.0
    changed = (before != model.tokens_by_lead(model(x).last_hidden_state, 8)).any(-1).any(0)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2] = True
    expected[:, 5] = True
    assert torch.equal(changed, expected)


def test_without_the_pattern_one_block_mixes_everything():
    model, x = build(ECGJEPAModel, num_hidden_layers=1, cross_pattern=False), signal()
    before = model(x).last_hidden_state
    x[:, 2, 75:90] += 1.0
    assert (before != model(x).last_hidden_state).any(-1).all()


def test_permuting_the_batch_permutes_outputs_and_keeps_the_loss():
    model, x = build(), signal()
    order = torch.tensor([2, 0, 1])
    straight, permuted = model(x, mask=MASK), model(x[order], mask=MASK)
    close(permuted.predictions, straight.predictions[order])
    close(permuted.loss, straight.loss, 1e-6)


def test_permuted_leads_are_honoured_even_when_all_are_there():
    model, x = build(ECGJEPAModel), signal()
    order = [1, 0, 2, 7, 4, 5, 6, 3]
    permuted = model(x[:, order], lead_indices=order)
    straight = model(x)
    close(permuted.pooler_output, straight.pooler_output)
    close(
        model.tokens_by_lead(permuted.last_hidden_state, 8),
        model.tokens_by_lead(straight.last_hidden_state, 8)[:, order],
    )
    assert not torch.allclose(model(x[:, order]).pooler_output, straight.pooler_output, atol=1e-4)


def test_every_record_can_have_leads_of_its_own():
    model, x = build(ECGJEPAModel), signal()
    rows = [[1, 3], [0, 7], [7, 0]]
    together = model(torch.stack([x[i, row] for i, row in enumerate(rows)]), lead_indices=rows).pooler_output
    for index, row in enumerate(rows):
        close(together[index], model(x[index : index + 1, row], lead_indices=row).pooler_output[0])


def test_reduced_leads_can_be_pretrained():
    model, x = build(), signal()
    output = model(x[:, [1, 2]], lead_indices=[1, 2], mask=MASK)
    assert output.predictions.shape == (3, 2 * 3, model.config.hidden_size)
    assert output.loss.isfinite()


@pytest.mark.parametrize("implementation", ["structured", "dense", "sdpa", "auto"])
def test_every_form_of_attention_gives_the_same_model(implementation):
    x = signal()
    expected = build(ECGJEPAModel)
    expected.set_attn_implementation("eager")
    close(build(ECGJEPAModel, cross_pattern_implementation=implementation)(x).pooler_output, expected(x).pooler_output)


def test_attention_maps_are_zero_outside_the_pattern():
    model = build(ECGJEPAModel)
    model.set_attn_implementation("eager")
    maps = model(signal(), output_attentions=True).attentions
    assert len(maps) == model.config.num_hidden_layers
    for weights in maps:
        assert weights.shape == (3, model.config.num_attention_heads, 64, 64)
        close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert (weights.masked_select(~leaf.cross_pattern_mask(8, 8)) == 0).all()


def test_other_models_can_use_the_pattern_by_name():
    st_mem = get_method("st_mem")
    torch.manual_seed(0)
    config = st_mem.config_class(**st_mem.tiny_config, initializer_range=0.1)
    x = torch.randn(2, config.num_leads, config.seq_len)
    full = st_mem.model_classes["base"](config).eval()
    crossed = copy.deepcopy(full)
    crossed.set_attn_implementation("cross_pattern")
    assert not torch.allclose(full(x).pooler_output, crossed(x).pooler_output, atol=1e-4)
    one_lead = full(x[:, :1]).pooler_output
    close(crossed(x[:, :1]).pooler_output, one_lead)  # within one lead the pattern is complete


def same_weights(model: ECGJEPAForPreTraining) -> bool:
    pairs = zip(model.ecg_jepa.parameters(), model.target_encoder.parameters(), strict=True)
    return all(torch.equal(student, teacher) for student, teacher in pairs)


def test_teacher_equals_the_student_at_the_start_and_after_loading_an_encoder(tmp_path):
    model = build()
    assert same_weights(model)
    build(ECGJEPAModel, seed=5).save_pretrained(tmp_path)
    loaded = ECGJEPAForPreTraining.from_pretrained(tmp_path)
    assert same_weights(loaded)
    assert torch.equal(next(loaded.ecg_jepa.parameters()), next(build(ECGJEPAModel, seed=5).parameters()))


def test_teacher_survives_saving_and_stays_frozen(tmp_path):
    model = build()
    with torch.no_grad():
        for parameter in model.target_encoder.parameters():
            parameter.add_(0.1)
    model.save_pretrained(tmp_path)
    loaded = ECGJEPAForPreTraining.from_pretrained(tmp_path)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)
    for found in (model, loaded):
        assert not any(parameter.requires_grad for parameter in found.target_encoder.parameters())
        assert all(parameter.requires_grad for parameter in found.ecg_jepa.parameters())
        assert all(parameter.requires_grad for parameter in found.predictor.parameters())
    close(loaded(signal(), mask=MASK).loss, model(signal(), mask=MASK).loss)


def test_gradients_never_reach_the_teacher_and_reach_everything_else():
    model = build().train()
    model(signal(), mask=MASK).loss.backward()
    assert all(parameter.grad is None for parameter in model.target_encoder.parameters())
    trained = [*model.ecg_jepa.named_parameters(), *model.predictor.named_parameters()]
    assert [name for name, parameter in trained if parameter.grad is None] == []


def test_a_teacher_step_is_a_weighted_mean_and_does_nothing_to_equal_networks():
    model = build()
    model.update_target(0.3)
    assert same_weights(model)
    teacher = [parameter.clone() for parameter in model.target_encoder.parameters()]
    with torch.no_grad():
        for parameter in model.ecg_jepa.parameters():
            parameter.add_(1.0)
    model.update_target(0.75)
    for before, after in zip(teacher, model.target_encoder.parameters(), strict=True):
        close(after, before + 0.25)


def test_each_optimiser_step_moves_the_teacher_by_its_schedule():
    model = build()
    assert model.target_momentum(0, 100) == 0.996
    assert model.target_momentum(99, 100) == pytest.approx(1 - 0.004 / 100)
    with torch.no_grad():
        for parameter in model.ecg_jepa.parameters():
            parameter.add_(1.0)
    before = [parameter.clone() for parameter in model.target_encoder.parameters()]
    model.training_step_finished(50, 100)
    for old, new in zip(before, model.target_encoder.parameters(), strict=True):
        close(new, old + (1 - model.target_momentum(50, 100)), 1e-6)


def test_teacher_keeps_its_stochastic_depth_unless_told_otherwise():
    model = build().train()
    assert model.target_encoder.training
    quiet = build(teacher_drop_path=False).train()
    assert not quiet.target_encoder.training
    assert quiet.ecg_jepa.training


def test_stochastic_depth_belongs_to_pretraining():
    model = build(drop_path_rate=0.5)
    assert model.ecg_jepa.encoder.layer[-1].drop_path.rate == 0.5
    for downstream in (build(ECGJEPAModel, drop_path_rate=0.5), model.export_encoder()):
        assert downstream.encoder.layer[-1].drop_path.rate == 0.0
    head = build(ECGJEPAForSequenceClassification, drop_path_rate=0.5, downstream_drop_path_rate=0.2)
    assert head.ecg_jepa.encoder.layer[-1].drop_path.rate == 0.2


def test_the_student_is_exported_unless_the_target_is_asked_for(tmp_path):
    model = build()
    with torch.no_grad():
        model.target_encoder.layernorm.bias.add_(1.0)
    assert torch.equal(model.export_encoder().layernorm.bias, model.ecg_jepa.layernorm.bias)
    assert torch.equal(model.export_encoder("target").layernorm.bias, model.target_encoder.layernorm.bias)
    model.save_pretrained(tmp_path)
    assert torch.equal(ECGJEPAModel.from_pretrained(tmp_path).layernorm.bias, model.ecg_jepa.layernorm.bias)
    with pytest.raises(ValueError, match="student"):
        model.export_encoder("teacher")


def test_block_masks_spare_the_last_patch_unless_told_otherwise():
    published = ECGJEPAConfig()
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([draw_time_mask(published, 50, generator) for _ in range(2000)])
    counts = masks.sum(1)
    assert not masks[:, -1].any()
    assert 8 <= int(counts.min()) <= int(counts.max()) <= 44
    assert float(counts.float().mean()) == pytest.approx(27.4, abs=0.5)
    mended = ECGJEPAConfig(block_mask_include_last=True)
    assert torch.stack([draw_time_mask(mended, 50, generator) for _ in range(200)])[:, -1].any()


def test_random_masks_hide_thirty_to_thirty_four_of_fifty():
    config, generator = ECGJEPAConfig(mask_type="random"), torch.Generator().manual_seed(0)
    assert {int(draw_time_mask(config, 50, generator).sum()) for _ in range(300)} == {30, 31, 32, 33, 34}


@pytest.mark.parametrize("mask_type", ["block", "random"])
def test_masks_per_sample_differ_and_hide_equally_many(mask_type):
    masks = draw_time_masks(ECGJEPAConfig(mask_type=mask_type), 50, 16, torch.Generator().manual_seed(0))
    assert masks.shape == (16, 50)
    assert len(set(masks.sum(1).tolist())) == 1
    assert len({tuple(mask.tolist()) for mask in masks}) > 1


def test_masks_per_sample_give_each_record_what_it_gets_alone():
    model, x = build(), signal()
    masks = torch.stack([MASK, MASK.roll(1), MASK.roll(3)])
    together = model(x, mask=masks)
    for index in range(3):
        alone = model(x[index : index + 1], mask=masks[index])
        close(together.predictions[index], alone.predictions[0])
        close(together.targets[index], alone.targets[0])


def test_the_same_mask_given_once_or_per_record_is_one_mask():
    model, x = build(), signal()
    close(model(x, mask=MASK).loss, model(x, mask=MASK.expand(3, -1)).loss, 1e-6)


def test_drawn_masks_follow_the_generator_and_the_option():
    batch = {"input_values": signal()}
    for per_sample, shape in ((False, (8,)), (True, (3, 8))):
        model = build(mask_per_sample=per_sample, mask_type="random")
        drawn = [model.draw_batch_noise(torch.Generator().manual_seed(7), batch)["mask"] for _ in range(2)]
        assert torch.equal(*drawn)
        assert drawn[0].shape == shape
        assert model(batch["input_values"], **{"mask": drawn[0]}).mask.shape == shape
        torch.manual_seed(3)
        first = model(batch["input_values"]).mask
        torch.manual_seed(3)
        assert torch.equal(first, model(batch["input_values"]).mask)


def test_everything_hidden_is_possible_and_nothing_hidden_is_refused():
    model, x = build(), signal()
    assert model(x, mask=torch.ones(8, dtype=torch.bool)).loss.isfinite()
    with pytest.raises(ValueError, match="nothing to predict"):
        model(x, mask=torch.zeros(8, dtype=torch.bool))
    with pytest.raises(ValueError, match="same number"):
        model(x, mask=torch.stack([MASK, MASK, ~MASK]))
    with pytest.raises(ValueError, match="mask must have shape"):
        model(x, mask=MASK[:5])
    with pytest.raises(ValueError, match="mask_type"):
        tiny_config(mask_type="blocks")


def test_other_lengths_are_refused_extended_or_interpolated():
    longer = signal(seq_len=180)
    with pytest.raises(ValueError, match="position_length"):
        build(ECGJEPAModel)(longer)
    for mode in ("extended", "interpolated"):
        model = build(position_length=mode)
        assert model.ecg_jepa(longer).last_hidden_state.shape[1] == 8 * 12
        assert model(longer, mask=torch.arange(12) % 3 == 0).loss.isfinite()
        close(model.ecg_jepa(signal()).pooler_output, build().ecg_jepa(signal()).pooler_output)
    extended, built_longer = build(ECGJEPAModel, position_length="extended"), build(ECGJEPAModel, seq_len=180)
    close(extended(longer).pooler_output, built_longer(longer).pooler_output)
    with pytest.raises(ValueError, match="interpolated"):
        build(ECGJEPAModel, position_length="extended", positions="learnable")(longer)


@pytest.mark.parametrize("positions", ["learnable", "rotary"])
def test_other_positions_train_and_reload(positions, tmp_path):
    model = build(positions=positions)
    output = model.train()(signal(), mask=MASK)
    output.loss.backward()
    model.eval().save_pretrained(tmp_path)
    loaded = ECGJEPAForPreTraining.from_pretrained(tmp_path)
    close(loaded(signal(), mask=MASK).predictions, model(signal(), mask=MASK).predictions)


def test_learnable_positions_of_the_encoder_train_and_those_of_the_predictor_only_when_asked():
    model = build(positions="learnable")
    model.train()(signal(), mask=MASK).loss.backward()
    assert model.ecg_jepa.embeddings.positions.table.grad is not None
    assert not model.predictor.positions.table.requires_grad
    assert build(positions="learnable", train_predictor_positions=True).predictor.positions.table.requires_grad


def test_rotary_attention_depends_on_distances_in_time_only():
    model = build(ECGJEPAModel, positions="rotary", num_hidden_layers=1, position_length="extended")
    x = signal(seq_len=240)
    ends = torch.zeros_like(x)
    ends[..., :120] = x[..., :120]
    visible = torch.arange(8)
    shifted = model(torch.cat([ends[..., 120:], ends[..., :120]], -1), visible=visible + 8).last_hidden_state
    close(model(ends, visible=visible).last_hidden_state, shifted)


def test_tables_are_rebuilt_on_loading_and_not_saved(tmp_path):
    model = build()
    model.save_pretrained(tmp_path)
    assert not [key for key in model.state_dict() if key.endswith("table")]
    loaded = ECGJEPAForPreTraining.from_pretrained(tmp_path)
    for name, buffer in model.named_buffers():
        assert torch.equal(loaded.get_buffer(name), buffer)


def test_quirks_can_be_switched_off_and_each_changes_the_result():
    x = signal()
    published = build()(x, mask=MASK).loss
    for option in ({"add_positions_every_layer": False}, {"predictor_lead_embedding": True}, {"loss": "l1"}):
        assert not torch.isclose(build(**option)(x, mask=MASK).loss, published)


def test_raw_signal_can_be_the_target():
    x = signal()
    output = build(target="signal")(x, mask=MASK)
    close(output.targets, x.unflatten(-1, (8, 15))[:, :, MASK].flatten(1, 2))
    assert output.predictions.shape == output.targets.shape


def spread(linear: torch.nn.Linear) -> float:
    return float(linear.weight.detach().std())


def test_initial_weights_have_the_published_spread():
    torch.manual_seed(0)
    config = ECGJEPAConfig(hidden_size=96, num_hidden_layers=4, num_attention_heads=4, predictor_num_hidden_layers=1)
    model = ECGJEPAForPreTraining(config)
    for number, layer in enumerate(model.ecg_jepa.encoder.layer, start=1):
        for linear in (layer.attention.output, layer.output):
            assert spread(linear) == pytest.approx(0.02 / math.sqrt(2 * number), rel=0.05)
        assert spread(layer.intermediate) == pytest.approx(0.02, rel=0.05)
    assert spread(model.ecg_jepa.embeddings.projection) == pytest.approx(0.02, rel=0.05)
    config.patch_projection_scale = 10.0
    assert spread(ECGJEPAModel(config).embeddings.projection) == pytest.approx(0.2, rel=0.05)


def test_published_size_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = ECGJEPAForPreTraining(ECGJEPAConfig())
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert trained == 96_299_520
    assert sum(parameter.numel() for parameter in model.ecg_jepa.parameters()) == 85_067_520


def test_gradient_checkpointing_changes_nothing():
    model, x = build(), signal()
    model.train()
    losses, gradients = [], []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable()
        model.zero_grad()
        torch.manual_seed(0)
        loss = model(x, mask=MASK).loss
        loss.backward()
        losses.append(loss)
        gradients.append(model.ecg_jepa.embeddings.projection.weight.grad.clone())
    close(losses[0], losses[1], 1e-6)
    close(gradients[0], gradients[1], 1e-6)


def test_wrong_sizes_are_named():
    for wrong, text in (
        ({"seq_len": 121}, "multiple of patch_size"),
        ({"hidden_size": 30, "num_attention_heads": 3}, "divisible by 4"),
        ({"predictor_num_attention_heads": 3}, "predictor_hidden_size"),
        ({"mask_ratio_range": [0.5, 0.4]}, "rising"),
        ({"positions": "rotary", "num_attention_heads": 16}, "rotary"),
        ({"momentum_start": 1.5}, "momentum"),
    ):
        with pytest.raises(ValueError, match=text):
            tiny_config(**wrong)


def test_monitor_tells_a_collapse_onto_positions_from_content():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(1, 24, 16, generator=generator)
    content = torch.randn(32, 24, 16, generator=generator)
    positions = torch.arange(24)
    collapsed = token_figures(codes.expand(32, -1, -1), positions)
    assert collapsed["content"] == pytest.approx(0, abs=1e-6)
    alive = token_figures(content, positions)
    assert alive["content"] > 0.9
    assert alive["token_effective_rank"] == pytest.approx(16, rel=0.05)
    half = token_figures(codes + content, positions)
    assert half["content"] == pytest.approx(0.5, abs=0.1)
    flat = token_figures(torch.ones(4, 24, 16) + 1e-4 * content[:4, :, :1], positions)
    assert flat["mean_pairwise_cosine"] == pytest.approx(1, abs=1e-3)
    assert flat["token_effective_rank"] == pytest.approx(1, abs=0.1)
    assert token_figures(torch.full((2, 24, 16), math.nan), positions) == {}


def test_monitor_finds_positions_of_masks_per_sample():
    codes = torch.randn(10, 16, generator=torch.Generator().manual_seed(0))
    positions = torch.stack([torch.randperm(10, generator=torch.Generator().manual_seed(i))[:6] for i in range(8)])
    assert token_figures(codes[positions], positions)["content"] == pytest.approx(0, abs=1e-6)


def test_monitor_reads_the_models_own_output():
    model = build()
    for mask in (MASK, torch.stack([MASK, MASK.roll(1), MASK.roll(2)])):
        figures = model.monitor(model(signal(), mask=mask))
        assert {"content", "token_effective_rank", "mean_pairwise_cosine", "rank_me"} <= set(figures)
        assert 0 < figures["content"] <= 1
        assert all(isinstance(value, float) for value in figures.values())


def test_recipes_build_valid_configs_and_name_the_published_settings():
    for recipe in METHOD.recipes.values():
        config = ECGJEPAConfig(**recipe.config)
        preprocessing = METHOD.preprocessing | recipe.preprocessing
        assert preprocessing["seq_len"] == config.seq_len
        assert preprocessing["patch_size"] == config.patch_size
        assert preprocessing["lead_names"] == config.lead_names
    published, random = (
        METHOD.recipe("published").stage("pretrain"),
        METHOD.recipe("published_random").stage("pretrain"),
    )
    assert (published.lr, published.batch_size) == (5.5e-5, 64)
    assert (random.lr, random.batch_size) == (2.5e-5, 128)
    assert ECGJEPAConfig(**METHOD.recipe("published_random").config).mask_ratios == (0.6, 0.7)


def test_the_recipes_schedule_is_the_published_one(parity):
    import json

    from safetensors import safe_open

    from ecg_transformers.training.plan.optimization import Schedule

    tensors = parity("ecg_jepa", "schedules")
    with safe_open(parity.path("ecg_jepa", "schedules"), framework="pt") as file:
        settings = json.loads(file.metadata()["params"])
    for name, recipe in (("official_block", "published"), ("official_random", "published_random")):
        stage, run = METHOD.recipe(recipe).stage("pretrain"), settings[name]
        per_epoch = run["iters_per_epoch"]
        schedule = Schedule(
            stage.schedule,
            lr=stage.lr,
            total_steps=stage.epochs * per_epoch,
            warmup_steps=stage.warmup_epochs * per_epoch,
            min_lr=stage.min_lr,
        )
        for step, lr in zip(tensors[f"{name}.step"].tolist(), tensors[f"{name}.lr"].tolist(), strict=True):
            assert schedule(step) == pytest.approx(lr, abs=1e-15)
