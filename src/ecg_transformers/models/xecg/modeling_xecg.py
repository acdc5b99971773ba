# Copyright 2026 The ecg_transformers authors.
"""xECG (Lunelli et al., "BenchECG and xECG", arXiv 2509.10151): the encoder and a classification head."""

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.xlstm import (
    GatedFeedForward,
    HeadwiseLinear,
    MatrixMemoryCell,
    ResidualScaleNorm,
    ScalarMemoryCell,
    small_deviation,
)
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table
from ecg_transformers.models.outputs import ECGModelOutput
from ecg_transformers.models.xecg.configuration_xecg import XECGConfig


class XECGEmbeddings(nn.Module):
    """Windows of all leads to tokens, without positions: `(B, L, T)` to `(B, T // patch_size, D)`."""

    def __init__(self, config: XECGConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.projection = nn.Conv1d(config.num_leads, config.hidden_size, size, stride=size, bias=False)

    def forward(self, input_values: Tensor) -> Tensor:
        return self.projection(input_values).transpose(1, 2)


class XECGBlock(GradientCheckpointingLayer):
    """`x + cell(norm(x))`; a block with a scalar memory then adds `feed_forward(norm(x))`. With `reverse` the order of
    the tokens is turned for the next block."""

    def __init__(self, config: XECGConfig, kind: str, reverse: bool) -> None:
        super().__init__()
        self.reverse = reverse
        width, heads, kernel = config.hidden_size, config.num_attention_heads, config.conv_kernel
        inner = config.inner_size or 0
        self.norm = ResidualScaleNorm(width, eps=config.layer_norm_eps)
        self.cell: nn.Module
        if kind == "s":
            self.cell = ScalarMemoryCell(width, heads, kernel)
            self.feed_forward_norm = ResidualScaleNorm(width, eps=config.layer_norm_eps)
            self.feed_forward = GatedFeedForward(width, config.intermediate_size or 0)
        else:
            self.cell = MatrixMemoryCell(width, inner, heads, kernel, inner // config.qkv_piece_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.dropout(self.cell(self.norm(tokens)))
        if hasattr(self, "feed_forward"):
            tokens = tokens + self.dropout(self.feed_forward(self.feed_forward_norm(tokens)))
        return tokens.flip(1) if self.reverse else tokens


class XECGPreTrainedModel(ECGPreTrainedModel):
    """Initialisation of xECG, for training from scratch; the published one is not known in detail."""

    config: XECGConfig
    base_model_prefix = "xecg"
    _supports_sdpa = False
    _supports_flash_attn = False
    _supports_attention_backend = False
    _no_split_modules = ["XECGBlock"]
    _can_record_outputs = {"hidden_states": XECGBlock}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | HeadwiseLinear):
            init.normal_(module.weight, std=small_deviation(module.weight.shape[-1]))
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d):
            module.reset_parameters()
        elif isinstance(module, ResidualScaleNorm):
            init.zeros_(module.weight)
        elif isinstance(module, ScalarMemoryCell):
            init.zeros_(module.recurrent)
            init.copy_(module.bias, module.initial_bias())
        elif isinstance(module, MatrixMemoryCell):
            init.ones_(module.skip)
            init.constant_(module.forget_gate.bias, 4.0)  # memory that lasts


class XECGModel(XECGPreTrainedModel):
    """The encoder.

    Example:
        >>> config = XECGConfig(hidden_size=32, block_types=["s", "m", "s"])
        >>> XECGModel(config)(torch.randn(1, 12, 1000)).last_hidden_state.shape
        torch.Size([1, 40, 32])
    """

    embeddings: XECGEmbeddings

    def __init__(self, config: XECGConfig) -> None:
        super().__init__(config)
        self.embeddings = XECGEmbeddings(config)
        self.layers = nn.ModuleList(
            XECGBlock(config, kind, reverse=index + 1 < len(config.block_types))
            for index, kind in enumerate(config.block_types)
        )
        final = config.use_final_layer_norm
        self.layernorm = ResidualScaleNorm(config.hidden_size, eps=config.layer_norm_eps) if final else nn.Identity()
        self.post_init()

    def patch_projections(self) -> list[nn.Module]:
        return [self.embeddings.projection]

    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens and features of records.

        Args:
            input_values: `(B, L, T)` in millivolts, any length of at least one patch; samples beyond the last whole
                patch are dropped. Zeros in all leads are padding.
            lead_indices: slots of the leads, one list for the batch or one a record; leads that are not given are
                zero, as the authors fill them.

        Returns:
            `last_hidden_state (B, n, D)` and `pooler_output (B, D)`, over the patches that are no padding.
        """
        check_input(input_values)
        if input_values.shape[-1] < self.config.patch_size:
            raise ValueError(
                f"An input of {input_values.shape[-1]} samples is shorter than one patch ({self.config.patch_size})."
            )
        input_values = to_lead_table(lead_indices, input_values, self.config.num_leads)
        tokens = self.embeddings(input_values)  # (B, n, D)
        for layer in self.layers:
            tokens = layer(tokens)  # every other block reads backwards
        tokens = self.layernorm(tokens)
        return ECGModelOutput(last_hidden_state=tokens, pooler_output=self.pool(tokens, input_values))

    def pool(self, tokens: Tensor, input_values: Tensor) -> Tensor:
        """Mean or maximum of `tokens (B, n, D)` over the patches of `input_values` that are no padding; zeros where a
        record is nothing but padding."""
        starts = input_values[..., :: self.config.patch_size][..., : tokens.shape[1]]  # (B, L, n)
        valid = (starts != 0).any(dim=1)[..., None]  # (B, n, 1)
        if self.config.pooling == "max":
            highest = tokens.masked_fill(~valid, torch.finfo(tokens.dtype).min).amax(dim=1)
            return highest.masked_fill(~valid.any(dim=1), 0.0)
        return (tokens * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)


class XECGForSequenceClassification(ECGForSequenceClassification, XECGPreTrainedModel):
    """xECG with a linear head on the embedding (or an attention probe: `config.head_pooling="attention"`)."""

    config: XECGConfig
    base_class = XECGModel
