"""Official ST-MEM checkpoints (full, encoder alone, fine-tuned) into our classes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_transformers.models.shared.state_dicts import (
    CheckpointError,
    StateDictReader,
    heads_of,
    is_fixed_table,
    load_converted,
    take_linear,
    take_masked_autoencoder_block,
)
from ecg_transformers.models.st_mem.configuration_st_mem import STMEMConfig
from ecg_transformers.models.st_mem.modeling_st_mem import (
    STMEMForPreTraining,
    STMEMForSequenceClassification,
    STMEMModel,
    STMEMPreTrainedModel,
    separator_table,
)
from ecg_transformers.signal.leads import STANDARD_LEADS

HEAD_SIZE = 64  # fixed in the released code, so the number of heads follows from the tensors


def convert_st_mem(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> STMEMPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: official keys, with or without the `encoder.` prefix.
        config_overrides: what tensors cannot tell (`norm_pix_loss`, `mask_ratio`, …) or should be changed.

    Returns:
        `STMEMForPreTraining` for a full file, `STMEMForSequenceClassification` when there is a head, else `STMEMModel`;
        in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    reader = StateDictReader(state_dict, "ST-MEM")
    full = any(key.startswith("decoder_") for key in reader.tensors)
    prefix = "encoder." if "encoder.pos_embedding" in reader else ""
    sizes = encoder_sizes(reader, prefix)
    if full:
        sizes |= decoder_sizes(reader)
    elif "head.weight" in reader:
        sizes["num_labels"] = reader.take("head.weight", ndim=2).shape[0]
    wanted = config_overrides.get("num_leads", sizes["num_leads"])
    sizes["lead_names"] = None
    if sizes["num_leads"] == len(STANDARD_LEADS) and isinstance(wanted, int):
        sizes["lead_names"] = list(STANDARD_LEADS[: max(0, wanted)])  # the standard order; fewer leads are its first
    config = STMEMConfig(**{**sizes, **config_overrides})
    target = "" if not full and "num_labels" not in sizes else "st_mem."
    tensors = encoder_tensors(reader, prefix, target)
    fit_encoder(tensors, target, config)
    if full:
        take_decoder(reader, tensors)
        name = "decoder.position_embeddings"
        tensors[name] = fit_table(tensors[name], config.num_patches)
        names = [f"to_patch_embedding.{index}.{kind}" for index in (1, 2, 3) for kind in ("weight", "bias")]
        reader.take_duplicates({name: f"{prefix}{name}" for name in names})
        reader.finish()
        return load_converted(STMEMForPreTraining(config), tensors)
    if "num_labels" in sizes:
        take_linear(reader, "head", "classifier", tensors)
        reader.finish()
        return load_converted(STMEMForSequenceClassification(config), tensors)
    reader.finish()
    return load_converted(STMEMModel(config), tensors)


def fit_table(table: Tensor, num_patches: int) -> Tensor:
    """A position table, separator rows at both ends, for another number of patches.

    Fewer patches take the first rows and the right separator's row, as a shorter input does. More rows can only be made
    while the table still is the fixed sine-cosine one.

    Raises:
        CheckpointError: when a trained table would have to grow.
    """
    stored = table.shape[1] - 2
    if num_patches <= stored:
        return torch.cat([table[:, : num_patches + 1], table[:, -1:]], dim=1)
    if is_fixed_table(table, separator_table(stored, table.shape[2])):
        return separator_table(num_patches, table.shape[2]).to(table.dtype)
    raise CheckpointError(
        f"ST-MEM: the checkpoint has positions for {stored} patches and they were trained, so {num_patches} patches "
        "cannot be served: take a shorter seq_len."
    )


def fit_encoder(tensors: dict[str, Tensor], prefix: str, config: STMEMConfig) -> None:
    """Positions for the length asked for, and the first `num_leads` lead embeddings (the published route to fewer leads)."""
    positions, leads = f"{prefix}embeddings.position_embeddings", f"{prefix}embeddings.lead_embeddings.weight"
    tensors[positions] = fit_table(tensors[positions], config.num_patches)
    if config.num_leads < len(tensors[leads]):
        tensors[leads] = tensors[leads][: config.num_leads].clone()


def encoder_sizes(reader: StateDictReader, prefix: str) -> dict[str, Any]:
    """Config fields that the encoder's tensors tell."""
    projection = reader.take(f"{prefix}to_patch_embedding.2.weight", ndim=2)  # (d, p)
    table = reader.take(f"{prefix}pos_embedding", ndim=3)  # (1, n + 2, d)
    if table.shape[1] < 3:
        raise CheckpointError(
            f"ST-MEM: the position table has shape {tuple(table.shape)}, expected (1, patches + 2, d)."
        )
    return {
        "hidden_size": projection.shape[0],
        "patch_size": projection.shape[1],
        "seq_len": (table.shape[1] - 2) * projection.shape[1],
        "num_leads": reader.count(f"{prefix}lead_embeddings.{{}}"),
        "num_hidden_layers": reader.count(f"{prefix}block{{}}."),
        "num_attention_heads": heads_of(reader, f"{prefix}block0.attn.fn.to_qkv.weight", HEAD_SIZE),
        "intermediate_size": reader.take(f"{prefix}block0.ff.fn.net.0.weight", ndim=2).shape[0],
        "qkv_bias": f"{prefix}block0.attn.fn.to_qkv.bias" in reader,
    }


def decoder_sizes(reader: StateDictReader) -> dict[str, Any]:
    """Config fields that the decoder's tensors tell."""
    return {
        "decoder_hidden_size": reader.take("to_decoder_embedding.weight", ndim=2).shape[0],
        "decoder_num_hidden_layers": reader.count("decoder_blocks.{}."),
        "decoder_num_attention_heads": heads_of(reader, "decoder_blocks.0.attn.fn.to_qkv.weight", HEAD_SIZE),
        "decoder_intermediate_size": reader.take("decoder_blocks.0.ff.fn.net.0.weight", ndim=2).shape[0],
    }


def encoder_tensors(reader: StateDictReader, source: str, target: str) -> dict[str, Tensor]:
    """Encoder tensors under our names."""
    out: dict[str, Tensor] = {}
    embeddings = f"{target}embeddings"
    out[f"{embeddings}.position_embeddings"] = reader.take(f"{source}pos_embedding")
    out[f"{embeddings}.sep_token"] = reader.take(f"{source}sep_embedding")
    count = reader.count(f"{source}lead_embeddings.{{}}")
    leads = [reader.take(f"{source}lead_embeddings.{index}").flatten() for index in range(count)]
    if len({len(lead) for lead in leads}) != 1:
        raise CheckpointError(f"ST-MEM: the lead embeddings have {[len(lead) for lead in leads]} values.")
    out[f"{embeddings}.lead_embeddings.weight"] = torch.stack(leads)
    for index, name in ((1, "norm_in"), (2, "projection"), (3, "norm_out")):
        take_linear(reader, f"{source}to_patch_embedding.{index}", f"{embeddings}.patch_embeddings.{name}", out)
    for index in range(reader.count(f"{source}block{{}}.")):
        take_masked_autoencoder_block(reader, f"{source}block{index}", f"{target}encoder.layer.{index}", out)
    take_linear(reader, f"{source}norm", f"{target}layernorm", out)
    return out


def take_decoder(reader: StateDictReader, out: dict[str, Tensor]) -> None:
    """Decoder tensors under our names."""
    take_linear(reader, "to_decoder_embedding", "decoder.decoder_embed", out)
    out["decoder.mask_token"] = reader.take("mask_embedding")
    out["decoder.position_embeddings"] = reader.take("decoder_pos_embed", ndim=3)
    for index in range(reader.count("decoder_blocks.{}.")):
        take_masked_autoencoder_block(reader, f"decoder_blocks.{index}", f"decoder.layer.{index}", out)
    take_linear(reader, "decoder_norm", "decoder.norm", out)
    take_linear(reader, "decoder_head", "decoder.pred", out)
