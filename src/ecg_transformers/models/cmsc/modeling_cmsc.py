"""CMSC, contrastive multi-segment coding (Kiyasseh, Zhu and Clifton, "CLOCS", ICML 2021): neighbouring segments of a
record and records of one patient attract each other, those of two patients repel each other."""

import torch
from torch import Tensor, nn
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.layers.collapse import paired_figures
from ecg_transformers.layers.distributed import gather_rows, gather_rows_with_gradient, world
from ecg_transformers.layers.objectives import clocs_loss, patient_contrastive_loss
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.cmsc.configuration_cmsc import CMSCConfig
from ecg_transformers.models.leads import LeadIndices, repeat_for_crops
from ecg_transformers.models.shared.backbone_model import (
    BackboneModel,
    BackbonePreTrainedModel,
    PairedViewsOutput,
    check_pairs,
)


class CMSCPreTrainedModel(BackbonePreTrainedModel):
    """Base of the CMSC classes."""

    config: CMSCConfig
    base_model_prefix = "cmsc"


class CMSCModel(CMSCPreTrainedModel, BackboneModel):
    """The backbone, as CMSC trains it.

    Example:
        >>> config = CMSCConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
        >>> CMSCModel(config)(torch.randn(1, 12, 1125)).pooler_output.shape
        torch.Size([1, 64])
    """


class CMSCForPreTraining(CMSCPreTrainedModel):
    """The backbone with a linear projection and the contrastive loss over segments."""

    def __init__(self, config: CMSCConfig) -> None:
        super().__init__(config)
        self.cmsc = CMSCModel(config)
        size = config.projection_size
        self.projector = nn.Linear(self.feature_size, size) if size else nn.Identity()
        self.post_init()

    @property
    def compares_records(self) -> bool:
        return True

    @property
    def compares_patients(self) -> bool:
        return True

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return {**self.paired_dummy_inputs, "patient_ids": torch.tensor([7, 3, 7, 5])}

    def contrast(self, embeddings: Tensor, patient_ids: Tensor) -> Tensor:
        """The loss over the segments `(B, 2, D)` of all processes.

        Raises:
            OnePatientError: when all records belong to one patient.
        """
        embeddings, patient_ids = gather_rows_with_gradient(embeddings), gather_rows(patient_ids)
        if len(patient_ids) == 1 and not self.training:
            return embeddings.new_full((), float("nan"))  # a single record can be embedded, but not contrasted
        if self.config.objective == "clocs":
            return clocs_loss(embeddings.transpose(1, 2), patient_ids, self.config.temperature)
        segments = torch.arange(2, device=patient_ids.device).repeat(len(patient_ids))
        return patient_contrastive_loss(
            embeddings.flatten(0, 1), patient_ids.repeat_interleave(2), segments, self.config.temperature
        )

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        patient_ids: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PairedViewsOutput:
        """Embeddings of both segments and the loss; segments of all processes are candidates.

        Args:
            input_values: `(B, 2, L, T)`, two neighbouring segments of each record.
            lead_indices: rows of the lead table, one list for the batch or one a record.
            patient_ids: `(B,)` integers; None counts every record as a patient of its own.

        Returns:
            `loss` (NaN for a single record in evaluation) and `embeddings (B, 2, D)`; hidden states and
            attentions, when asked for, have the two segments of a record in consecutive rows.

        Raises:
            OnePatientError: when all records of the batch belong to one patient.
        """
        check_pairs(input_values, "CMSC")
        batch = len(input_values)
        if patient_ids is None:
            patient_ids = torch.arange(batch, device=input_values.device) + batch * world()[0]
        outputs = self.cmsc(input_values.flatten(0, 1), lead_indices=repeat_for_crops(lead_indices, 2), **kwargs)
        embeddings = self.projector(outputs.pooler_output).unflatten(0, (batch, 2))  # (B, 2, D)
        return PairedViewsOutput(
            loss=self.contrast(embeddings, patient_ids.to(input_values.device)),
            embeddings=embeddings,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def monitor(self, outputs: ModelOutput) -> dict[str, float]:
        first, second = outputs.embeddings.unbind(dim=1)
        return paired_figures(first, second, spread_of=first)


class CMSCForSequenceClassification(ECGForSequenceClassification, CMSCPreTrainedModel):
    """The backbone with a linear head on its feature (or on the tokens: `config.head_pooling`)."""

    config: CMSCConfig
    base_class = CMSCModel
