"""Figures that show a collapse which neither the loss nor the deviation of features shows.

Positions are added before every block, so a network can predict them alone: the loss falls, features of different
positions differ as before, and nothing of the record is left in them.
"""

import torch
from torch import Tensor


@torch.no_grad()
def collapse_figures(tokens: Tensor, positions: Tensor) -> dict[str, float]:
    """How much of the record is in the tokens of a batch.

    Args:
        tokens: `(B, K, D)` target tokens.
        positions: `(K,)` or `(B, K)` integers that name the lead and time of a token.

    Returns:
        `content`: share of the tokens' variance that is left after the mean token of each position is taken away (0:
        the tokens are their positions; left out for a single record); `token_effective_rank`:
        exp(entropy of the normalised squared singular values) of the centred tokens; `mean_pairwise_cosine` of all
        tokens (1: they all point the same way). Nothing for tokens that are not finite.
    """
    batch, count, dim = tokens.shape
    flat = tokens.detach().float().reshape(-1, dim)
    if not bool(flat.isfinite().all()):
        return {}
    groups = positions.expand(batch, count).reshape(-1).to(flat.device)
    centred = flat - flat.mean(dim=0)
    figures: dict[str, float] = {}
    total = centred.square().sum()
    if batch > 1:
        figures["content"] = float(_without_group_means(centred, groups).square().sum() / total.clamp(min=1e-12))
    energies = torch.linalg.eigvalsh(centred.T @ centred).clamp(min=0)
    shares = energies / energies.sum().clamp(min=1e-12)
    figures["token_effective_rank"] = float(torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum()))
    directions = torch.nn.functional.normalize(flat, dim=-1)
    pairs = flat.shape[0] * (flat.shape[0] - 1)
    figures["mean_pairwise_cosine"] = float((directions.sum(dim=0).square().sum() - flat.shape[0]) / max(pairs, 1))
    return figures


def _without_group_means(rows: Tensor, groups: Tensor) -> Tensor:
    """Rows minus the mean row of their group."""
    _, index = groups.unique(return_inverse=True)
    size = int(index.max()) + 1
    sums = rows.new_zeros(size, rows.shape[1]).index_add_(0, index, rows)
    counts = rows.new_zeros(size).index_add_(0, index, torch.ones_like(index, dtype=rows.dtype))
    return rows - (sums / counts[:, None])[index]
