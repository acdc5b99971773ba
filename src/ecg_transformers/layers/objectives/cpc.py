"""Contrastive predictive coding: the encoding a fixed time ahead among others, and how its negatives are drawn."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def cpc_loss(
    predicted: Tensor,
    encoded: Tensor,
    negative_indices: Tensor,
    steps_predicted: int,
    normalize: bool = False,
    temperature: float = 1.0,
    candidates: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The CPC loss with one prediction `steps_predicted` ahead of every time (van den Oord et al., 2018; Mehari and
    Strodthoff, "Self-supervised representation learning from 12-lead ECG data", 2022).

    The candidates at time i are `encoded[:, i + steps_predicted]` and the negatives; a candidate's score is its dot
    product with `predicted[:, i]`. The cross-entropy is averaged over the batch and SUMMED over time.

    Args:
        predicted: `(B, S, D)` projected context.
        encoded: `(B, S, D)` outputs of the encoder; positives and negatives get gradients.
        negative_indices: `(S - steps_predicted, B, k)`, flat: sequence · S + time.
        steps_predicted: distance of the positive.
        normalize: scores are cosines.
        temperature: divides the scores.
        candidates: `(N, S, D)`, the encodings that the negatives are rows of, where they are more than `encoded` (those
            of all processes, say).

    Returns:
        loss and accuracy, the share of predictions whose positive scores highest.

    Raises:
        ValueError: when the sequence is not longer than `steps_predicted` or the indices have another shape.
    """
    batch, length, _ = encoded.shape
    steps = length - steps_predicted
    if steps < 1:
        raise ValueError(f"a sequence of {length} steps cannot be predicted {steps_predicted} steps ahead")
    if negative_indices.ndim != 3 or tuple(negative_indices.shape[:2]) != (steps, batch):
        raise ValueError(
            f"negative_indices must have shape ({steps}, {batch}, negatives), got {tuple(negative_indices.shape)}"
        )
    with torch.autocast(encoded.device.type, enabled=False):
        predicted, encoded = predicted.float(), encoded.float()
        table = encoded if candidates is None else candidates.float()
        if normalize:
            predicted, encoded, table = (F.normalize(x, dim=2) for x in (predicted, encoded, table))
        queries = predicted[:, :steps]  # (B, steps, D)
        positives = (queries * encoded[:, steps_predicted:]).sum(dim=2, keepdim=True)  # (B, steps, 1)
        negatives = negative_scores(queries, table, negative_indices.transpose(0, 1))  # (B, steps, k)
        scores = torch.cat([positives, negatives], dim=2) / temperature
    loss = -scores.log_softmax(dim=2)[:, :, 0].mean(dim=0).sum()
    accuracy = (scores.argmax(dim=2) == 0).float().mean()
    return loss, accuracy


def negative_scores(queries: Tensor, encoded: Tensor, indices: Tensor, max_floats: int = 2**24) -> Tensor:
    """`(B, steps, k)` dot products of `queries (B, steps, D)` with rows `indices (B, steps, k)` of `encoded (N, S, D)`.

    Negatives of the own sequence are picked out of one product of all times with all times. Negatives from everywhere
    are gathered in chunks of at most `max_floats` numbers (64 MB), whose copies are made again in the backward pass: all
    at once they take gigabytes.
    """
    batch, length, dim = encoded.shape
    own = torch.arange(len(queries), device=indices.device)[:, None, None]
    if len(queries) == batch and bool((indices.div(length, rounding_mode="floor") == own).all()):
        return (queries @ encoded.transpose(1, 2)).gather(2, indices - own * length)
    table = encoded.reshape(-1, dim)
    steps_a_chunk = max(1, max_floats // (len(queries) * indices.shape[2] * dim))
    chunks = [
        checkpoint(_gathered_scores, part, table, rows, use_reentrant=False)
        for part, rows in zip(queries.split(steps_a_chunk, dim=1), indices.split(steps_a_chunk, dim=1))
    ]
    return torch.cat(chunks, dim=1)


def _gathered_scores(queries: Tensor, table: Tensor, indices: Tensor) -> Tensor:
    with torch.autocast(queries.device.type, enabled=False):  # made again in the backward pass
        candidates = table.index_select(0, indices.flatten()).view(*indices.shape, -1)  # (B, steps, k, D)
        return torch.einsum("bsd,bskd->bsk", queries, candidates)


def same_sequence_negative_indices(
    batch_size: int,
    length: int,
    steps_predicted: int,
    num_negatives: int,
    generator: torch.Generator | None = None,
    window: int = 0,
) -> Tensor:
    """Negatives from the sequence itself, never the positive: flat indices `(length - steps_predicted, B, k)`.

    Args:
        length: steps S of a sequence.
        window: with w > 0 the draws at time i lie in `[i - w, i + w]` before those at or after the positive move up by
            one, as published, so a negative is at most w steps back and w + 1 ahead; 0 takes the whole sequence.
    """
    steps = _steps(length, steps_predicted)
    draws = _draw_times(steps, length, batch_size * num_negatives, generator, window)
    own = torch.arange(batch_size).repeat_interleave(num_negatives).expand(steps, -1)
    return resolve_negative_draws(draws, own, length, steps_predicted, batch_size)


def resolve_negative_draws(
    draws: Tensor, sequences: Tensor, length: int, steps_predicted: int, batch_size: int
) -> Tensor:
    """Raw draws to flat indices.

    Args:
        draws: `(steps, B·k)` times in `[0, length - 1)`; those at or after the positive move up by one.
        sequences: `(steps, B·k)` sequence of each draw.

    Returns:
        `(steps, B, k)` flat indices sequence · length + time.
    """
    positive = torch.arange(len(draws), device=draws.device)[:, None] + steps_predicted
    times = draws + (draws >= positive).long()
    return (sequences * length + times).unflatten(1, (batch_size, -1))


def _steps(length: int, steps_predicted: int) -> int:
    if length - steps_predicted < 1 or length < 2:
        raise ValueError(f"a sequence of {length} steps cannot be predicted {steps_predicted} steps ahead")
    return length - steps_predicted


def _draw_times(steps: int, length: int, count: int, generator: torch.Generator | None, window: int) -> Tensor:
    """`(steps, count)` integers in `[0, length - 1)`, with a window in the part of it around each step."""
    if not window:
        return torch.randint(length - 1, (steps, count), generator=generator)
    rows = []
    for step in range(steps):
        low, high = min(max(step - window, 0), length - 2), min(step + window + 1, length - 1)
        rows.append(torch.randint(low, high, (count,), generator=generator))
    return torch.stack(rows)
