"""ECGFounder's Net1D (Li et al., "An Electrocardiogram Foundation Model Built on over 10 Million Recordings", 2025)."""

import torch
from torch import Tensor, nn

from ecg_transformers.layers.net1d import STRIDE, Activation1d, Net1DBlock, SameConv1d
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_net1d.configuration_ecg_net1d import ECGNet1DConfig
from ecg_transformers.models.shared.staged import StagedModel, StagedPreTrainedModel, TokenStage


class ECGNet1DStem(nn.Module):
    """Signals `(B, L, T)` to `(B, D, ceil(T / 2))`."""

    def __init__(self, config: ECGNet1DConfig) -> None:
        super().__init__()
        self.conv = SameConv1d(config.num_leads, config.stem_dim, config.kernel_size, STRIDE)
        self.activation = Activation1d(config.stem_dim, config.use_batch_norm, 0.0)

    def forward(self, input_values: Tensor) -> Tensor:
        return self.activation(self.conv(input_values))


def build_stage(config: ECGNet1DConfig, index: int) -> TokenStage:
    """The blocks of one stage; the first one changes width and length."""
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
    return TokenStage(nn.Sequential(*blocks))


class ECGNet1DPreTrainedModel(StagedPreTrainedModel):
    """Initialisation of the network."""

    config: ECGNet1DConfig
    base_model_prefix = "ecg_net1d"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """torch's own initialisation, which the published code keeps."""
        if isinstance(module, nn.Conv1d | nn.Linear):
            module.reset_parameters()
        else:
            super()._init_weights(module)


class ECGNet1DModel(ECGNet1DPreTrainedModel, StagedModel):
    """The residual network without a head.

    Example:
        >>> config = ECGNet1DConfig(stem_dim=16, stage_dims=[16, 32], depths=[1, 2])
        >>> ECGNet1DModel(config)(torch.randn(1, 12, 1000)).pooler_output.shape
        torch.Size([1, 32])
    """

    def __init__(self, config: ECGNet1DConfig) -> None:
        super().__init__(config)
        self.stem = ECGNet1DStem(config)
        self.stages = nn.ModuleList(build_stage(config, index) for index in range(len(config.stage_dims)))
        self.post_init()


class ECGNet1DForSequenceClassification(ECGForSequenceClassification, ECGNet1DPreTrainedModel):
    """Net1D with a linear head on the mean token, as published."""

    config: ECGNet1DConfig
    base_class = ECGNet1DModel
