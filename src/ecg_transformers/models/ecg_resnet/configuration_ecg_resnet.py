# Copyright 2026 The ecg_transformers authors.
"""Configuration of the one-dimensional residual network (xresnet1d)."""

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, MAX_LAYERS, ECGConfig


@strict
class ECGResNetConfig(ECGConfig):
    """Sizes of an xresnet1d; the defaults are xresnet1d101 as in the PTB-XL benchmark, without its hidden head layer.

    Args:
        stem_dims: widths of the stem's convolutions; the first one has stride 2.
        stem_kernel_size, kernel_size: samples of a convolution in the stem and in the blocks.
        stage_dims: inner width of the blocks of each stage; every stage but the first halves the length.
        depths: blocks in each stage.
        expansion: 1 for blocks of two convolutions, otherwise bottlenecks whose output is `expansion` times wider.
        pooling: parts of `pooler_output`, statistics over time: "max", "mean", "last".
        classifier_hidden_sizes: None for a linear head; a list (it may be empty) for the published head with batch
            norm and dropout before each linear map, `[128]` in the PTB-XL benchmark.
        classifier_dropout: of that head; half of it before its hidden layers.
    """

    model_type = "ecg_resnet"

    num_leads: int = 12
    seq_len: int = 250
    sampling_rate: float | int | None = 100
    stem_dims: list[int] = field(default_factory=lambda: [32, 32, 64])
    stem_kernel_size: int = 5
    kernel_size: int = 5
    stage_dims: list[int] = field(default_factory=lambda: [64, 64, 64, 64])
    depths: list[int] = field(default_factory=lambda: [3, 4, 23, 3])
    expansion: int = 4
    pooling: list[str] = field(default_factory=lambda: ["max", "mean"])
    classifier_hidden_sizes: list[int] | None = None
    classifier_dropout: float | int = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if len(self.stage_dims) != len(self.depths) or not self.depths or not self.stem_dims:
            raise ValueError(
                f"ECGResNetConfig: stage_dims has {len(self.stage_dims)} entries, depths {len(self.depths)} and "
                f"stem_dims {len(self.stem_dims)}; a stage needs an entry in the first two, the stem one convolution."
            )
        sizes = [*self.stem_dims, *self.stage_dims, *self.depths, self.stem_kernel_size, self.kernel_size]
        fits = all(1 <= size <= MAX_HIDDEN_SIZE for size in [*sizes, self.hidden_size])
        if not fits or sum(self.depths) > MAX_LAYERS or len(self.stem_dims) > MAX_LAYERS:
            raise ValueError(
                f"ECGResNetConfig: widths and kernels must lie between 1 and {MAX_HIDDEN_SIZE}, with at most "
                f"{MAX_LAYERS} blocks; got {sizes} and expansion {self.expansion}."
            )
        if self.stem_kernel_size % 2 == 0 or self.kernel_size % 2 == 0:
            raise ValueError(
                "ECGResNetConfig: kernels must be odd, so that path and shortcut keep one length; got "
                f"stem_kernel_size {self.stem_kernel_size} and kernel_size {self.kernel_size}."
            )
        if not 1 <= len(self.pooling) <= 3 or set(self.pooling) - {"mean", "max", "last"}:
            raise ValueError(f"ECGResNetConfig: pooling takes some of mean, max, last; got {self.pooling}.")

    @property
    def hidden_size(self) -> int:
        """Width of a token: what the last stage gives out."""
        return self.stage_dims[-1] * self.expansion

    @property
    def num_hidden_layers(self) -> int:
        """Stages, each of which gives one entry of `hidden_states`."""
        return len(self.depths)
