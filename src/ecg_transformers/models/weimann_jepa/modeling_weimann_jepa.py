# Copyright 2026 The ecg_transformers authors.
"""The JEPA of Weimann and Conrad (arXiv 2410.13867): encoder, pre-training against a slow teacher, classification."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.masking import gather_tokens, hidden_block_mask, split_times
from ecg_transformers.layers.positions import sincos_interleaved
from ecg_transformers.layers.transformer import LayerScale
from ecg_transformers.models.base import ECGEncoder, ECGPreTrainedModel, build_layers
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table
from ecg_transformers.models.shared.slow_teacher import PredictedTargetsOutput, SlowTeacher
from ecg_transformers.models.weimann_jepa.configuration_weimann_jepa import WeimannJEPAConfig

MAX_SEED = 2**32


@dataclass
class WeimannJEPAModelOutput(ModelOutput):
    """Output of the encoder.

    Attributes:
        last_hidden_state: `(B, n, D)` patch tokens after the final norm, registers left out.
        pooler_output: `(B, D)`, their mean.
        register_output: `(B, R, D)` registers after the final norm; None without registers.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    register_output: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class PositionRows(nn.Module):
    """The fixed table of times, `(num_patches, dim)`; not saved, because it is a formula."""

    table: Tensor

    def __init__(self, num_patches: int, dim: int) -> None:
        super().__init__()
        self.shape = (num_patches, dim)
        self.register_buffer("table", sincos_interleaved(num_patches, dim), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `(B, n, dim)` with the codes of times 0 … n - 1 added.

        Raises:
            ValueError: when there are more tokens than rows.
        """
        if tokens.shape[1] > self.shape[0]:
            raise ValueError(
                f"The input has {tokens.shape[1]} patches, the model was built for {self.shape[0]} at most (seq_len)."
            )
        return tokens + self.table[: tokens.shape[1]].to(tokens.dtype)


class WeimannJEPAEmbeddings(nn.Module):
    """Windows of all leads to tokens, with their times: `(B, L, T)` to `(B, T // patch_size, D)`."""

    def __init__(self, config: WeimannJEPAConfig) -> None:
        super().__init__()
        size = config.patch_size
        self.projection = nn.Conv1d(config.num_leads, config.hidden_size, size, stride=size, bias=config.bias)
        self.positions = PositionRows(config.num_patches, config.hidden_size)

    def forward(self, input_values: Tensor) -> Tensor:
        return self.positions(self.projection(input_values).transpose(1, 2))


class WeimannJEPAPredictor(nn.Module):
    """Predicts the teacher's tokens of hidden times from the visible ones."""

    def __init__(self, config: WeimannJEPAConfig) -> None:
        super().__init__()
        width = config.predictor_hidden_size
        self.embed = nn.Linear(config.hidden_size, width, bias=config.bias)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = PositionRows(config.num_patches, width)
        self.blocks = ECGEncoder(build_blocks(config, "predictor_", layer_scale=None))
        self.norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias)
        self.projection = nn.Linear(width, config.hidden_size, bias=config.bias)

    def forward(self, visible: Tensor, order: Tensor) -> Tensor:
        """Predictions at the hidden times.

        Args:
            visible: `(B, V, D)` tokens of the encoder.
            order: `(B, n)` times: the visible ones ascending, then the hidden ones ascending.

        Returns:
            `(B, n - V, D)`.
        """
        num_visible, num_hidden = visible.shape[1], order.shape[-1] - visible.shape[1]
        hidden = self.embed(visible)  # (B, V, P)
        masked = self.mask_token.to(hidden.dtype).expand(hidden.shape[0], num_hidden, -1)
        hidden = torch.cat([hidden, masked], dim=1) + self.positions.table[order].to(hidden.dtype)  # (B, n, P)
        hidden = self.norm(self.blocks(hidden))[:, num_visible:]
        return self.projection(hidden)


def build_blocks(config: WeimannJEPAConfig, prefix: str, layer_scale: float | None) -> nn.ModuleList:
    """The blocks of the encoder ("") or the predictor ("predictor_")."""
    return build_layers(
        config,
        getattr(config, f"{prefix}num_hidden_layers"),
        getattr(config, f"{prefix}hidden_size"),
        getattr(config, f"{prefix}num_attention_heads"),
        getattr(config, f"{prefix}intermediate_size"),
        layer_norm_eps=config.norm_eps,
        qkv_bias=config.qkv_bias,
        bias=config.bias,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        layer_scale=layer_scale,
    )


class WeimannJEPAPreTrainedModel(ECGPreTrainedModel):
    """Initialisation of the JEPA."""

    config: WeimannJEPAConfig
    base_model_prefix = "weimann_jepa"
    _no_split_modules = ["WeimannJEPAEmbeddings", "ECGLayer"]
    # a pre-training checkpoint holds more than the encoder, and its encoder is wanted
    _keys_to_ignore_on_load_unexpected = [r"^student\.", r"^predictor\."]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear | nn.Conv1d):
            init.trunc_normal_(module.weight, std=std)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, LayerScale):
            init.constant_(module.weight, module.initial)
        elif isinstance(module, PositionRows):
            init.copy_(module.table, sincos_interleaved(*module.shape))
        elif isinstance(module, ECGEncoder):
            layers: Any = module.layer
            for layer in layers:
                for branch in (layer.attention.output, layer.output):
                    init.trunc_normal_(branch.weight, std=std / math.sqrt(2 * self.config.num_hidden_layers))
        elif isinstance(module, WeimannJEPAModel) and module.registers is not None:
            init.trunc_normal_(module.registers, std=std)
        elif isinstance(module, WeimannJEPAPredictor):
            init.trunc_normal_(module.mask_token, std=std)


class WeimannJEPAModel(WeimannJEPAPreTrainedModel):
    """The encoder.

    Example:
        >>> config = WeimannJEPAConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4)
        >>> WeimannJEPAModel(config)(torch.randn(1, 12, 1250)).last_hidden_state.shape      # 2.5 s
        torch.Size([1, 50, 32])
    """

    embeddings: WeimannJEPAEmbeddings

    def __init__(self, config: WeimannJEPAConfig) -> None:
        super().__init__(config)
        self.embeddings = WeimannJEPAEmbeddings(config)
        shape = (1, config.num_registers, config.hidden_size)
        self.registers = nn.Parameter(torch.zeros(shape)) if config.num_registers else None
        self.encoder = ECGEncoder(build_blocks(config, "", config.layer_scale_eps or None))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps, bias=config.bias)
        self.post_init()

    def patch_projections(self) -> list[nn.Module]:
        return [self.embeddings.projection]

    @capture_outputs(tie_last_hidden_states=False)  # the last one is that of the last block, registers included
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        visible: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> WeimannJEPAModelOutput:
        """Tokens and features of records.

        Args:
            input_values: `(B, L, T)`, standardised; shorter than `seq_len` works, samples beyond the last whole patch
                are dropped.
            lead_indices: slots of the leads, one list for the batch or one a record; leads that are not given are
                taken as zero, their mean.
            visible: `(B, V)` times that the encoder sees (pre-training); None sees all.
        """
        check_input(input_values)
        if input_values.shape[-1] < self.config.patch_size:
            raise ValueError(
                f"An input of {input_values.shape[-1]} samples is shorter than one patch ({self.config.patch_size})."
            )
        tokens = self.embeddings(to_lead_table(lead_indices, input_values, self.config.num_leads))  # (B, n, D)
        if visible is not None:
            tokens = gather_tokens(tokens, visible)
        if self.registers is not None:
            tokens = torch.cat([self.registers.to(tokens.dtype).expand(tokens.shape[0], -1, -1), tokens], dim=1)
        tokens = self.layernorm(self.encoder(tokens, **kwargs))
        registers, patches = tokens.tensor_split((self.config.num_registers,), dim=1)
        return WeimannJEPAModelOutput(
            last_hidden_state=patches,
            pooler_output=patches.mean(dim=1),
            register_output=registers if self.config.num_registers else None,
        )


class WeimannJEPAStudentEncoder(WeimannJEPAModel):
    """The student: the same encoder, of another class because a checkpoint of the base model is not its checkpoint."""


class WeimannJEPAForPreTraining(SlowTeacher, WeimannJEPAPreTrainedModel):
    """Student, slow teacher and predictor.

    The teacher is the base model, because it is what the authors evaluate and fine-tune; it moves before each step.
    """

    config: WeimannJEPAConfig
    copy_name = "student"

    def __init__(self, config: WeimannJEPAConfig) -> None:
        super().__init__(config)
        self.student = WeimannJEPAStudentEncoder(config)
        self.weimann_jepa = WeimannJEPAModel(config)
        self.predictor = WeimannJEPAPredictor(config)
        self.post_init()

    def student_and_teacher(self) -> tuple[WeimannJEPAModel, WeimannJEPAModel]:
        return self.student, self.target_encoder

    @property
    def target_encoder(self) -> WeimannJEPAModel:
        """The teacher."""
        return self.weimann_jepa

    @property
    def moves_before_step(self) -> bool:
        return True

    def training_step_started(self, step: int, total_steps: int) -> None:
        self.update_target(self.target_momentum(step, total_steps))

    def export_encoder(self) -> WeimannJEPAModel:
        """A copy of the teacher, which is the encoder that the authors evaluate."""
        encoder = WeimannJEPAModel(self.config)
        encoder.load_state_dict(self.target_encoder.state_dict())
        return encoder.eval()

    # masks: one visible share for a batch, one mask for each record

    def draw_sample_noise(self, generator: torch.Generator | None) -> dict[str, Tensor]:
        """The seed of a record's mask, so that it does not depend on how a batch is split."""
        return {"mask_seeds": torch.randint(MAX_SEED, (), generator=generator)}

    def draw_batch_noise(self, generator: torch.Generator | None, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        share = self.config.min_keep_ratio + (self.config.max_keep_ratio - self.config.min_keep_ratio) * float(
            torch.rand((), generator=generator, dtype=torch.float64)
        )
        return {"mask": self.masks_from(batch["mask_seeds"], share, batch["input_values"].shape[-1])}

    def masks_from(self, seeds: Tensor, keep_ratio: float, num_samples: int) -> Tensor:
        """Bool `(B, n)`, True = hidden: one mask a seed, all with the same number of visible patches."""
        num_patches = num_samples // self.config.patch_size
        num_keep = math.ceil(keep_ratio * num_patches)
        size = max(1, min(self.config.min_block_size, num_patches - num_keep))
        rows = [hidden_block_mask(num_patches, num_keep, size, np.random.RandomState(int(seed))) for seed in seeds]
        return torch.from_numpy(np.stack(rows))

    @torch.no_grad()
    def make_targets(self, input_values: Tensor, lead_indices: LeadIndices | None, hidden: Tensor) -> Tensor:
        """The teacher's tokens `(B, K, D)` at the hidden times; it sees the whole record."""
        teacher = self.target_encoder(input_values, lead_indices=lead_indices, return_dict=True)
        return gather_tokens(teacher.last_hidden_state, hidden)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        mask: torch.Tensor | None = None,
        mask_seeds: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PredictedTargetsOutput:
        """Predictions of the teacher's tokens at hidden times, and the loss.

        Args:
            input_values: `(B, L, T)`, standardised.
            lead_indices: slots of the leads, one list for the batch or one a record.
            mask: bool `(B, n)` or `(n,)`, True = hidden, as many in each record; drawn when not given.
            mask_seeds: `(B,)` whole numbers that decide the mask that is drawn.
        """
        check_input(input_values)
        batch, num_patches = input_values.shape[0], input_values.shape[-1] // self.config.patch_size
        if mask is None:
            seeds = torch.randint(MAX_SEED, (batch,)) if mask_seeds is None else mask_seeds
            mask = self.draw_batch_noise(None, {"input_values": input_values, "mask_seeds": seeds})["mask"]
        split = split_times(mask, batch, num_patches, input_values.device)
        order = split.order.expand(batch, -1)  # (B, n)
        visible, hidden = order.tensor_split((split.num_visible,), dim=1)
        targets = self.make_targets(input_values, lead_indices, hidden)
        context = self.student(input_values, lead_indices=lead_indices, visible=visible, **kwargs)
        predictions = self.predictor(context.last_hidden_state, order)
        precision = torch.promote_types(predictions.dtype, torch.float32)  # never averaged in half precision
        return PredictedTargetsOutput(
            loss=nn.functional.l1_loss(predictions.to(precision), targets.to(precision)),
            predictions=predictions,
            targets=targets,
            mask=mask.to(device=input_values.device, dtype=torch.float32),
            last_hidden_state=context.last_hidden_state,
            hidden_states=context.hidden_states,
            attentions=context.attentions,
        )


class WeimannAttentivePooling(nn.Module):
    """A learned query attends to the tokens `(B, N, D)`; the heads side by side, `(B, D)`, are what the head maps."""

    def __init__(self, config: WeimannJEPAConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.query_token = nn.Parameter(torch.zeros(1, 1, width))
        self.query = nn.Linear(width, width, bias=config.qkv_bias)
        self.key = nn.Linear(width, width, bias=config.qkv_bias)
        self.value = nn.Linear(width, width, bias=config.qkv_bias)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = (
            projection(values).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection, values in (
                (self.query, self.query_token.to(tokens.dtype).expand(tokens.shape[0], -1, -1)),
                (self.key, tokens),
                (self.value, tokens),
            )
        )
        return nn.functional.scaled_dot_product_attention(query, key, value).flatten(1)  # (B, heads, 1, d) to (B, D)


class WeimannJEPAForSequenceClassification(ECGForSequenceClassification, WeimannJEPAPreTrainedModel):
    """The encoder with a published head (`config.pooling`) or an attention probe (`config.head_pooling="attention"`)."""

    config: WeimannJEPAConfig
    base_class = WeimannJEPAModel

    def build_classifier(self, size: int) -> nn.Module:
        if self.config.head_pooling == "pooler" and self.config.pooling.startswith("attention"):
            self.attentive_pooling = WeimannAttentivePooling(self.config)
        return nn.Linear(size, self.config.num_labels, bias=self.config.classifier_bias)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, WeimannAttentivePooling):
            init.trunc_normal_(module.query_token, std=self.config.initializer_range)

    def pool(self, outputs: ModelOutput, num_leads: int) -> Tensor:
        if self.config.head_pooling != "pooler" or self.config.pooling == "mean":
            return super().pool(outputs, num_leads)
        if self.config.pooling == "register":
            return outputs.register_output[:, 0]
        tokens = outputs.last_hidden_state
        if self.config.pooling == "attention" and outputs.register_output is not None:
            tokens = torch.cat([outputs.register_output, tokens], dim=1)
        return self.attentive_pooling(tokens)
