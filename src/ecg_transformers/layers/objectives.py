"""Contrastive objectives as functions of tensors: MoCo v3, CMSC (two published losses), CPC and its negatives.

None of them draws random numbers but `same_sequence_negative_indices`, which takes a generator. All compute in float32,
also under autocast, whose half precision would be felt in scores that are divided by a small temperature.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

# floats of gathered candidates that one chunk of the CPC loss may hold (64 MB)
_CPC_CHUNK = 2**24


class OnePatientError(ValueError):
    """All records of a batch belong to one patient, so a contrast between patients has no negatives."""


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) when torch.distributed is not running."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _GatherWithGradient(torch.autograd.Function):
    """All processes' rows; the gradient of a row is the sum of what every process wants of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gather_rows(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        rank, size = world()
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        return grad.chunk(size)[rank]


@torch.no_grad()
def gather_rows(tensor: Tensor) -> Tensor:
    """Concatenate `tensor (N, …)` of all processes, in order of rank, without gradient; itself on a single process.

    All processes must hold the same number of rows.
    """
    _, size = world()
    if size == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(size)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_rows_with_gradient(tensor: Tensor) -> Tensor:
    """As `gather_rows`, differentiable.

    A loss that every process computes on the gathered rows then has, after the usual averaging of gradients over
    processes, exactly the gradient of a single process that holds all rows.
    """
    if world()[1] == 1:
        return tensor
    return _GatherWithGradient.apply(tensor)


# ---- MoCo v3 ------------------------------------------------------------------------------------------------------


def momentum_contrast(
    queries: Tensor, keys: Tensor, temperature: float, first_key: int = 0, loss_scale: str = "2tau"
) -> Tensor:
    """`2 τ · cross_entropy(q̂ k̂ᵀ / τ)`; the key of query i is key `first_key + i`.

    Args:
        queries: `(N, D)`.
        keys: `(M, D)`, M ≥ N; they get no gradient.
        temperature: τ.
        first_key: index of the first query's key (N · rank when keys of several processes are gathered).
        loss_scale: "2tau" as released; "none" leaves the factor out.
    """
    if loss_scale not in ("2tau", "none"):
        raise ValueError(f'loss_scale must be "2tau" or "none", got {loss_scale!r}')
    with torch.autocast(queries.device.type, enabled=False):
        queries = F.normalize(queries.float(), dim=1)
        keys = F.normalize(keys.detach().float(), dim=1)
        labels = torch.arange(first_key, first_key + len(queries), device=queries.device)
        loss = F.cross_entropy(queries @ keys.T / temperature, labels)
    return 2.0 * temperature * loss if loss_scale == "2tau" else loss


def moco_v3_loss(
    q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor, temperature: float, loss_scale: str = "2tau"
) -> Tensor:
    """The symmetric MoCo v3 loss `ctr(q1, k2) + ctr(q2, k1)` (Chen, Xie and He, ICCV 2021).

    Keys are gathered over all processes when torch.distributed is initialised; queries stay local.

    Args:
        q1, q2: `(N, D)` predictor outputs of the two views; need no normalisation.
        k1, k2: `(N, D)` projector outputs of the momentum encoder for the same views; get no gradient.
        temperature: τ, 0.2 in the published ViT recipe.
        loss_scale: "2tau" multiplies by 2τ as released; "none" gives the plain sum of cross-entropies.

    Example:
        >>> q = torch.eye(4)
        >>> bool(moco_v3_loss(q, q, q, q, 0.2) < moco_v3_loss(q, q, q.flip(0), q.flip(0), 0.2))
        True
    """
    first_key = world()[0] * len(q1)
    return momentum_contrast(q1, gather_rows(k2), temperature, first_key, loss_scale) + momentum_contrast(
        q2, gather_rows(k1), temperature, first_key, loss_scale
    )


# ---- CMSC ---------------------------------------------------------------------------------------------------------


def clocs_loss(embeddings: Tensor, patient_ids: Tensor, temperature: float = 0.1) -> Tensor:
    """The CLOCS loss of contrastive multi-segment coding (Kiyasseh, Zhu and Clifton, ICML 2021).

    With `S_ij = exp(cos(h_i1, h_j2) / τ)`: minus the log of the diagonal against its row sums and against its
    column sums; and, where the batch holds further pairs of one patient, minus the log of those above the diagonal
    against row sums and of those below it against column sums. The result is the mean of the terms that exist (two or
    four).

    Args:
        embeddings: `(B, D, 2)`, two neighbouring segments of each record.
        patient_ids: `(B,)` integers.
        temperature: τ.

    Raises:
        OnePatientError: for a batch of a single patient, which has no negatives.
    """
    patient_ids = torch.as_tensor(patient_ids)
    _require_two_patients(patient_ids)
    with torch.autocast(embeddings.device.type, enabled=False):
        first, second = F.normalize(embeddings.float(), dim=1).unbind(dim=2)
        logits = first @ second.T / temperature  # (B, B)
    by_row, by_column = logits.log_softmax(dim=1), logits.log_softmax(dim=0)
    terms = [-by_row.diagonal().mean(), -by_column.diagonal().mean()]
    same = patient_ids[:, None] == patient_ids[None, :]
    above, below = same.triu(diagonal=1), same.tril(diagonal=-1)
    if bool(above.any()):
        terms += [-by_row[above].mean(), -by_column[below].mean()]
    return torch.stack(terms).mean()


def patient_contrastive_loss(
    embeddings: Tensor, patient_ids: Tensor, segment_ids: Tensor, temperature: float = 0.1
) -> Tensor:
    """The later variant of the CMSC loss (Oh et al., "Lead-agnostic Self-supervised Learning …", CHIL 2022).

    First against second segments, every pair of one patient is a positive: half the mean over positives of the
    row-wise minus log-softmax and half that of the column-wise one. The norm of an embedding counts as a constant in
    the gradient, as released.

    Args:
        embeddings: `(N, D)`, both segments of all records in any order.
        patient_ids: `(N,)` integers.
        segment_ids: `(N,)`, 0 for a first and 1 for a second segment.
        temperature: τ.

    Raises:
        OnePatientError: for a batch of a single patient.
        ValueError: when first and second segments differ in number.
    """
    patient_ids, segment_ids = torch.as_tensor(patient_ids), torch.as_tensor(segment_ids)
    _require_two_patients(patient_ids)
    embeddings = embeddings.float()
    unit = embeddings / embeddings.detach().norm(dim=1, keepdim=True).clamp(min=1e-8)
    is_first, is_second = segment_ids == 0, segment_ids == 1
    first, second = unit[is_first], unit[is_second]
    if len(first) != len(second):
        raise ValueError(f"{len(first)} first and {len(second)} second segments were given; every record needs both")
    with torch.autocast(first.device.type, enabled=False):
        logits = first @ second.T / temperature
    positive = patient_ids[is_first][:, None] == patient_ids[is_second][None, :]
    return -0.5 * (logits.log_softmax(dim=1)[positive].mean() + logits.log_softmax(dim=0)[positive].mean())


def _require_two_patients(patient_ids: Tensor) -> None:
    if bool((patient_ids == patient_ids[:1]).all()):
        raise OnePatientError(
            f"all {len(patient_ids)} embeddings of the batch belong to one patient, so there is nothing to contrast "
            "them with; a batch needs records of at least two patients"
        )


# ---- CPC ----------------------------------------------------------------------------------------------------------


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


def negative_scores(queries: Tensor, encoded: Tensor, indices: Tensor) -> Tensor:
    """`(B, steps, k)` dot products of `queries (B, steps, D)` with rows `indices (B, steps, k)` of `encoded (N, S, D)`.

    Negatives of the own sequence are picked out of one product of all times with all times. Negatives from everywhere
    are gathered in chunks whose copies are made again in the backward pass: all at once they take gigabytes.
    """
    batch, length, dim = encoded.shape
    own = torch.arange(len(queries), device=indices.device)[:, None, None]
    if len(queries) == batch and bool((indices.div(length, rounding_mode="floor") == own).all()):
        return (queries @ encoded.transpose(1, 2)).gather(2, indices - own * length)
    table = encoded.reshape(-1, dim)
    steps_a_chunk = max(1, _CPC_CHUNK // (len(queries) * indices.shape[2] * dim))
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
