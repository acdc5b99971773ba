"""From tokens to one vector per record, and the heads that stand on it: classification, contrastive projection."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

STATISTICS = {
    "mean": lambda tokens: tokens.mean(dim=1),
    "max": lambda tokens: tokens.amax(dim=1),
    "last": lambda tokens: tokens[:, -1],
}


def time_statistics(tokens: Tensor, names: Sequence[str]) -> Tensor:
    """`(B, T, D)` to `(B, len(names) · D)`: the named statistics ("mean", "max", "last") over time, side by side."""
    return torch.cat([STATISTICS[name](tokens) for name in names], dim=-1)


class AttentionPooling(nn.Module):
    """One learned query attends to all tokens: `(B, N, D)` to `(B, D)`.

    Args:
        hidden_size: width of the tokens.
        num_heads: heads of the attention.
    """

    def __init__(self, hidden_size: int, num_heads: int = 1) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.attention = nn.MultiheadAttention(hidden_size, num_heads, batch_first=True)
        nn.init.normal_(self.query, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.query.expand(tokens.shape[0], -1, -1)
        pooled, _ = self.attention(query, tokens, tokens, need_weights=False)
        return pooled[:, 0]


def mean_of_nonzero(tokens: Tensor) -> Tensor:
    """Sum of `(B, N, D)` over tokens, divided feature by feature by the number of values that are not exactly zero.

    The mean over valid tokens where padded ones were set to zero (fairseq's classifiers pool so); zero where all are.
    """
    return tokens.sum(dim=1) / (tokens != 0).sum(dim=1).clamp(min=1)


class NormedHead(nn.Module):
    """Batch norm, dropout and a linear map, repeated over the hidden sizes with ReLU in between: `(B, D)` to `(B, C)`.

    The last dropout has probability `dropout`, the earlier ones half of it. With no hidden sizes it is one such step.
    """

    def __init__(self, in_dim: int, hidden_sizes: Sequence[int], num_labels: int, dropout: float = 0.5) -> None:
        super().__init__()
        widths = [in_dim, *hidden_sizes, num_labels]
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in widths[:-1])
        self.linears = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.dropouts = nn.ModuleList(nn.Dropout(dropout / 2) for _ in hidden_sizes)
        self.dropouts.append(nn.Dropout(dropout))

    def forward(self, features: Tensor) -> Tensor:
        for index, (norm, dropout, linear) in enumerate(zip(self.norms, self.dropouts, self.linears)):
            if index:
                features = torch.relu(features)
            features = linear(dropout(norm(features)))
        return features


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
