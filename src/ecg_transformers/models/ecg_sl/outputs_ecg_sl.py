"""What the models of ECG-SL return."""

from dataclasses import dataclass

import torch
from transformers.utils import ModelOutput


@dataclass
class ECGSLModelOutput(ModelOutput):
    """Output of the base model.

    Attributes:
        last_hidden_state: `(B, N, D)` one vector per beat after the transformer, zeros on padding.
        pooler_output: `(B, D)` the aggregated record.
        aggregation_weights: `(B, N)` share of each beat in it: at least 0, sum 1, exactly 0 on padding.
        beat_embeddings: `(B, N, D)` output of the structural encoder alone, zeros on padding.
        hidden_states, attentions: of the transformer.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    aggregation_weights: torch.Tensor | None = None
    beat_embeddings: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ECGSLForPreTrainingOutput(ModelOutput):
    """Output of either pre-training stage.

    Attributes:
        loss: mean squared error over the samples of the beats to predict (stage "autoencoder": all valid beats).
        reconstruction: `(B, N, beat_len)`, or `(B, N, L, beat_len)` for several leads; zeros on padding.
        mask: `(B, N)`, 1 = predicted (and, in stage "masked", hidden from the model).
        num_loss_terms: number of beats the loss is a mean of.
        last_hidden_state: `(B, N, D)`; in stage "autoencoder" the beat embeddings.
        aggregation_weights, hidden_states, attentions: of the base model, in stage "masked".
    """

    loss: torch.Tensor | None = None
    reconstruction: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    num_loss_terms: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    aggregation_weights: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class ECGSLClassifierOutput(ModelOutput):
    """Output of the classification model.

    Attributes:
        loss: when labels were given.
        logits, probabilities: `(B, C)`, or `(B, N, C)` with `label_level="beat"`.
        aggregation_weights: `(B, N)`, or `(B, k, N)` for k crops a record.
        hidden_states, attentions: of the transformer.
    """

    loss: torch.Tensor | None = None
    logits: torch.Tensor | None = None
    probabilities: torch.Tensor | None = None
    aggregation_weights: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None
