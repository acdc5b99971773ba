# Copyright 2026 The ecg_transformers authors.
"""Configuration of Net1D, the network of ECGFounder."""

from dataclasses import field
from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, MAX_LAYERS, ECGConfig


@strict
class ECGNet1DConfig(ECGConfig):
    """Sizes of a Net1D; the defaults are those of ECGFounder with twelve leads.

    Args:
        stem_dim: width of the first convolution, which halves the length.
        stage_dims: width of each stage; every stage halves the length.
        depths: blocks in each stage.
        inner_dims: width of the grouped convolution in the blocks of each stage; None for `stage_dims`.
        num_groups: its groups; None for `stage_dims / 16`, as published.
        kernel_size: samples of the first and of the grouped convolutions.
        use_batch_norm: a batch norm before each activation. The released models have the tensors of all of them and use
            none, so the tensors cannot tell.
        hidden_dropout_prob: after each activation of a block.
    """

    model_type = "ecg_net1d"

    num_leads: int = 12
    seq_len: int = 5000
    sampling_rate: float | int | None = 500
    stem_dim: int = 64
    stage_dims: list[int] = field(default_factory=lambda: [64, 160, 160, 400, 400, 1024, 1024])
    depths: list[int] = field(default_factory=lambda: [2, 2, 2, 3, 3, 4, 4])
    inner_dims: list[int] | None = None
    num_groups: list[int] | None = None
    kernel_size: int = 16
    use_batch_norm: bool = False
    hidden_dropout_prob: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        per_stage = {"depths": self.depths, "inner_dims": self.inner_widths, "num_groups": self.groups}
        for name, values in per_stage.items():
            if not values or len(values) != len(self.stage_dims):
                raise ValueError(
                    f"ECGNet1DConfig: {name} has {len(values)} entries, stage_dims has {len(self.stage_dims)}: a stage "
                    "needs one of each."
                )
        sizes = [self.stem_dim, *self.stage_dims, *self.depths, *self.inner_widths, *self.groups, self.kernel_size]
        if not all(1 <= size <= MAX_HIDDEN_SIZE for size in sizes) or sum(self.depths) > MAX_LAYERS:
            raise ValueError(
                f"ECGNet1DConfig: widths, groups and kernel must lie between 1 and {MAX_HIDDEN_SIZE}, with at most "
                f"{MAX_LAYERS} blocks; got {sizes}."
            )
        for width, count in zip(self.inner_widths, self.groups):
            if width % count:
                raise ValueError(f"ECGNet1DConfig: {width} features cannot be parted into {count} groups.")

    @property
    def inner_widths(self) -> list[int]:
        """Width of the grouped convolutions of each stage."""
        return self.stage_dims if self.inner_dims is None else self.inner_dims

    @property
    def groups(self) -> list[int]:
        """Groups of these convolutions."""
        return [max(1, width // 16) for width in self.stage_dims] if self.num_groups is None else self.num_groups

    @property
    def hidden_size(self) -> int:
        """Width of a token: that of the last stage."""
        return self.stage_dims[-1]

    @property
    def num_hidden_layers(self) -> int:
        """Stages, each of which gives one entry of `hidden_states`."""
        return len(self.stage_dims)
