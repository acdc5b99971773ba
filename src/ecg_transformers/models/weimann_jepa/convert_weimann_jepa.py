"""Checkpoints of kweimann/ECG-JEPA (training state, target encoder alone, fine-tuned classifier) into our classes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ecg_transformers.models.shared.state_dicts import (
    CheckpointError,
    StateDictReader,
    load_converted,
    take_linear,
    take_packed_qkv,
)
from ecg_transformers.models.weimann_jepa.configuration_weimann_jepa import WeimannJEPAConfig
from ecg_transformers.models.weimann_jepa.modeling_weimann_jepa import (
    WeimannJEPAForPreTraining,
    WeimannJEPAForSequenceClassification,
    WeimannJEPAModel,
    WeimannJEPAPreTrainedModel,
)

TITLE = "JEPA of Weimann and Conrad"
# heads leave no trace in the tensors; those of the three published sizes, by width
HEADS = {"": {192: 4, 384: 6, 768: 12}, "predictor_": {96: 4, 192: 6, 384: 12}}
# fields of the `config` dictionary that the authors' scripts store, which tensors cannot tell
STORED_FIELDS = {
    "num_heads": "num_attention_heads",
    "pred_num_heads": "predictor_num_attention_heads",
    "depth": "num_hidden_layers",
    "pred_depth": "predictor_num_hidden_layers",
    "channel_size": "seq_len",
    "norm_eps": "norm_eps",
    "min_block_size": "min_block_size",
    "min_keep_ratio": "min_keep_ratio",
    "max_keep_ratio": "max_keep_ratio",
}
ATTENTION_HEAD = "attn_pool.cross_attention_block"
BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate",
    "mlp.fc2": "output",
}


def convert_weimann_jepa(state_dict: Mapping[str, Any], **config_overrides: Any) -> WeimannJEPAPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: the training state (`encoder.`, `target_encoder.`, `predictor.`), the target encoder alone, or a
            fine-tuned encoder (`encoder.`) with `attn_pool.` or `fc.`.
        config_overrides: what tensors cannot tell: `num_attention_heads` and `predictor_num_attention_heads` where the
            widths are not those of a published size, `seq_len` (5,000 as published), `norm_eps`, and the `pooling` of a
            classifier ("attention" with `attn_pool.`, else "mean").

    Returns:
        `WeimannJEPAForPreTraining` for a file with a predictor, `WeimannJEPAForSequenceClassification` for one with a
        head, else `WeimannJEPAModel`; in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    reader = StateDictReader(state_dict, TITLE)
    full = "predictor.embed.weight" in reader
    head = next((name for name in (f"{ATTENTION_HEAD}.proj", "fc") if f"{name}.weight" in reader), None)
    source = _encoder_prefix(reader)
    config = WeimannJEPAConfig(**{**_sizes(reader, source, full, head, config_overrides), **config_overrides})
    tensors: dict[str, Tensor] = {}
    model_class: type[WeimannJEPAPreTrainedModel] = WeimannJEPAModel
    if full:
        model_class = WeimannJEPAForPreTraining
        for part, target in (("encoder.", "student."), ("target_encoder.", "weimann_jepa.")):
            _take_encoder(reader, part, target, config, tensors)
        _take_predictor(reader, config, tensors)
    elif head:
        model_class = WeimannJEPAForSequenceClassification
        _take_encoder(reader, source, "weimann_jepa.", config, tensors)
        _take_head(reader, head, tensors)
    else:
        _take_encoder(reader, source, "", config, tensors)
    reader.finish()
    model = model_class(config)
    _fill_missing_biases(model, tensors)
    return load_converted(model, tensors)


def settings_in_file(content: Mapping[str, Any]) -> dict[str, Any]:
    """Config fields that the authors' scripts store beside the tensors: `config`, and `eval_config` of a classifier."""
    config, evaluation, tensors = (content.get(name) for name in ("config", "eval_config", "model"))
    if not isinstance(config, Mapping) or not isinstance(tensors, Mapping):
        return {}
    found = {ours: config[name] for name, ours in STORED_FIELDS.items() if isinstance(config.get(name), int | float)}
    if isinstance(evaluation, Mapping) and isinstance(evaluation.get("use_register"), bool):
        register = evaluation["use_register"]
        if "fc.weight" in tensors:
            found["pooling"] = "register" if register else "mean"
        elif f"{ATTENTION_HEAD}.proj.weight" in tensors:
            found["pooling"] = "attention" if register else "attention_patches"
    return found


def _encoder_prefix(reader: StateDictReader) -> str:
    for prefix in ("encoder.", "target_encoder.", ""):
        if f"{prefix}patch_embed.proj.weight" in reader:
            return prefix
    some = ", ".join(sorted(reader.tensors)[:6])
    raise CheckpointError(
        f"This is no checkpoint of the {TITLE}: the tensor 'patch_embed.proj.weight' is missing (it has {some}, …). Two "
        "models are called ECG-JEPA; the one of Kim (arXiv 2410.08559) is converted by ecg_jepa."
    )


def _sizes(
    reader: StateDictReader, source: str, full: bool, head: str | None, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Config fields that the tensors tell."""
    width, num_leads, patch_size = reader.take(f"{source}patch_embed.proj.weight", ndim=3).shape
    registers = f"{source}registers"
    sizes: dict[str, Any] = {
        "num_leads": num_leads,
        "patch_size": patch_size,
        "num_registers": reader.take(registers, ndim=3).shape[1] if registers in reader else 0,
        "qkv_bias": f"{source}blocks.0.attn.qkv.bias" in reader,
        # older files hold biases of the norms alone; the others are then zero
        "bias": any(f"{source}{name}.bias" in reader for name in ("norm", "patch_embed.proj", "blocks.0.attn.proj")),
        # loaded factors are used whatever they once started from
        "layer_scale_eps": 1e-5 if f"{source}blocks.0.attn_ls.weight" in reader else 0.0,
    }
    sizes |= _block_sizes(reader, source, "", width, overrides)
    if full:
        width = reader.take("predictor.embed.weight", ndim=2).shape[0]
        sizes |= _block_sizes(reader, "predictor.", "predictor_", width, overrides)
    if head:
        sizes["num_labels"] = reader.take(f"{head}.weight", ndim=2).shape[0]
        sizes["classifier_bias"] = f"{head}.bias" in reader
        sizes["pooling"] = "mean" if head == "fc" else "attention"
        _check_pooling(head, overrides)
    return sizes


def _check_pooling(head: str, overrides: Mapping[str, Any]) -> None:
    fitting = ("mean", "register") if head == "fc" else ("attention", "attention_patches")
    if overrides.get("pooling", fitting[0]) not in fitting:
        raise CheckpointError(
            f"{TITLE}: a head of {head.split('.')[0]!r} tensors pools by {' or '.join(fitting)}, not by "
            f"{overrides['pooling']!r}."
        )


def _block_sizes(
    reader: StateDictReader, source: str, prefix: str, width: int, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    name = f"{prefix}num_attention_heads"
    if name not in overrides and width not in HEADS[prefix]:
        raise CheckpointError(
            f"{TITLE}: the number of attention heads leaves no trace in the tensors, and a width of {width} is none of "
            f"the published ones ({', '.join(map(str, HEADS[prefix]))}); give {name}=…."
        )
    return {
        f"{prefix}hidden_size": width,
        f"{prefix}num_hidden_layers": reader.count(source + "blocks.{}."),
        f"{prefix}intermediate_size": reader.take(f"{source}blocks.0.mlp.fc1.weight", ndim=2).shape[0],
        name: overrides[name] if name in overrides else HEADS[prefix][width],
    }


def _take_encoder(
    reader: StateDictReader, source: str, target: str, config: WeimannJEPAConfig, out: dict[str, Tensor]
) -> None:
    if config.num_registers:
        out[f"{target}registers"] = reader.take(f"{source}registers")
    take_linear(reader, f"{source}patch_embed.proj", f"{target}embeddings.projection", out)
    for index in range(config.num_hidden_layers):
        _take_block(reader, f"{source}blocks.{index}", f"{target}encoder.layer.{index}", out)
    take_linear(reader, f"{source}norm", f"{target}layernorm", out)


def _take_predictor(reader: StateDictReader, config: WeimannJEPAConfig, out: dict[str, Tensor]) -> None:
    out["predictor.mask_token"] = reader.take("predictor.mask_token")
    take_linear(reader, "predictor.embed", "predictor.embed", out)
    for index in range(config.predictor_num_hidden_layers):
        _take_block(reader, f"predictor.blocks.{index}", f"predictor.blocks.layer.{index}", out)
    take_linear(reader, "predictor.norm", "predictor.norm", out)
    take_linear(reader, "predictor.proj", "predictor.projection", out)


def _take_block(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    take_packed_qkv(reader, f"{source}.attn.qkv", f"{target}.attention", out)
    for theirs, ours in BLOCK_NAMES.items():
        take_linear(reader, f"{source}.{theirs}", f"{target}.{ours}", out)
    for theirs, ours in (("attn_ls", "attention_scale"), ("mlp_ls", "output_scale")):
        factors = reader.take_optional(f"{source}.{theirs}.weight")
        if factors is not None:
            out[f"{target}.{ours}.weight"] = factors


def _take_head(reader: StateDictReader, head: str, out: dict[str, Tensor]) -> None:
    take_linear(reader, head, "classifier", out)
    if head == "fc":
        return
    out["attentive_pooling.query_token"] = reader.take("attn_pool.query_token")
    take_linear(reader, f"{ATTENTION_HEAD}.q", "attentive_pooling.query", out)
    for kind in ("weight", "bias"):
        packed = reader.take_optional(f"{ATTENTION_HEAD}.kv.{kind}")
        if packed is not None:
            for name, part in zip(("key", "value"), packed.chunk(2, dim=0), strict=True):
                out[f"attentive_pooling.{name}.{kind}"] = part.clone()


def _fill_missing_biases(model: WeimannJEPAPreTrainedModel, tensors: dict[str, Tensor]) -> None:
    """A file with biases of its norms and of no map of the encoder: those of the maps are zero."""
    maps = {
        f"{name}.bias": module.bias
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv1d) and module.bias is not None
    }
    ours = {name: bias for name, bias in maps.items() if not re.search(r"(query|key|value|classifier)\.bias$", name)}
    if not set(ours) & set(tensors):
        tensors.update({name: torch.zeros_like(bias) for name, bias in ours.items()})
