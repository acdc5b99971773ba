"""Net1D: a residual network of grouped one-dimensional convolutions with squeeze-and-excitation.

Source: the network of ECGFounder (Li et al., "An Electrocardiogram Foundation Model Built on over 10 Million Recordings",
arXiv 2410.04133).
"""

import torch
from torch import Tensor, nn

STRIDE = 2


class SameConv1d(nn.Conv1d):
    """A convolution with bias that gives `ceil(T / stride)` samples.

    Of the zeros that this takes the smaller half stands in front. How many they are depends on the length for odd
    kernels; for even ones a fixed padding gives the same result for strides 1 and 2.
    """

    def __init__(self, in_dim: int, out_dim: int, kernel_size: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_dim, out_dim, kernel_size, stride, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        zeros = kernel - 1
        if kernel % 2 and stride > 1:
            length = x.shape[-1]
            zeros = max(0, (-(-length // stride) - 1) * stride + kernel - length)
        if zeros:
            x = nn.functional.pad(x, (zeros // 2, zeros - zeros // 2))
        return super().forward(x)


class SqueezeExcitation1d(nn.Module):
    """One factor in (0, 1) for each feature, from its mean over time: `(B, C, T)` to `(B, C, 1)`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(dim, dim // 2)
        self.excite = nn.Linear(dim // 2, dim)

    def forward(self, x: Tensor) -> Tensor:
        inner = nn.functional.silu(self.squeeze(x.mean(dim=-1)))
        return torch.sigmoid(self.excite(inner)).unsqueeze(-1)


class Activation1d(nn.Module):
    """[Batch norm,] swish, dropout: what stands before each convolution of a block."""

    def __init__(self, dim: int, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(dim) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(nn.functional.silu(self.norm(x)))


class Net1DBlock(nn.Module):
    """Residual block `(B, in_dim, T)` to `(B, dim, T)`, or to `ceil(T / 2)` samples with `strided`.

    Args:
        in_dim, inner_dim, dim: widths of input, of the grouped convolution, and of the result.
        kernel_size, num_groups: of the middle convolution; the outer two are one sample wide.
        activate_input: False for the first block of a network, whose input comes activated from the stem.
        batch_norm, dropout: see `Activation1d`.
    """

    def __init__(
        self,
        in_dim: int,
        inner_dim: int,
        dim: int,
        kernel_size: int,
        num_groups: int,
        strided: bool,
        activate_input: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.strided = strided
        self.front_features = (dim - in_dim) // 2
        self.back_features = dim - in_dim - self.front_features
        self.activation1 = Activation1d(in_dim, batch_norm, dropout) if activate_input else nn.Identity()
        self.conv1 = SameConv1d(in_dim, inner_dim, 1)
        self.activation2 = Activation1d(inner_dim, batch_norm, dropout)
        self.conv2 = SameConv1d(inner_dim, inner_dim, kernel_size, STRIDE if strided else 1, num_groups)
        self.activation3 = Activation1d(inner_dim, batch_norm, dropout)
        self.conv3 = SameConv1d(inner_dim, dim, 1)
        self.gate = SqueezeExcitation1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(self.activation1(x))  # (B, inner, T)
        hidden = self.conv2(self.activation2(hidden))  # (B, inner, T or ceil(T / 2))
        hidden = self.conv3(self.activation3(hidden))  # (B, dim, …)
        return hidden * self.gate(hidden) + self.shortcut(x)

    def shortcut(self, x: Tensor) -> Tensor:
        """The input at the result's shape: the larger of every two samples, and features of zeros on both sides."""
        if self.strided:
            # published: a true zero stands behind the last sample, so the last pair of an odd length is clamped at zero
            x = nn.functional.max_pool1d(nn.functional.pad(x, (0, STRIDE - 1)), STRIDE, STRIDE)
        if self.front_features or self.back_features:
            x = nn.functional.pad(x, (0, 0, self.front_features, self.back_features))
        return x
