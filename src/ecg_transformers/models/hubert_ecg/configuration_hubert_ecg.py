# Copyright 2026 The ecg_transformers authors.
"""Configuration of HuBERT-ECG, for both kinds of `config.json` that its authors publish."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar, Self

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, MAX_LAYERS, ECGConfig, check_choice
from ecg_transformers.models.hubert_ecg.labels_hubert_ecg import CARDIO_LEARNING_LABELS
from ecg_transformers.models.hubert_ecg.method import METHOD

PROBLEM_OF_TASK = {
    "multi_label": "multi_label_classification",
    "multi_class": "single_label_classification",
    "regression": "regression",
}


@strict
class HubertECGConfig(ECGConfig):
    """Sizes of HuBERT-ECG; the defaults are the base model's.

    Args:
        seq_len: samples of one lead, 5 s; the network sees all leads one after the other.
        conv_dim, conv_kernel, conv_stride: of the convolutions, one entry a layer, without padding and bias.
        num_conv_pos_embeddings, num_conv_pos_embedding_groups: kernel and groups of the position convolution.
        feat_proj_dropout, hidden_dropout, attention_dropout, activation_dropout: dropouts of the network.
        layerdrop: probability with which a layer is skipped in training.
        freeze_feature_encoder: the convolutions keep their weights, as in the published fine-tuning.
        classifier_hidden_size: width of a hidden layer of the head, with `activation` behind it; None is a linear head.
        use_label_embedding: the head's logits are cosines of the embedding with one vector a class.
        vocab_sizes, ensemble_length, classifier_proj_size: of the authors' pre-training heads, which are not part of
            this package; kept from their files.
    """

    model_type = "hubert_ecg"
    # the names by which transformers' blocks ask for what is fixed here
    hidden_act: ClassVar[str] = "gelu"
    feat_extract_activation: ClassVar[str] = "gelu"
    feat_extract_norm: ClassVar[str] = "group"
    feat_proj_layer_norm: ClassVar[bool] = True
    conv_bias: ClassVar[bool] = False

    num_leads: int = 12
    seq_len: int = 500
    sampling_rate: float | int | None = 100
    conv_dim: list[int] = field(default_factory=lambda: [512, 512, 512, 512, 512])
    conv_kernel: list[int] = field(default_factory=lambda: [10, 3, 3, 2, 2])
    conv_stride: list[int] = field(default_factory=lambda: [4, 2, 2, 2, 2])
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    layer_norm_eps: float = 1e-5
    feat_proj_dropout: float | int = 0.0
    hidden_dropout: float | int = 0.1
    attention_dropout: float | int = 0.1
    activation_dropout: float | int = 0.1
    layerdrop: float | int = 0.1
    freeze_feature_encoder: bool = False
    classifier_hidden_size: int | None = None
    activation: str = "tanh"
    use_label_embedding: bool = False
    vocab_sizes: list[int] | None = None
    ensemble_length: int = 1
    classifier_proj_size: int = 256

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_choice(self, "activation", ("tanh", "relu", "gelu", "sigmoid"))
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) >= 1:
            raise ValueError(
                "HubertECGConfig: conv_dim, conv_kernel and conv_stride need one entry a layer; got "
                f"{len(self.conv_dim)}, {len(self.conv_kernel)} and {len(self.conv_stride)} entries."
            )
        sizes = [*self.conv_dim, *self.conv_kernel, *self.conv_stride, self.num_conv_pos_embeddings]
        sizes.append(self.classifier_hidden_size or 1)
        if any(not 1 <= size <= MAX_HIDDEN_SIZE for size in sizes) or len(self.conv_dim) > MAX_LAYERS:
            raise ValueError(f"HubertECGConfig: sizes of layers must lie between 1 and {MAX_HIDDEN_SIZE}.")
        for name in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            count = getattr(self, name)
            if count < 1 or self.hidden_size % count:
                raise ValueError(f"HubertECGConfig: {name}={count} does not divide hidden_size {self.hidden_size}.")

    @property
    def num_feat_extract_layers(self) -> int:
        """Number of convolutions, by the name that transformers' HuBERT asks for."""
        return len(self.conv_dim)

    def num_tokens(self, num_samples: int) -> int:
        """Tokens of `num_samples` samples, all leads together."""
        for kernel, stride in zip(self.conv_kernel, self.conv_stride):
            num_samples = (num_samples - kernel) // stride + 1
        return num_samples

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As in transformers; a `config.json` of the authors, of encoder or classifier, becomes a config of this class.

        Raises:
            ValueError: a published config with an option that no released model has.
        """
        # fields that a config of this class does not write; one that the authors' package wrote has no `auto_map`
        published = not FIXED.keys().isdisjoint(config_dict) or "hubert_ecg." in str(config_dict.get("auto_map"))
        if published or config_dict.get("model_type") == "hubert_ecg_classification":
            config_dict = from_published(config_dict)
        return super().from_dict(config_dict, **kwargs)


# fields of the authors' configs that mean the same here
TAKEN = (
    *("conv_dim", "conv_kernel", "conv_stride", "num_conv_pos_embeddings", "num_conv_pos_embedding_groups"),
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps"),
    *("feat_proj_dropout", "hidden_dropout", "attention_dropout", "activation_dropout", "layerdrop"),
    *("classifier_hidden_size", "activation", "use_label_embedding", "ensemble_length", "classifier_proj_size"),
    *("id2label", "label2id", "num_labels", "architectures"),
)
# options of their code with the one value that its released models have
FIXED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "feat_extract_norm": "group",
    "feat_proj_layer_norm": True,
    "do_stable_layer_norm": False,
    "conv_bias": False,
    "conv_pos_batch_norm": False,
    "use_weighted_layer_sum": False,
}


def from_published(published: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of this package's config that the authors' `config.json` means. Its masking fields are left behind: a
    classifier whose config was made from an old file still says 0.33, and must not mask.

    Raises:
        ValueError: an option that no released model has.
    """
    for name, value in FIXED.items():
        if published.get(name, value) != value:
            raise ValueError(f"A HuBERT-ECG config with {name}={published[name]!r} is not supported, only {value!r}.")
    fields = {name: published[name] for name in TAKEN if published.get(name) is not None}
    sizes = published.get("vocab_sizes")
    if sizes is not None:
        fields["vocab_sizes"] = [sizes] if isinstance(sizes, int) else list(sizes)
    if published.get("model_type") == "hubert_ecg_classification":
        fields["head_dropout"] = published.get("classifier_dropout_prob", 0.1)
        fields["problem_type"] = PROBLEM_OF_TASK.get(str(published.get("task_type", "multi_label")))
        fields |= published_labels(fields)
    source = {"converted_from": "a Hub repository of the authors", "weights_licence": METHOD.licence}
    return {"model_type": "hubert_ecg", **source, **fields}


def published_labels(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Names for 164 outputs without names: those of Cardio-Learning, which all published fine-tunings have."""
    names = fields.get("id2label") or {}
    count = len(names) or fields.get("num_labels")
    generic = all(str(name).startswith("LABEL_") for name in names.values())
    if count != len(CARDIO_LEARNING_LABELS) or not generic:
        return {}
    labels = dict(enumerate(CARDIO_LEARNING_LABELS))
    return {"id2label": labels, "label2id": {name: index for index, name in labels.items()}}


class HubertECGClassificationConfig(HubertECGConfig):
    """The `model_type` of the authors' fine-tuned repositories; their `config.json` gives a `HubertECGConfig`."""

    model_type = "hubert_ecg_classification"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> HubertECGConfig:
        return HubertECGConfig.from_dict(config_dict, **kwargs)
