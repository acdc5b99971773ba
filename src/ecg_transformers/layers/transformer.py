"""The pre-norm transformer block that all attention methods share, and stochastic depth."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ecg_transformers.layers.attention import AttentionFunction, SelfAttention


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The linear ramp from 0 (first block) to `rate` (last block)."""
    return [rate * index / max(depth - 1, 1) for index in range(depth)]


class DropPath(nn.Module):
    """Stochastic depth: a residual branch is dropped per sample, kept branches are divided by the keep probability."""

    def __init__(self, rate: float = 0.0) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if self.rate == 0.0 or not self.training:
            return branch
        return self.apply_keep(branch, self.draw(branch))

    def draw(self, branch: Tensor) -> Tensor:
        """One Bernoulli draw per sample from the global generator, shape `(B, 1, …)`."""
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        return branch.new_empty(shape).bernoulli_(1.0 - self.rate)

    def apply_keep(self, branch: Tensor, keep: Tensor) -> Tensor:
        return branch * (keep / (1.0 - self.rate))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class LayerScale(nn.Module):
    """One learned factor a feature on a residual branch, all of them `initial` at first."""

    def __init__(self, hidden_size: int, initial: float) -> None:
        super().__init__()
        self.initial = initial
        self.weight = nn.Parameter(torch.full((hidden_size,), float(initial)))

    def forward(self, branch: Tensor) -> Tensor:
        return branch * self.weight


class TransformerBlock(nn.Module):
    """`x + DropPath(attention(norm(x)))`, then `x + DropPath(mlp(norm(x)))`, with exact GELU.

    Args:
        hidden_size, num_heads, head_dim, qkv_bias, output_projection, attention_dropout, select_attention: see
            `SelfAttention`.
        intermediate_size: hidden width of the MLP.
        layer_norm_eps: of both norms.
        dropout: after the attention's output, after GELU and after the MLP's output.
        drop_path: rate of stochastic depth of both branches (independent draws).
        bias: biases of the norms, of the attention's output and of the MLP.
        layer_scale: initial value of a learned factor a feature on both branches; None has no such factors.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        intermediate_size: int,
        head_dim: int | None = None,
        layer_norm_eps: float = 1e-5,
        qkv_bias: bool = True,
        output_projection: bool | str = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        select_attention: Callable[[], AttentionFunction] | None = None,
        bias: bool = True,
        layer_scale: float | None = None,
    ) -> None:
        super().__init__()
        self.layernorm_before = nn.LayerNorm(hidden_size, eps=layer_norm_eps, bias=bias)
        self.attention = SelfAttention(
            hidden_size,
            num_heads,
            head_dim,
            qkv_bias,
            output_projection,
            dropout,
            attention_dropout,
            select_attention,
            output_bias=bias,
        )
        self.layernorm_after = nn.LayerNorm(hidden_size, eps=layer_norm_eps, bias=bias)
        self.intermediate = nn.Linear(hidden_size, intermediate_size, bias=bias)
        self.activation = nn.GELU()
        self.output = nn.Linear(intermediate_size, hidden_size, bias=bias)
        self.dropout = nn.Dropout(dropout)
        self.drop_path = DropPath(drop_path)
        scaled = layer_scale is not None
        self.attention_scale = LayerScale(hidden_size, layer_scale or 0.0) if scaled else nn.Identity()
        self.output_scale = LayerScale(hidden_size, layer_scale or 0.0) if scaled else nn.Identity()

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        attended, _ = self.attention(self.layernorm_before(hidden_states), attention_mask, **kwargs)
        hidden_states = hidden_states + self.drop_path(self.attention_scale(attended))
        inner = self.dropout(self.activation(self.intermediate(self.layernorm_after(hidden_states))))
        return hidden_states + self.drop_path(self.output_scale(self.dropout(self.output(inner))))


def xavier_qkv_(attention: SelfAttention) -> None:
    """Xavier-uniform as for one packed `(3 · inner, D)` matrix, which the published code initialises as a whole."""
    fan_in = attention.query.in_features
    bound = (6.0 / (fan_in + 3 * attention.query.out_features)) ** 0.5
    for projection in (attention.query, attention.key, attention.value):
        torch.nn.init.uniform_(projection.weight, -bound, bound)
