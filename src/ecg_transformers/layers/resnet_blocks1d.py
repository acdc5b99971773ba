"""The plain residual blocks of ResNet, in one dimension: basic and bottleneck (He et al., CVPR 2016)."""

import torch
from torch import Tensor, nn


def conv_norm(in_dim: int, out_dim: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution without bias that keeps `ceil(T / stride)` samples (odd kernels), and a batch norm."""
    conv = nn.Conv1d(in_dim, out_dim, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm1d(out_dim))


class ResNetBlock1d(nn.Module):
    """`(B, in_dim, T)` to `(B, dim · expansion, ceil(T / stride))`.

    `expansion` 1: two convolutions of three samples; otherwise a bottleneck of 1, 3, 1. The shortcut is a convolution
    of one sample with batch norm where length or width change. ReLU after every norm but the last, and after the sum.
    """

    def __init__(self, in_dim: int, dim: int, stride: int = 1, expansion: int = 1) -> None:
        super().__init__()
        out_dim = dim * expansion
        if expansion == 1:
            layers = [conv_norm(in_dim, dim, 3, stride), conv_norm(dim, dim, 3)]
        else:
            layers = [conv_norm(in_dim, dim, 1), conv_norm(dim, dim, 3, stride), conv_norm(dim, out_dim, 1)]
        self.path = nn.ModuleList(layers)
        self.shortcut = conv_norm(in_dim, out_dim, 1, stride) if stride != 1 or in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for index, layer in enumerate(self.path):
            hidden = layer(torch.relu(hidden) if index else hidden)
        return torch.relu(hidden + self.shortcut(x))
