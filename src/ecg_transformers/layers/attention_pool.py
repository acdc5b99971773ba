"""Attention pooling by a class token that stands in front of the tokens, with learned positions."""

import torch
from torch import Tensor, nn


class ClassTokenAttentionPool(nn.Module):
    """One query, a learned class token, attends to itself and to all tokens: `(B, n, D)` to `(B, D)`.

    Keys and values are the class token and the tokens with learned positions; the class token gets its position twice,
    as in the published code (Liu et al., MERL, ICML 2024).

    Args:
        dim: width of the tokens.
        num_positions: tokens it is built for, the class token included; every other number is refused.
        num_heads: attention heads.
    """

    def __init__(self, dim: int, num_positions: int, num_heads: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, num_positions, dim))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.attention = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.output = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled `(B, D)`, and the weights of the tokens `(B, 1, n)`, mean over heads, class token left out.

        Raises:
            ValueError: another number of tokens than there are positions for.
        """
        count = self.positions.shape[1]
        if tokens.shape[1] + 1 != count:
            raise ValueError(
                f"The attention pool was built for {count - 1} tokens, the input has {tokens.shape[1]}: its learned "
                "positions fit one length only."
            )
        cls_token = (self.cls_token + self.positions[:, :1]).expand(tokens.shape[0], -1, -1)
        sequence = torch.cat([cls_token, tokens], dim=1) + self.positions  # (B, n + 1, D)
        pooled, weights = self.attention(sequence[:, :1], sequence, sequence, need_weights=True)
        return self.output(pooled)[:, 0], weights[:, :, 1:]
