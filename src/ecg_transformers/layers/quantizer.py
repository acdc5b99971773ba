"""A product quantiser with Gumbel noise (wav2vec 2.0, Baevski et al., NeurIPS 2020, section 2)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Codes:
    """What a quantiser chose.

    Attributes:
        vectors: `(N, D)`, the chosen code vectors, the groups side by side.
        prob_perplexity: number of codes in use by the mean probabilities, summed over groups.
        code_perplexity: the same by the codes that were chosen without noise.
    """

    vectors: Tensor
    prob_perplexity: Tensor
    code_perplexity: Tensor


class GumbelQuantizer(nn.Module):
    """One of `num_codes` code vectors in each group: the most probable one, in training that with Gumbel noise.

    The gradient of the choice is that of the softmax (straight-through).

    Args:
        in_features: width of the input.
        num_codes: codes of a group.
        num_groups: groups.
        code_dim: width of the result, all groups together.
    """

    def __init__(self, in_features: int, num_codes: int, num_groups: int, code_dim: int) -> None:
        super().__init__()
        self.num_codes, self.num_groups = num_codes, num_groups
        self.vars = nn.Parameter(torch.zeros(1, num_groups * num_codes, code_dim // num_groups))
        self.weight_proj = nn.Linear(in_features, num_groups * num_codes)

    def forward(self, features: Tensor, temperature: float, noise: Tensor | None = None) -> Codes:
        """`(N, in_features)` to codes; `noise (N · groups, codes)` is Gumbel noise, None chooses without."""
        logits = self.weight_proj(features).float().view(-1, self.num_codes)  # (N · groups, codes)
        hard = torch.zeros_like(logits).scatter(1, logits.argmax(dim=1, keepdim=True), 1.0)
        chosen = hard
        if noise is not None:
            soft = ((logits + noise) / temperature).softmax(dim=1)
            noisy = torch.zeros_like(logits).scatter(1, soft.argmax(dim=1, keepdim=True), 1.0)
            chosen = noisy - soft.detach() + soft
        tables = self.vars.view(self.num_groups, self.num_codes, -1)
        vectors = torch.einsum(
            "ngv,gvd->ngd", chosen.view(-1, self.num_groups, self.num_codes).to(tables.dtype), tables
        )
        return Codes(vectors.flatten(1), self._perplexity(logits.softmax(dim=1)), self._perplexity(hard))

    def _perplexity(self, probabilities: Tensor) -> Tensor:
        mean = probabilities.view(-1, self.num_groups, self.num_codes).mean(dim=0)  # (groups, codes)
        return torch.exp(-(mean * torch.log(mean + 1e-7)).sum(dim=1)).sum()
