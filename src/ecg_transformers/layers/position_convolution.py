"""Positions from a grouped convolution over tokens (wav2vec 2.0 and HuBERT), with its weight normalised."""

import torch
from torch import Tensor, nn


class WeightNormedConv1d(nn.Module):
    """A convolution whose weight is `gain · direction / ||direction||`, one gain for each place of the kernel.

    The norm is taken over output and input features together. Raw parameters instead of torch's parametrisation, which
    cannot be pickled.
    """

    def __init__(self, features: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.groups, self.padding = groups, kernel_size // 2
        self.gain = nn.Parameter(torch.ones(1, 1, kernel_size))
        self.direction = nn.Parameter(torch.empty(features, features // groups, kernel_size))
        self.bias = nn.Parameter(torch.zeros(features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Direction normal with variance 4 / (kernel · features), the gain its norm, no bias."""
        features, _, kernel_size = self.direction.shape
        nn.init.normal_(self.direction, std=2 * (kernel_size * features) ** -0.5)
        self.gain.copy_(self.norm())
        nn.init.zeros_(self.bias)

    def norm(self) -> Tensor:
        """Norm of the direction at each place, `(1, 1, kernel)`."""
        return torch.linalg.vector_norm(self.direction, dim=(0, 1), keepdim=True)

    def forward(self, signal: Tensor) -> Tensor:
        weight = self.direction * (self.gain / self.norm())
        return nn.functional.conv1d(signal, weight, self.bias, padding=self.padding, groups=self.groups)


class PositionConvolution(nn.Module):
    """`GELU(conv(tokens))`, as many tokens as came in: `(B, n, D)` to `(B, n, D)`.

    The padding is half the kernel on both sides; of an even kernel's `n + 1` outputs the last one is dropped.
    """

    def __init__(self, features: int, kernel_size: int, groups: int) -> None:
        super().__init__()
        self.conv = WeightNormedConv1d(features, kernel_size, groups)

    def forward(self, tokens: Tensor) -> Tensor:
        convolved = self.conv(tokens.transpose(1, 2))[..., : tokens.shape[1]]
        return nn.functional.gelu(convolved).transpose(1, 2)
