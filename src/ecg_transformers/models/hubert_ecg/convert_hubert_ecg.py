"""Published HuBERT-ECG checkpoints (pre-trained and fine-tuned) into our classes."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.hubert_ecg.configuration_hubert_ecg import HubertECGConfig, published_labels
from ecg_transformers.models.hubert_ecg.modeling_hubert_ecg import (
    HubertECGForSequenceClassification,
    HubertECGModel,
    HubertECGPreTrainedModel,
)
from ecg_transformers.models.shared.conv_position_encoder import WEIGHT_NORM_KEYS
from ecg_transformers.models.shared.state_dicts import CheckpointError, StateDictReader, load_converted

# small, base and large; hidden_size / 64 would give large 15 heads, and nothing would fail
HEADS = {512: 8, 768: 12, 960: 12}
# by the number of convolutions: leads at 100 and 500 Hz. Four (50 Hz: 4, 2, 2, 2) could be five that lost one.
STRIDES = {5: [4, 2, 2, 2, 2], 7: [5, 2, 2, 2, 2, 2, 2]}
UNUSED = (r"^final_proj\.", r"^label_embedding\.\d+\.")


def convert_hubert_ecg(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> HubertECGPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: an encoder's keys, alone or (fine-tuned) below `hubert_ecg.` beside `classifier.*` or
            `label_embedding.weight`; both generations of weight-norm names. The heads of pre-training, `final_proj.*`
            and `label_embedding.{k}.*`, are left out.
        config_overrides: what tensors cannot tell: `num_attention_heads` (known for the published widths),
            `conv_stride` (known for 5 and 7 convolutions), `activation` of a hidden head layer, `problem_type`.

    Returns:
        `HubertECGForSequenceClassification` when there is a head, else `HubertECGModel`; in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together, or when the number of heads or the
            strides would be a guess.
    """
    reader = StateDictReader(state_dict, "HuBERT-ECG")
    prefix = "hubert_ecg." if any(key.startswith("hubert_ecg.") for key in state_dict) else ""
    head: dict[str, Tensor] = {}
    encoder: dict[str, Tensor] = {}
    for key, tensor in reader.tensors.items():
        if key.startswith("classifier.") or key == "label_embedding.weight":
            head[key] = tensor
        elif not any(re.search(pattern, key) for pattern in UNUSED):
            encoder[_our_name(key.removeprefix(prefix))] = tensor
    sizes = {**_encoder_sizes(encoder, config_overrides), **_head_sizes(head, config_overrides), **config_overrides}
    width = sizes["hidden_size"]
    if "masked_spec_embed" not in encoder:  # old fine-tuned files lack it, and only pre-training uses it
        encoder["masked_spec_embed"] = encoder["encoder.layer_norm.weight"].new_zeros(width)
    if not head:
        return load_converted(HubertECGModel(HubertECGConfig(**sizes)), encoder)
    tensors = {f"hubert_ecg.{key}": tensor for key, tensor in encoder.items()}
    tensors |= {key.replace("label_embedding.", "classifier."): tensor for key, tensor in head.items()}
    return load_converted(HubertECGForSequenceClassification(HubertECGConfig(**sizes)), tensors)


def _our_name(key: str) -> str:
    for pattern, replacement in WEIGHT_NORM_KEYS.items():
        key = re.sub(pattern, replacement, key)
    return key


def _shape(tensors: Mapping[str, Tensor], key: str, ndim: int) -> tuple[int, ...]:
    if key not in tensors or tensors[key].ndim != ndim:
        found = "is missing" if key not in tensors else f"has shape {tuple(tensors[key].shape)}"
        some = ", ".join(sorted(tensors)[:4])
        raise CheckpointError(f"This is no HuBERT-ECG checkpoint: {key!r} {found} (it has {some}, …).")
    return tuple(tensors[key].shape)


def _encoder_sizes(tensors: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    width, in_group, kernel = _shape(tensors, "encoder.pos_conv_embed.conv.direction", 3)
    convolutions: list[tuple[int, ...]] = []
    while f"feature_extractor.conv_layers.{len(convolutions)}.conv.weight" in tensors:
        convolutions.append(_shape(tensors, f"feature_extractor.conv_layers.{len(convolutions)}.conv.weight", 3))
    layers = 0
    while f"encoder.layers.{layers}.attention.q_proj.weight" in tensors:
        layers += 1
    known: dict[str, Any] = {
        "num_attention_heads": HEADS.get(width),
        "conv_stride": STRIDES.get(len(convolutions)),
    }
    for name, value in known.items():
        if value is None and name not in overrides:
            raise CheckpointError(
                f"The HuBERT-ECG checkpoint has width {width} and {len(convolutions)} convolutions, none of the "
                f"published: its tensors do not tell {name}; give {name}=…."
            )
    return {
        **{name: value for name, value in known.items() if value is not None},
        "conv_dim": [shape[0] for shape in convolutions],
        "conv_kernel": [shape[2] for shape in convolutions],
        "num_conv_pos_embeddings": kernel,
        "num_conv_pos_embedding_groups": width // max(in_group, 1),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": _shape(tensors, "encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
    }


def _head_sizes(head: Mapping[str, Tensor], overrides: Mapping[str, Any]) -> dict[str, Any]:
    if not head:
        return {}
    sizes: dict[str, Any] = {"problem_type": "multi_label_classification", "head_dropout": 0.1}
    if "label_embedding.weight" in head:
        labels = _shape(head, "label_embedding.weight", 2)[0]
        sizes["use_label_embedding"] = True
    elif "classifier.weight" in head:
        labels = _shape(head, "classifier.weight", 2)[0]
    else:
        sizes["classifier_hidden_size"] = _shape(head, "classifier.0.weight", 2)[0]
        labels = _shape(head, "classifier.2.weight", 2)[0]
    if "id2label" in overrides:
        return sizes
    return sizes | {"num_labels": labels} | published_labels({"num_labels": labels})
