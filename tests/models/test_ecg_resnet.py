"""Parity with the published xresnet1d and the properties of our class."""

import pytest
import torch

from ecg_transformers.layers.resnet1d import ZeroBatchNorm1d
from ecg_transformers.models.ecg_resnet.configuration_ecg_resnet import ECGResNetConfig
from ecg_transformers.models.ecg_resnet.convert_ecg_resnet import convert_ecg_resnet
from ecg_transformers.models.ecg_resnet.method import METHOD
from ecg_transformers.models.ecg_resnet.modeling_ecg_resnet import ECGResNetForSequenceClassification, ECGResNetModel
from ecg_transformers.models.shared.state_dicts import CheckpointError
from tests.support.released_files import xresnet_keys as published_keys


def small_model(model_class=ECGResNetForSequenceClassification, seed=0, **overrides):
    torch.manual_seed(seed)
    base = {"num_leads": 3, "seq_len": 100, "stem_dims": [8, 8], "stage_dims": [8, 16], "depths": [1, 2]}
    base |= {"expansion": 1, "num_labels": 4}
    return model_class(ECGResNetConfig(**{**base, **overrides})).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["basic", "bottleneck"])
def test_stages_and_logits_equal_the_published_ones(parity, name):
    tensors = parity("st_mem", f"xresnet1d_{name}_io")
    model = convert_ecg_resnet(parity("st_mem", f"xresnet1d_{name}_weights"))
    assert isinstance(model, ECGResNetForSequenceClassification)
    out = model(tensors["x"], output_hidden_states=True)
    torch.testing.assert_close(out.logits, tensors["logits"], atol=1e-5, rtol=0)
    for index, tokens in enumerate(out.hidden_states):  # the stem is module 0 … 2, its pooling 3
        torch.testing.assert_close(tokens[:1].transpose(1, 2), tensors[f"stage{index + 3}"], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("expansion", [1, 2])
def test_published_layout_of_any_size_converts(expansion):
    sizes = {
        "stem_dims": [6, 10],
        "stage_dims": [8, 8, 4],
        "depths": [2, 1, 1],
        "stem_kernel_size": 7,
        "kernel_size": 3,
    }
    model = small_model(**sizes, expansion=expansion, classifier_hidden_sizes=[9, 7])
    for parameter in model.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    converted, x = convert_ecg_resnet(published_keys(model)), torch.randn(2, 3, 90)
    assert {name: getattr(converted.config, name) for name in sizes} == sizes
    torch.testing.assert_close(converted(x).logits, model(x).logits)


def test_every_key_is_used_or_named(parity):
    state = parity("st_mem", "xresnet1d_basic_weights")
    with pytest.raises(CheckpointError, match=r"9\.weight"):
        convert_ecg_resnet({**state, "9.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"5\.0\.convpath\.0\.1\.1\.bias"):
        convert_ecg_resnet({k: v for k, v in state.items() if k != "5.0.convpath.0.1.1.bias"})


def test_aliased_keys_may_be_absent_but_must_agree(parity):
    state = parity("st_mem", "xresnet1d_bottleneck_weights")
    x = parity("st_mem", "xresnet1d_bottleneck_io")["x"]
    expected = convert_ecg_resnet(state)(x).logits
    for alias in (".convs.", ".convpath."):
        assert torch.equal(convert_ecg_resnet({k: v for k, v in state.items() if alias not in k})(x).logits, expected)
    damaged = dict(state)
    damaged["4.0.convs.0.0.weight"] = damaged["4.0.convs.0.0.weight"] + 1
    with pytest.raises(CheckpointError, match="damaged"):
        convert_ecg_resnet(damaged)


def test_file_without_a_head_gives_the_base_model(parity):
    state = {k: v for k, v in parity("st_mem", "xresnet1d_basic_weights").items() if not k.startswith("6.")}
    assert type(convert_ecg_resnet(state)) is ECGResNetModel


def test_small_recipe_has_its_226_thousand_parameters():
    recipe = METHOD.recipe("tiny")
    config = ECGResNetConfig(**recipe.config, **recipe.stage("scratch").config, num_labels=5)
    assert ECGResNetForSequenceClassification(config).num_parameters() == 225_541


def test_published_recipe_is_xresnet1d101():
    config = ECGResNetConfig(**METHOD.recipe("published").config)
    kernels = [m.kernel_size[0] for m in ECGResNetModel(config).modules() if isinstance(m, torch.nn.Conv1d)]
    assert kernels.count(5) == 3 + 33
    assert config.hidden_size == 256


def test_last_norm_of_every_block_starts_at_zero_fresh_and_after_loading(monkeypatch):
    # an empty checkpoint is refused; here it is the quickest way to have everything missing
    monkeypatch.setattr("ecg_transformers.models.base.refuse_misfits", lambda *found: None)
    fresh = small_model()
    loaded = ECGResNetForSequenceClassification.from_pretrained(None, config=fresh.config, state_dict={})
    for model in (fresh, loaded):
        norms = [m for m in model.modules() if isinstance(m, ZeroBatchNorm1d)]
        assert len(norms) == 3
        assert not any(norm.weight.any() for norm in norms)
    for (name, a), b in zip(fresh.state_dict().items(), loaded.state_dict().values()):
        assert float(b.double().abs().mean()) == pytest.approx(float(a.double().abs().mean()), rel=0.6, abs=1e-6), name


@torch.no_grad()
def test_tokens_and_features_have_the_documented_shapes():
    out = small_model(ECGResNetModel)(torch.randn(2, 3, 100), output_hidden_states=True)
    assert out.last_hidden_state.shape == (2, 13, 16)
    assert out.pooler_output.shape == (2, 32)
    assert [tuple(h.shape) for h in out.hidden_states] == [(2, 25, 8), (2, 25, 8), (2, 13, 16)]
    torch.testing.assert_close(out.pooler_output[:, :16], out.last_hidden_state.amax(1))


@torch.no_grad()
@pytest.mark.parametrize("options", [{}, {"classifier_hidden_sizes": []}, {"head_pooling": "attention"}])
def test_every_head_takes_crops_and_averages_them(options):
    model, x = small_model(**options), torch.randn(2, 3, 3, 100)
    out = model(x, labels=torch.zeros(2, 4))
    each = torch.stack([model(x[:, k]).logits for k in range(3)])
    torch.testing.assert_close(out.logits, each.mean(0))
    assert out.loss.isfinite()


@torch.no_grad()
def test_leads_go_to_their_slots_and_absent_ones_are_zero():
    model, x = small_model(ECGResNetModel), torch.randn(2, 3, 100)
    expected = model(x).pooler_output
    torch.testing.assert_close(model(x[:, [1, 2, 0]], lead_indices=[1, 2, 0]).pooler_output, expected)
    first = x.clone()
    first[:, 1:] = 0
    torch.testing.assert_close(model(x[:, :1]).pooler_output, model(first).pooler_output)


def test_one_batch_can_be_learned():
    model = small_model(classifier_hidden_sizes=[]).train()
    x, labels = torch.randn(16, 3, 100), torch.arange(16) % 4
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(model(x, labels=labels).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


@torch.no_grad()
def test_saved_models_give_the_same_numbers(tmp_path):
    model, x = small_model(classifier_hidden_sizes=[6]), torch.randn(2, 3, 100)
    model.save_pretrained(tmp_path)
    reloaded, info = ECGResNetForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert torch.equal(reloaded.eval()(x).logits, model(x).logits)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"depths": [1]}, "needs an entry"),
        ({"kernel_size": 4}, "must be odd"),
        ({"stem_dims": [10**9]}, "between 1 and"),
        ({"pooling": []}, "pooling takes"),
    ],
)
def test_configs_that_cannot_work_are_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        small_model(**overrides)
