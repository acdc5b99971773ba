# Copyright 2026 The ecg_transformers authors.
"""Configuration of xECG."""

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, MAX_LAYERS, ECGConfig, check_choice

PUBLISHED_BLOCKS = ("s", "s", "m", "m", "s", "s", "m", "m", "s")


@strict
class XECGConfig(ECGConfig):
    """Configuration of xECG (Lunelli et al., "BenchECG and xECG", npj Digital Medicine 2026, arXiv 2509.10151). The
    defaults are the released base model.

    Args:
        patch_size: samples in one patch (25 = 0.25 s at 100 Hz); a token sees all leads of its window.
        hidden_size: width of the tokens.
        block_types: kind of each block, "s" (scalar memory) or "m" (matrix memory). The order of the tokens is turned
            before every block but the first, so blocks alternate in direction; with an even number the tokens come
            out in reverse, as published.
        num_hidden_layers: their number, which follows from `block_types`; given without them, that many of the published.
        num_attention_heads: heads of the cells.
        intermediate_size: hidden width of the feed-forward of s-blocks; None is 1.3 times the width, rounded up to a
            multiple of 64.
        inner_size: width inside m-blocks; None is twice the width, rounded up to a multiple of 64.
        qkv_piece_size: features of a piece that query, key and value of m-blocks are mapped in.
        conv_kernel: tokens that the causal convolutions see.
        use_final_layer_norm: a norm after the last block; the released file has none.
        hidden_dropout_prob: after each cell and feed-forward; 0 as published.
        layer_norm_eps: of every norm.
        pooling: "avg" (or "mean") or "max" over the patches that are no padding. A patch is padding when its first
            sample is zero in all leads (published); it still runs through the network.
    """

    model_type = "xecg"

    num_leads: int = 12
    seq_len: int = 1000
    sampling_rate: float | int | None = 100
    patch_size: int = 25
    hidden_size: int = 1024
    block_types: list[str] = field(default_factory=lambda: list(PUBLISHED_BLOCKS))
    num_hidden_layers: int | None = None
    num_attention_heads: int = 4
    intermediate_size: int | None = None
    inner_size: int | None = None
    qkv_piece_size: int = 4
    conv_kernel: int = 4
    use_final_layer_norm: bool = False
    hidden_dropout_prob: float | int = 0.0
    layer_norm_eps: float = 1e-5
    pooling: str = "avg"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.intermediate_size is None:
            self.intermediate_size = -(-13 * self.hidden_size // 640) * 64
        if self.inner_size is None:
            self.inner_size = -(-2 * self.hidden_size // 64) * 64
        if self.num_hidden_layers is None:
            self.num_hidden_layers = len(self.block_types)
        elif self.block_types == list(PUBLISHED_BLOCKS):  # a smaller model: the first of the published blocks
            self.block_types = self.block_types[: max(self.num_hidden_layers, 0)]
        super().__post_init__(**kwargs)
        check_choice(self, "pooling", ("avg", "mean", "max"))
        self._check_sizes()

    def _check_sizes(self) -> None:
        if not 1 <= len(self.block_types) <= MAX_LAYERS or set(self.block_types) - {"s", "m"}:
            raise ValueError(f'XECGConfig: block_types is a list of "s" and "m", got {self.block_types[:12]}.')
        if self.num_hidden_layers != len(self.block_types):
            raise ValueError(
                f"XECGConfig: num_hidden_layers is {self.num_hidden_layers}, but block_types names "
                f"{len(self.block_types)} blocks; leave num_hidden_layers out."
            )
        if not 1 <= self.patch_size <= self.seq_len:
            raise ValueError(f"XECGConfig: patch_size {self.patch_size} must lie within 1 … seq_len ({self.seq_len}).")
        inner = self.inner_size or 0
        if not 1 <= inner <= 4 * MAX_HIDDEN_SIZE or not 1 <= self.conv_kernel <= MAX_HIDDEN_SIZE:
            raise ValueError(
                f"XECGConfig: inner_size {inner} and conv_kernel {self.conv_kernel} are no sensible sizes."
            )
        for name, width, parts in (
            ("hidden_size", self.hidden_size, self.num_attention_heads),
            ("inner_size", inner, self.num_attention_heads),
            ("inner_size", inner, self.qkv_piece_size),
        ):
            if parts < 1 or width % parts:
                raise ValueError(f"XECGConfig: {name} {width} is not divisible by {parts}.")

    @property
    def num_patches(self) -> int:
        """Tokens of a record of `seq_len` samples."""
        return self.seq_len // self.patch_size
