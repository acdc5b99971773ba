"""Contrastive objectives as functions of tensors, one file each.

None of them draws random numbers but `same_sequence_negative_indices`, which takes a generator. All compute in float32,
also under autocast, whose half precision would be felt in scores that are divided by a small temperature.
"""

from ecg_transformers.layers.objectives.cmsc import OnePatientError, clocs_loss, patient_contrastive_loss
from ecg_transformers.layers.objectives.cpc import (
    cpc_loss,
    negative_scores,
    resolve_negative_draws,
    same_sequence_negative_indices,
)
from ecg_transformers.layers.objectives.moco import moco_v3_loss, momentum_contrast

__all__ = [
    "OnePatientError",
    "clocs_loss",
    "cpc_loss",
    "moco_v3_loss",
    "momentum_contrast",
    "negative_scores",
    "patient_contrastive_loss",
    "resolve_negative_draws",
    "same_sequence_negative_indices",
]
