"""The plain ECG ViT: the published starts, its features, and conversion."""

import pytest
import torch

from ecg_transformers.models.ecg_vit.configuration_ecg_vit import ECGViTConfig
from ecg_transformers.models.ecg_vit.convert_ecg_vit import convert_ecg_vit
from ecg_transformers.models.ecg_vit.method import METHOD
from ecg_transformers.models.ecg_vit.modeling_ecg_vit import ECGViTForSequenceClassification, ECGViTModel
from ecg_transformers.models.shared.class_token_model import class_token_table
from ecg_transformers.models.shared.state_dicts import CheckpointError


def build(model_class=ECGViTModel, **overrides):
    torch.manual_seed(0)
    return model_class(ECGViTConfig(**{**METHOD.tiny_config, **overrides}))


def encoder_of(parity, head=False):
    weights, reference = parity("st_mem", "mtae_a_weights"), parity("st_mem", "mtae_a_io")
    encoder = {key.removeprefix("encoder."): value for key, value in weights.items() if key.startswith("encoder.")}
    if head:
        encoder |= {f"head.{kind}": reference[f"encoder.head.{kind}"] for kind in ("weight", "bias")}
    return encoder, reference


@pytest.mark.parametrize("case", ["full", "short"])
def test_features_and_logits_equal_the_reference(parity, case):
    encoder, reference = encoder_of(parity, head=True)
    model = convert_ecg_vit(encoder)
    assert isinstance(model, ECGViTForSequenceClassification)
    x = reference[f"encoder.{case}.input"]
    torch.testing.assert_close(model(x).logits, reference[f"encoder.{case}.logits"], atol=1e-5, rtol=0)
    base = convert_ecg_vit(encoder_of(parity)[0])
    features = base(x).pooler_output
    torch.testing.assert_close(features, reference[f"encoder.{case}.features"], atol=1e-5, rtol=0)


def test_a_masked_autoencoder_is_refused(parity):
    with pytest.raises(CheckpointError, match="pretraining"):
        convert_ecg_vit(parity("st_mem", "mtae_a_weights"))


def test_training_from_scratch_starts_as_torch_does():
    model = build(hidden_size=64, seq_len=1500)
    table = model.embeddings.position_embeddings
    assert table.requires_grad
    assert table.std().item() == pytest.approx(1.0, abs=0.05)
    assert model.embeddings.cls_token.std().item() == pytest.approx(1.0, abs=0.3)
    weight = model.encoder.layer[0].intermediate.weight
    assert weight.abs().max() <= 64**-0.5
    assert weight.std().item() == pytest.approx(64**-0.5 / 3**0.5, rel=0.1)


@pytest.mark.parametrize(("initializer", "std"), [("mae", 0.02), ("xavier_per_projection", 1e-6)])
def test_other_starts_have_the_fixed_table_and_xavier_layers(initializer, std):
    model = build(hidden_size=64, initializer=initializer)
    assert torch.equal(model.embeddings.position_embeddings, class_token_table(8, 64))
    assert model.embeddings.cls_token.std().item() == pytest.approx(std, rel=0.3)
    assert not model.encoder.layer[0].intermediate.bias.any()
    query = model.encoder.layer[0].attention.query
    packed = 3 if initializer == "mae" else 1  # the masked autoencoders initialise the three projections as one matrix
    bound = (6 / (64 + packed * query.out_features)) ** 0.5
    assert 0.97 * bound < query.weight.abs().max() <= bound


def test_the_feature_is_the_class_token_or_the_mean_of_the_others():
    x = torch.randn(2, 12, 120)
    for pooling, part in (("cls", slice(0, 1)), ("mean", slice(1, None))):
        output = build(feature_pooling=pooling).eval()(x)
        assert output.last_hidden_state.shape == (2, 9, 32)
        torch.testing.assert_close(output.pooler_output, output.last_hidden_state[:, part].mean(dim=1))


def test_amplitude_reaches_the_model_only_without_patch_norm():
    x = torch.randn(2, 12, 120)
    blind, seeing = build().eval(), build(patch_norm=False).eval()
    torch.testing.assert_close(blind(3 * x).pooler_output, blind(x).pooler_output, atol=1e-3, rtol=0)
    assert (seeing(3 * x).pooler_output - seeing(x).pooler_output).abs().max() > 1e-2


def test_crops_are_averaged_and_labels_give_a_loss():
    model = build(ECGViTForSequenceClassification, num_labels=3, problem_type="single_label_classification").eval()
    crops = torch.randn(2, 4, 12, 120)
    output = model(crops, labels=torch.tensor([0, 2]))
    single = torch.stack([model(crops[:, i]).logits for i in range(4)], dim=1)
    torch.testing.assert_close(output.logits, single.mean(dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.probabilities, single.softmax(-1).mean(dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, torch.nn.functional.cross_entropy(output.logits, torch.tensor([0, 2])))


def test_missing_leads_count_as_zeros_and_their_order_does_not_matter():
    model, x = build().eval(), torch.randn(2, 12, 120)
    kept = [6, 1, 0]
    zeroed = torch.zeros_like(x)
    zeroed[:, kept] = x[:, kept]
    torch.testing.assert_close(model(x[:, kept], lead_indices=kept).pooler_output, model(zeroed).pooler_output)


def test_senseless_pooling_is_refused():
    with pytest.raises(ValueError, match="feature_pooling"):
        ECGViTConfig(feature_pooling="last")
