"""One-dimensional residual networks with the "xresnet" refinements: a stem of small convolutions, average pooling in
strided shortcuts, and a last batch norm that starts at zero so that every block starts as its shortcut.

Source: He et al., "Bag of Tricks for Image Classification with Convolutional Neural Networks", CVPR 2019, in the
one-dimensional form of Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class ZeroBatchNorm1d(nn.BatchNorm1d):
    """A batch norm whose scale starts at zero (a class of its own, so that initialisation recognises it)."""

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.zeros_(self.weight)


class ConvNorm1d(nn.Module):
    """`Conv1d` without bias and padded to keep the length, batch norm (its scale starting at zero with `zero_scale`),
    and a ReLU unless `activation=False`."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        kernel_size: int,
        stride: int = 1,
        *,
        activation: bool = True,
        zero_scale: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, out_dim, kernel_size, stride, padding=(kernel_size - 1) // 2, bias=False)
        self.norm = ZeroBatchNorm1d(out_dim) if zero_scale else nn.BatchNorm1d(out_dim)
        self.activation = nn.ReLU() if activation else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class XResNetBlock1d(nn.Module):
    """Residual block `(B, in_dim, T) -> (B, dim · expansion, ceil(T / stride))`.

    `expansion` 1: two convolutions of `kernel_size`; otherwise a bottleneck of 1, `kernel_size`, 1. The shortcut
    averages pairs of samples when strided and changes the width by a 1-wide convolution when the widths differ.
    """

    def __init__(self, in_dim: int, dim: int, kernel_size: int, stride: int = 1, expansion: int = 1) -> None:
        super().__init__()
        out_dim = dim * expansion
        if expansion == 1:
            layers = [
                ConvNorm1d(in_dim, dim, kernel_size, stride),
                ConvNorm1d(dim, out_dim, kernel_size, activation=False, zero_scale=True),
            ]
        else:
            layers = [
                ConvNorm1d(in_dim, dim, 1),
                ConvNorm1d(dim, dim, kernel_size, stride),
                ConvNorm1d(dim, out_dim, 1, activation=False, zero_scale=True),
            ]
        self.path = nn.Sequential(*layers)
        # A part of the last sample pair is kept (ceil), as a padded strided convolution keeps it.
        self.pool = nn.AvgPool1d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.shortcut = ConvNorm1d(in_dim, out_dim, 1, activation=False) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.path(x) + self.shortcut(self.pool(x)))


class XResNetStem1d(nn.Sequential):
    """Small convolutions, the first of stride 2, then max-pooling by 2: `(B, in_dim, T) -> (B, dims[-1], ~T / 4)`."""

    def __init__(self, in_dim: int, dims: Sequence[int], kernel_size: int) -> None:
        convolutions = [
            ConvNorm1d(before, after, kernel_size, stride=2 if index == 0 else 1)
            for index, (before, after) in enumerate(pairwise([in_dim, *dims]))
        ]
        super().__init__(*convolutions, nn.MaxPool1d(kernel_size=3, stride=2, padding=1))


class XResNetStage1d(nn.Sequential):
    """`depth` blocks of inner width `dim`; the first one changes the width and has the stage's stride."""

    def __init__(
        self, in_dim: int, dim: int, depth: int, kernel_size: int, *, stride: int = 1, expansion: int = 1
    ) -> None:
        first = XResNetBlock1d(in_dim, dim, kernel_size, stride, expansion)
        rest = [XResNetBlock1d(dim * expansion, dim, kernel_size, 1, expansion) for _ in range(depth - 1)]
        super().__init__(first, *rest)
