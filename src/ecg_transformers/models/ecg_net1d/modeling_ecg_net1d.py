"""ECGFounder's Net1D (Li et al., "An Electrocardiogram Foundation Model Built on over 10 Million Recordings", 2025)."""

import torch
from torch import Tensor, nn
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.net1d import STRIDE, Activation1d, Net1DBlock, SameConv1d
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_net1d.configuration_ecg_net1d import ECGNet1DConfig
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table
from ecg_transformers.models.outputs import ECGModelOutput


class ECGNet1DStem(nn.Module):
    """Signals `(B, L, T)` to tokens `(B, ceil(T / 2), D)`."""

    def __init__(self, config: ECGNet1DConfig) -> None:
        super().__init__()
        self.conv = SameConv1d(config.num_leads, config.stem_dim, config.kernel_size, STRIDE)
        self.activation = Activation1d(config.stem_dim, config.use_batch_norm, 0.0)

    def forward(self, input_values: Tensor) -> Tensor:
        return self.activation(self.conv(input_values)).transpose(1, 2)


class ECGNet1DStage(nn.Module):
    """A stage that takes and returns tokens `(B, T, D)`, so that recorded hidden states are tokens."""

    def __init__(self, config: ECGNet1DConfig, index: int) -> None:
        super().__init__()
        width, blocks = config.stage_dims[index - 1] if index else config.stem_dim, []
        for depth in range(config.depths[index]):
            block = Net1DBlock(
                width,
                config.inner_widths[index],
                config.stage_dims[index],
                config.kernel_size,
                config.groups[index],
                strided=depth == 0,
                activate_input=index > 0 or depth > 0,
                batch_norm=config.use_batch_norm,
                dropout=config.hidden_dropout_prob,
            )
            blocks.append(block)
            width = config.stage_dims[index]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.blocks(tokens.transpose(1, 2)).transpose(1, 2)


class ECGNet1DPreTrainedModel(ECGPreTrainedModel):
    """Initialisation of the network."""

    config: ECGNet1DConfig
    base_model_prefix = "ecg_net1d"
    # checkpointing would run the batch norms twice and count every batch twice in their running statistics
    supports_gradient_checkpointing = False
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_attention_backend = False
    _no_split_modules = ["ECGNet1DStage"]
    _can_record_outputs = {"hidden_states": ECGNet1DStage}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torch's own initialisation, which the published code keeps."""
        if isinstance(module, nn.Conv1d | nn.Linear):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    def get_input_embeddings(self) -> nn.Module:
        return self.base_model.stem

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.stem = value


class ECGNet1DModel(ECGNet1DPreTrainedModel):
    """The residual network without a head.

    Example:
        >>> config = ECGNet1DConfig(stem_dim=16, stage_dims=[16, 32], depths=[1, 2])
        >>> ECGNet1DModel(config)(torch.randn(1, 12, 1000)).pooler_output.shape
        torch.Size([1, 32])
    """

    def __init__(self, config: ECGNet1DConfig) -> None:
        super().__init__(config)
        self.stem = ECGNet1DStem(config)
        self.stages = nn.ModuleList(ECGNet1DStage(config, index) for index in range(len(config.stage_dims)))
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens and features of records.

        Args:
            input_values: `(B, L, T)` of any length; leads that the model knows and the input lacks are taken as zero.
            lead_indices: slots of the leads, one list for the batch or one a record.

        Returns:
            `last_hidden_state (B, T', D)`, one token for every 2 ** (stages + 1) samples, and `pooler_output (B, D)`,
            their mean, the feature before the published head.
        """
        check_input(input_values)
        input_values = to_lead_table(lead_indices, input_values, self.config.num_leads)
        tokens = self.stem(input_values)  # (B, ceil(T / 2), D)
        for stage in self.stages:
            tokens = stage(tokens)
        return ECGModelOutput(last_hidden_state=tokens, pooler_output=tokens.mean(dim=1))


class ECGNet1DForSequenceClassification(ECGForSequenceClassification, ECGNet1DPreTrainedModel):
    """Net1D with a linear head on the mean token, as published."""

    config: ECGNet1DConfig
    base_class = ECGNet1DModel


__all__ = ["ECGNet1DForSequenceClassification", "ECGNet1DModel", "ECGNet1DPreTrainedModel"]
