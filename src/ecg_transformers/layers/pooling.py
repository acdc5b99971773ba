"""From tokens to one vector per record."""

import torch
from torch import Tensor, nn


class AttentionPooling(nn.Module):
    """One learned query attends to all tokens: `(B, N, D)` to `(B, D)`, the attention probe of frozen evaluations.

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


def masked_token_mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Mean of `(B, N, D)` over the tokens where `valid (B, N)` is true; zeros where a record has none."""
    weight = valid.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)


def mean_of_nonzero(tokens: Tensor) -> Tensor:
    """Sum of `(B, N, D)` over tokens, divided feature by feature by the number of values that are not exactly zero.

    The mean over valid tokens where padded ones were set to zero (fairseq's classifiers pool so); zero where all are.
    """
    return tokens.sum(dim=1) / (tokens != 0).sum(dim=1).clamp(min=1)
