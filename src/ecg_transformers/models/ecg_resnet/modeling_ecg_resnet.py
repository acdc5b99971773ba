"""xresnet1d (Strodthoff et al., "Deep Learning for ECG Analysis: Benchmarks and Insights from PTB-XL", 2021)."""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_transformers.layers.heads import NormedHead, time_statistics
from ecg_transformers.layers.resnet1d import XResNetStage1d, XResNetStem1d, ZeroBatchNorm1d
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_resnet.configuration_ecg_resnet import ECGResNetConfig
from ecg_transformers.models.shared.staged import StagedModel, StagedPreTrainedModel, TokenStage


class ECGResNetPreTrainedModel(StagedPreTrainedModel):
    """Initialisation of the ResNet."""

    config: ECGResNetConfig
    base_model_prefix = "ecg_resnet"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming-normal weights, zero biases, and a zero scale in the last norm of every block."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv1d | nn.Linear):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, ZeroBatchNorm1d):
            init.zeros_(module.weight)


class ECGResNetModel(ECGResNetPreTrainedModel, StagedModel):
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
            stages.append(TokenStage(stage))
            width = dim * config.expansion
        self.stages = nn.ModuleList(stages)
        self.post_init()

    @property
    def feature_size(self) -> int:
        return len(self.config.pooling) * self.config.hidden_size

    def pool(self, tokens: Tensor) -> Tensor:
        """The named statistics over time, by default maximum and mean: `(B, T', D)` to `(B, 2 D)`."""
        return time_statistics(tokens, self.config.pooling)


class ECGResNetForSequenceClassification(ECGForSequenceClassification, ECGResNetPreTrainedModel):
    """xresnet1d with a linear head, or with the published one (`config.classifier_hidden_sizes`)."""

    config: ECGResNetConfig
    base_class = ECGResNetModel

    def build_classifier(self, size: int) -> nn.Module:
        hidden = self.config.classifier_hidden_sizes
        if hidden is None:
            return super().build_classifier(size)
        return NormedHead(size, hidden, self.config.num_labels, self.config.classifier_dropout)
