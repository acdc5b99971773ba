"""Figures that tell whether embeddings still tell records apart, which a falling loss does not say.

A joint-embedding loss also falls when all embeddings become one point. And where positions are added before every block,
a network can predict them alone: features of different positions differ as before, and nothing of the record is left.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of positive pairs on the unit sphere, 0 to 4 (Wang and Isola, ICML 2020).

    `first` and `second` are `(N, D)`; row i of one belongs to row i of the other.
    """
    first, second = F.normalize(first.float(), dim=1), F.normalize(second.float(), dim=1)
    return (first - second).square().sum(dim=1).mean()


@torch.no_grad()
def uniformity(embeddings: Tensor) -> Tensor:
    """Log of the mean Gaussian potential of all pairs on the unit sphere, `(N, D)` to a scalar in [-8, 0].

    0 when all embeddings are one point; the lower, the more evenly they lie (Wang and Isola, ICML 2020).
    """
    unit = F.normalize(embeddings.float(), dim=1)
    return torch.pdist(unit).square().mul(-2).exp().mean().log()


@torch.no_grad()
def relative_spread(embeddings: Tensor) -> Tensor:
    """Mean standard deviation of the dimensions of unit embeddings `(N, D)`, times √D: about 1; 0 when collapsed."""
    unit = F.normalize(embeddings.float(), dim=1)
    return unit.std(dim=0, correction=0).mean() * unit.shape[1] ** 0.5


@torch.no_grad()
def matching_accuracy(first: Tensor, second: Tensor) -> Tensor:
    """Share of rows of `first (N, D)` whose most similar row of `second` is their own."""
    cosines = F.normalize(first.float(), dim=1) @ F.normalize(second.float(), dim=1).T
    own = torch.arange(len(first), device=first.device)
    return (cosines.argmax(dim=1) == own).float().mean()


@torch.no_grad()
def rank_me(embeddings: Tensor) -> Tensor:
    """How many dimensions embeddings `(N, D)` use: exp(entropy of the singular values), from 1 to min(N, D).

    RankMe (Garrido et al., ICML 2023). NaN where an embedding is not finite.
    """
    values = embeddings.float()
    if not bool(values.isfinite().all()):
        return values.new_full((), torch.nan)
    singular = torch.linalg.svdvals(values)
    shares = singular / singular.sum().clamp(min=1e-12)
    return torch.special.entr(shares).sum().exp()


def record_figures(embeddings: Tensor) -> dict[str, float]:
    """How far the embeddings of records `(N, D)` lie apart."""
    return {
        "uniformity": float(uniformity(embeddings)),
        "relative_spread": float(relative_spread(embeddings)),
        "rank_me": float(rank_me(embeddings)),
    }


def paired_figures(first: Tensor, second: Tensor, spread_of: Tensor) -> dict[str, float]:
    """Figures of positive pairs, rows of `first` and `second (N, D)`, and of how far rows of `spread_of (N, D)` lie apart."""
    return {
        "accuracy": float(matching_accuracy(first, second)),
        "alignment": float(alignment(first, second)),
        **record_figures(spread_of),
    }


@torch.no_grad()
def token_figures(tokens: Tensor, positions: Tensor) -> dict[str, float]:
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
    directions = F.normalize(flat, dim=-1)
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
