# Copyright 2026 The ecg_transformers authors.
"""Configuration of wav2vec 2.0 for ECG, and the way in for configs of MELP's Hub repository."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Self, TypeVar

from huggingface_hub.dataclasses import strict
from torch import Tensor

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, MAX_LAYERS, MAX_POSITIONS, ECGConfig, check_choice
from ecg_transformers.models.ecg_wav2vec2.labels_ecg_wav2vec2 import LABELS_BY_MAXIMUM
from ecg_transformers.models.ecg_wav2vec2.method import MELP_SIZES, METHOD

Count = TypeVar("Count", int, Tensor)


@strict
class ECGWav2Vec2Config(ECGConfig):
    """Sizes and wrapping of the network; the defaults are ECG-FM's.

    Args:
        variant: which of the published models this is: "ecg_fm", "deepecg_ssl", "melp" or "d_beta". It sets the
            defaults of `sampling_rate`, `seq_len` (0 takes it), `lead_names`, `class_token`, `pooling` and `feature_grad_mult`.
        conv_dim, conv_kernel, conv_stride, conv_bias: of the convolution stack, one entry a layer, without padding.
        num_conv_pos_embeddings, num_conv_pos_embedding_groups: kernel and groups of the position convolution.
        norm_first: norms before attention and feed-forward network instead of after them (no released model has it).
        feature_grad_mult: factor of the gradients that enter the convolution stack; 0 freezes it.
        class_token: a learned token before the others (D-BETA).
        pooling: of `pooler_output`: "mean_nonzero" divides the sum over tokens by the number of values that are not
            exactly zero, as published (padded tokens are); "attention" (MELP), "class_tanh" (D-BETA).
        shared_emb_dim, n_queries_contrast, embed_dim_caption, n_queries_caption, attn_pooler_heads: of the attention
            poolers.
        crop_aggregation: how the probabilities of a record's crops become one: "mean", or "ecg_fm", the published
            maximum for five labels and mean for the others.
        feat_proj_dropout: before the position convolution. feature_dropout: on what the quantiser sees.
        hidden_dropout, attention_dropout, activation_dropout, layerdrop: in the transformer. All are
            0 here; the recipes set them for their stages.
        num_codevectors_per_group, num_codevector_groups, codevector_dim, proj_codevector_dim: of the quantiser; a
            `codevector_dim` of 0 is as wide as the projection.
        num_negatives: false candidates of a masked token, from the same segment.
        mask_prob, mask_length, min_masks: share of masked tokens before spans overlap, tokens of a span, fewest spans.
        logit_temperature, cmsc_temperature: divide the cosines of the two contrasts.
        codebook_temperature: first and last temperature of the quantiser and the factor from step to step.
        completed_updates: steps that a checkpoint has behind it; the quantiser's temperature goes on from there.
        diversity_weight, feature_penalty_weight, cmsc_weight: of the losses beside the contrastive one.
        lead_mask_prob: probability with which pre-training sets a lead of a segment to zero.
    """

    model_type = "ecg_wav2vec2"
    # the names by which transformers' blocks ask for what is fixed here
    hidden_act: ClassVar[str] = "gelu"
    feat_extract_activation: ClassVar[str] = "gelu"

    variant: str | None = "ecg_fm"
    num_leads: int = 12
    seq_len: int = 0
    conv_dim: list[int] = field(default_factory=lambda: [256, 256, 256, 256])
    conv_kernel: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    conv_stride: list[int] = field(default_factory=lambda: [2, 2, 2, 2])
    conv_bias: bool = False
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    norm_first: bool = False
    layer_norm_eps: float = 1e-5
    feature_grad_mult: float | int | None = None
    class_token: bool | None = None
    pooling: str | None = None
    shared_emb_dim: int = 256
    n_queries_contrast: int = 14
    embed_dim_caption: int = 768
    n_queries_caption: int = 128
    attn_pooler_heads: int = 8
    crop_aggregation: str = "mean"
    feat_proj_dropout: float | int = 0.0
    feature_dropout: float | int = 0.0
    hidden_dropout: float | int = 0.0
    attention_dropout: float | int = 0.0
    activation_dropout: float | int = 0.0
    layerdrop: float | int = 0.0
    num_codevectors_per_group: int = 320
    num_codevector_groups: int = 2
    codevector_dim: int = 0
    proj_codevector_dim: int = 256
    num_negatives: int = 100
    mask_prob: float = 0.65
    mask_length: int = 10
    min_masks: int = 2
    logit_temperature: float = 0.1
    codebook_temperature: list[float] = field(default_factory=lambda: [2.0, 0.5, 0.999995])
    completed_updates: int = 0
    diversity_weight: float | int = 0.1
    feature_penalty_weight: float | int = 10
    cmsc_weight: float | int = 1
    cmsc_temperature: float = 0.1
    lead_mask_prob: float | int = 0.5

    def __post_init__(self, **kwargs: Any) -> None:
        check_choice(self, "variant", tuple(METHOD.variants))
        published = METHOD.variants[str(self.variant)].config
        for name in ("seq_len", "sampling_rate", "class_token", "pooling", "feature_grad_mult"):
            if getattr(self, name) is None or (name == "seq_len" and self.seq_len == 0):
                setattr(self, name, published[name])
        if self.lead_names is None and self.num_leads == len(published["lead_names"]):
            self.lead_names = list(published["lead_names"])
        super().__post_init__(**kwargs)
        check_choice(self, "pooling", ("mean_nonzero", "attention", "class_tanh"))
        check_choice(self, "crop_aggregation", ("mean", "ecg_fm"))
        self._check_sizes()
        if self.pooling == "class_tanh" and not self.class_token:
            raise ValueError("ECGWav2Vec2Config: pooling='class_tanh' reads the class token; set class_token=True.")
        if self.crop_aggregation == "ecg_fm" and not self.labels_by_maximum:
            raise ValueError(
                "ECGWav2Vec2Config: crop_aggregation='ecg_fm' takes the maximum for "
                f"{', '.join(LABELS_BY_MAXIMUM)}; id2label has none of them."
            )

    def _check_sizes(self) -> None:
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) >= 1:
            raise ValueError(
                "ECGWav2Vec2Config: conv_dim, conv_kernel and conv_stride need one entry a layer; got "
                f"{len(self.conv_dim)}, {len(self.conv_kernel)} and {len(self.conv_stride)} entries."
            )
        sizes = [*self.conv_dim, *self.conv_kernel, *self.conv_stride, self.num_conv_pos_embeddings]
        sizes += [self.shared_emb_dim, self.embed_dim_caption, self.n_queries_contrast, self.n_queries_caption]
        sizes += [self.num_codevectors_per_group, self.num_codevector_groups, self.proj_codevector_dim]
        if any(not 1 <= size <= MAX_HIDDEN_SIZE for size in sizes) or len(self.conv_dim) > MAX_LAYERS:
            raise ValueError(f"ECGWav2Vec2Config: sizes of layers must lie between 1 and {MAX_HIDDEN_SIZE}.")
        if not 1 <= self.num_negatives <= MAX_POSITIONS or not 1 <= self.mask_length <= MAX_POSITIONS:
            raise ValueError(
                f"ECGWav2Vec2Config: num_negatives and mask_length must lie between 1 and {MAX_POSITIONS}."
            )
        parts = {
            "num_attention_heads": self.hidden_size,
            "num_conv_pos_embedding_groups": self.hidden_size,
            "num_codevector_groups": self.codevector_dim or self.proj_codevector_dim,
        }
        if self.pooling == "attention":
            parts["attn_pooler_heads"] = self.shared_emb_dim
        for name, whole in parts.items():
            count = getattr(self, name)
            if count < 1 or whole % count:
                raise ValueError(f"ECGWav2Vec2Config: {name}={count} does not divide {whole}.")
        if len(self.codebook_temperature) != 3:
            raise ValueError("ECGWav2Vec2Config: codebook_temperature is [first, last, factor of a step].")
        if self.num_tokens(self.seq_len) < 1:
            raise ValueError(f"ECGWav2Vec2Config: seq_len {self.seq_len} is shorter than one token.")

    @property
    def labels_by_maximum(self) -> list[int]:
        """Classes whose probability in a record is the largest of its segments' with `crop_aggregation="ecg_fm"`."""
        names: dict[int, str] = self.id2label or {}
        return [index for index, name in names.items() if name in LABELS_BY_MAXIMUM]

    def num_tokens(self, num_samples: Count) -> Count:
        """Tokens of `num_samples` samples (a number or a tensor)."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As in transformers; the `config.json` of MELP's Hub repository becomes a config of this class."""
        if config_dict.get("model_type") == "melp":
            config_dict = from_melp(config_dict)
        return super().from_dict(config_dict, **kwargs)


def from_melp(published: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of this package's config that MELP's `config.json` means.

    Raises:
        ValueError: a `model_size` that MELP does not have.
    """
    size = published.get("model_size", "small")
    if size not in MELP_SIZES:
        raise ValueError(f"A MELP config has model_size {', '.join(MELP_SIZES)}; got {size!r}.")
    taken = ("shared_emb_dim", "embed_dim_caption", "n_queries_contrast", "n_queries_caption", "attn_pooler_heads")
    fields = {name: published[name] for name in (*taken, "num_leads") if name in published}
    return {
        "model_type": "ecg_wav2vec2",
        "variant": "melp",
        "dtype": "float32",  # the file says bfloat16, which transformers would compute in
        "converted_from": "a Hub repository of the authors",
        "weights_licence": METHOD.variants["melp"].licence,
        **MELP_SIZES[size],
        **fields,
    }


class MELPConfig(ECGWav2Vec2Config):
    """The `model_type` of MELP's Hub repository: reading its `config.json` gives an `ECGWav2Vec2Config`."""

    model_type = "melp"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> ECGWav2Vec2Config:
        return ECGWav2Vec2Config.from_dict(config_dict, **kwargs)
