"""ECG-SL: the invariants of the model, of both pre-training stages and of the heads."""

import copy
import json

import numpy as np
import pytest
import torch

import ecg_transformers as ecg
from ecg_transformers.layers.beat_aggregation import BeatAggregation
from ecg_transformers.models.ecg_sl.configuration_ecg_sl import ECGSLConfig
from ecg_transformers.models.ecg_sl.modeling_ecg_sl import (
    ECGSLForPreTraining,
    ECGSLForSequenceClassification,
    ECGSLModel,
    choose_beats,
)
from ecg_transformers.models.registry import get_method


def config(**overrides):
    return ECGSLConfig(**{**get_method("ecg_sl").tiny_config, **overrides})


def build(model_class, seed=0, **overrides):
    torch.manual_seed(seed)
    return model_class(config(**overrides)).eval()


def batch(lengths=(6, 4), num_leads=1, beat_len=32, width=None, seed=1):
    generator = torch.Generator().manual_seed(seed)
    width = width or max(lengths)
    shape = (len(lengths), width, beat_len) if num_leads == 1 else (len(lengths), width, num_leads, beat_len)
    mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    return {
        "beats": torch.randn(shape, generator=generator),
        "beat_mask": mask,
        "rr": 0.3 * torch.randn(len(lengths), width, 2, generator=generator),
    }


def pad(inputs, extra, value=0.0):
    beats, rr = inputs["beats"], inputs["rr"]
    more = torch.full((beats.shape[0], extra, *beats.shape[2:]), value)
    return {
        "beats": torch.cat([beats, more], dim=1),
        "beat_mask": torch.cat([inputs["beat_mask"], torch.zeros(beats.shape[0], extra, dtype=torch.bool)], dim=1),
        "rr": torch.cat([rr, torch.full((rr.shape[0], extra, 2), value)], dim=1),
    }


AGGREGATIONS = ("attention", "mean", "max")


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("position", ["index", "time", "none"])
def test_padding_reaches_neither_logits_nor_weights(attention, aggregation, position):
    model = build(ECGSLForSequenceClassification, aggregation=aggregation, position=position, num_labels=3)
    model.set_attn_implementation(attention)
    inputs = batch()
    plain = model(**inputs)
    for value in (0.0, -3.0, 1e30):
        padded = model(**pad(inputs, 3, value))
        torch.testing.assert_close(padded.logits, plain.logits, atol=1e-6, rtol=0)
        torch.testing.assert_close(padded.aggregation_weights[:, :6], plain.aggregation_weights, atol=1e-6, rtol=0)
        assert not padded.aggregation_weights[:, 6:].any()


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_padding_does_not_enter_batch_statistics_or_gradients(norm):
    inputs = batch()
    results = []
    for extra in (0, 5):
        model = build(ECGSLForSequenceClassification, norm=norm, num_labels=2).train()
        output = model(**pad(inputs, extra, 7.0), labels=torch.tensor([0, 1]))
        output.loss.backward()
        results.append((model, output.loss))
    (first, loss), (second, padded_loss) = results
    torch.testing.assert_close(loss, padded_loss)
    for name, value in first.state_dict().items():
        torch.testing.assert_close(value, second.state_dict()[name], msg=name)
    found, expected = ({name: value.grad for name, value in one.named_parameters()} for one in (second, first))
    trained = [name for name, grad in expected.items() if grad is not None]
    assert trained
    for name in trained:
        torch.testing.assert_close(found[name], expected[name], atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_aggregation_weights_are_a_distribution_over_valid_beats(aggregation):
    weights = build(ECGSLModel, aggregation=aggregation)(**batch((6, 4, 1, 0))).aggregation_weights
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-6, rtol=0)
    assert not weights[1, 4:].any()
    assert not weights[3].any()


def test_attention_weights_follow_the_stated_formula():
    torch.manual_seed(0)
    pool = BeatAggregation(16)
    hidden, valid = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    pooled, weights = pool(hidden, valid)
    scores = torch.tanh(hidden @ pool.hidden.weight.T + pool.hidden.bias) @ pool.score.weight[0]
    torch.testing.assert_close(weights[1, :3], scores[1, :3].softmax(dim=0))
    torch.testing.assert_close(pooled[0], pool.layernorm((weights[0, :, None] * hidden[0]).sum(dim=0)))


def test_a_batch_equals_its_records_one_by_one():
    model = build(ECGSLForSequenceClassification, num_labels=3)
    inputs = batch((6, 4, 1))
    together = model(**inputs).logits
    for index, count in enumerate((6, 4, 1)):
        alone = model(**{key: value[index : index + 1, :count] for key, value in inputs.items()}).logits
        torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_without_positions_the_order_of_beats_does_not_matter(aggregation):
    model = build(ECGSLModel, position="none", aggregation=aggregation)
    inputs = batch((6, 6))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    plain, permuted = model(**inputs), model(**{key: value[:, order] for key, value in inputs.items()})
    torch.testing.assert_close(permuted.last_hidden_state, plain.last_hidden_state[:, order], atol=1e-5, rtol=0)
    torch.testing.assert_close(permuted.pooler_output, plain.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("position", ["index", "time"])
def test_with_positions_the_order_matters(position):
    model = build(ECGSLModel, position=position, use_rr=False)
    inputs = batch((6,))
    swapped = {**inputs, "beats": inputs["beats"].flip(1)}
    assert (model(**swapped).pooler_output - model(**inputs).pooler_output).abs().max() > 1e-4


def test_time_positions_are_the_seconds_between_beats():
    model = build(ECGSLModel, position="time")
    rr = torch.log(torch.tensor([[[1.0, 0.5], [0.5, 2.0], [2.0, 1.0]]]))
    torch.testing.assert_close(model.embeddings.positions(rr), torch.tensor([[0.0, 0.5, 2.5]]))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("training", [False, True])
def test_a_record_without_beats_has_finite_logits_and_gradients(attention, training):
    for lengths in ((0, 4), (0, 0)):
        model = build(ECGSLForSequenceClassification, num_labels=2, norm="batch").train(training)
        model.set_attn_implementation(attention)
        output = model(**batch(lengths, width=4), labels=torch.tensor([0, 1]))
        output.loss.backward()
        assert torch.isfinite(output.logits).all()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_the_masked_loss_looks_at_masked_beats_only():
    model = build(ECGSLForPreTraining)
    inputs, mask = batch(), torch.zeros(2, 6, dtype=torch.bool)
    mask[0, 2] = mask[1, 1] = True
    output = model(**inputs, mask=mask)
    beats = inputs["beats"][:, :, None]
    expected = ((output.reconstruction - inputs["beats"]) ** 2)[mask].mean()
    torch.testing.assert_close(output.loss, expected)
    changed = beats.clone()
    changed[~mask] = 99.0
    reconstruction = output.reconstruction[:, :, None]
    assert torch.equal(
        model.reconstruction_loss(reconstruction, changed, mask),
        model.reconstruction_loss(reconstruction, beats, mask),
    )
    reconstruction = reconstruction.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.reconstruction_loss(reconstruction, beats, mask), reconstruction)
    assert not gradient[~mask].any()
    assert float(output.num_loss_terms) == 2


@pytest.mark.parametrize("training", [False, True])
def test_a_masked_beat_cannot_be_seen(training):
    inputs, mask = batch((6, 6)), torch.zeros(2, 6, dtype=torch.bool)
    mask[0, 2] = mask[1, 4] = True
    results = []
    for value in (None, 50.0):
        model = build(ECGSLForPreTraining).train(training)
        beats = inputs["beats"].clone()
        if value is not None:
            beats[mask] = value
        results.append(model(**{**inputs, "beats": beats}, mask=mask).reconstruction)
    torch.testing.assert_close(results[0], results[1], atol=1e-6, rtol=0)


def test_noise_masks_the_stated_share_of_each_record_whatever_its_padding():
    counts = [0, 1, 2, 3, 7, 20, 60]
    valid = torch.arange(64)[None] < torch.tensor(counts)[:, None]
    noise = torch.rand(len(counts), 64, generator=torch.Generator().manual_seed(0))
    chosen = choose_beats(noise, valid, 0.15)
    assert chosen.sum(dim=1).tolist() == [0, 0, 1, 1, 1, 3, 9]
    assert not (chosen & ~valid).any()
    assert torch.equal(choose_beats(noise[:6, :20], valid[:6, :20], 0.15), chosen[:6, :20])


def test_noise_of_a_sample_does_not_depend_on_its_batch():
    model = build(ECGSLForPreTraining)
    generator = torch.Generator().manual_seed(3)
    noise = torch.stack([model.draw_sample_noise(generator)["mask_noise"] for _ in range(2)])
    inputs = batch((6, 4))
    together = model(**inputs, mask_noise=noise).mask
    alone = model(**{key: value[1:, :4] for key, value in inputs.items()}, mask_noise=noise[1:]).mask
    assert torch.equal(together[1, :4], alone[0])
    with pytest.raises(ValueError, match="max_beats"):
        model(**batch((9,)), mask_noise=noise[:1])


def test_autoencoder_stage_is_the_error_of_all_valid_beats_each_alone():
    model = build(ECGSLForPreTraining, stage="autoencoder")
    inputs = batch()
    output = model(**inputs)
    valid = inputs["beat_mask"]
    torch.testing.assert_close(output.loss, ((output.reconstruction - inputs["beats"]) ** 2)[valid].mean())
    assert float(output.num_loss_terms) == 10
    assert model.draw_sample_noise(torch.Generator()) == {}
    one = model(inputs["beats"][:1, 3:4]).reconstruction
    torch.testing.assert_close(output.reconstruction[0, 3], one[0, 0], atol=1e-6, rtol=0)
    assert not output.reconstruction[~valid].any()


@pytest.mark.parametrize("stage", ["autoencoder", "masked"])
def test_batches_weighted_by_their_terms_equal_one_batch(stage):
    model = build(ECGSLForPreTraining, stage=stage)
    inputs = batch((6, 2))
    if stage == "masked":
        inputs["mask"] = torch.zeros(2, 6, dtype=torch.bool)
        inputs["mask"][0, :3] = inputs["mask"][1, 0] = True
    whole = model(**inputs)
    parts = [model(**{key: value[i : i + 1] for key, value in inputs.items()}) for i in range(2)]
    total = sum(part.loss * part.num_loss_terms for part in parts) / sum(part.num_loss_terms for part in parts)
    torch.testing.assert_close(total, whole.loss)


@pytest.mark.parametrize("stage", ["autoencoder", "masked"])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_every_trainable_weight_of_a_stage_gets_a_gradient(stage, norm):
    model = build(ECGSLForPreTraining, stage=stage, norm=norm).train()
    model(**model.dummy_inputs).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert any("aggregation" in name for name in names)
    assert any("encoder.layer" in name for name in names) == (stage == "autoencoder")


def test_the_second_stage_starts_from_the_first(tmp_path):
    first = build(ECGSLForPreTraining, stage="autoencoder")
    first.save_pretrained(tmp_path)
    second = ECGSLForPreTraining.from_pretrained(tmp_path, stage="masked")
    assert second.config.stage == "masked"
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert all(parameter.requires_grad for parameter in second.ecg_sl.encoder.parameters())


def test_a_frozen_structural_encoder_stays_as_it_is():
    model = build(ECGSLForPreTraining, freeze_structural=True).train()
    structural = model.ecg_sl.embeddings.structural_encoder
    before = copy.deepcopy(structural.state_dict())
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(**model.dummy_inputs).loss.backward()
    optimizer.step()
    for name, value in structural.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_few_steps_reduce_the_loss_of_both_stages():
    time = torch.linspace(0, 1, 32)
    generator = torch.Generator().manual_seed(0)
    phases = torch.rand(16, 6, 1, generator=generator)
    inputs = {"beats": torch.sin(6.28 * (time + phases)), "beat_mask": torch.ones(16, 6, dtype=torch.bool)}
    for stage in ("autoencoder", "masked"):
        model = build(ECGSLForPreTraining, stage=stage).train()
        if stage == "masked":
            inputs["beats"] = inputs["beats"][:, :1].expand(-1, 6, -1)  # each beat follows from its neighbours
            inputs["mask_noise"] = torch.rand(16, 8, generator=generator)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
        losses = []
        for _ in range(60):
            loss = model(**inputs).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:3]), (stage, losses[::10])


def test_several_leads_enter_together_and_absent_ones_are_zeros():
    model = build(ECGSLModel, num_leads=3)
    inputs = batch(num_leads=3)
    zeroed = inputs["beats"].clone()
    zeroed[:, :, 1] = 0
    expected = model(**{**inputs, "beats": zeroed}).pooler_output
    rest = {"beat_mask": inputs["beat_mask"], "rr": inputs["rr"]}
    given = inputs["beats"][:, :, [2, 0]]
    torch.testing.assert_close(model(given, lead_indices=[2, 0], **rest).pooler_output, expected)
    rows = torch.tensor([[2, 0], [2, 0]])
    torch.testing.assert_close(model(given, lead_indices=rows, **rest).pooler_output, expected)
    order = [1, 2, 0]
    torch.testing.assert_close(
        model(inputs["beats"][:, :, order], lead_indices=order, **rest).pooler_output, model(**inputs).pooler_output
    )
    first = model(inputs["beats"][:, :, :1], **rest).pooler_output
    torch.testing.assert_close(model(inputs["beats"][:, :, 0], **rest).pooler_output, first)


def test_beat_labels_ignore_padding_and_unlabelled_beats():
    model = build(ECGSLForSequenceClassification, label_level="beat", num_labels=3)
    inputs = batch()
    labels = torch.tensor([[0, 1, -100, 2, 0, 1], [2, 1, 0, 0, 2, 2]])
    output = model(**inputs, labels=labels)
    assert output.logits.shape == output.probabilities.shape == (2, 6, 3)
    counted = inputs["beat_mask"] & (labels >= 0)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits[counted], labels[counted]))
    output.loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert float(model(**inputs, labels=torch.full((2, 6), -100)).loss) == 0.0


def test_class_weights_enter_the_cross_entropy():
    weights = [0.5, 2.0, 1.0]
    for level, labels in (("record", torch.tensor([0, 2])), ("beat", torch.tensor([[0, 1, 2, 0, 1, 2]] * 2))):
        model = build(ECGSLForSequenceClassification, label_level=level, num_labels=3, class_weights=weights)
        inputs = batch((6, 6))
        output = model(**inputs, labels=labels)
        expected = torch.nn.functional.cross_entropy(
            output.logits.flatten(0, -2), labels.flatten(), torch.tensor(weights)
        )
        torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("head_norm", ["none", "batch_norm"])
@pytest.mark.parametrize("head_pooling", ["pooler", "attention"])
def test_crops_of_a_record_are_averaged(head_norm, head_pooling):
    model = build(ECGSLForSequenceClassification, num_labels=2, head_norm=head_norm, head_pooling=head_pooling)
    one, two = batch((6, 4), seed=1), batch((5, 6), seed=2)
    crops = {key: torch.stack([one[key], two[key]], dim=1) for key in one}
    crops["beats"] = crops["beats"][:, :, :, None]
    output = model(**crops, labels=torch.tensor([0, 1]))
    torch.testing.assert_close(output.logits, (model(**one).logits + model(**two).logits) / 2, atol=1e-6, rtol=0)
    expected = (model(**one).probabilities + model(**two).probabilities) / 2
    torch.testing.assert_close(output.probabilities, expected, atol=1e-6, rtol=0)
    assert output.aggregation_weights.shape == (2, 2, 6)


def test_the_attention_head_does_not_see_padding():
    model = build(ECGSLForSequenceClassification, num_labels=2, head_pooling="attention")
    inputs = batch((6, 0))
    torch.testing.assert_close(model(**pad(inputs, 4, 9.0)).logits, model(**inputs).logits, atol=1e-6, rtol=0)


def test_multilabel_targets_work():
    model = build(ECGSLForSequenceClassification, num_labels=4, problem_type="multi_label_classification")
    output = model(**batch(), labels=torch.tensor([[1.0, 0, 0, 1], [0, 0, 1, 0]]))
    torch.testing.assert_close(output.probabilities, output.logits.sigmoid())
    assert torch.isfinite(output.loss)


def test_eager_attentions_are_one_map_per_layer_and_padding_is_no_key():
    model = build(ECGSLModel)
    model.set_attn_implementation("eager")
    output = model(**batch(), output_attentions=True, output_hidden_states=True)
    assert [tuple(layer.shape) for layer in output.attentions] == [(2, 2, 6, 6)] * 2
    for layer in output.attentions:
        torch.testing.assert_close(layer.sum(dim=-1), torch.ones(2, 2, 6))
        assert not layer[1, :, :, 4:].any()
    assert len(output.hidden_states) == 3


def test_missing_weights_are_initialised_like_a_fresh_model(monkeypatch):
    # an empty checkpoint is refused; here it is the quickest way to have everything missing
    monkeypatch.setattr("ecg_transformers.models.base.refuse_misfits", lambda *found: None)
    for model_class in (ECGSLModel, ECGSLForPreTraining, ECGSLForSequenceClassification):
        fresh = build(model_class)
        filled = model_class.from_pretrained(None, config=config(), state_dict={})
        for (name, one), two in zip(fresh.state_dict().items(), filled.state_dict().values()):
            assert torch.isfinite(two.float()).all(), name
            assert abs(float(one.float().std(correction=0)) - float(two.float().std(correction=0))) < 0.2, name


@pytest.mark.parametrize("model_class", [ECGSLModel, ECGSLForPreTraining, ECGSLForSequenceClassification])
def test_saved_models_come_back_equal(model_class, tmp_path):
    model = build(model_class, num_leads=2)
    model.save_pretrained(tmp_path)
    again = model_class.from_pretrained(tmp_path).eval()
    for one, two in zip(model(**model.dummy_inputs).to_tuple(), again(**model.dummy_inputs).to_tuple()):
        torch.testing.assert_close(one, two, atol=0, rtol=0)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "ecg_sl"


@pytest.mark.parametrize(
    "overrides", [{}, {"num_conv_layers": 3}, {"norm": "group"}, {"num_leads": 12}, {"beat_len": 101}]
)
def test_full_size_models_reconstruct_the_beat_shape(overrides):
    torch.manual_seed(0)
    model = ECGSLForPreTraining(ECGSLConfig(**overrides))
    inputs = model.dummy_inputs
    assert model(**inputs).reconstruction.shape == inputs["beats"].shape


def test_the_structural_encoder_is_six_convolutions_to_sixteen_by_128():
    encoder = ECGSLModel(ECGSLConfig()).embeddings.structural_encoder
    assert len(encoder.convs) == 6
    assert encoder.projection.in_features == 128 * 16


@pytest.mark.parametrize(
    "wrong",
    [
        {"stage": "both"},
        {"mask_ratio": 1.0},
        {"conv_kernels": [4] * 6},
        {"num_conv_layers": 4, "conv_channels": None},
        {"norm": "group", "conv_channels": [12] * 6},
        {"head_pooling": "per_lead"},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match="ECGSLConfig"):
        config(**wrong)


def test_inputs_of_the_wrong_shape_are_named():
    model = build(ECGSLModel)
    with pytest.raises(ValueError, match="beats must be"):
        model(torch.zeros(2, 6, 33))
    with pytest.raises(ValueError, match="beat_mask"):
        model(torch.zeros(2, 6, 32), beat_mask=torch.ones(2, 5))
    with pytest.raises(ValueError, match="rr must have shape"):
        model(torch.zeros(2, 6, 32), rr=torch.zeros(2, 6))


def test_an_extracted_batch_goes_into_the_model_as_it_is():
    lead = np.zeros(5000)
    lead[250::400] = 1.0
    features = ecg.ECGSLFeatureExtractor.for_method("ecg_sl")(
        [lead, lead[:2000]], sampling_rate=500, return_tensors="pt"
    )
    torch.manual_seed(0)
    output = ecg.ECGSLModel(ecg.ECGSLConfig()).eval()(**features)
    assert output.aggregation_weights.shape == features["beat_mask"].shape
    assert ecg.ECGSLForPreTraining(ecg.ECGSLConfig())(**features).loss.isfinite()


def test_the_registry_says_what_is_established_and_what_is_ours():
    method = get_method("ecg_sl")
    assert method.convert is None
    assert not method.has_official_weights
    assert "no official code or weights" in method.notes.lower()
    assert "Our proposal" in method.recipe("published").description
    assert method.stages == ("autoencoder", "masked")
    for recipe in method.recipes.values():
        assert {"autoencoder", "masked", "finetune", "scratch"} <= set(recipe.stages)
        assert [recipe.stage(stage).config["stage"] for stage in method.stages] == list(method.stages)
        ECGSLConfig(**recipe.config)
