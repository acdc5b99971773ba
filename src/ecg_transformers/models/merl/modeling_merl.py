"""MERL's ECG encoders (Liu et al., "Zero-Shot ECG Classification with Multimodal Learning and Test-time Clinical
Knowledge Enhancement", ICML 2024): a ResNet or a ViT, and its projection into the space shared with reports."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.attention import SelfAttention
from ecg_transformers.layers.attention_pool import ClassTokenAttentionPool
from ecg_transformers.layers.resnet_blocks1d import ResNetBlock1d, conv_norm
from ecg_transformers.models.base import ECGEncoder, ECGLayer, ECGPreTrainedModel, build_layers
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table
from ecg_transformers.models.merl.configuration_merl import BOTTLENECK_EXPANSION, MERLConfig
from ecg_transformers.models.shared.staged import TokenStage


@dataclass
class MERLModelOutput(ModelOutput):
    """Output of a MERL encoder.

    Attributes:
        last_hidden_state: `(B, N, D)` tokens; of the ViT after its norm.
        pooler_output: `(B, D)`, their mean (of the ViT: the normed mean), the feature of the authors' linear probe.
        ecg_embeds: `(B, E)` in the space shared with reports, not normalised; None where there is no projection.
        pool_attention: `(B, 1, N)` weights of the ResNet's attention pool, mean over heads, class token left out.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    ecg_embeds: torch.Tensor | None = None
    pool_attention: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


def build_stage(config: MERLConfig, index: int) -> TokenStage:
    """The blocks of one stage of the ResNet; all but the first stage halve the length."""
    expansion = BOTTLENECK_EXPANSION if config.bottleneck else 1
    width = config.stage_dims[index - 1] * expansion if index else config.stem_dim
    dim, blocks = config.stage_dims[index], []
    for block in range(config.depths[index]):
        blocks.append(ResNetBlock1d(width, dim, stride=2 if index and not block else 1, expansion=expansion))
        width = dim * expansion
    return TokenStage(nn.Sequential(*blocks))


class MERLResNet(nn.Module):
    """`(B, L, T)` to tokens `(B, T', D)` and their mean; the stem has no pooling."""

    def __init__(self, config: MERLConfig) -> None:
        super().__init__()
        self.stem = conv_norm(config.num_leads, config.stem_dim, 7, 2)
        self.stages = nn.ModuleList(build_stage(config, index) for index in range(len(config.stage_dims)))

    def forward(self, input_values: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
        tokens = torch.relu(self.stem(input_values)).transpose(1, 2)  # (B, ceil(T / 2), D)
        for stage in self.stages:
            tokens = stage(tokens)
        return tokens, tokens.mean(dim=1)


class MERLViT(nn.Module):
    """`(B, L, T)` to normed tokens `(B, n, D)` and the norm of their mean; one token holds all leads of a window."""

    def __init__(self, config: MERLConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.seq_len = config.seq_len
        self.patch_embeddings = nn.Conv1d(config.num_leads, width, patch, patch, bias=False)
        self.position_embeddings = nn.Parameter(torch.zeros(1, config.num_patches, width))
        layers = build_layers(
            config,
            config.num_hidden_layers,
            width,
            config.num_attention_heads,
            config.intermediate_size,
            head_dim=config.attention_head_size,
            output_projection="auto",
            layer_norm_eps=config.layer_norm_eps,
            dropout=config.hidden_dropout_prob,
            attention_dropout=config.attention_probs_dropout_prob,
            drop_path=config.drop_path_rate,
        )
        self.encoder = ECGEncoder(layers)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, input_values: Tensor, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if input_values.shape[-1] != self.seq_len:
            raise ValueError(
                f"The model was built for {self.seq_len} samples, the input has {input_values.shape[-1]}: its learned "
                "positions fit one length only."
            )
        tokens = self.patch_embeddings(input_values).transpose(1, 2) + self.position_embeddings  # (B, n, D)
        tokens = self.encoder(tokens, **kwargs)
        return self.layernorm(tokens), self.layernorm(tokens.mean(dim=1))  # published: the norm comes after pooling


class MERLPoolProjection(nn.Module):
    """The ResNet's tokens into the shared space: a linear map, then attention pooling."""

    def __init__(self, config: MERLConfig) -> None:
        super().__init__()
        width, positions = config.projection_size or 1, config.pool_positions or 1 + resnet_tokens(config)
        self.down = nn.Conv1d(config.hidden_size, width, 1)
        self.pool = ClassTokenAttentionPool(width, positions, config.pool_num_attention_heads)

    def forward(self, tokens: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.pool(self.down(tokens.transpose(1, 2)).transpose(1, 2))


class MERLMeanProjection(nn.Module):
    """The ViT's feature into the shared space: two linear maps with batch norms."""

    def __init__(self, config: MERLConfig) -> None:
        super().__init__()
        inner, width = config.projection_hidden_size, config.projection_size or 1
        self.down = nn.Linear(config.hidden_size, inner)
        self.down_norm = nn.BatchNorm1d(inner)
        self.up = nn.Linear(inner, width)
        self.up_norm = nn.BatchNorm1d(width)

    def forward(self, tokens: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.up_norm(self.up(torch.relu(self.down_norm(self.down(pooled))))), None


def resnet_tokens(config: MERLConfig) -> int:
    """Tokens that the ResNet makes of `seq_len` samples."""
    length = -(-config.seq_len // 2)
    for _ in config.stage_dims[1:]:
        length = -(-length // 2)
    return length


class MERLPreTrainedModel(ECGPreTrainedModel):
    """Initialisation: torch's own, which the published code keeps, and its tables of positions."""

    config: MERLConfig
    base_model_prefix = "merl"
    # checkpointing would run the batch norms twice and count every batch twice in their running statistics
    supports_gradient_checkpointing = False
    _no_split_modules = ["TokenStage", "ECGLayer"]
    _can_record_outputs = {"hidden_states": [TokenStage, ECGLayer], "attentions": SelfAttention}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d | nn.Linear):
            module.reset_parameters()
        elif isinstance(module, MERLViT):
            init.normal_(module.position_embeddings)
        elif isinstance(module, ClassTokenAttentionPool):
            init.normal_(module.positions, std=1.0 / module.positions.shape[-1])
            init.normal_(module.cls_token)
            init.xavier_uniform_(module.attention.in_proj_weight)
            init.zeros_(module.attention.in_proj_bias)
            init.zeros_(module.attention.out_proj.bias)
        else:
            super()._init_weights(module)

    def patch_projections(self) -> list[nn.Module]:
        return [module.patch_embeddings for module in self.modules() if isinstance(module, MERLViT)]

    def get_input_embeddings(self) -> nn.Module:
        backbone = self.base_model.backbone
        return backbone.stem if isinstance(backbone, MERLResNet) else backbone.patch_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        backbone = self.base_model.backbone
        setattr(backbone, "stem" if isinstance(backbone, MERLResNet) else "patch_embeddings", value)


class MERLModel(MERLPreTrainedModel):
    """A MERL encoder, with its projection where `config.projection_size` is set.

    Example:
        >>> config = MERLConfig(stem_dim=8, stage_dims=[8, 16], depths=[1, 1], seq_len=500)
        >>> MERLModel(config)(torch.randn(1, 12, 500)).pooler_output.shape
        torch.Size([1, 16])
    """

    def __init__(self, config: MERLConfig) -> None:
        super().__init__(config)
        is_vit = config.backbone == "vit"
        self.backbone = MERLViT(config) if is_vit else MERLResNet(config)
        self.projection: nn.Module | None = None
        if config.projection_size is not None:
            self.projection = MERLMeanProjection(config) if is_vit else MERLPoolProjection(config)
        self.post_init()

    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MERLModelOutput:
        """Tokens and features of records.

        Args:
            input_values: `(B, L, T)`, scaled to [0, 1]; leads that the model knows and the input lacks are taken as zero.
            lead_indices: slots of the leads, one list for the batch or one a record.

        Raises:
            ValueError: another length than `seq_len` for a ViT, or another number of tokens than the attention pool of
                a ResNet has positions for.
        """
        check_input(input_values)
        input_values = to_lead_table(lead_indices, input_values, self.config.num_leads)
        tokens, pooled = self.backbone(input_values, **kwargs)
        embeds, attention = (None, None) if self.projection is None else self.projection(tokens, pooled)
        return MERLModelOutput(
            last_hidden_state=tokens, pooler_output=pooled, ecg_embeds=embeds, pool_attention=attention
        )


class MERLForSequenceClassification(ECGForSequenceClassification, MERLPreTrainedModel):
    """A MERL encoder with a linear head on the mean token."""

    config: MERLConfig
    base_class = MERLModel
