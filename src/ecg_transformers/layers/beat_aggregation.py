"""From the vectors of a record's beats to one vector, and the share of each beat in it."""

import torch
from torch import Tensor, nn


class BeatAggregation(nn.Module):
    """A weighted mean of the valid beats, then LayerNorm.

    A record without a valid beat gets a learned vector, and weights 0.

    Args:
        hidden_size: width of the vectors.
        kind: "attention" (`score = v · tanh(W h + b)`, softmax over the valid beats), "mean", or "max" (largest value
            of each feature; the weight of a beat is the share of features it wins).
        layer_norm_eps: of the final norm.
    """

    def __init__(self, hidden_size: int, kind: str = "attention", layer_norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.hidden = nn.Linear(hidden_size, hidden_size)
            self.score = nn.Linear(hidden_size, 1, bias=False)
        self.no_beat = nn.Parameter(torch.zeros(hidden_size))
        self.layernorm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)

    def forward(self, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, N, D)` and `(B, N)` bool to `(B, D)` and weights `(B, N)`: at least 0, sum 1, exactly 0 on padding."""
        pooled, weights = self._maximum(hidden, valid) if self.kind == "max" else self._mean(hidden, valid)
        some = valid.any(dim=1, keepdim=True)
        return self.layernorm(torch.where(some, pooled, self.no_beat.to(pooled.dtype))), weights

    def _mean(self, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "attention":
            scores = self.score(self.hidden(hidden).tanh())[..., 0]
        else:
            scores = hidden.new_zeros(hidden.shape[:2])
        scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=1) * valid.to(hidden.dtype)
        return (weights[..., None] * hidden).sum(dim=1), weights

    def _maximum(self, hidden: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        values, winners = hidden.masked_fill(~valid[..., None], torch.finfo(hidden.dtype).min).max(dim=1)
        wins = nn.functional.one_hot(winners, hidden.shape[1]).to(hidden.dtype).mean(dim=1)
        return values, wins * valid.to(hidden.dtype)
