"""Which patches are hidden: ranked by noise (masked autoencoders) or drawn in time (JEPAs). Mask 1 = masked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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


def hidden_block_mask(num_patches: int, num_keep: int, min_block_size: int, rng: np.random.RandomState) -> np.ndarray:
    """Bool `(num_patches,)`, True = hidden: blocks are hidden until exactly `num_keep` patches are left visible.

    A block is drawn into one of the stretches that are still visible, a longer one more often. It is `min_block_size`
    patches or longer while that many are still to be hidden; the last patches are taken from an edge of a stretch. A
    stretch no longer than its block is hidden whole, so shorter blocks occur. Weimann and Conrad, arXiv 2410.13867;
    the draws of the published code in its order, from NumPy's legacy generator.

    Raises:
        ValueError: a number of visible patches outside 0 … `num_patches`, or fewer hidden patches than one block has.
    """
    visible, to_hide = num_patches, num_patches - num_keep
    if not 0 <= num_keep <= num_patches or not 1 <= min_block_size <= max(to_hide, 1):
        raise ValueError(
            f"Of {num_patches} patches {num_keep} cannot stay visible with hidden blocks of at least {min_block_size}: "
            "give a num_keep within the number of patches and a min_block_size of 1 or more that still fits."
        )
    stretches = [(0, num_patches)]
    while num_patches - visible < to_hide:
        lengths = np.array([end - start for start, end in stretches], dtype=np.float64)
        start, end = stretches.pop(int(rng.choice(len(stretches), p=lengths / lengths.sum())))
        rest = to_hide - (num_patches - visible)
        free = rest >= min_block_size
        size = int(rng.randint(min_block_size, rest + 1)) if free else rest
        if end - start <= size:
            visible -= end - start
            continue
        if free:
            place = int(rng.randint(start, end - size + 1))
        else:  # too few are left for a block of its own, so it continues a hidden one
            edges = [start] * (start > 0) + [end - size] * (end < num_patches)
            place = int(rng.choice(edges))
        stretches += [(start, place), (place + size, end)]
        visible -= size
    hidden = np.ones(num_patches, dtype=bool)
    for start, end in stretches:
        hidden[start:end] = False
    return hidden


@dataclass(frozen=True)
class TimeSplit:
    """A mask as index lists.

    Attributes:
        order: `(n,)` or `(B, n)` times: the visible ones ascending, then the masked ones ascending.
        num_visible: how many of them are visible.
    """

    order: Tensor
    num_visible: int

    @property
    def visible(self) -> Tensor:
        return self.order[..., : self.num_visible]

    @property
    def masked(self) -> Tensor:
        return self.order[..., self.num_visible :]


def split_times(mask: Tensor, batch: int, num_patches: int, device: torch.device) -> TimeSplit:
    """Indices of a mask that was drawn or handed in.

    Args:
        mask: bool (or 0/1) `(n,)` for the whole batch, or `(B, n)`.
        batch, num_patches: of the input.
        device: of the input.

    Raises:
        ValueError: for a wrong shape, when nothing is masked, or when records mask different numbers of patches.
    """
    if mask.shape not in ((num_patches,), (batch, num_patches)):
        raise ValueError(
            f"mask must have shape ({num_patches},) or ({batch}, {num_patches}), one value a patch in time; "
            f"got {tuple(mask.shape)}."
        )
    mask = mask.cpu().bool()  # counts decide shapes, so they are needed here anyway
    counts = mask.sum(dim=-1).reshape(-1)
    if int(counts.min()) != int(counts.max()):
        raise ValueError(
            "Every record of a batch must mask the same number of patches; "
            f"these mask between {int(counts.min())} and {int(counts.max())}."
        )
    if int(counts[0]) == 0:
        raise ValueError("The mask hides no patch, so there is nothing to predict; hide at least one.")
    order = mask.to(torch.uint8).argsort(dim=-1, stable=True)
    return TimeSplit(order.to(device), num_patches - int(counts[0]))


def num_mask_spans(num_tokens: int, draw: float, mask_prob: float, mask_length: int, min_masks: int) -> int:
    """Spans that wav2vec 2.0 masks in a sequence; the uniform `draw` rounds their number up or down."""
    return max(min_masks, int(mask_prob * num_tokens / mask_length + draw))


def num_span_starts(num_tokens: int, num_spans: int, mask_length: int) -> int:
    """Places where a span may start: 0 … n - length - 1, so the last token is never masked, as in the published code.

    A sequence too short for that many starts has one more than spans.
    """
    return num_tokens - mask_length if num_tokens - mask_length > num_spans else num_spans + 1


def _spans(starts: Tensor, num_tokens: int, mask_length: int) -> Tensor:
    """Bool `(B, n)`: the union of spans of `mask_length` tokens from `starts (B, k)` on."""
    places = (starts[..., None] + torch.arange(mask_length, device=starts.device)).flatten(1)
    mask = torch.zeros(len(starts), num_tokens + mask_length, dtype=torch.bool, device=starts.device)
    return mask.scatter(1, places.clamp(max=num_tokens), True)[:, :num_tokens]


def wav2vec2_mask_from_draws(
    batch_size: int,
    num_tokens: int,
    draws: Sequence[float],
    starts: Sequence[Any],
    kept: Sequence[Any],
    mask_prob: float,
    mask_length: int,
    min_masks: int,
) -> Tensor:
    """The mask `(B, n)` that given draws of fairseq's wav2vec 2.0 mean (spec ecg_wav2vec2, 9.4): all rows equally many.

    Args:
        batch_size, num_tokens: shape of the mask.
        draws: one uniform number for the batch, which decides the number of spans.
        starts: for each row its span starts, drawn without replacement.
        kept: for each row that had more masked tokens than the row with the fewest, the tokens that stay masked.
        mask_prob, mask_length, min_masks: share of tokens, tokens of a span, fewest spans.

    Raises:
        ValueError: draws of another number than the settings ask for.
    """
    spans = num_mask_spans(num_tokens, float(draws[0]), mask_prob, mask_length, min_masks)
    rows = [torch.as_tensor(row, dtype=torch.long) for row in starts]
    if len(rows) != batch_size or any(len(row) != spans for row in rows):
        raise ValueError(
            f"{batch_size} rows of {spans} span starts are needed, got {len(rows)} of {sorted({len(r) for r in rows})}."
        )
    mask = _spans(torch.stack(rows), num_tokens, mask_length)
    counts = mask.sum(dim=1)
    fewest, used = int(counts.min()), 0
    for row in range(batch_size):
        if int(counts[row]) > fewest:
            if used == len(kept) or len(kept[used]) != fewest:
                raise ValueError(f"row {row} has too many masked tokens: {fewest} indices to keep are needed for it.")
            mask[row] = False
            mask[row, torch.as_tensor(kept[used], dtype=torch.long)] = True
            used += 1
    return mask


def wav2vec2_mask(
    start_noise: Tensor, keep_noise: Tensor, draw: float, mask_prob: float, mask_length: int, min_masks: int
) -> Tensor:
    """A mask `(B, n)` with the distribution of `wav2vec2_mask_from_draws`, from uniform noise.

    Args:
        start_noise: `(B, ≥ n + 1)`; spans start where it is lowest.
        keep_noise: `(B, n)`; rows with too many masked tokens keep those where it is lowest.
        draw: the uniform number that rounds the number of spans.
        mask_prob, mask_length, min_masks: share of tokens, tokens of a span, fewest spans.
    """
    num_tokens = keep_noise.shape[1]
    spans = num_mask_spans(num_tokens, draw, mask_prob, mask_length, min_masks)
    if spans >= num_tokens:
        raise ValueError(f"{num_tokens} tokens are too few for {spans} masked spans: use longer records.")
    possible = num_span_starts(num_tokens, spans, mask_length)
    mask = _spans(start_noise[:, :possible].argsort(dim=1)[:, :spans], num_tokens, mask_length)
    rank = keep_noise.masked_fill(~mask, float("inf")).argsort(dim=1).argsort(dim=1)
    return mask & (rank < mask.sum(dim=1).min())


def wav2vec2_negatives_from_draws(draws: Tensor, num_negatives: int) -> Tensor:
    """Flat rows `(B, M·N)` of the negatives among `B·M` masked tokens: N others of the same row for each token.

    Args:
        draws: integers in 0 … M - 2, `(B, M·N)`, token-major: the own token is stepped over.
        num_negatives: N.
    """
    batch, columns = draws.shape
    tokens = columns // num_negatives
    own = torch.arange(columns, device=draws.device) // num_negatives
    first = torch.arange(batch, device=draws.device)[:, None] * tokens
    return draws + (draws >= own).to(draws.dtype) + first
