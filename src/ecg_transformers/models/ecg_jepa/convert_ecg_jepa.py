"""Official ECG-JEPA checkpoints (full training state, or the released encoder alone) into our classes."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_transformers.layers.positions import sincos_lead_time
from ecg_transformers.models.ecg_jepa.configuration_ecg_jepa import ECGJEPAConfig
from ecg_transformers.models.ecg_jepa.modeling_ecg_jepa import (
    ECGJEPAForPreTraining,
    ECGJEPAModel,
    ECGJEPAPreTrainedModel,
)
from ecg_transformers.models.shared.state_dicts import (
    CheckpointError,
    StateDictReader,
    load_converted,
    take_linear,
    take_packed_qkv,
)

TITLE = "ECG-JEPA"
PATCHES_OF_RELEASED_FILES = 50  # an encoder's table alone does not tell leads from patches
HEAD_WIDTHS = {"": 48, "predictor_": 32}  # of the released sizes; heads leave no trace in the tensors
TABLE_TOLERANCE = 1e-6

NOT_OURS = (
    "Two models are called ECG-JEPA: this one is Kim's (arXiv 2410.08559, repository sehunfromdaegu/ECG_JEPA); the "
    "one of Weimann and Conrad (arXiv 2410.13867) has another layout."
)


def convert_ecg_jepa(state_dict: Mapping[str, Any], **config_overrides: Any) -> ECGJEPAPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: the training state (`encoder.`, `target_encoder.`, `predictor.`), or an encoder alone: bare, with
            the prefix `encoder.`, or wrapped as released, `{"encoder": …, "epoch": …}`.
        config_overrides: what tensors cannot tell. `num_attention_heads` and `predictor_num_attention_heads` are
            needed when heads are not 48 and 32 wide; `num_leads` (or `seq_len`) for an encoder alone whose leads do
            not have 50 patches; `positions="learnable"` for a trained position table.

    Returns:
        `ECGJEPAForPreTraining` for the training state, else `ECGJEPAModel`; in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over or do not fit together, when the position table is not the
            sine-cosine table, and for checkpoints with rotary positions.
    """
    reader = StateDictReader(flatten(state_dict), TITLE)
    refuse_other_models(reader)
    full = "predictor.predictor_embed.weight" in reader
    prefix = "encoder." if full or "encoder.W_P.weight" in reader else ""
    sizes = sizes_of(reader, prefix, full, config_overrides)
    config = ECGJEPAConfig(**{**sizes, **config_overrides})
    tensors: dict[str, Tensor] = {}
    if not full:
        take_encoder(reader, prefix, "", config, tensors)
        reader.finish()
        return load_converted(ECGJEPAModel(config), tensors)
    take_encoder(reader, prefix, "ecg_jepa.", config, tensors)
    teacher = "target_encoder." if "target_encoder.W_P.weight" in reader else prefix
    take_encoder(reader, teacher, "target_encoder.", config, tensors)
    take_predictor(reader, config, tensors)
    reader.finish()
    return load_converted(ECGJEPAForPreTraining(config), tensors)


def flatten(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Undo the wrappings seen in the wild: nested dictionaries, `module.` of data parallelism, an `epoch` beside."""
    nested = {key: value for key, value in state_dict.items() if isinstance(value, Mapping)}
    if not nested:
        return {re.sub(r"^module\.", "", str(key)): value for key, value in state_dict.items()}
    inner = {key: flatten(value) for key, value in nested.items()}
    parts = {key: inner[key] for key in ("encoder", "target_encoder", "predictor") if key in inner}
    if set(parts) == {"encoder"} or not parts:  # the released layout, {"encoder": …, "epoch": …}, or a plain wrapper
        return inner.get("encoder") or next(iter(inner.values()))
    return {f"{part}.{key}": value for part, tensors in parts.items() for key, value in tensors.items()}


def refuse_other_models(reader: StateDictReader) -> None:
    """Say clearly what a checkpoint is when it is not this model's."""
    rotary = [key for key in reader.tensors if re.search(r"rope|rotary|inv_freq|freqs", key, re.IGNORECASE)]
    if rotary:
        raise CheckpointError(
            f"This checkpoint has rotary positions ({rotary[0]!r}): it comes from later experiments of the ECG-JEPA "
            "authors, not from the published model, and cannot be converted."
        )
    if not any(key.endswith("W_P.weight") for key in reader.tensors):
        some = ", ".join(sorted(reader.tensors)[:6])
        raise CheckpointError(
            f"This is no {TITLE} checkpoint: the tensor 'W_P.weight' is missing (it has {some}, …). {NOT_OURS}"
        )
    if not any(key.endswith("pos_embed") for key in reader.tensors):
        raise CheckpointError(
            "This checkpoint has no position table ('pos_embed' is missing): probably it comes from the authors' "
            "later code with rotary positions, which is not the published model and cannot be converted."
        )


def sizes_of(reader: StateDictReader, prefix: str, full: bool, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Config fields that the tensors tell."""
    projection, table = reader.take(f"{prefix}W_P.weight", ndim=2), reader.take(f"{prefix}pos_embed", ndim=2)
    blocks = f"{prefix}encoder_blocks.blocks"
    sizes: dict[str, Any] = {
        "hidden_size": projection.shape[0],
        "patch_size": projection.shape[1],
        "num_hidden_layers": reader.count(blocks + ".{}."),
        "intermediate_size": reader.take(f"{blocks}.0.mlp.fc1.weight", ndim=2).shape[0],
        "qkv_bias": f"{blocks}.0.attn.qkv.bias" in reader,
    }
    sizes["num_attention_heads"] = heads_of_width(sizes["hidden_size"], "", overrides)
    num_patches = patches_per_lead(reader, table.shape[0], projection.shape[1], full, overrides)
    sizes["num_leads"] = table.shape[0] // num_patches
    sizes["seq_len"] = num_patches * projection.shape[1]
    if full:
        sizes["predictor_hidden_size"] = reader.take("predictor.predictor_embed.weight", ndim=2).shape[0]
        sizes["predictor_num_hidden_layers"] = reader.count("predictor.predictor_blocks.blocks.{}.")
        sizes["predictor_intermediate_size"] = reader.take(
            "predictor.predictor_blocks.blocks.0.mlp.fc1.weight", ndim=2
        ).shape[0]
        sizes["predictor_num_attention_heads"] = heads_of_width(sizes["predictor_hidden_size"], "predictor_", overrides)
        outputs = reader.take("predictor.predictor_proj.weight", ndim=2).shape[0]
        if outputs != sizes["hidden_size"]:
            raise CheckpointError(
                f"{TITLE}: the predictor gives vectors of {outputs} values, the encoder's tokens have "
                f"{sizes['hidden_size']}."
            )
    return sizes


def heads_of_width(width: int, prefix: str, overrides: Mapping[str, Any]) -> int:
    """Heads as given, or of the width that the released sizes have."""
    name = f"{prefix}num_attention_heads"
    if name in overrides:
        return int(overrides[name])
    heads, rest = divmod(width, HEAD_WIDTHS[prefix])
    if rest or not heads:
        raise CheckpointError(
            f"{TITLE}: the number of attention heads leaves no trace in the tensors, and a width of {width} is no "
            f"multiple of the released models' {HEAD_WIDTHS[prefix]} per head; give {name}=…."
        )
    return heads


def patches_per_lead(
    reader: StateDictReader, tokens: int, patch_size: int, full: bool, overrides: Mapping[str, Any]
) -> int:
    """Rows of the predictor's table, or as the overrides say, or 50 as in every released file."""
    if full:
        num_patches = reader.take("predictor.pos_embed", ndim=2).shape[0]
    elif "seq_len" in overrides:
        num_patches = overrides["seq_len"] // patch_size
    elif "num_leads" in overrides:
        num_patches = tokens // overrides["num_leads"]
    else:
        num_patches = PATCHES_OF_RELEASED_FILES
    if num_patches < 1 or tokens % num_patches:
        raise CheckpointError(
            f"{TITLE}: the position table has {tokens} rows, which are no whole number of leads with {num_patches} "
            "patches each; give num_leads=… or seq_len=…."
        )
    return num_patches


def check_table(
    table: Tensor, expected: Tensor, name: str, config: ECGJEPAConfig, target: str, out: dict[str, Tensor]
) -> None:
    """A fixed table must be the formula, which our models build themselves; a learned one is taken."""
    if table.shape != expected.shape:
        raise CheckpointError(
            f"{TITLE}: {name} has shape {tuple(table.shape)}, but {config.num_leads} leads with {config.num_patches} "
            f"patches need {tuple(expected.shape)}."
        )
    if config.positions == "learnable":
        out[target] = table
        return
    error = float((table.double() - expected.double()).abs().max())
    if not error <= max(TABLE_TOLERANCE, torch.finfo(table.dtype).eps):  # half-precision files round the table, too
        raise CheckpointError(
            f"{TITLE}: {name} differs from the sine-cosine table of lead and time by {error:.3g}. If it was trained, "
            'convert with positions="learnable"; otherwise the leads and patches are not those of the tensors.'
        )


def take_encoder(
    reader: StateDictReader, source: str, target: str, config: ECGJEPAConfig, out: dict[str, Tensor]
) -> None:
    """Encoder tensors under our names."""
    expected = sincos_lead_time(config.num_leads, config.num_patches, config.hidden_size)
    table = reader.take(f"{source}pos_embed")
    check_table(table, expected, f"{source}pos_embed", config, f"{target}embeddings.positions.table", out)
    take_linear(reader, f"{source}W_P", f"{target}embeddings.projection", out)
    for index in range(config.num_hidden_layers):
        take_block(reader, f"{source}encoder_blocks.blocks.{index}", f"{target}encoder.layer.{index}", out)
    take_linear(reader, f"{source}norm", f"{target}layernorm", out)


def take_predictor(reader: StateDictReader, config: ECGJEPAConfig, out: dict[str, Tensor]) -> None:
    """Predictor tensors under our names."""
    table = reader.take("predictor.pos_embed")
    expected = sincos_lead_time(1, config.num_patches, config.predictor_hidden_size)
    check_table(table, expected, "predictor.pos_embed", config, "predictor.positions.table", out)
    out["predictor.mask_token"] = reader.take("predictor.mask_token")
    take_linear(reader, "predictor.predictor_embed", "predictor.embed", out)
    for index in range(config.predictor_num_hidden_layers):
        take_block(reader, f"predictor.predictor_blocks.blocks.{index}", f"predictor.blocks.layer.{index}", out)
    take_linear(reader, "predictor.predictor_norm", "predictor.norm", out)
    take_linear(reader, "predictor.predictor_proj", "predictor.projection", out)


BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output",
    "norm2": "layernorm_after",
    "mlp.fc1": "intermediate",
    "mlp.fc2": "output",
}


def take_block(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    """One block into a `TransformerBlock`."""
    take_packed_qkv(reader, f"{source}.attn.qkv", f"{target}.attention", out)
    for official, ours in BLOCK_NAMES.items():
        take_linear(reader, f"{source}.{official}", f"{target}.{ours}", out)
