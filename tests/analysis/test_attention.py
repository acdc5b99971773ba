import numpy as np
import pytest
import torch

from ecg_transformers.analysis import attention
from ecg_transformers.analysis.figures import save_figure
from ecg_transformers.models.registry import get_method


@pytest.fixture(scope="module")
def model():
    method = get_method("st_mem")
    torch.manual_seed(0)
    return method.model_classes["pretraining"](method.config_class(**method.tiny_config))


@pytest.fixture(scope="module")
def maps(model):
    return attention.compute_attentions(model, input_values=model.dummy_inputs["input_values"])


def softmax(generator, *shape):
    values = np.exp(generator.normal(size=shape))
    return values / values.sum(axis=-1, keepdims=True)


def test_every_layer_gives_a_map_whose_rows_sum_to_one(model, maps):
    assert len(maps) == model.config.num_hidden_layers
    tokens = model.config.num_leads * (model.config.seq_len // model.config.patch_size + 2)
    for layer in maps:
        assert layer.shape == (2, model.config.num_attention_heads, tokens, tokens)
        np.testing.assert_allclose(layer.sum(axis=-1), 1.0, atol=1e-5)


def test_asking_for_maps_leaves_the_model_as_it_was(model):
    model.train()
    before = model.config._attn_implementation
    attention.compute_attentions(model, input_values=model.dummy_inputs["input_values"])
    assert model.config._attn_implementation == before
    assert model.training
    assert model.base_model.training


def test_eager_and_fused_attention_agree_before_a_map_is_drawn(model, maps):
    inputs = model.dummy_inputs["input_values"]
    encoder = model.base_model.eval()
    outputs = []
    for implementation in ("eager", "sdpa"):
        encoder.set_attn_implementation(implementation)
        with torch.no_grad():
            outputs.append(encoder(inputs).last_hidden_state)
    torch.testing.assert_close(*outputs, atol=1e-4, rtol=0)


def test_average_and_rollout_keep_rows_that_sum_to_one(maps):
    np.testing.assert_allclose(attention.average_map(maps).sum(axis=-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(attention.average_map(maps, layers=[-1]), maps[-1].mean(axis=(0, 1)))
    np.testing.assert_allclose(attention.rollout(maps).sum(axis=-1), 1.0, atol=1e-5)


def test_rollout_of_identity_attention_is_the_identity():
    identity = np.eye(5)[None, None].repeat(2, axis=1)
    np.testing.assert_allclose(attention.rollout([identity] * 3)[0], np.eye(5))
    first, second = softmax(np.random.default_rng(0), 1, 1, 4, 4), softmax(np.random.default_rng(1), 1, 1, 4, 4)
    expected = second[0, 0] @ first[0, 0]  # the last layer reads what the first one wrote
    np.testing.assert_allclose(attention.rollout([first, second], residual=0.0)[0], expected)


def test_min_max_spans_zero_to_one():
    scaled = attention.min_max([[2.0, 4.0], [3.0, 2.0]])
    assert scaled.min() == 0.0
    assert scaled.max() == 1.0
    assert (attention.min_max(np.ones((2, 2))) == 0).all()


def test_grid_leaves_separators_out(model):
    leads, patches = model.config.num_leads, model.config.seq_len // model.config.patch_size
    width = patches + 2
    numbers = np.arange(leads * width)
    full = numbers[:, None] * 10_000.0 + numbers
    grid = attention.on_grid(model, full, leads)
    assert grid.shape == (leads, patches, leads, patches)
    looking, looked_at = (1 * width + 1 + 2), (3 * width + 1 + 0)
    assert grid[1, 2, 3, 0] == looking * 10_000 + looked_at


def test_model_without_lead_tokens_is_named():
    class WithoutLeads:
        @property
        def base_model(self):
            return self

        def tokens_by_lead(self, tokens, num_leads):
            return None

    with pytest.raises(ValueError, match="WithoutLeads"):
        attention.on_grid(WithoutLeads(), np.eye(4), 2)


def test_summaries_by_lead_and_by_time_sum_to_one():
    grid = softmax(np.random.default_rng(0), 3 * 4, 3 * 4).reshape(3, 4, 3, 4)
    for summary, size in ((attention.lead_by_lead(grid), 3), (attention.time_by_time(grid), 4)):
        assert summary.shape == (size, size)
        np.testing.assert_allclose(summary.sum(axis=1), 1.0)
    only_same_lead = np.einsum("ab,ij->aibj", np.eye(3), np.ones((4, 4)))
    np.testing.assert_array_equal(attention.lead_by_lead(only_same_lead), np.eye(3))


def test_summary_of_uniform_attention_is_that_of_counting():
    leads, patches = 3, 4
    summary = attention.attention_summary(np.ones((leads, patches, leads, patches)), 0.5, [True, False, False, False])
    assert summary["itself"] == pytest.approx(1 / 12)
    assert summary["same_lead"] == pytest.approx(3 / 12)
    assert summary["same_time"] == pytest.approx(2 / 12)
    assert summary["other"] == pytest.approx(6 / 12)
    assert summary["on_qrs"] == pytest.approx(1 / 4)
    assert summary["mean_distance_s"] == pytest.approx(0.5 * 20 / 16)  # sum of |i - j| over 4 x 4 is 20
    assert summary["uniform"] == {key: value for key, value in summary.items() if key != "uniform"}


def test_pictures_are_small_files(maps, model, tmp_path):
    names = model.config.lead_names or [str(index) for index in range(model.config.num_leads)]
    whole = attention.plot_attention_map(attention.average_map(maps), lead_names=names)
    grid = attention.on_grid(model, attention.average_map(maps), len(names))
    summary = attention.plot_lead_attention(grid, names, patch_seconds=0.3)
    for name, figure in (("map.png", whole), ("leads.png", summary)):
        assert save_figure(figure, tmp_path / name).stat().st_size < 2_000_000
