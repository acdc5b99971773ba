# Copyright 2026 The ecg_transformers authors.
"""Configuration of MERL's ECG encoders."""

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, MAX_LAYERS, MAX_POSITIONS, ECGConfig, check_choice

# as MIMIC-IV-ECG stores them, on which the encoders were trained: aVF before aVL
MERL_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
BOTTLENECK_EXPANSION = 4


@strict
class MERLConfig(ECGConfig):
    """Sizes of a MERL encoder; the defaults are those of the released ResNet-18.

    Args:
        backbone: "resnet" or "vit".
        stem_dim, stage_dims, depths: widths of the ResNet's stem and of its stages' blocks, and blocks in each stage.
        bottleneck: blocks of three convolutions, four times wider at their end (ResNet-50 and deeper).
        patch_size: samples of a token of the ViT, over all leads.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: of the ViT; in a ResNet the first two
            follow from its stages.
        attention_head_size: 64 in every released ViT, whatever its width.
        layer_norm_eps: of the ViT.
        hidden_dropout_prob, attention_probs_dropout_prob, drop_path_rate: of the ViT.
        projection_size: width of the space shared with reports; None without a projection.
        projection_hidden_size: inner width of the ViT's projection.
        pool_num_attention_heads: of the ResNet's attention pool in front of that space.
        pool_positions: tokens that the attention pool was built for, its class token included.
    """

    model_type = "merl"

    num_leads: int = 12
    seq_len: int = 5000
    sampling_rate: float | int | None = 500
    backbone: str = "resnet"
    stem_dim: int = 64
    stage_dims: list[int] = field(default_factory=lambda: [64, 128, 256, 512])
    depths: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    bottleneck: bool = False
    patch_size: int = 50
    hidden_size: int = 192
    num_hidden_layers: int = 12
    num_attention_heads: int = 3
    attention_head_size: int = 64
    intermediate_size: int = 768
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    projection_size: int | None = None
    projection_hidden_size: int = 256
    pool_num_attention_heads: int = 4
    pool_positions: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.lead_names is None and self.num_leads == len(MERL_LEADS) and self.sampling_rate is not None:
            self.lead_names = list(MERL_LEADS)
        if self.backbone == "resnet" and self.stage_dims:
            self.hidden_size = self.stage_dims[-1] * (BOTTLENECK_EXPANSION if self.bottleneck else 1)
            self.num_hidden_layers = len(self.stage_dims)
        super().__post_init__(**kwargs)
        check_choice(self, "backbone", ("resnet", "vit"))
        if self.backbone == "resnet":
            self._check_resnet()
        elif self.seq_len % self.patch_size:
            raise ValueError(f"MERLConfig: patch_size {self.patch_size} must divide seq_len, which is {self.seq_len}.")
        sizes = [self.projection_hidden_size, self.pool_num_attention_heads, self.projection_size or 1]
        if (
            not all(1 <= size <= MAX_HIDDEN_SIZE for size in sizes)
            or not 1 <= (self.pool_positions or 1) <= MAX_POSITIONS
        ):
            raise ValueError(f"MERLConfig: the sizes of the projection must be positive and reasonable, got {sizes}.")
        if self.projection_size and self.projection_size % self.pool_num_attention_heads:
            raise ValueError(
                f"MERLConfig: projection_size {self.projection_size} cannot be parted into "
                f"{self.pool_num_attention_heads} heads."
            )

    def _check_resnet(self) -> None:
        if len(self.stage_dims) != len(self.depths) or not self.depths:
            raise ValueError(
                f"MERLConfig: stage_dims has {len(self.stage_dims)} entries and depths {len(self.depths)}: a stage needs "
                "one of each."
            )
        sizes = [self.stem_dim, *self.stage_dims, *self.depths]
        if not all(1 <= size <= MAX_HIDDEN_SIZE for size in sizes) or sum(self.depths) > MAX_LAYERS:
            raise ValueError(f"MERLConfig: widths and depths must be positive and reasonable, got {sizes}.")

    @property
    def num_patches(self) -> int:
        """Tokens of the ViT."""
        return self.seq_len // self.patch_size
