"""Heads of contrastive methods, and figures that tell whether their embeddings collapse."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ProjectionMLP(nn.Sequential):
    """Linear maps without bias, each but the last followed by batch norm and ReLU: `(B, in_dim)` to `(B, out_dim)`.

    The projector and predictor of MoCo v3 (Chen, Xie and He, ICCV 2021).

    Args:
        in_dim, hidden_dim, out_dim: widths.
        num_layers: linear maps.
        last_norm: batch norm without affine parameters at the end.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, num_layers: int, last_norm: bool = True) -> None:
        if num_layers < 1:
            raise ValueError(f"a projection needs at least one layer, got {num_layers}")
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(widths)):
            layers.append(nn.Linear(before, after, bias=False))
            if index < num_layers - 1:
                layers += [nn.BatchNorm1d(after), nn.ReLU()]
            elif last_norm:
                layers.append(nn.BatchNorm1d(after, affine=False))
        super().__init__(*layers)


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of positive pairs on the unit sphere, 0 to 4 (Wang and Isola, ICML 2020).

    `first` and `second` are `(N, D)`; row i of one belongs to row i of the other.
    """
    first, second = F.normalize(first.float(), dim=1), F.normalize(second.float(), dim=1)
    return (first - second).square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(embeddings: Tensor) -> Tensor:
    """Log of the mean Gaussian potential of all pairs on the unit sphere, `(N, D)` to a scalar in [-8, 0].

    0 when all embeddings are one point; the lower, the more evenly they lie (Wang and Isola, ICML 2020).
    """
    unit = F.normalize(embeddings.float(), dim=1)
    return torch.pdist(unit).square().mul(-2).exp().mean().log()


@torch.no_grad()
def relative_spread(embeddings: Tensor) -> Tensor:
    """Mean standard deviation of the dimensions of unit embeddings `(N, D)`, times √D: about 1; 0 when collapsed."""
    unit = F.normalize(embeddings.float(), dim=1)
    return unit.std(dim=0, correction=0).mean() * unit.shape[1] ** 0.5


@torch.no_grad()
def matching_accuracy(first: Tensor, second: Tensor) -> Tensor:
    """Share of rows of `first (N, D)` whose most similar row of `second` is their own."""
    cosines = F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T
    own = torch.arange(len(first), device=first.device)
    return (cosines.argmax(dim=1) == own).float().mean()
