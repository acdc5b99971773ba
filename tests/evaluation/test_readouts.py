import numpy as np
import pytest
import torch
from torch import nn
from transformers.utils import ModelOutput

from ecg_transformers.data.record import ECGRecord
from ecg_transformers.evaluation.readouts import encode_batch, extract_features, frozen, parameter_hash, read_tokens

LEADS = ["I", "II", "V1"]


class Encoder(nn.Module):
    """A stand-in: tokens are patches of four samples, each led and followed by a special token."""

    def __init__(self, by_lead=True):
        super().__init__()
        self.by_lead = by_lead
        self.layer = nn.Linear(4, 5)
        self.norm = nn.BatchNorm1d(5)
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("table", torch.ones(3), persistent=False)

    @property
    def base_model(self):
        return self

    def forward(self, input_values, lead_indices=None):
        tokens = self.dropout(self.layer(input_values.unflatten(-1, (-1, 4))))  # (B, L, n, D)
        tokens = self.norm(tokens.flatten(0, 2)).view_as(tokens)
        special = torch.full_like(tokens[:, :, :1], 1e6)
        hidden = torch.cat([special, tokens, special], dim=2).flatten(1, 2)
        return ModelOutput(last_hidden_state=hidden, pooler_output=tokens.mean(dim=(1, 2)) + 1)

    def tokens_by_lead(self, last_hidden_state, num_leads):
        return last_hidden_state.unflatten(1, (num_leads, -1))[:, :, 1:-1] if self.by_lead else None


class Extractor:
    """A stand-in that crops; the batch has a key that the model does not take."""

    def __call__(self, records, return_tensors, num_crops=None):
        crops = np.linspace(0, 160, num_crops or 1).astype(int)
        values = np.stack([[r.signal.T[:, start : start + 40] for start in crops] for r in records])
        return {"input_values": torch.as_tensor(values if num_crops else values[:, 0]), "note": torch.zeros(1)}


@pytest.fixture
def records():
    generator = np.random.default_rng(0)
    return [ECGRecord(generator.normal(size=(400, 3)), 100, LEADS, f"r{index}") for index in range(7)]


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = Encoder()
    encoder.norm.running_mean += 0.3
    return encoder.train()


@pytest.mark.parametrize(
    ("readout", "shape"),
    [
        ("pooled", (7, 5)),
        ("mean", (7, 5)),
        ("per_lead", (7, 15)),
        ("per_lead_spread", (7, 30)),
        ("tokens", (7, 60, 5)),
    ],
)
def test_features_have_the_shape_of_their_readout_and_leave_special_tokens_out(model, records, readout, shape):
    features = extract_features(model, Extractor(), records, num_crops=2, readout=readout)
    assert features.shape == shape
    assert features.dtype == np.float32
    assert np.abs(features).max() < 1e3


@pytest.mark.parametrize("readout", ["pooled", "per_lead", "tokens"])
def test_features_do_not_depend_on_the_batch_and_repeat(model, records, readout):
    options = {"num_crops": 3, "readout": readout}
    one, all_at_once, again = (
        extract_features(model, Extractor(), records, batch_size=size, **options) for size in (1, 7, 7)
    )
    np.testing.assert_allclose(one, all_at_once, atol=1e-5)
    np.testing.assert_array_equal(again, all_at_once)


def test_crops_are_averaged(model, records):
    batch = Extractor()(records, "pt", num_crops=2)
    separate = [encode_batch(model, {"input_values": batch["input_values"][:, crop]}) for crop in range(2)]
    torch.testing.assert_close(encode_batch(model, batch), (separate[0] + separate[1]) / 2)


def test_frozen_means_frozen(model, records):
    before = parameter_hash(model)
    extract_features(model, Extractor(), records, readout="per_lead")
    assert parameter_hash(model) == before
    assert model.training
    assert model.dropout.training


def test_hash_sees_every_parameter_and_buffer(model):
    before = parameter_hash(model)
    changes = [
        lambda m: m.layer.weight.data[0, 0].add_(1e-7),
        lambda m: m.norm.running_mean[0].add_(1e-7),
        lambda m: m.norm.num_batches_tracked.add_(1),
        lambda m: m.table[0].add_(1e-6),  # not in the state dict
    ]
    for change in changes:
        torch.manual_seed(0)
        other = Encoder()
        other.load_state_dict(model.state_dict())
        assert parameter_hash(other) == before
        change(other)
        assert parameter_hash(other) != before
    assert parameter_hash(model.half()) != before


def test_modes_of_parts_are_put_back_even_after_an_error(model):
    model.dropout.eval()

    def fail():
        with frozen(model):
            assert not model.norm.training
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert model.norm.training
    assert not model.dropout.training


def test_model_without_lead_tokens_gives_its_published_feature(records):
    encoder = Encoder(by_lead=False)
    pooled = extract_features(encoder, Extractor(), records, readout="pooled")
    np.testing.assert_array_equal(extract_features(encoder, Extractor(), records, readout="per_lead"), pooled)


def test_amplitude_is_appended_and_grows_with_the_voltage(model, records):
    for record in records:
        record.signal = record.signal.copy()
    plain = extract_features(model, Extractor(), records)
    first = extract_features(model, Extractor(), records, extra="amplitude")
    np.testing.assert_array_equal(first[:, :5], plain)
    assert first.shape == (7, 5 + 9)
    for record in records:
        record.signal *= 2
    second = extract_features(model, Extractor(), records, extra="amplitude")
    np.testing.assert_allclose(second[:, 5:8], first[:, 5:8] + np.log(2), atol=1e-4)  # log SD
    np.testing.assert_allclose(second[:, 8:], 2 * first[:, 8:], rtol=1e-4)  # maxima and minima


def test_record_with_features_that_are_not_finite_is_named(model, records):
    records[4].signal = np.full_like(records[4].signal, np.nan)
    with pytest.raises(ValueError, match="r4"):
        extract_features(model, Extractor(), records, batch_size=3)


@pytest.mark.parametrize(("options", "message"), [({"readout": "men"}, "per_lead"), ({"extra": "x"}, "amplitude")])
def test_unknown_choices_are_answered_with_the_known_ones(model, records, options, message):
    with pytest.raises(ValueError, match=message):
        extract_features(model, Extractor(), records, **options)


def test_no_records_is_an_error(model):
    with pytest.raises(ValueError, match="no records"):
        extract_features(model, Extractor(), [])


def test_spread_is_the_deviation_over_time(model):
    tokens = torch.zeros(1, 3 * 4, 2)
    tokens.unflatten(1, (3, 4))[0, 1, 1:3, 0] = torch.tensor([1.0, 3.0])
    features = read_tokens(model, ModelOutput(last_hidden_state=tokens), 3, "per_lead_spread")
    assert features[0, 2] == 2.0  # mean of lead 1
    assert features[0, 6 + 2] == 1.0  # its SD


def test_real_models_of_the_package_can_be_read():
    from ecg_transformers.models.registry import get_method

    method = get_method("st_mem")
    model = method.model_classes["pretraining"](method.config_class(**method.tiny_config))
    inputs = {"input_values": model.dummy_inputs["input_values"]}
    width, leads = model.config.hidden_size, model.config.num_leads
    assert encode_batch(model, inputs, "per_lead").shape == (2, leads * width)
    tokens = encode_batch(model, inputs, "tokens")
    torch.testing.assert_close(tokens.mean(dim=1), encode_batch(model, inputs, "mean"))
