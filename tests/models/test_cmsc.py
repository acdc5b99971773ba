"""CMSC: who attracts whom, symmetry, backbones, loading."""

import math

import pytest
import torch

from ecg_transformers.layers.objectives import clocs_loss, patient_contrastive_loss
from ecg_transformers.models.cmsc.configuration_cmsc import CMSCConfig
from ecg_transformers.models.cmsc.method import METHOD
from ecg_transformers.models.cmsc.modeling_cmsc import CMSCForPreTraining, CMSCForSequenceClassification, CMSCModel
from ecg_transformers.models.registry import get_method


def close(actual, expected, atol=1e-5):
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


def build(model_class=CMSCForPreTraining, **overrides):
    torch.manual_seed(0)
    return model_class(CMSCConfig(**{**METHOD.tiny_config, **overrides}))


def segments(batch=6, seed=0, difference=0.5):
    """Two segments of each record: waves of the record's own, with noise of the segment's own."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(120) / 120
    waves = torch.stack([torch.sin(2 * torch.pi * k * time) for k in range(1, 7)])
    records = torch.randn(batch, 12, 6, generator=generator) @ waves
    return torch.stack([r + difference * torch.randn(r.shape, generator=generator) for r in (records, records)], dim=1)


PATIENTS = torch.tensor([11, 5, 11, 7, 9, 5])


@pytest.mark.parametrize("objective", ["clocs", "patient"])
def test_the_model_computes_the_published_loss_of_its_embeddings(objective):
    model, x = build(objective=objective).eval(), segments()
    output = model(x, patient_ids=PATIENTS)
    if objective == "clocs":
        expected = clocs_loss(output.embeddings.transpose(1, 2), PATIENTS, 0.1)
    else:
        flags = torch.tensor([0, 1] * 6)
        expected = patient_contrastive_loss(output.embeddings.flatten(0, 1), PATIENTS.repeat_interleave(2), flags, 0.1)
    close(output.loss, expected)


@pytest.mark.parametrize("objective", ["clocs", "patient"])
def test_swapping_the_segments_changes_nothing(objective):
    model, x = build(objective=objective).eval(), segments()
    close(model(x.flip(1), patient_ids=PATIENTS).loss, model(x, patient_ids=PATIENTS).loss)


def test_only_equality_of_patient_ids_counts():
    model, x = build().eval(), segments()
    renamed = PATIENTS * 1_000_003 - 2**40
    close(model(x, patient_ids=renamed).loss, model(x, patient_ids=PATIENTS).loss, atol=0)
    own = model(x, patient_ids=torch.arange(6)).loss
    close(model(x).loss, own, atol=0)
    assert own != model(x, patient_ids=PATIENTS).loss


def test_loss_does_not_depend_on_the_order_of_records():
    model, x = build().eval(), segments()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    close(model(x[order], patient_ids=PATIENTS[order]).loss, model(x, patient_ids=PATIENTS).loss)


def test_a_batch_of_one_patient_is_an_error_and_a_single_record_has_no_loss():
    model, x = build(), segments()
    with pytest.raises(ValueError, match="one patient"):
        model.eval()(x, patient_ids=torch.full((6,), 4))
    with pytest.raises(ValueError, match="one patient"):
        model.train()(x[:1], patient_ids=torch.tensor([4]))
    single = model.eval()(x[:1], patient_ids=torch.tensor([4]))
    assert single.loss.isnan()
    assert single.embeddings.shape == (1, 2, 16)


def test_equal_embeddings_give_the_log_of_the_batch():
    model = build().eval()
    same = segments(1).expand(6, -1, -1, -1)[:, :1].expand(-1, 2, -1, -1)
    assert model(same, patient_ids=torch.arange(6)).loss.item() == pytest.approx(math.log(6), abs=1e-4)


def test_training_pulls_segments_of_a_record_together():
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    held_out = segments(16, seed=1000)
    before, losses = model.monitor(model(held_out)), []
    for step in range(40):
        loss = model(segments(16, seed=step)).loss
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.monitor(model(held_out))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert after["uniformity"] < before["uniformity"]
    assert after["accuracy"] >= before["accuracy"]
    assert after["relative_spread"] > before["relative_spread"]


def test_embeddings_are_a_linear_map_of_the_features_or_the_features_themselves():
    x = segments()
    for size in (16, 0):
        model = build(projection_size=size).eval()
        features = model.cmsc(x[:, 1]).pooler_output
        close(model(x).embeddings[:, 1], model.projector(features))
        assert model(x).embeddings.shape == (6, 2, size or 32)


def test_lead_indices_of_each_record_serve_both_its_segments():
    model, x = build().eval(), segments()
    rows = torch.stack([torch.randperm(12, generator=torch.Generator().manual_seed(i)) for i in range(6)])
    shuffled = torch.stack([record[:, order] for record, order in zip(x, rows)])
    close(model(shuffled, lead_indices=rows).embeddings, model(x).embeddings)


def test_a_residual_network_can_be_the_backbone():
    torch.manual_seed(0)
    config = CMSCConfig(backbone_config={"model_type": "ecg_resnet", **get_method("ecg_resnet").tiny_config})
    model = CMSCForPreTraining(config)
    assert type(model.backbone).__name__ == "ECGResNetModel"
    assert config.seq_len == 128
    model(torch.randn(4, 2, 12, 128)).loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_segments_fit_into_records_by_default():
    config = CMSCConfig()
    assert (config.seq_len, config.sampling_rate, config.hidden_size) == (1125, 250, 768)
    assert config.backbone_config["initializer"] == "mae"


def test_the_encoder_moves_on_to_classification(tmp_path):
    model = build().eval()
    model.save_pretrained(tmp_path)
    reloaded, info = CMSCForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    x = segments()
    assert torch.equal(reloaded.eval()(x).loss, model(x).loss)
    classifier, info = CMSCForSequenceClassification.from_pretrained(tmp_path, num_labels=3, output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    assert torch.equal(classifier.eval().cmsc(x[:, 0]).pooler_output, model.cmsc(x[:, 0]).pooler_output)
    assert isinstance(classifier.cmsc, CMSCModel)


def test_sizes_given_at_loading_reach_the_backbone(tmp_path):
    first, second = tmp_path / "saved", tmp_path / "changed"
    build(CMSCModel).save_pretrained(first)
    config = CMSCConfig.from_pretrained(first, seq_len=60)
    assert (config.seq_len, config.backbone_config["seq_len"]) == (60, 60)
    with pytest.raises(ValueError, match="no place"):  # layers of the file would be dropped
        CMSCModel.from_pretrained(first, num_hidden_layers=1)
    shorter = CMSCConfig.from_pretrained(first, num_hidden_layers=1)
    assert shorter.num_hidden_layers == shorter.backbone_config["num_hidden_layers"] == 1
    model = CMSCModel(shorter).eval()
    assert len(model.encoder.encoder.layer) == 1
    model.save_pretrained(second)
    x = segments()[:, 0]
    assert torch.equal(CMSCModel.from_pretrained(second).eval()(x).pooler_output, model(x).pooler_output)


def test_inputs_without_two_segments_are_refused():
    with pytest.raises(ValueError, match="two views"):
        build()(torch.randn(2, 3, 12, 120))


@pytest.mark.parametrize(
    ("settings", "message"), [({"objective": "simclr"}, "objective"), ({"temperature": 0.0}, "temperature")]
)
def test_senseless_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        CMSCConfig(**settings)
