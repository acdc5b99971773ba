"""What every class that labels tokens promises: one class for every sample, or patch, of every lead."""

import pytest
import torch

from ecg_transformers.models.registry import get_method, list_methods
from ecg_transformers.signal.waves import IGNORED

NAMES = [name for name in list_methods() if "token_classification" in get_method(name).model_classes]


def build(name, **overrides):
    method = get_method(name)
    torch.manual_seed(0)
    config = method.config_class(**{**method.tiny_config, "num_labels": 4, **overrides})
    return method.model_classes["token_classification"](config).eval()


def test_st_mem_and_ecg_jepa_have_one():
    assert NAMES == ["st_mem", "ecg_jepa"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("resolution", ["samples", "patches"])
def test_every_place_of_every_lead_has_its_logits_and_what_is_ignored_does_not_count(name, resolution):
    model = build(name, label_resolution=resolution)
    x = model.dummy_inputs["input_values"]
    places = x.shape[2] // (model.config.patch_size if resolution == "patches" else 1)
    labels = torch.randint(0, 4, (2, x.shape[1], places))
    labels[:, :, places // 2 :] = IGNORED
    labels[0] = IGNORED
    output = model(x, labels=labels)
    assert output.logits.shape == (2, x.shape[1], places, 4)
    assert int(output.num_loss_terms) == x.shape[1] * (places // 2)
    judged = output.logits[1, :, : places // 2].flatten(0, 1)
    assert torch.allclose(output.loss, torch.nn.functional.cross_entropy(judged, labels[1, :, : places // 2].flatten()))
    nothing = model(x, labels=torch.full_like(labels, IGNORED))
    assert float(nothing.loss.detach()) == 0
    with pytest.raises(ValueError, match="labels of shape"):
        model(x, labels=labels[:, :, 1:])
    with pytest.raises(ValueError, match="label_resolution"):
        build(name, label_resolution="beats")
    with pytest.raises(ValueError, match="lead_subset_prob"):
        build(name, lead_subset_prob=1.5)


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_reaches_every_trainable_parameter(name):
    model = build(name).train()
    x = model.dummy_inputs["input_values"]
    model(x, labels=torch.randint(0, 4, x.shape)).loss.backward()
    trained = {key: parameter.grad for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert [key for key, grad in trained.items() if grad is None or not torch.isfinite(grad).all()] == []


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_leads_in_another_order_are_labelled_in_that_order(name):
    model = build(name)
    x = model.dummy_inputs["input_values"][:1]
    order = [3, 0, 2, 1]
    some = model(x[:, :4], lead_indices=[0, 1, 2, 3]).logits
    assert torch.allclose(model(x[:, order], lead_indices=order).logits, some[:, order], atol=1e-5)
    assert model(x[:, 2:3], lead_indices=[2]).logits.shape == (1, 1, x.shape[2], 4)


@pytest.mark.parametrize("name", NAMES)
def test_training_shows_some_leads_only_with_their_own_labels_and_rows(name):
    model = build(name, lead_subset_prob=1.0).train()
    num_leads = model.config.num_leads
    x = torch.arange(num_leads).float().expand(2, -1)[..., None].repeat(1, 1, 3)  # lead i holds i
    counts = set()
    for rows in [None, list(range(num_leads)), [list(range(num_leads))] * 2] * 40:
        some, indices, labels = model.choose_leads(x, rows, x.long())
        assert torch.equal(some.long(), labels)
        assert torch.equal(some[..., 0].long(), torch.as_tensor(indices).expand(2, -1))
        counts.add(some.shape[1])
    assert counts == set(range(1, num_leads))
    x = model.dummy_inputs["input_values"]
    labels = torch.zeros_like(x, dtype=torch.long)
    assert model(x, labels=labels).logits.shape[1] < num_leads
    for other in (labels[:, 1:], torch.cat([labels, labels], dim=1)):
        with pytest.raises(ValueError, match="labels of shape"):
            model(x, labels=other)
    assert model.eval()(x, labels=labels).logits.shape[1] == num_leads


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_change_of_one_patch_moves_the_logits_of_its_own_samples_most(name):
    """The unfolded samples stand where the patch stands."""
    model = build(name, num_hidden_layers=1)
    x = model.dummy_inputs["input_values"][:1]
    changed, p = x.clone(), model.config.patch_size
    changed[0, 1, 3 * p : 4 * p] += 3.0
    moved = (model(changed).logits - model(x).logits).abs().sum(-1)[0]  # (L, T)
    by_patch = moved.unflatten(1, (-1, p)).sum(-1)
    assert divmod(int(by_patch.argmax()), by_patch.shape[1]) == (1, 3)


@pytest.mark.parametrize("name", NAMES)
def test_a_new_head_says_that_it_is_new_until_it_is_trained(name, tmp_path):
    method = get_method(name)
    method.model_classes["base"](method.config_class(**method.tiny_config)).save_pretrained(tmp_path / "base")
    model = method.model_classes["token_classification"].from_pretrained(tmp_path / "base")
    assert model.head_is_new
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    model.train().save_pretrained(tmp_path / "whole")
    again = method.model_classes["token_classification"].from_pretrained(tmp_path / "whole")
    assert not again.head_is_new
    assert torch.equal(again.classifier.unfold.weight, model.classifier.unfold.weight)
