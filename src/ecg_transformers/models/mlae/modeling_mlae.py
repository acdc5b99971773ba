"""MLAE, the masked lead autoencoder (baseline in Na et al., ICLR 2024, arXiv 2402.09450; after Zhang et al., "MaeFE",
2022): whole leads are masked and reconstructed from the others."""

import torch
from torch import Tensor
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.leads import LeadIndices, check_input, resolve_lead_indices
from ecg_transformers.models.mlae.configuration_mlae import MLAEConfig
from ecg_transformers.models.outputs import MaskedReconstructionOutput
from ecg_transformers.models.shared.class_token_model import (
    ClassTokenForPreTraining,
    ClassTokenModel,
    ClassTokenPreTrainedModel,
)


class MLAEPreTrainedModel(ClassTokenPreTrainedModel):
    """A token is a whole lead; its position is its identity, its row in the model's lead table."""

    config: MLAEConfig
    base_model_prefix = "mlae"

    def raw_tokens(self, input_values: Tensor, lead_indices: LeadIndices | None) -> tuple[Tensor, Tensor]:
        """The leads as they are, and their rows of the table."""
        if input_values.shape[2] != self.config.seq_len:
            raise ValueError(
                f"MLAE projects whole leads, so its input must have {self.config.seq_len} samples a lead, "
                f"got {input_values.shape[2]}."
            )
        return input_values, resolve_lead_indices(lead_indices, input_values, self.config.num_leads)

    def tokens_by_lead(self, last_hidden_state: Tensor, num_leads: int) -> Tensor:
        """`(B, L + 1, D)` to `(B, L, 1, D)`, class token dropped."""
        return last_hidden_state[:, 1:].unsqueeze(2)


class MLAEModel(MLAEPreTrainedModel, ClassTokenModel):
    """The MLAE encoder.

    Example:
        >>> model = MLAEModel(MLAEConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2))
        >>> model(torch.randn(1, 2, 2250), lead_indices=[1, 6]).pooler_output.shape  # leads II and V1
        torch.Size([1, 64])
    """


class MLAEForPreTraining(MLAEPreTrainedModel, ClassTokenForPreTraining):
    """MLAE with its decoder: reconstructs masked leads."""

    base_class = MLAEModel

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        noise: torch.Tensor | None = None,
        mask_ratio: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedReconstructionOutput:
        """Reconstruction and loss.

        Args:
            input_values: `(B, L, T)`, standardised.
            lead_indices: rows of the lead table, one list for the batch or one a record.
            noise: `(B, L)`; the leads of lowest noise stay visible. Drawn from the global generator when not given.
            mask_ratio: in place of the config's.

        Returns:
            `loss`, `reconstruction (B, L, T)`, `mask (B, L)` with 1 = masked, `ids_restore (B, L)`,
            `last_hidden_state (B, m + 1, D)`, class token first, then the visible leads in the order of their noise.
        """
        check_input(input_values)
        values, rows = self.raw_tokens(input_values, lead_indices)  # (B, L, T)
        ranking = self.rank(values, noise, mask_ratio)
        return self.reconstruct(input_values, lead_indices, values, ranking, rows=rows, **kwargs)


class MLAEForSequenceClassification(ECGForSequenceClassification, MLAEPreTrainedModel):
    """MLAE with a linear head on the class token (or on the tokens: `config.head_pooling`)."""

    config: MLAEConfig
    base_class = MLAEModel
