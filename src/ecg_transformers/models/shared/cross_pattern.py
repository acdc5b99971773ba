"""Cross-Pattern Attention as an attention implementation: `attn_implementation="cross_pattern"`.

Any model whose tokens are a lead-by-time grid and whose layers hand `num_leads` to their attention can use it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from ecg_transformers.layers.cross_pattern_attention import cross_pattern_attention, dense_cross_pattern_attention

NAME = "cross_pattern"


def cross_pattern_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    num_leads: int | None = None,
    cross_pattern_implementation: str = "auto",
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The fastest exact form; it has no weights to return.

    Raises:
        ValueError: when the model does not say how many leads its tokens have.
    """
    output = cross_pattern_attention(
        query,
        key,
        value,
        _require_leads(module, num_leads),
        implementation=cross_pattern_implementation,
        scale=scaling,
        attention_mask=_as_bool(attention_mask),
        dropout_p=dropout,
    )
    return output.transpose(1, 2).contiguous(), None


def eager_cross_pattern_attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    num_leads: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """The published form with all scores; returns its weights `(B, heads, N, N)`, exactly 0 outside the pattern."""
    output, weights = dense_cross_pattern_attention(
        query, key, value, _require_leads(module, num_leads), scaling, _as_bool(attention_mask), dropout
    )
    return output.transpose(1, 2).contiguous(), weights


def _require_leads(module: nn.Module, num_leads: int | None) -> int:
    if num_leads is None:
        raise ValueError(
            f'{type(module).__name__} was called without num_leads: attn_implementation="{NAME}" needs tokens that '
            "form a grid of leads and times, and a model that says how many leads there are."
        )
    return num_leads


def _as_bool(attention_mask: Tensor | None) -> Tensor | None:
    """A mask of additive scores, as transformers builds for eager attention, to True = allowed."""
    if attention_mask is None or attention_mask.dtype == torch.bool:
        return attention_mask
    return attention_mask > torch.finfo(attention_mask.dtype).min / 2


AttentionInterface.register(NAME, cross_pattern_attention_forward)
