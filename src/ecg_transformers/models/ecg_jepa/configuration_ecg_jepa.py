# Copyright 2026 The ecg_transformers authors.
"""ECG-JEPA configuration."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import LABEL_RESOLUTIONS, ECGConfig, check_choice
from ecg_transformers.models.ecg_jepa.method import EIGHT_LEADS

PUBLISHED_MASK_RATIOS = {"block": [0.175, 0.225], "random": [0.6, 0.7]}


@strict
class ECGJEPAConfig(ECGConfig):
    """Configuration of ECG-JEPA (Kim, "Learning General Representation of 12-Lead Electrocardiogram with a
    Joint-Embedding Predictive Architecture", arXiv 2410.08559). Defaults are the released multi-block model, quirks of
    its code included.

    Args:
        patch_size: samples in one patch (50 = 0.2 s at 250 Hz).
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: the encoder; `intermediate_size` None
            is four times the width.
        predictor_hidden_size, predictor_num_hidden_layers, predictor_num_attention_heads, predictor_intermediate_size:
            the predictor.
        qkv_bias: bias of query, key and value.
        layer_norm_eps: of every norm, the target's included.
        hidden_dropout_prob, attention_probs_dropout_prob: 0 as published.
        drop_path_rate: stochastic depth of student, teacher and predictor in pre-training, rising from 0 to this rate.
        downstream_drop_path_rate: of the encoder alone and under a classification head; the released code uses 0
            there.
        cross_pattern: Cross-Pattern Attention (own lead and own time only); False is full attention, the ablation.
        cross_pattern_implementation: "auto", "structured", "dense" or "sdpa"; all give the same numbers.
        positions: "sincos" (fixed, published), "learnable", or "rotary" (turned queries and keys in place of added
            codes, after the authors' later experiments; no weights of that kind can be converted).
        position_length: "fixed" refuses records of another length than `seq_len`; "extended" continues the sine-cosine
            code to longer (or stops it at shorter) records, "interpolated" stretches the trained range over them.
        add_positions_every_layer: the code is added before every block and stays in the residual stream, so after l
            blocks it has been added l times (released code); False adds it once.
        predictor_lead_embedding: give the predictor the lead's half of the position code. In the released code that
            half is constant: the predictor is not told which lead it works on.
        train_predictor_positions: train learnable positions of the predictor; the released code leaves them frozen.
        mask_type: "block" (union of contiguous blocks) or "random" times.
        mask_ratio_range: range of the masked share, of a block for "block"; None takes the published one.
        num_mask_blocks: blocks of a multi-block mask.
        block_mask_include_last: let blocks reach the last patch; in the released code their start stops one early.
        mask_per_sample: draw a mask for every record; the released code draws one for the batch. The records of a
            batch then share the number of masked patches, and for blocks the largest masks give some patches back.
        loss: "smooth_l1" (released code, beta 1) or "l1" (the paper's text).
        target: "latent" (the teacher's tokens) or "signal" (the masked samples themselves, the paper's comparison).
        teacher_drop_path: the teacher runs with stochastic depth while it makes targets, so targets are stochastic
            (released code); False keeps it in eval mode.
        momentum_start, momentum_end: the teacher's momentum rises linearly from the first to behind the last step.
        export: which encoder `export_encoder()` hands out, "student" (released) or "target".
        initializer_range: standard deviation of linear weights and the mask token.
        init_truncation: cut initial weights at this many units. The released code cuts at 2.0, a hundred standard
            deviations, whose only effect is a rare weight of exactly 2; None does not reproduce that.
        patch_projection_scale: factor of the patch projection's initial weights. With 1 (published) tiny models on
            millivolts collapse onto their positions; 10 avoids it.
        label_resolution: what `ECGJEPAForTokenClassification` labels: "samples" or "patches".
        lead_subset_prob: how often a training pass of `ECGJEPAForTokenClassification` sees a random subset of the leads.
    """

    model_type = "ecg_jepa"

    num_leads: int = 8
    seq_len: int = 2500
    sampling_rate: float | int | None = 250
    patch_size: int = 50
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 16
    intermediate_size: int | None = None
    predictor_hidden_size: int = 384
    predictor_num_hidden_layers: int = 6
    predictor_num_attention_heads: int = 12
    predictor_intermediate_size: int | None = None
    qkv_bias: bool = False
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.1
    downstream_drop_path_rate: float | int = 0.0
    cross_pattern: bool = True
    cross_pattern_implementation: str = "auto"
    positions: str = "sincos"
    position_length: str = "fixed"
    add_positions_every_layer: bool = True
    predictor_lead_embedding: bool = False
    train_predictor_positions: bool = False
    mask_type: str = "block"
    mask_ratio_range: list[float | int] | None = None
    num_mask_blocks: int = 4
    block_mask_include_last: bool = False
    mask_per_sample: bool = False
    loss: str = "smooth_l1"
    target: str = "latent"
    teacher_drop_path: bool = True
    momentum_start: float | int = 0.996
    momentum_end: float | int = 1.0
    export: str = "student"
    initializer_range: float = 0.02
    init_truncation: float | int | None = None
    patch_projection_scale: float | int = 1.0
    label_resolution: str = "samples"
    lead_subset_prob: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        if self.lead_names is None and self.num_leads == len(EIGHT_LEADS) and self.sampling_rate is not None:
            self.lead_names = list(EIGHT_LEADS)
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        if self.predictor_intermediate_size is None:
            self.predictor_intermediate_size = 4 * self.predictor_hidden_size
        super().__post_init__(**kwargs)
        choices = {
            "cross_pattern_implementation": ("auto", "structured", "dense", "sdpa"),
            "positions": ("sincos", "learnable", "rotary"),
            "position_length": ("fixed", "extended", "interpolated"),
            "mask_type": tuple(PUBLISHED_MASK_RATIOS),
            "loss": ("smooth_l1", "l1"),
            "target": ("latent", "signal"),
            "export": ("student", "target"),
            "label_resolution": LABEL_RESOLUTIONS,
        }
        for name, allowed in choices.items():
            check_choice(self, name, allowed)
        self._check_sizes()

    def _check_sizes(self) -> None:
        if self.patch_size < 1 or self.seq_len % self.patch_size:
            raise ValueError(
                f"ECGJEPAConfig: seq_len {self.seq_len} is not a multiple of patch_size {self.patch_size}."
            )
        for prefix in ("", "predictor_"):
            width, heads = getattr(self, f"{prefix}hidden_size"), getattr(self, f"{prefix}num_attention_heads")
            if heads < 1 or width % heads:
                raise ValueError(f"ECGJEPAConfig: {prefix}hidden_size {width} is not divisible by {heads} heads.")
            if self.positions == "sincos" and width % 4:
                raise ValueError(
                    "ECGJEPAConfig: sine-cosine positions of lead and time need a width divisible by 4, "
                    f"{prefix}hidden_size is {width}."
                )
            if self.positions == "rotary" and (width // heads) % 4:
                raise ValueError(
                    "ECGJEPAConfig: rotary positions of lead and time need heads of a width divisible by 4, "
                    f"{prefix}hidden_size {width} over {heads} heads gives {width // heads}."
                )
        ratios = self.mask_ratio_range
        if ratios is not None and not (len(ratios) == 2 and 0 < ratios[0] <= ratios[1] < 1):
            raise ValueError(f"ECGJEPAConfig: mask_ratio_range must be two rising shares in (0, 1), got {ratios}.")
        if not 0 <= self.momentum_start <= self.momentum_end <= 1:
            raise ValueError("ECGJEPAConfig: momentum_start and momentum_end must rise within 0 … 1.")

    @property
    def num_patches(self) -> int:
        """Patches of one lead."""
        return self.seq_len // self.patch_size

    @property
    def mask_ratios(self) -> tuple[float, float]:
        """The range in force: the config's, or the published one of the mask type."""
        low, high = self.mask_ratio_range or PUBLISHED_MASK_RATIOS[self.mask_type]
        return low, high
