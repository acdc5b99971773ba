"""Outputs of the models that several methods share."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class ECGModelOutput(ModelOutput):
    """Output of a base model.

    Attributes:
        last_hidden_state: `(B, N, D)` tokens after the final norm.
        pooler_output: `(B, D)`, the published downstream feature.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class MaskedReconstructionOutput(ModelOutput):
    """Output of a masked autoencoder.

    Attributes:
        loss: mean squared error over the masked patches.
        reconstruction: predicted patches, shape as the method documents; in normalised units with `norm_pix_loss`.
        mask: 1 = masked.
        ids_restore: brings visible and masked tokens back into order.
        last_hidden_state: latent of the visible tokens.
    """

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    ids_restore: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ECGClassifierOutput(ModelOutput):
    """Output of a classification model.

    Attributes:
        loss: of the mean logits, when labels were given.
        logits: `(B, C)`, mean over the crops of a record.
        probabilities: `(B, C)`, mean of the crops' probabilities (metrics and pipelines use it); logits in regression.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    probabilities: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ECGTokenClassifierOutput(ModelOutput):
    """Output of a model that labels every sample, or every patch, of every lead.

    Attributes:
        loss: mean over the labelled places (those that are not -100), when labels were given.
        logits: `(B, L, T', C)`.
        num_loss_terms: number of places the loss is a mean of.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    num_loss_terms: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
