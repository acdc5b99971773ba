"""The released xECG file into our classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.shared.state_dicts import CheckpointError, StateDictReader, load_converted, take_linear
from ecg_transformers.models.xecg.configuration_xecg import XECGConfig
from ecg_transformers.models.xecg.modeling_xecg import XECGModel

TITLE = "xECG"
BLOCKS = "core.model.blocks.{}"
# The package that trained the model swaps the names of two gates: what it calls fgate acts as input gate.
SCALAR_GATES = {"fgate": "input_gate", "igate": "forget_gate", "zgate": "cell_input", "ogate": "output_gate"}


def convert_xecg(state_dict: Mapping[str, Any], **config_overrides: Any) -> XECGModel:
    """The encoder that the tensors describe.

    Args:
        state_dict: keys `patch_embedding.conv.weight` and `core.model.blocks.{i}.…`, with the recurrent tensors in the
            layout of the CUDA or of the plain backend. `mask_token`, a part of the pre-training, is dropped.
        config_overrides: what tensors cannot tell: `pooling` ("avg" as published); `num_attention_heads` need not be
            given.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    reader = StateDictReader(state_dict, TITLE)
    projection = reader.take("patch_embedding.conv.weight", ndim=3)
    count = reader.count(BLOCKS + ".")
    if not count:
        raise CheckpointError(f"This is no {TITLE} checkpoint: the tensors {BLOCKS.format(0)!r}, … are missing.")
    tensors: dict[str, Tensor] = {"embeddings.projection.weight": projection}
    sizes: dict[str, Any] = {
        "hidden_size": projection.shape[0],
        "num_leads": projection.shape[1],
        "patch_size": projection.shape[2],
        "block_types": [],
    }
    for index in range(count):
        scalar = f"{BLOCKS.format(index)}.xlstm.slstm_cell._recurrent_kernel_" in reader
        take = _take_scalar_block if scalar else _take_matrix_block
        sizes |= take(reader, BLOCKS.format(index), f"layers.{index}", tensors)
        sizes["block_types"].append("s" if scalar else "m")
    sizes["use_final_layer_norm"] = "core.model.post_blocks_norm.weight" in reader
    if sizes["use_final_layer_norm"]:
        tensors["layernorm.weight"] = reader.take("core.model.post_blocks_norm.weight")
    reader.take_optional("mask_token")
    reader.finish()
    sizes["seq_len"] = max(XECGConfig.seq_len, sizes["patch_size"])
    return load_converted(XECGModel(XECGConfig(**{**sizes, **config_overrides})), tensors)


def _take_scalar_block(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> dict[str, Any]:
    out[f"{target}.norm.weight"] = reader.take(f"{source}.xlstm_norm.weight")
    out[f"{target}.feed_forward_norm.weight"] = reader.take(f"{source}.ffn_norm.weight")
    take_linear(reader, f"{source}.xlstm.conv1d.conv", f"{target}.cell.conv", out)
    out[f"{target}.cell.norm.weight"] = reader.take(f"{source}.xlstm.group_norm.weight")
    for theirs, ours in SCALAR_GATES.items():
        out[f"{target}.cell.{ours}.weight"] = reader.take(f"{source}.xlstm.{theirs}.weight", ndim=3)
    cell = f"{source}.xlstm.slstm_cell"
    kernel, bias = _one_layout(reader, cell)
    out[f"{target}.cell.recurrent"], out[f"{target}.cell.bias"] = kernel, bias
    for name in ("up", "down"):
        take_linear(reader, f"{source}.ffn.proj_{name}", f"{target}.feed_forward.{name}", out)
    return {
        "num_attention_heads": kernel.shape[0],
        "conv_kernel": out[f"{target}.cell.conv.weight"].shape[-1],
        "intermediate_size": reader.take(f"{source}.ffn.proj_down.weight", ndim=2).shape[1],
    }


def _one_layout(reader: StateDictReader, cell: str) -> tuple[Tensor, Tensor]:
    """Recurrent kernel `(heads, in, slot · out)` and bias `(heads, slot · out)`, from either backend's layout."""
    kernel, bias = reader.take(f"{cell}._recurrent_kernel_", ndim=3), reader.take(f"{cell}._bias_", ndim=1)
    heads, first, second = kernel.shape
    if max(first, second) != 4 * min(first, second) or bias.numel() != heads * max(first, second):
        raise CheckpointError(
            f"{TITLE}: the recurrent kernel {cell!r} has shape {tuple(kernel.shape)} and its bias {bias.numel()} values: "
            "no layout of four slots."
        )
    if second > first:  # CUDA: [head, in, slot · out] and [head, slot, out]
        return kernel, bias.view(heads, second)
    width = second  # plain: [head, slot · out, in] and [slot, head, out]
    bias = bias.view(4, heads, width).transpose(0, 1).reshape(heads, 4 * width)
    return kernel.transpose(1, 2).contiguous(), bias


def _take_matrix_block(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> dict[str, Any]:
    out[f"{target}.norm.weight"] = reader.take(f"{source}.xlstm_norm.weight")
    xlstm, cell = f"{source}.xlstm", f"{target}.cell"
    take_linear(reader, f"{xlstm}.conv1d.conv", f"{cell}.conv", out)
    for theirs, ours in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
        out[f"{cell}.{ours}.weight"] = reader.take(f"{xlstm}.{theirs}.weight", ndim=3)
    take_linear(reader, f"{xlstm}.mlstm_cell.igate", f"{cell}.input_gate", out)
    take_linear(reader, f"{xlstm}.mlstm_cell.fgate", f"{cell}.forget_gate", out)
    out[f"{cell}.norm.weight"] = reader.take(f"{xlstm}.mlstm_cell.outnorm.weight")
    out[f"{cell}.skip"] = reader.take(f"{xlstm}.learnable_skip")
    for name in ("up", "down"):
        take_linear(reader, f"{xlstm}.proj_{name}", f"{cell}.{name}", out)
    return {
        "num_attention_heads": reader.take(f"{xlstm}.mlstm_cell.igate.weight", ndim=2).shape[0],
        "conv_kernel": out[f"{cell}.conv.weight"].shape[-1],
        "inner_size": reader.take(f"{xlstm}.proj_down.weight", ndim=2).shape[1],
        "qkv_piece_size": out[f"{cell}.query.weight"].shape[-1],
    }
