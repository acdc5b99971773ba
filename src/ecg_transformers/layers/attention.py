"""Multi-head self-attention whose inner function is chosen from outside.

The function gets `(module, query, key, value, attention_mask, scaling=…, dropout=…, **kwargs)` with
`(B, heads, N, head_dim)` tensors and returns `(output (B, N, heads, head_dim), weights or None)`: the signature of
transformers' attention interface, so its kernels fit without this file knowing of them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

AttentionFunction = Callable[..., tuple[Tensor, Tensor | None]]


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """Plain attention that returns its weights `(B, heads, N, N)`. A bool mask is True where attention is allowed."""
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = torch.matmul(query, key.transpose(-1, -2)) * scaling
    if attention_mask is not None:
        if attention_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
        else:
            scores = scores + attention_mask
    weights = scores.softmax(dim=-1)
    dropped = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(dropped, value).transpose(1, 2).contiguous(), weights


def sdpa_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """torch's fused attention; it has no weights to return."""
    output = nn.functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=dropout if module.training else 0.0,
        scale=scaling,
    )
    return output.transpose(1, 2).contiguous(), None


class KeyProjection(nn.Linear):
    """A linear layer whose bias has gradient zero, exactly.

    Softmax does not see a bias of the keys (it adds the same number to all scores of a query), so its gradient is zero in
    exact arithmetic. In floating point it is rounding noise, which Adam divides by its own size into full steps: two
    otherwise equal runs then drift apart in a parameter that means nothing.
    """

    def forward(self, hidden_states: Tensor) -> Tensor:
        bias = self.bias if self.bias is None else self.bias.detach() + 0.0 * self.bias
        return nn.functional.linear(hidden_states, self.weight, bias)


class SelfAttention(nn.Module):
    """Self-attention with separate query, key and value projections.

    Args:
        hidden_size: width of the tokens.
        num_heads: number of heads.
        head_dim: width of a head; `hidden_size / num_heads` when not given. The inner width is `num_heads · head_dim`.
        qkv_bias: bias of the three projections.
        output_bias: bias of the output projection.
        output_projection: True, False, or "auto": absent when one head is as wide as the tokens (the published code).
        dropout: after the output projection.
        attention_dropout: on the attention weights.
        select_attention: called on every forward, returns the attention function; SDPA when not given.
    """

    is_causal = False

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        head_dim: int | None = None,
        qkv_bias: bool = True,
        output_projection: bool | str = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        select_attention: Callable[[], AttentionFunction] | None = None,
        output_bias: bool = True,
    ) -> None:
        super().__init__()
        if head_dim is None and hidden_size % num_heads:
            raise ValueError(f"The width {hidden_size} is not divisible by {num_heads} attention heads.")
        self.num_heads = num_heads
        self.head_dim = head_dim or hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = attention_dropout
        self.select_attention = select_attention
        inner = num_heads * self.head_dim
        self.query = nn.Linear(hidden_size, inner, bias=qkv_bias)
        self.key = KeyProjection(hidden_size, inner, bias=qkv_bias)
        self.value = nn.Linear(hidden_size, inner, bias=qkv_bias)
        if output_projection == "auto":
            output_projection = not (num_heads == 1 and inner == hidden_size)
        self.output = nn.Linear(inner, hidden_size, bias=output_bias) if output_projection else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None]:
        """`(B, N, D)` to `((B, N, D), weights (B, heads, N, N) or None)`; further arguments go to the function."""
        batch, num_tokens, _ = hidden_states.shape
        heads = (batch, num_tokens, self.num_heads, self.head_dim)
        query, key, value = (
            projection(hidden_states).view(heads).transpose(1, 2) for projection in (self.query, self.key, self.value)
        )
        attend = self.select_attention() if self.select_attention is not None else sdpa_attention
        mixed, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            scaling=self.scaling,
            dropout=self.attention_dropout if self.training else 0.0,
            **kwargs,
        )
        return self.dropout(self.output(mixed.flatten(2))), weights
