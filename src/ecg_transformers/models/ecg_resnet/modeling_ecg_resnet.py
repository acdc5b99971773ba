"""xresnet1d (Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2021)."""

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.heads import NormedHead, time_statistics
from ecg_transformers.layers.resnet1d import XResNetStage1d, XResNetStem1d, ZeroBatchNorm1d
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_resnet.configuration_ecg_resnet import ECGResNetConfig
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table
from ecg_transformers.models.outputs import ECGModelOutput


class ECGResNetStage(nn.Module):
    """A stage that takes and returns tokens `(B, T, D)`, so that recorded hidden states are tokens."""

    def __init__(self, stage: XResNetStage1d) -> None:
        super().__init__()
        self.blocks = stage

    def forward(self, tokens: Tensor) -> Tensor:
        return self.blocks(tokens.transpose(1, 2)).transpose(1, 2)


class ECGResNetPreTrainedModel(ECGPreTrainedModel):
    """Initialisation of the ResNet."""

    config: ECGResNetConfig
    base_model_prefix = "ecg_resnet"
    # checkpointing would run the batch norms twice and count every batch twice in their running statistics
    supports_gradient_checkpointing = False
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_attention_backend = False
    _no_split_modules = ["ECGResNetStage"]
    _can_record_outputs = {"hidden_states": ECGResNetStage}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming-normal weights, zero biases, and a zero scale in the last norm of every block."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d | nn.Linear):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, ZeroBatchNorm1d):
            init.zeros_(module.weight)

    def get_input_embeddings(self) -> nn.Module:
        return self.base_model.stem

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.stem = value


class ECGResNetModel(ECGResNetPreTrainedModel):
    """The residual network without a head.

    Example:
        >>> config = ECGResNetConfig(stem_dims=[8, 8], stage_dims=[8, 16], depths=[1, 1], expansion=1)
        >>> ECGResNetModel(config)(torch.randn(1, 12, 250)).pooler_output.shape
        torch.Size([1, 32])
    """

    def __init__(self, config: ECGResNetConfig) -> None:
        super().__init__(config)
        self.stem = XResNetStem1d(config.num_leads, config.stem_dims, config.stem_kernel_size)
        width, stages = config.stem_dims[-1], []
        for index, (dim, depth) in enumerate(zip(config.stage_dims, config.depths)):
            stride = 1 if index == 0 else 2
            stage = XResNetStage1d(width, dim, depth, config.kernel_size, stride=stride, expansion=config.expansion)
            stages.append(ECGResNetStage(stage))
            width = dim * config.expansion
        self.stages = nn.ModuleList(stages)
        self.post_init()

    @property
    def feature_size(self) -> int:
        return len(self.config.pooling) * self.config.hidden_size

    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens and features of records.

        Args:
            input_values: `(B, L, T)`; leads that the model knows and the input lacks are taken as zero.
            lead_indices: slots of the leads, one list for the batch or one a record.

        Returns:
            `last_hidden_state (B, T', D)`, one token for every 2 ** (stages + 1) samples, and `pooler_output`, by
            default the maximum and the mean over time, `(B, 2 D)`.
        """
        check_input(input_values)
        input_values = to_lead_table(lead_indices, input_values, self.config.num_leads)
        tokens = self.stem(input_values).transpose(1, 2)  # (B, ~T/4, D)
        for stage in self.stages:
            tokens = stage(tokens)
        return ECGModelOutput(last_hidden_state=tokens, pooler_output=time_statistics(tokens, self.config.pooling))


class ECGResNetForSequenceClassification(ECGForSequenceClassification, ECGResNetPreTrainedModel):
    """xresnet1d with a linear head, or with the published one (`config.classifier_hidden_sizes`)."""

    config: ECGResNetConfig
    base_class = ECGResNetModel

    def build_classifier(self, size: int) -> nn.Module:
        hidden = self.config.classifier_hidden_sizes
        if hidden is None:
            return super().build_classifier(size)
        return NormedHead(size, hidden, self.config.num_labels, self.config.classifier_dropout)


__all__ = ["ECGResNetForSequenceClassification", "ECGResNetModel", "ECGResNetPreTrainedModel"]
