"""Contrastive multi-segment coding: neighbouring segments of a patient among those of others, in two published losses."""

import torch
from torch import Tensor
from torch.nn import functional as F


class OnePatientError(ValueError):
    """All records of a batch belong to one patient, so a contrast between patients has no negatives."""


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
