"""Summaries of a token sequence and the batch-normed classification head of convolutional ECG networks."""

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
