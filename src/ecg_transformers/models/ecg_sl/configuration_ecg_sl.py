# Copyright 2026 The ecg_transformers authors.
"""ECG-SL configuration."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import ECGConfig, check_choice
from ecg_transformers.signal.leads import STANDARD_LEADS

DEFAULT_LEADS = {1: ("II",), 12: STANDARD_LEADS}
CONV_STACKS = {
    6: ([32, 32, 64, 64, 128, 128], [7, 5, 5, 3, 3, 3], [1, 2, 1, 2, 1, 2]),
    3: ([32, 64, 128], [7, 5, 3], [2, 2, 2]),
}


@strict
class ECGSLConfig(ECGConfig):
    """Configuration of ECG-SL (Yu, Yang, Sano, 2023, arXiv 2310.00818).

    The paper's abstract fixes the architecture's outline (a convolutional beat autoencoder of six layers, a
    transformer over beats with positions, attention aggregation, two pre-training stages, one lead). No official code
    or weights exist; every number below is a choice of this package.

    Args:
        beat_len: points of a resampled beat; `seq_len` follows from it.
        num_leads: leads of a beat; they enter the first convolution together. The paper has one.
        num_conv_layers: convolutions of the structural encoder: 6, or 3 (three in the encoder and three in the decoder
            is the other reading of "6-layer"); any other number needs the three lists below.
        conv_channels, conv_kernels, conv_strides: of the structural encoder; the decoder mirrors them.
        norm: of the convolutions: "batch", or "group" (8 groups; no batch statistics).
        hidden_size: width of a beat embedding and of the transformer.
        num_hidden_layers, num_attention_heads, intermediate_size: the transformer over beats.
        hidden_dropout_prob, attention_probs_dropout_prob: of the transformer.
        position: "index" (number of the beat), "time" (seconds since the first beat, from the RR features) or "none".
        use_rr: add a linear map of the two RR features to each embedding; beats cut by cycle lose timing otherwise.
        aggregation: "attention", "mean" or "max" over the beats of a record.
        label_level: "record" and "window" give one prediction per sequence of beats, "beat" one per beat.
        class_weights: weights of the classes in the cross-entropy.
        stage: pre-training objective: "autoencoder" (each beat alone) or "masked" (beats from their neighbours).
        mask_ratio: share of the valid beats masked in the second stage (at least one, never all).
        freeze_structural: the second stage leaves the structural encoder as it is.
        max_beats: longest sequence in pre-training; a longer one needs an explicit mask.
    """

    model_type = "ecg_sl"

    num_leads: int = 1
    seq_len: int = 128
    beat_len: int = 128
    max_beats: int = 64
    num_conv_layers: int = 6
    conv_channels: list[int] | None = None
    conv_kernels: list[int] | None = None
    conv_strides: list[int] | None = None
    norm: str = "batch"
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int = 256
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02
    position: str = "index"
    use_rr: bool = True
    aggregation: str = "attention"
    label_level: str = "record"
    class_weights: list[float] | None = None
    head_dropout: float | int = 0.1
    stage: str = "masked"
    mask_ratio: float | int = 0.15
    freeze_structural: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        self.seq_len = self.beat_len
        if self.lead_names is None and self.num_leads in DEFAULT_LEADS:
            self.lead_names = list(DEFAULT_LEADS[self.num_leads])
        self._complete_convolutions()
        super().__post_init__(**kwargs)
        for name, allowed in {
            "norm": ("batch", "group"),
            "position": ("index", "time", "none"),
            "aggregation": ("attention", "mean", "max"),
            "label_level": ("record", "window", "beat"),
            "stage": ("autoencoder", "masked"),
            "head_pooling": ("pooler", "attention"),
        }.items():
            check_choice(self, name, allowed)
        if not 0 < self.mask_ratio < 1:
            raise ValueError(f"ECGSLConfig: mask_ratio must lie between 0 and 1, got {self.mask_ratio}.")
        if not 1 <= self.max_beats <= 1_000_000:
            raise ValueError(f"ECGSLConfig: max_beats must lie in 1 … 1000000, got {self.max_beats}.")
        if self.hidden_size % 2:
            raise ValueError(f"ECGSLConfig: sine-cosine positions need an even hidden_size, got {self.hidden_size}.")

    def _complete_convolutions(self) -> None:
        """Fill in the lists that were not given, and check that the three fit together."""
        default = CONV_STACKS.get(self.num_conv_layers, (None, None, None))
        names = ("conv_channels", "conv_kernels", "conv_strides")
        for name, values in zip(names, default):
            if getattr(self, name) is None:
                setattr(self, name, None if values is None else list(values))
        lists = [getattr(self, name) for name in names]
        if any(values is None or len(values) != self.num_conv_layers for values in lists):
            raise ValueError(
                f"ECGSLConfig: num_conv_layers={self.num_conv_layers} needs {', '.join(names)} of that many entries "
                "(6 and 3 have defaults)."
            )
        if any(not 1 <= value <= 4096 for values in lists for value in values):
            raise ValueError("ECGSLConfig: channels, kernels and strides must lie in 1 … 4096.")
        if any(kernel % 2 == 0 for kernel in self.conv_kernels or []):
            raise ValueError(f"ECGSLConfig: conv_kernels must be odd for same padding, got {self.conv_kernels}.")
        if self.norm == "group" and any(width % min(8, width) for width in self.conv_channels or []):
            raise ValueError(f'ECGSLConfig: norm="group" needs multiples of 8 channels, got {self.conv_channels}.')
