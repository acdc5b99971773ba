"""MLAE: reference tensors, conversion, lead identity, and Einthoven's identity learnt from data."""

import pytest
import torch

from ecg_transformers.models.mlae.configuration_mlae import MLAEConfig
from ecg_transformers.models.mlae.convert_mlae import convert_mlae
from ecg_transformers.models.mlae.method import METHOD
from ecg_transformers.models.mlae.modeling_mlae import (
    MLAEForPreTraining,
    MLAEForSequenceClassification,
    MLAEModel,
)
from ecg_transformers.models.shared.state_dicts import CheckpointError


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected.to(actual.dtype), atol=atol, rtol=0)


def build(model_class=MLAEForPreTraining, **overrides):
    torch.manual_seed(0)
    return model_class(MLAEConfig(**{**METHOD.tiny_config, **overrides}))


def signal(batch=3, seed=0):
    return torch.randn(batch, 12, 120, generator=torch.Generator().manual_seed(seed))


def noise(batch=3):
    return torch.rand(batch, 12, generator=torch.Generator().manual_seed(1))


ORDER = torch.tensor([4, 0, 7, 11, 2, 9, 1, 3, 10, 5, 8, 6])


@pytest.fixture(scope="module")
def reference(parity):
    return parity("st_mem", "mlae_b_io")


@pytest.fixture(scope="module")
def weights(parity):
    return parity("st_mem", "mlae_b_weights")


@pytest.mark.parametrize("kind", ["raw", "norm"])
def test_pre_training_equals_the_reference(reference, weights, kind):
    model = convert_mlae(weights, norm_pix_loss=kind == "norm")
    assert isinstance(model, MLAEForPreTraining)
    output = model(reference["input.series"], noise=reference["input.noise"])
    close(output.reconstruction, reference["pred"])
    close(output.last_hidden_state, reference["latent"])
    close(output.loss, reference[f"loss.{kind}"])
    assert torch.equal(output.mask, reference["mask"])
    output.loss.backward()
    attention = model.mlae.encoder.layer[0].attention
    packed = torch.cat([attention.query.weight.grad, attention.key.weight.grad, attention.value.weight.grad])
    close(packed, reference[f"grad.{kind}.encoder.block0.attn.fn.to_qkv.weight"])
    close(model.mlae.embeddings.cls_token.grad, reference[f"grad.{kind}.encoder.cls_embedding"])
    close(model.decoder.mask_token.grad, reference[f"grad.{kind}.mask_embedding"])


def test_other_mask_ratios_equal_the_reference(reference, weights):
    model = convert_mlae(weights, norm_pix_loss=True)
    half = model(reference["input.series"], noise=reference["input.noise"], mask_ratio=0.5)
    close(half.reconstruction, reference["ratio2.pred"])
    close(half.loss, reference["ratio2.loss.norm"])
    close(model(reference["input.series"], mask_ratio=0).reconstruction, reference["unmasked.pred"])


@pytest.mark.parametrize("case", ["full", "six_leads_same_model", "one_lead_same_model"])
def test_downstream_equals_the_reference(reference, weights, case):
    encoder = {key.removeprefix("encoder."): value for key, value in weights.items() if key.startswith("encoder.")}
    head = {f"head.{kind}": reference[f"encoder.head.{kind}"] for kind in ("weight", "bias")}
    x = reference[f"encoder.{case}.input"]
    base, classifier = convert_mlae(encoder), convert_mlae({**encoder, **head})
    assert isinstance(base, MLAEModel)
    assert isinstance(classifier, MLAEForSequenceClassification)
    close(base(x).pooler_output, reference[f"encoder.{case}.features"])
    close(classifier(x).logits, reference[f"encoder.{case}.logits"])


def test_sizes_follow_from_the_tensors(weights):
    config = convert_mlae(weights).config
    assert (config.num_leads, config.seq_len, config.patch_size, config.num_attention_heads) == (12, 375, 1, 2)


def test_left_over_keys_and_wrong_lengths_are_named(weights):
    with pytest.raises(CheckpointError, match="stray"):
        convert_mlae({**weights, "stray.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="seq_len cannot be 400"):
        convert_mlae(weights, seq_len=400)


def test_fewer_leads_keep_the_first_rows_of_the_table(reference, weights):
    encoder = {key.removeprefix("encoder."): value for key, value in weights.items() if key.startswith("encoder.")}
    six = convert_mlae(encoder, num_leads=6)
    close(
        six(reference["encoder.six_leads_same_model.input"]).pooler_output,
        reference["encoder.six_leads_same_model.features"],
    )


def test_permuted_leads_with_their_indices_change_nothing():
    model, x, z = build().eval(), signal(), noise()
    plain = model(x, noise=z)
    moved = model(x[:, ORDER], noise=z[:, ORDER], lead_indices=ORDER)
    close(moved.loss, plain.loss)
    close(moved.reconstruction, plain.reconstruction[:, ORDER])
    assert torch.equal(moved.mask, plain.mask[:, ORDER])
    close(moved.last_hidden_state, plain.last_hidden_state)


def test_every_record_may_have_its_own_order_of_leads():
    model, x, z = build().eval(), signal(), noise()
    orders = torch.stack([ORDER, torch.arange(12), ORDER.flip(0)])
    rows = torch.arange(3)[:, None]
    plain, moved = model(x, noise=z), model(x[rows, orders], noise=z[rows, orders], lead_indices=orders)
    close(moved.loss, plain.loss)
    close(moved.reconstruction, plain.reconstruction[rows, orders])


def test_a_lead_alone_is_not_taken_for_another():
    model, x = build(MLAEModel).eval(), signal()[:, :1]
    as_first, as_second = model(x).pooler_output, model(x, lead_indices=[1]).pooler_output
    assert (as_first - as_second).abs().max() > 1e-3
    assert torch.equal(model(x, lead_indices=[0]).pooler_output, as_first)


def test_masked_leads_do_not_reach_the_encoder():
    model, x, z = build().eval(), signal(), noise()
    output = model(x, noise=z)
    changed = model(x + output.mask[..., None] * torch.randn(x.shape), noise=z)
    assert torch.equal(changed.last_hidden_state, output.last_hidden_state)
    assert changed.loss != output.loss


def test_three_of_twelve_leads_stay_visible():
    assert (build()(signal()).mask.sum(dim=1) == 9).all()


def limb_leads(batch: int, length: int, seed: int) -> torch.Tensor:
    """Smooth random leads I and II with the four that follow from them, and six independent chest leads."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(length) / length
    waves = torch.stack([torch.sin(2 * torch.pi * (k * time + k / 7)) for k in range(1, 5)])
    first, second, *chest = torch.randn(8, batch, 4, generator=generator) @ waves
    limbs = [first, second, second - first, -(first + second) / 2, first - second / 2, second - first / 2]
    return torch.stack([*limbs, *chest], dim=1)


@pytest.mark.slow
@pytest.mark.parametrize(("lead_three", "low", "high"), [("second - first", 0.0, 0.2), ("any", 0.8, 1.2)])
def test_a_masked_limb_lead_is_recovered_by_einthovens_identity_on_new_records(lead_three, low, high):
    """Lead III from I and II, learnt on records that are never seen twice; a lead III that follows from nothing cannot be
    learnt so. Without patch norm, because the identity needs amplitudes."""
    torch.manual_seed(0)
    model = build(
        seq_len=48,
        hidden_size=64,
        intermediate_size=128,
        decoder_hidden_size=48,
        norm_pix_loss=False,
        patch_norm=False,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)
    noise = torch.zeros(32, 12)
    noise[:, 2] = 1.0  # lead III has the highest noise: with one masked lead it is that one

    def records(seed):
        leads = limb_leads(32, 48, seed)
        if lead_three == "any":
            leads[:, 2] = limb_leads(32, 48, 10**6 + seed)[:, 6]
        return leads

    for step in range(600):
        output = model(records(step), noise=noise, mask_ratio=0.08)
        output.loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert (output.mask.sum(dim=1) == 1).all()
    unseen = records(99_999)
    with torch.no_grad():
        recovered = model.eval()(unseen, noise=noise, mask_ratio=0.08).reconstruction[:, 2]
    assert low <= (recovered - unseen[:, 2]).norm() / unseen[:, 2].norm() < high


def test_positions_are_fixed_in_pre_training_and_trained_downstream():
    assert not build().mlae.embeddings.position_embeddings.requires_grad
    assert build(MLAEForSequenceClassification).mlae.embeddings.position_embeddings.requires_grad


def test_per_lead_pooling_sees_one_token_a_lead():
    model = build(MLAEForSequenceClassification, head_pooling="per_lead", num_labels=3).eval()
    assert model.classifier.in_features == 12 * 32
    assert model(signal()).logits.shape == (3, 3)


def test_saved_and_loaded_models_give_the_same_numbers(tmp_path):
    model, x, z = build().eval(), signal(), noise()
    model.save_pretrained(tmp_path)
    loaded, info = MLAEForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(loaded.eval()(x, noise=z).loss, model(x, noise=z).loss)


def test_several_leads_in_a_token_are_refused():
    with pytest.raises(ValueError, match="must be 1, got 2"):
        MLAEConfig(patch_size=2)


def test_another_length_is_refused():
    with pytest.raises(ValueError, match="120 samples a lead, got 100"):
        build(MLAEModel)(torch.randn(1, 12, 100))
