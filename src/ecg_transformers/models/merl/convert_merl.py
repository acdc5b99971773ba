"""MERL's checkpoints into our classes: ECG encoders alone, whole models, fine-tuned classifiers."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.merl.configuration_merl import MERLConfig
from ecg_transformers.models.merl.modeling_merl import MERLForSequenceClassification, MERLModel, MERLPreTrainedModel
from ecg_transformers.models.shared.state_dicts import (
    CheckpointError,
    StateDictReader,
    heads_of,
    load_converted,
    take_batch_norm,
    take_masked_autoencoder_block,
    take_weight_and_bias,
)

logger = logging.getLogger(__name__)

# the text tower and its projection, and two maps that only the uni-modal training loss uses
NOT_ECG = r"^(?:lm_model|proj_t|linear1|linear2)\."
WHOLE = "ecg_encoder."
HEAD_SIZE = 64  # of every released ViT, whatever its width


def convert_merl(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> MERLPreTrainedModel:
    """The ECG side of the model that the tensors describe.

    Whole files give the encoder with its projection, encoder files the encoder alone. The ResNet's `linear.*` is random
    in released files and dropped, unless `num_labels` says that it is a head; a ViT's `head.*` always is one.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    reader = StateDictReader(state_dict, "MERL")
    if dropped := reader.drop(NOT_ECG):
        logger.info("MERL: %d tensors of the text side and of training are not used: %s, …", len(dropped), dropped[0])
    prefix = WHOLE if any(key.startswith(WHOLE) for key in reader.tensors) else ""
    is_vit = f"{prefix}to_patch_embedding.weight" in reader
    sizes = _vit_sizes(reader, prefix, config_overrides) if is_vit else _resnet_sizes(reader, prefix)
    head = _head_of(reader, prefix, is_vit, config_overrides.get("num_labels"))
    target = "" if head is None else "merl."
    tensors = _vit(reader, prefix, f"{target}backbone") if is_vit else _resnet(reader, prefix, f"{target}backbone")
    if prefix:
        sizes |= _projection(reader, is_vit, f"{target}projection", tensors)
    if head is not None:
        take_weight_and_bias(reader, head, "classifier", tensors)
        sizes["num_labels"] = tensors["classifier.weight"].shape[0]
    reader.finish()
    model_class = MERLModel if head is None else MERLForSequenceClassification
    return load_converted(model_class(MERLConfig(**{**sizes, **config_overrides})), tensors)


def _head_of(reader: StateDictReader, prefix: str, is_vit: bool, num_labels: int | None) -> str | None:
    """The key of the head that the file holds, None where it holds none (or an untrained one)."""
    name = f"{prefix}{'head' if is_vit else 'linear'}"
    there = f"{name}.weight" in reader
    if num_labels is None:
        if not is_vit:
            reader.drop(rf"^{name}\.")
        return name if there and is_vit else None
    rows = reader.take(f"{name}.weight", ndim=2).shape[0]
    if rows != num_labels:
        raise CheckpointError(f"MERL: num_labels={num_labels} was asked for, the head {name}.weight has {rows} rows.")
    return name


def _resnet_sizes(reader: StateDictReader, prefix: str) -> dict[str, Any]:
    """Config fields that a ResNet's tensors tell."""
    first = reader.take(f"{prefix}conv1.weight", ndim=3)  # (width, leads, kernel)
    stages: list[str] = []
    while reader.count(f"{prefix}layer{len(stages) + 1}.{{}}."):
        stages.append(f"{prefix}layer{len(stages) + 1}")
    if not stages:
        raise CheckpointError("This is no MERL checkpoint: it has neither a ViT's patch embedding nor ResNet layers.")
    return {
        "backbone": "resnet",
        "num_leads": first.shape[1],
        "stem_dim": first.shape[0],
        "stage_dims": [reader.take(f"{stage}.0.conv1.weight", ndim=3).shape[0] for stage in stages],
        "depths": [reader.count(f"{stage}.{{}}.") for stage in stages],
        "bottleneck": f"{stages[0]}.0.conv3.weight" in reader,
    }


def _resnet(reader: StateDictReader, prefix: str, target: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    _take_conv_norm(reader, f"{prefix}conv1", f"{prefix}bn1", f"{target}.stem", out)
    stage = 0
    while depth := reader.count(f"{prefix}layer{stage + 1}.{{}}."):
        for index in range(depth):
            source, block = f"{prefix}layer{stage + 1}.{index}", f"{target}.stages.{stage}.blocks.{index}"
            for layer in range(3 if f"{source}.conv3.weight" in reader else 2):
                name = f"{block}.path.{layer}"
                _take_conv_norm(reader, f"{source}.conv{layer + 1}", f"{source}.bn{layer + 1}", name, out)
            if f"{source}.shortcut.0.weight" in reader:
                _take_conv_norm(reader, f"{source}.shortcut.0", f"{source}.shortcut.1", f"{block}.shortcut", out)
        stage += 1
    return out


def _take_conv_norm(reader: StateDictReader, conv: str, norm: str, target: str, out: dict[str, Tensor]) -> None:
    out[f"{target}.0.weight"] = reader.take(f"{conv}.weight")
    take_batch_norm(reader, norm, f"{target}.1", out)


def _vit_sizes(reader: StateDictReader, prefix: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Config fields that a ViT's tensors tell."""
    patches = reader.take(f"{prefix}to_patch_embedding.weight", ndim=3)  # (d, leads, patch)
    table = reader.take(f"{prefix}pos_embedding", ndim=3)  # (1, n, d)
    head_size = overrides.get("attention_head_size", HEAD_SIZE)
    return {
        "backbone": "vit",
        "num_leads": patches.shape[1],
        "patch_size": patches.shape[2],
        "seq_len": table.shape[1] * patches.shape[2],
        "hidden_size": patches.shape[0],
        "num_hidden_layers": reader.count(f"{prefix}block{{}}."),
        "num_attention_heads": heads_of(reader, f"{prefix}block0.attn.fn.to_qkv.weight", head_size),
        "attention_head_size": head_size,
        "intermediate_size": reader.take(f"{prefix}block0.ff.fn.net.0.weight", ndim=2).shape[0],
    }


def _vit(reader: StateDictReader, prefix: str, target: str) -> dict[str, Tensor]:
    out = {
        f"{target}.patch_embeddings.weight": reader.take(f"{prefix}to_patch_embedding.weight"),
        f"{target}.position_embeddings": reader.take(f"{prefix}pos_embedding"),
    }
    for index in range(reader.count(f"{prefix}block{{}}.")):
        take_masked_autoencoder_block(reader, f"{prefix}block{index}", f"{target}.encoder.layer.{index}", out)
    take_weight_and_bias(reader, f"{prefix}norm", f"{target}.layernorm", out)
    return out


def _projection(reader: StateDictReader, is_vit: bool, target: str, out: dict[str, Tensor]) -> dict[str, Any]:
    """Tensors of the projection into the shared space, and the config fields that they tell."""
    if is_vit:
        for source, name in (("0", "down"), ("3", "up")):
            take_weight_and_bias(reader, f"proj_e.{source}", f"{target}.{name}", out)
        for source, name in (("1", "down_norm"), ("4", "up_norm")):
            take_batch_norm(reader, f"proj_e.{source}", f"{target}.{name}", out)
        up = out[f"{target}.up.weight"]
        return {"projection_size": up.shape[0], "projection_hidden_size": up.shape[1]}
    take_weight_and_bias(reader, "downconv", f"{target}.down", out)
    pool = f"{target}.pool"
    table = reader.take("att_pool_head.positional_embedding", ndim=3)  # (1, n + 1, E)
    out[f"{pool}.positions"] = table
    out[f"{pool}.cls_token"] = reader.take("att_pool_head.cls_token")
    for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"):
        out[f"{pool}.attention.{name}"] = reader.take(f"att_pool_head.mhsa.{name}")
    take_weight_and_bias(reader, "att_pool_head.c_proj", f"{pool}.output", out)
    return {"projection_size": table.shape[2], "pool_positions": table.shape[1]}
