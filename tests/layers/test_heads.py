"""Projection heads and the figures that show a collapse."""

import pytest
import torch
from torch import nn

from ecg_transformers.layers.collapse import alignment, matching_accuracy, rank_me, relative_spread, uniformity
from ecg_transformers.layers.heads import ProjectionMLP


def test_projector_has_the_published_layers():
    head = ProjectionMLP(8, 16, 4, num_layers=3)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear, nn.BatchNorm1d]
    assert [type(layer) for layer in head] == kinds
    assert all(layer.bias is None for layer in head if isinstance(layer, nn.Linear))
    assert [layer.affine for layer in head if isinstance(layer, nn.BatchNorm1d)] == [True, True, False]


def test_last_norm_can_be_left_out():
    assert isinstance(ProjectionMLP(8, 16, 4, num_layers=2, last_norm=False)[-1], nn.Linear)


def test_a_head_without_layers_is_refused():
    with pytest.raises(ValueError, match="at least one layer"):
        ProjectionMLP(8, 16, 4, num_layers=0)


def test_normed_embeddings_have_unit_spread_in_training():
    torch.manual_seed(0)
    embedded = ProjectionMLP(8, 16, 4, num_layers=2)(torch.randn(64, 8))
    torch.testing.assert_close(embedded.var(dim=0, correction=0), torch.ones(4), atol=1e-3, rtol=0)


def test_figures_of_collapsed_and_of_spread_embeddings():
    generator = torch.Generator().manual_seed(0)
    spread, point = torch.randn(200, 16, generator=generator), torch.ones(200, 16)
    assert uniformity(point) == 0
    assert uniformity(spread) < -3
    assert relative_spread(point) < 1e-6
    assert relative_spread(spread) == pytest.approx(1.0, abs=0.05)
    assert alignment(spread, 3 * spread) < 1e-10
    assert alignment(spread, -spread) == pytest.approx(4.0)
    assert matching_accuracy(spread, spread) == 1
    assert matching_accuracy(spread, spread.roll(1, 0)) == 0


def test_rank_me_counts_the_dimensions_that_embeddings_use():
    generator = torch.Generator().manual_seed(0)
    full = torch.linalg.qr(torch.randn(64, 16, generator=generator)).Q
    assert rank_me(full) == pytest.approx(16)
    assert rank_me(torch.randn(64, 1, generator=generator) @ torch.ones(1, 16)) == pytest.approx(1, abs=0.01)
    assert rank_me(full[:, :4] @ torch.linalg.qr(torch.randn(16, 4, generator=generator)).Q.T) == pytest.approx(
        4, abs=0.01
    )
    assert torch.isnan(rank_me(torch.full((4, 4), torch.nan)))
