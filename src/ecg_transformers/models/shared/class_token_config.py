# Copyright 2026 The ecg_transformers authors.
"""Configuration that transformers with a class token share: the plain ECG ViT, MTAE and MLAE."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import ECGConfig, check_choice


@strict
class ClassTokenConfig(ECGConfig):
    """The encoder. Defaults are the base size of the ST-MEM comparison.

    Args:
        patch_size: samples of every lead in one token (75 = 0.3 s at 250 Hz).
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: the encoder.
        attention_head_size: width of a head; the released code fixes it at 64 whatever the width.
        qkv_bias: bias of query, key and value.
        attention_output_projection: "auto" leaves the projection out when one head is as wide as the tokens (released
            code), True always has it.
        hidden_dropout_prob, attention_probs_dropout_prob, drop_path_rate: 0 in every published configuration.
        input_dropout_prob: on the tokens, when nothing is masked.
        layer_norm_eps: of every norm but the decoder's last one.
        patch_norm: LayerNorm on the raw values of a token and again after the projection; takes away the amplitude.
        train_position_embeddings: None as published: fixed in pre-training, trainable downstream.
        initializer: "mae" (published pre-training), "torch_default" (the released code's training from scratch:
            torch's linear layers, position table and class token drawn with unit variance) or "xavier_per_projection"
            (as "mae", but query, key and value count as matrices of their own, and the class token has a standard
            deviation of 1e-6).
        initializer_range: standard deviation of class and mask token with "mae".
    """

    patch_size: int = 75
    sampling_rate: float | int | None = 250
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    attention_head_size: int = 64
    qkv_bias: bool = True
    attention_output_projection: str | bool = "auto"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    input_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    layer_norm_eps: float = 1e-5
    patch_norm: bool = True
    train_position_embeddings: bool | None = None
    initializer: str = "mae"
    initializer_range: float = 0.02

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.patch_size < 1 or self.seq_len % self.patch_size:
            raise ValueError(
                f"{type(self).__name__}: seq_len {self.seq_len} is not a multiple of patch_size {self.patch_size}."
            )
        check_choice(self, "initializer", ("mae", "torch_default", "xavier_per_projection"))

    @property
    def num_tokens(self) -> int:
        """Tokens of a full input, without the class token."""
        return self.seq_len // self.patch_size

    @property
    def token_dim(self) -> int:
        """Raw values in one token."""
        return self.num_leads * self.patch_size


@strict
class MaskedClassTokenConfig(ClassTokenConfig):
    """The encoder with a decoder that reconstructs masked tokens.

    Args:
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size,
            decoder_attention_head_size: the decoder.
        decoder_norm_eps: of the decoder's last norm, which alone has 1e-6 in the released code.
        mask_ratio: share of tokens masked, rounded so that `int(n · (1 - ratio))` stay visible.
        norm_pix_loss: target tokens normalised by their own mean and variance; class default False, recipes True.
        norm_target_unbiased: the target's variance divides by the number of values minus 1, as released.
        norm_target_eps: inside the root of the target's normalisation.
        loss_without_mask: "nan" as released (0/0 when nothing is masked), or "none".
    """

    decoder_hidden_size: int = 256
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    decoder_attention_head_size: int = 64
    decoder_norm_eps: float = 1e-6
    mask_ratio: float | int = 0.75
    norm_pix_loss: bool = False
    norm_target_unbiased: bool = True
    norm_target_eps: float = 1e-6
    loss_without_mask: str = "nan"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"{type(self).__name__}: mask_ratio must lie in [0, 1), got {self.mask_ratio}.")
        check_choice(self, "loss_without_mask", ("nan", "none"))
