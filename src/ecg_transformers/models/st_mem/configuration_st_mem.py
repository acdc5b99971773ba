# Copyright 2026 The ecg_transformers authors.
"""ST-MEM configuration."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import LABEL_RESOLUTIONS, check_choice
from ecg_transformers.models.shared.class_token_config import MaskedClassTokenConfig


@strict
class STMEMConfig(MaskedClassTokenConfig):
    """Configuration of ST-MEM (Na et al., ICLR 2024). Defaults are the released base model.

    Args:
        patch_size: samples of one lead in one patch (75 = 0.3 s at 250 Hz).
        use_sep_embedding: separator tokens at both ends of each lead (off for the paper's ablation).
        use_lead_embedding: a learned vector per lead (off for the paper's ablation).
        decoder_mode: "lead_wise" decodes each lead alone (published), "joint" all leads together (ablation).
        initializer: "mae" (published pre-training) or "torch_default" (the released code's training from scratch: torch's
            linear layers, tables and embeddings drawn with unit variance).
        initializer_range: standard deviation of separator, lead and mask vectors.
        mask_ratio: share of patches masked in every lead, rounded so that `int(n · (1 - ratio))` stay visible.
        lead_mode: "first_n" takes the first embeddings of the table when no `lead_indices` are given;
            "official_broadcast" copies a single lead onto all embeddings and averages 22 separators in, as released.
        strict_length: refuse an input one patch longer than the table; the released code silently gives the extra patch
            the right separator's row.
        label_resolution: what `STMEMForTokenClassification` labels: "samples" or "patches".
        lead_subset_prob: how often a training pass of `STMEMForTokenClassification` sees a random subset of the leads.
    """

    model_type = "st_mem"

    use_sep_embedding: bool = True
    use_lead_embedding: bool = True
    decoder_mode: str = "lead_wise"
    lead_mode: str = "first_n"
    strict_length: bool = False
    label_resolution: str = "samples"
    lead_subset_prob: float | int = 0.0

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_choice(self, "decoder_mode", ("lead_wise", "joint"))
        check_choice(self, "initializer", ("mae", "torch_default"))
        check_choice(self, "lead_mode", ("first_n", "official_broadcast"))
        check_choice(self, "label_resolution", LABEL_RESOLUTIONS)

    @property
    def num_patches(self) -> int:
        """Patches of one lead."""
        return self.seq_len // self.patch_size

    @property
    def num_tokens(self) -> int:
        """Tokens of one lead, without separators: its patches."""
        return self.num_patches

    @property
    def token_dim(self) -> int:
        """Raw values in one token: the samples of a patch."""
        return self.patch_size
