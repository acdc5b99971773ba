# Copyright 2026 The ecg_transformers authors.
"""Configuration of Weimann and Conrad's ECG-JEPA."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import ECGConfig, check_choice

POOLINGS = ("mean", "register", "attention", "attention_patches")


@strict
class WeimannJEPAConfig(ECGConfig):
    """Configuration of the JEPA of Weimann and Conrad ("Self-Supervised Pre-Training with Joint-Embedding Predictive
    Architecture Boosts ECG Classification Performance", arXiv 2410.13867). The defaults are its ViT-S.

    Args:
        patch_size: samples in one patch (25 = 50 ms at 500 Hz); a token sees all leads of its window.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: the encoder; `intermediate_size` None
            is four times the width.
        predictor_hidden_size, predictor_num_hidden_layers, predictor_num_attention_heads, predictor_intermediate_size:
            the predictor.
        num_registers: learned tokens in front that attend and are attended to; the predictor does not see them.
        bias: biases of norms, patches, attention outputs and MLPs; the published models have none.
        qkv_bias: bias of query, key and value.
        norm_eps: of every norm.
        layer_scale_eps: initial value of the learned factors on the encoder's residual branches; 0 has no factors.
        hidden_dropout_prob, attention_probs_dropout_prob: 0 in pre-training.
        min_keep_ratio, max_keep_ratio: range of the visible share; one value is drawn for a batch.
        min_block_size: patches of a hidden block, where the hidden blocks around it leave room for them.
        momentum_start, momentum_end: the teacher's momentum rises linearly. The teacher moves before it makes the
            targets of a step, as published.
        pooling: what the classification head reads: "mean" of the patch tokens, the first "register", "attention" of a
            learned query over registers and patches, or "attention_patches" over patches alone.
        classifier_bias: bias of the classification head; the published heads have none.
        initializer_range: standard deviation of initial weights; residual outputs start smaller by the root of twice
            the encoder's depth, in the predictor too (released code).
    """

    model_type = "weimann_jepa"

    num_leads: int = 12
    seq_len: int = 5000
    sampling_rate: float | int | None = 500
    patch_size: int = 25
    hidden_size: int = 384
    num_hidden_layers: int = 8
    num_attention_heads: int = 6
    intermediate_size: int | None = None
    predictor_hidden_size: int = 192
    predictor_num_hidden_layers: int = 8
    predictor_num_attention_heads: int = 6
    predictor_intermediate_size: int | None = None
    num_registers: int = 1
    bias: bool = False
    qkv_bias: bool = False
    norm_eps: float = 1e-6
    layer_scale_eps: float | int = 0.0
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    min_keep_ratio: float | int = 0.15
    max_keep_ratio: float | int = 0.25
    min_block_size: int = 10
    momentum_start: float | int = 0.998
    momentum_end: float | int = 0.9995
    pooling: str = "mean"
    classifier_bias: bool = False
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        if self.predictor_intermediate_size is None:
            self.predictor_intermediate_size = 4 * self.predictor_hidden_size
        super().__post_init__(**kwargs)
        check_choice(self, "pooling", POOLINGS)
        self._check_sizes()

    def _check_sizes(self) -> None:
        if not 1 <= self.patch_size <= self.seq_len:
            raise ValueError(
                f"WeimannJEPAConfig: patch_size {self.patch_size} must lie within 1 … seq_len ({self.seq_len})."
            )
        for prefix in ("", "predictor_"):
            width, heads = getattr(self, f"{prefix}hidden_size"), getattr(self, f"{prefix}num_attention_heads")
            if heads < 1 or width % heads:
                raise ValueError(f"WeimannJEPAConfig: {prefix}hidden_size {width} is not divisible by {heads} heads.")
            if width % 2:
                raise ValueError(
                    f"WeimannJEPAConfig: sine-cosine positions need an even {prefix}hidden_size, got {width}."
                )
        if not 0 <= self.num_registers <= self.num_patches + 64:
            raise ValueError(f"WeimannJEPAConfig: num_registers {self.num_registers} is no sensible number.")
        if self.pooling == "register" and not self.num_registers:
            raise ValueError('WeimannJEPAConfig: pooling="register" needs num_registers of at least 1.')
        if not 0 < self.min_keep_ratio <= self.max_keep_ratio < 1:
            raise ValueError(
                "WeimannJEPAConfig: min_keep_ratio and max_keep_ratio must rise within 0 … 1, got "
                f"{self.min_keep_ratio} and {self.max_keep_ratio}."
            )
        if self.min_block_size < 1:
            raise ValueError(f"WeimannJEPAConfig: min_block_size must be at least 1, got {self.min_block_size}.")
        if not 0 <= self.momentum_start <= self.momentum_end <= 1:
            raise ValueError("WeimannJEPAConfig: momentum_start and momentum_end must rise within 0 … 1.")

    @property
    def num_patches(self) -> int:
        """Tokens of a record, which are rows of the position table."""
        return self.seq_len // self.patch_size
