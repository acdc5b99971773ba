"""MTAE and MTAE+RLM: reference tensors, conversion, and what makes the method itself."""

import pytest
import torch

from ecg_transformers.models.mtae.configuration_mtae import MTAEConfig
from ecg_transformers.models.mtae.convert_mtae import convert_mtae
from ecg_transformers.models.mtae.method import METHOD
from ecg_transformers.models.mtae.modeling_mtae import (
    MTAEForPreTraining,
    MTAEForSequenceClassification,
    MTAEModel,
    random_lead_masking,
)
from ecg_transformers.models.shared.class_token_model import class_token_table
from ecg_transformers.models.shared.state_dicts import CheckpointError


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=atol, rtol=0)


def build(model_class=MTAEForPreTraining, **overrides):
    torch.manual_seed(0)
    return model_class(MTAEConfig(**{**METHOD.tiny_config, **overrides}))


def signal(batch=3, config=None, seed=0):
    return torch.randn(batch, 12, 120, generator=torch.Generator().manual_seed(seed))


def noise(batch=3, count=8):
    return torch.rand(batch, count, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def reference(parity):
    return parity("st_mem", "mtae_a_io")


@pytest.fixture(scope="module")
def weights(parity):
    return parity("st_mem", "mtae_a_weights")


@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_pre_training_equals_the_reference(reference, weights, kind):
    model = convert_mtae(weights, norm_pix_loss=kind == "norm")
    assert isinstance(model, MTAEForPreTraining)
    output = model(reference["input.series"], noise=reference["input.noise"])
    close(output.reconstruction, reference["pred"])
    close(output.last_hidden_state, reference["latent"])
    close(output.loss, reference[f"loss.{kind}"])
    assert torch.equal(output.mask, reference["mask"])
    assert torch.equal(output.ids_restore, reference["ids_restore"])
    output.loss.backward()
    attention = model.mtae.encoder.layer[0].attention
    packed = torch.cat([attention.query.weight.grad, attention.key.weight.grad, attention.value.weight.grad])
    close(packed, reference[f"grad.{kind}.encoder.block0.attn.fn.to_qkv.weight"])
    close(model.mtae.embeddings.cls_token.grad, reference[f"grad.{kind}.encoder.cls_embedding"])
    close(model.decoder.mask_token.grad, reference[f"grad.{kind}.mask_embedding"])


def test_other_mask_ratios_equal_the_reference(reference, weights):
    model = convert_mtae(weights, norm_pix_loss=True)
    half = model(reference["input.series"], noise=reference["input.noise"], mask_ratio=0.5)
    close(half.reconstruction, reference["ratio2.pred"])
    close(half.loss, reference["ratio2.loss.norm"])
    nothing = model(reference["input.series"], noise=reference["input.noise"], mask_ratio=0)
    close(nothing.reconstruction, reference["unmasked.pred"])
    close(nothing.last_hidden_state, reference["unmasked.latent"])
    assert torch.isnan(nothing.loss)


def encoder_weights(weights, reference, head):
    encoder = {key.removeprefix("encoder."): value for key, value in weights.items() if key.startswith("encoder.")}
    if head:
        encoder |= {f"head.{kind}": reference[f"encoder.head.{kind}"] for kind in ("weight", "bias")}
    return encoder


@pytest.mark.parametrize("case", ["full", "short", "six_leads_zero_filled", "lead_II_zero_filled"])
def test_downstream_equals_the_reference(reference, weights, case):
    x = reference[f"encoder.{case}.input"]
    encoder = convert_mtae(encoder_weights(weights, reference, head=False))
    assert isinstance(encoder, MTAEModel)
    close(encoder(x).pooler_output, reference[f"encoder.{case}.features"])
    classifier = convert_mtae(encoder_weights(weights, reference, head=True))
    assert isinstance(classifier, MTAEForSequenceClassification)
    close(classifier(x).logits, reference[f"encoder.{case}.logits"])


def test_lead_indices_give_the_zero_filled_reference(reference, weights):
    encoder = convert_mtae(encoder_weights(weights, reference, head=False))
    x = reference["encoder.full.input"]
    six = encoder(x[:, :6].flip(1), lead_indices=[5, 4, 3, 2, 1, 0]).pooler_output
    close(six, reference["encoder.six_leads_zero_filled.features"])
    close(encoder(x[:, 1:2], lead_indices=[1]).pooler_output, reference["encoder.lead_II_zero_filled.features"])


@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_random_lead_masking_equals_the_reference(parity, weights, kind):
    r, config = parity("st_mem", "mtae_rlm_a_io"), parity.config("st_mem", "mtae_rlm_a_io")
    model = convert_mtae(
        weights, norm_pix_loss=kind == "norm", random_lead_masking=True, rlm_prob=config["rlm_mask_ratio"]
    )
    output = model(r["input.series"], noise=r["input.noise"], lead_noise=r["rlm.uniform_draws"])
    close(output.reconstruction, r["pred"])
    close(output.loss, r[f"loss.{kind}"])
    everything = torch.ones(2, 12, dtype=torch.bool)
    close(random_lead_masking(r["input.series"], everything, r["rlm.uniform_draws"], 0.3, True), r["rlm.output"])


def test_sizes_follow_from_the_tensors(weights, parity):
    model, config = convert_mtae(weights), parity.config("st_mem", "mtae_a_io")
    for ours, theirs in {
        "hidden_size": "embed_dim",
        "num_hidden_layers": "depth",
        "num_attention_heads": "num_heads",
        "decoder_hidden_size": "decoder_embed_dim",
        "decoder_num_hidden_layers": "decoder_depth",
        "decoder_num_attention_heads": "decoder_num_heads",
        "seq_len": "seq_len",
        "patch_size": "patch_size",
        "num_leads": "num_leads",
    }.items():
        assert getattr(model.config, ours) == config[theirs]
    assert not model.training


def test_leads_and_patch_size_are_told_apart_by_the_override(weights):
    model = convert_mtae(weights, num_leads=6, lead_names=None)
    assert (model.config.num_leads, model.config.patch_size, model.config.seq_len) == (6, 150, 1200)
    with pytest.raises(CheckpointError, match="900"):
        convert_mtae(weights, num_leads=7)


def test_left_over_and_missing_keys_are_named(weights):
    with pytest.raises(CheckpointError, match="stray"):
        convert_mtae({**weights, "stray.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"encoder\.norm\.bias|layernorm\.bias"):
        convert_mtae({key: value for key, value in weights.items() if key != "encoder.norm.bias"})
    damaged = {**weights, "to_patch_embedding.2.bias": weights["to_patch_embedding.2.bias"] + 1}
    with pytest.raises(CheckpointError, match="damaged"):
        convert_mtae(damaged)


def test_fixed_tables_grow_and_trained_tables_do_not(weights):
    encoder = {key.removeprefix("encoder."): value for key, value in weights.items() if key.startswith("encoder.")}
    fixed = {**encoder, "pos_embedding": class_token_table(8, 48)}
    longer = convert_mtae(fixed, seq_len=750)
    close(longer.embeddings.position_embeddings, class_token_table(10, 48))
    with pytest.raises(CheckpointError, match="trained"):
        convert_mtae({**encoder, "pos_embedding": torch.randn(1, 9, 48)}, seq_len=750)


def test_every_record_keeps_the_same_number_of_windows():
    model = build(seq_len=450)
    output = model(torch.randn(4, 12, 450), mask_ratio=0.75)
    assert (output.mask.sum(dim=1) == 30 - 7).all()
    assert output.last_hidden_state.shape[1] == 7 + 1


def test_masked_windows_do_not_reach_the_encoder():
    model, x, z = build().eval(), signal(), noise()
    output = model(x, noise=z)
    masked = output.mask.repeat_interleave(15, dim=1)[:, None, :]
    changed = model(x + 5 * masked * torch.randn(x.shape), noise=z)
    assert torch.equal(changed.last_hidden_state, output.last_hidden_state)
    assert changed.loss != output.loss


def test_visible_windows_do_not_count_in_the_loss():
    model, x, z = build().eval(), signal(), noise()
    ranking = model.rank(x.new_zeros(3, 8, 180), z, None)
    predicted = torch.randn(3, 8, 180, requires_grad=True)
    loss = model.reconstruction_loss(predicted, torch.randn(3, 8, 180), ranking.mask)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert (gradient[ranking.mask == 0] == 0).all()
    assert (gradient[ranking.mask == 1] != 0).all()


def test_permuted_leads_with_their_indices_change_nothing():
    model, x = build(MTAEModel).eval(), signal()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(2))
    close(model(x[:, order], lead_indices=order).pooler_output, model(x).pooler_output)
    rows = torch.stack([order, torch.arange(12), order.flip(0)])
    shuffled = torch.stack([x[0][order], x[1], x[2][order.flip(0)]])
    close(model(shuffled, lead_indices=rows).pooler_output, model(x).pooler_output)


def test_the_normed_target_has_mean_zero_and_unit_variance():
    target = build().target(torch.randn(2, 8, 180) * 3 + 1)
    close(target.mean(dim=-1), torch.zeros(2, 8))
    close(target.var(dim=-1), torch.ones(2, 8), atol=1e-4)


def test_loss_on_one_batch_falls():
    model, x, z = build().train(), signal(), noise()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = model(x, noise=z).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]


def test_loss_without_a_mask_can_be_left_out():
    assert build(loss_without_mask="none")(signal(), mask_ratio=0).loss is None


def test_leads_are_masked_at_the_asked_rate_and_the_rest_is_standardised_jointly():
    x, everything = signal(200), torch.ones(200, 12, dtype=torch.bool)
    draws = torch.rand(200, 12, generator=torch.Generator().manual_seed(0))
    masked = random_lead_masking(x, everything, draws, 0.3, rescale=True)
    zeroed = (masked == 0).all(dim=2)
    assert torch.equal(zeroed, draws < 0.3)
    assert zeroed.float().mean() == pytest.approx(0.3, abs=0.03)
    kept = masked[0][~zeroed[0]]
    close(kept.mean(), torch.tensor(0.0))
    close(kept.std(correction=0), torch.tensor(1.0))
    plain = random_lead_masking(x, everything, draws, 0.3, rescale=False)
    assert torch.equal(plain, x * ~zeroed[..., None])


def test_all_leads_masked_gives_zeros():
    x = signal(1)
    assert not random_lead_masking(x, torch.ones(1, 12, dtype=torch.bool), torch.zeros(1, 12), 0.3, True).any()


def test_absent_leads_stay_out_of_the_statistics_of_the_rest():
    x, present = signal(1), torch.zeros(1, 12, dtype=torch.bool)
    present[:, :3] = True
    x = x * present[..., None]
    masked = random_lead_masking(x, present, torch.ones(1, 12), 0.3, rescale=True)
    close(masked[0, :3].std(correction=0), torch.tensor(1.0))
    assert not masked[0, 3:].any()


def test_both_targets_of_random_lead_masking():
    x, z, draws = signal(), noise(), torch.rand(3, 12, generator=torch.Generator().manual_seed(3))
    settings = {"random_lead_masking": True, "norm_pix_loss": False}
    released, clean = build(**settings).eval(), build(**settings, rlm_target="clean").eval()
    clean.load_state_dict(released.state_dict())
    a, b = released(x, noise=z, lead_noise=draws), clean(x, noise=z, lead_noise=draws)
    assert torch.equal(a.reconstruction, b.reconstruction)
    masked_input = random_lead_masking(x, torch.ones(3, 12, dtype=torch.bool), draws, 0.3, True)
    assert torch.equal(a.loss, build(norm_pix_loss=False).eval()(masked_input, noise=z).loss)
    assert a.loss != b.loss


def test_random_lead_masking_draws_per_sample_from_the_generator_it_gets():
    model = build(random_lead_masking=True)
    drawn = model.draw_sample_noise(torch.Generator().manual_seed(0))
    assert {key: tuple(value.shape) for key, value in drawn.items()} == {"noise": (8,), "lead_noise": (12,)}
    assert set(build().draw_sample_noise(torch.Generator())) == {"noise"}
    again = model.draw_sample_noise(torch.Generator().manual_seed(0))
    assert all(torch.equal(drawn[key], again[key]) for key in drawn)


def test_positions_are_fixed_in_pre_training_and_trained_downstream_also_after_loading(tmp_path):
    model = build()
    assert not model.mtae.embeddings.position_embeddings.requires_grad
    model.save_pretrained(tmp_path)
    assert not MTAEForPreTraining.from_pretrained(tmp_path).mtae.embeddings.position_embeddings.requires_grad
    assert MTAEForSequenceClassification.from_pretrained(tmp_path).mtae.embeddings.position_embeddings.requires_grad
    frozen = MTAEForSequenceClassification.from_pretrained(tmp_path, train_position_embeddings=False)
    assert not frozen.mtae.embeddings.position_embeddings.requires_grad


def test_saved_and_loaded_models_give_the_same_numbers(tmp_path):
    model, x, z = build(random_lead_masking=True).eval(), signal(), noise()
    draws = torch.rand(3, 12)
    model.save_pretrained(tmp_path)
    loaded, info = MTAEForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(loaded.eval()(x, noise=z, lead_noise=draws).loss, model(x, noise=z, lead_noise=draws).loss)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seq_len": 121}, "not a multiple"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"rlm_prob": 1.5}, "rlm_prob"),
        ({"rlm_target": "both"}, "rlm_target"),
        ({"initializer": "zeros"}, "initializer"),
    ],
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MTAEConfig(**{**METHOD.tiny_config, **settings})


def test_inputs_that_do_not_fit_are_refused():
    model = build().eval()
    with pytest.raises(ValueError, match="noise must have shape"):
        model(signal(), noise=torch.rand(3, 9))
    with pytest.raises(ValueError, match="9 tokens"):
        model(torch.randn(1, 12, 135))
    with pytest.raises(ValueError, match="13 leads"):
        model(torch.randn(1, 13, 120))
    with pytest.raises(ValueError, match="lead_noise"):
        build(random_lead_masking=True)(signal(), noise=noise(), lead_noise=torch.rand(3, 5))
