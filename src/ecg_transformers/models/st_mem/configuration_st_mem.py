# Copyright 2026 The ecg_transformers authors.
"""ST-MEM configuration."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.base import ECGConfig, check_choice


@strict
class STMEMConfig(ECGConfig):
    """Configuration of ST-MEM (Na et al., ICLR 2024). Defaults are the released base model.

    Args:
        patch_size: samples in one patch (75 = 0.3 s at 250 Hz).
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: the encoder.
        attention_head_size: width of a head; the released code fixes it at 64 whatever the width.
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size,
            decoder_attention_head_size: the decoder.
        qkv_bias: bias of query, key and value.
        attention_output_projection: "auto" leaves the projection out when one head is as wide as the tokens (released
            code), True always has it.
        hidden_dropout_prob, attention_probs_dropout_prob, drop_path_rate: 0 in every published configuration.
        input_dropout_prob: on the tokens, in the downstream forward only.
        layer_norm_eps: of every norm but the decoder's last one.
        decoder_norm_eps: of the decoder's last norm, which alone has 1e-6 in the released code.
        patch_norm: LayerNorm on the raw samples of a patch and again after the projection; takes away the amplitude.
        use_sep_embedding: separator tokens at both ends of each lead (off for the paper's ablation).
        use_lead_embedding: a learned vector per lead (off for the paper's ablation).
        decoder_mode: "lead_wise" decodes each lead alone (published), "joint" all leads together (ablation).
        train_position_embeddings: None as published: fixed in pre-training, trainable downstream.
        initializer: "mae" (published pre-training) or "torch_default" (the released code's training from scratch: torch's
            linear layers, tables and embeddings drawn with unit variance).
        initializer_range: standard deviation of separator, lead and mask vectors.
        mask_ratio: share of patches masked in every lead, rounded so that `int(n · (1 - ratio))` stay visible.
        norm_pix_loss: target patches normalised by their own mean and variance; class default False, recipes True.
        norm_target_unbiased: the target's variance divides by p - 1, as released.
        norm_target_eps: inside the root of the target's normalisation.
        loss_without_mask: "nan" as released (0/0 when nothing is masked), or "none".
        lead_mode: "first_n" takes the first embeddings of the table when no `lead_indices` are given;
            "official_broadcast" copies a single lead onto all embeddings and averages 22 separators in, as released.
        strict_length: refuse an input one patch longer than the table; the released code silently gives the extra patch
            the right separator's row.
    """

    model_type = "st_mem"

    patch_size: int = 75
    sampling_rate: float | int | None = 250
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    attention_head_size: int = 64
    decoder_hidden_size: int = 256
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    decoder_attention_head_size: int = 64
    qkv_bias: bool = True
    attention_output_projection: str | bool = "auto"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    input_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    layer_norm_eps: float = 1e-5
    decoder_norm_eps: float = 1e-6
    patch_norm: bool = True
    use_sep_embedding: bool = True
    use_lead_embedding: bool = True
    decoder_mode: str = "lead_wise"
    train_position_embeddings: bool | None = None
    initializer: str = "mae"
    initializer_range: float = 0.02
    mask_ratio: float | int = 0.75
    norm_pix_loss: bool = False
    norm_target_unbiased: bool = True
    norm_target_eps: float = 1e-6
    loss_without_mask: str = "nan"
    lead_mode: str = "first_n"
    strict_length: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.patch_size < 1 or self.seq_len % self.patch_size:
            raise ValueError(f"STMEMConfig: seq_len {self.seq_len} is not a multiple of patch_size {self.patch_size}.")
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"STMEMConfig: mask_ratio must lie in [0, 1), got {self.mask_ratio}.")
        check_choice(self, "decoder_mode", ("lead_wise", "joint"))
        check_choice(self, "initializer", ("mae", "torch_default"))
        check_choice(self, "loss_without_mask", ("nan", "none"))
        check_choice(self, "lead_mode", ("first_n", "official_broadcast"))

    @property
    def num_patches(self) -> int:
        """Patches of one lead."""
        return self.seq_len // self.patch_size
