"""Which patches are hidden: ranked by noise (masked autoencoders) or drawn in time (ECG-JEPA). Mask 1 = masked."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseRanking:
    """What a noise tensor decides.

    Attributes:
        ids_keep: `(…, num_keep)` indices of the visible tokens, in the order of rising noise.
        ids_restore: `(…, n)` brings `[visible, masked]` back into time order.
        mask: `(…, n)` float, 1 = masked, in time order.
    """

    ids_keep: Tensor
    ids_restore: Tensor
    mask: Tensor


def num_visible(num_tokens: int, mask_ratio: float) -> int:
    """Tokens that stay visible: the floor of a product in double precision (0.9 of 30 leaves 2, not 3)."""
    return int(num_tokens * (1 - mask_ratio))


def rank_noise(noise: Tensor, num_keep: int) -> NoiseRanking:
    """Keep the `num_keep` tokens of lowest noise on the last axis; every row is ranked alone."""
    ids_shuffle = torch.argsort(noise, dim=-1)
    ids_restore = torch.argsort(ids_shuffle, dim=-1)
    mask = (ids_restore >= num_keep).to(noise.dtype)
    return NoiseRanking(ids_shuffle[..., :num_keep], ids_restore, mask)


def no_mask(shape: torch.Size | tuple[int, ...], device: torch.device) -> NoiseRanking:
    """Everything visible, in time order (mask ratio 0 draws nothing and shuffles nothing)."""
    ids = torch.arange(shape[-1], device=device).expand(*shape)
    return NoiseRanking(ids, ids, torch.zeros(shape, device=device))


def gather_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """Rows of `(…, n, d)` at `ids (…, m)`: one flat `index_select`, which is faster than a broadcast gather."""
    *batch, n, dim = tokens.shape
    rows = torch.arange(tokens.shape[:-2].numel(), device=ids.device)[:, None] * n
    flat = ids.reshape(rows.shape[0], ids.shape[-1]) + rows
    return tokens.reshape(-1, dim).index_select(0, flat.flatten()).view(*batch, ids.shape[-1], dim)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` where `mask` is 1, pooled over everything; 0/0 = NaN when nothing is masked."""
    mask = mask.to(values.dtype)
    return (values * mask).sum() / mask.sum()


def _uniform_ratio(ratio_range: tuple[float, float], generator: torch.Generator | None) -> float:
    low, high = ratio_range
    return low + (high - low) * torch.rand(1, generator=generator).item()


def random_time_mask(
    num_patches: int, ratio_range: tuple[float, float], generator: torch.Generator | None = None
) -> Tensor:
    """Bool `(num_patches,)`: a share drawn from `ratio_range` is masked at random times (ECG-JEPA, random masking).

    Draws in order: `rand(1)`, then `randperm(num_patches)`.
    """
    count = int(num_patches * _uniform_ratio(ratio_range, generator))
    mask = torch.zeros(num_patches, dtype=torch.bool)
    mask[torch.randperm(num_patches, generator=generator)[:count]] = True
    return mask


def multi_block_time_mask(
    num_patches: int,
    ratio_range: tuple[float, float],
    num_blocks: int = 4,
    generator: torch.Generator | None = None,
    include_last: bool = False,
) -> Tensor:
    """Bool `(num_patches,)`: the union of `num_blocks` contiguous blocks (ECG-JEPA, multi-block masking).

    Draws per block: `rand(1)`, then `randperm(num_patches - length)`. As in the published code the last patch is never
    masked, because starts run to `num_patches - length - 1`; `include_last=True` mends that.
    """
    mask = torch.zeros(num_patches, dtype=torch.bool)
    for _ in range(num_blocks):
        length = int(num_patches * _uniform_ratio(ratio_range, generator))
        starts = num_patches - length + int(include_last)
        start = int(torch.randperm(starts, generator=generator)[0])
        mask[start : start + length] = True
    return mask
