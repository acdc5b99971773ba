"""A file for every name of the table of checkpoints, laid out as the released one, with random weights of any size."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ecg_transformers.hub.official.fetch import official_root
from ecg_transformers.models.checkpoints import Checkpoint, get_checkpoint
from ecg_transformers.models.registry import get_method
from tests.support import net1d_files, xecg_files
from tests.support.official_names import official_ecg_jepa

_TRANSFORMER = {"num_hidden_layers": 1, "intermediate_size": 48}
_CONVOLUTIONS = {"conv_dim": [8] * 5, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4}
_WAV2VEC2 = {**_TRANSFORMER, **_CONVOLUTIONS, "conv_dim": [8] * 4, "hidden_size": 48, "attn_pooler_heads": 8}
_WAV2VEC2 |= {"shared_emb_dim": 16, "embed_dim_caption": 48, "n_queries_contrast": 3, "n_queries_caption": 5}
# what makes each network small; widths are such that the number of heads is known, and no released one
TINY: dict[str, dict[str, Any]] = {
    "ecg_net1d": {"stem_dim": 8, "stage_dims": [8, 16], "depths": [1, 2], "inner_dims": None, "num_groups": [2, 4]},
    "ecg_wav2vec2": _WAV2VEC2,
    "hubert_ecg": {},
    "ked": {"stem_dims": [4, 4, 8], "stage_dims": [4, 8], "depths": [1, 1], "expansion": 2},
    "xecg": {"hidden_size": 32, "block_types": ["s", "m", "s"], "num_attention_heads": 4, "intermediate_size": 64},
    "ecg_cpc": {"conv_dims": [16] * 4, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4},
    "st_mem": {"hidden_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    "ecg_jepa": {"hidden_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64},
    "weimann_jepa": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64},
    "merl-resnet18": {"stem_dim": 8, "stage_dims": [8, 16], "depths": [1, 1]},
    "merl-vit-tiny": {**_TRANSFORMER, "hidden_size": 128, "num_attention_heads": 2},
}


def bring(name: str, size: str = "tiny") -> Path:
    """Put a file where a user of the checkpoint puts it (below `ECG_CACHE_DIR`); its path."""
    row = get_checkpoint(name)
    folder = official_root() / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(row)
    content = layout_of(row, network(row, size))
    if path.suffix == ".safetensors":
        save_file({key: value.contiguous().clone() for key, value in content.items()}, path)
    else:
        torch.save(content, path)
    return path


def network(row: Checkpoint, size: str = "tiny", **changes: Any) -> Any:
    """The network of a row with random weights, norms included, in eval mode; with its head where it has labels."""
    method = get_method(row.method)
    fields = dict(row.released_config)
    if size == "tiny":
        fields |= TINY.get(row.name) or TINY[row.method]
        if row.method == "hubert_ecg":  # its number of heads is known for released widths alone, with their depths
            small = get_checkpoint("hubert-ecg-small").released_config
            fields |= {**small, "intermediate_size": 16, **_CONVOLUTIONS}
        if row.method == "xecg":
            fields |= {"num_hidden_layers": None, "inner_size": None}
    if row.label_names:
        fields["num_labels"] = len(row.label_names)
    torch.manual_seed(sum(map(ord, row.name)))
    role = "classification" if row.label_names else "base"
    model = method.model_classes[role](method.config_class(**{**fields, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def layout_of(row: Checkpoint, model: Any) -> dict[str, Any]:
    """What the released file of a row holds, for these weights."""
    return LAYOUTS[row.method](row, model)


def _file_name(row: Checkpoint) -> str:
    return row.source.file or f"{row.name}.pth"


def _net1d(row: Checkpoint, model: Any) -> dict[str, Any]:
    tensors = net1d_files.published_keys(model)
    unused = {f"first_bn.{name}": torch.ones(3) for name in ("weight", "bias", "running_mean", "running_var")}
    scores = {"epoch": 3, "step": 100, "val_auroc": np.float64(0.9), "optimizer": {"state": {}}}
    return {**scores, "state_dict": {**tensors, **unused}}


# the published name of each of our tensors, the other way round than the converter
FAIRSEQ_NAMES = [
    (r"^feature_extractor\.conv_layers\.(\d+)\.conv\.", r"feature_extractor.conv_layers.\1.0."),
    (r"^feature_extractor\.conv_layers\.0\.layer_norm\.", "feature_extractor.conv_layers.0.2."),
    (r"^feature_projection\.layer_norm\.", "layer_norm."),
    (r"^feature_projection\.projection\.", "post_extract_proj."),
    (r"^encoder\.pos_conv_embed\.conv\.gain$", "conv_pos.pos_conv.0.weight_g"),
    (r"^encoder\.pos_conv_embed\.conv\.direction$", "conv_pos.pos_conv.0.weight_v"),
    (r"^encoder\.pos_conv_embed\.conv\.", "conv_pos.pos_conv.0."),
    (r"^(encoder\.layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
    (r"\.attention\.", ".self_attn."),
    (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
    (r"\.feed_forward\.output_dense\.", ".fc2."),
]


def fairseq_keys(model: Any) -> dict[str, Tensor]:
    """A wav2vec 2.0 encoder under fairseq-signals' names, with the old names of a weight-normed convolution."""
    state = {}
    for key, value in model.state_dict().items():
        for pattern, replacement in FAIRSEQ_NAMES:
            key = re.sub(pattern, replacement, key)
        state[key] = value
    return state


def melp_keys(model: Any) -> dict[str, Tensor]:
    """MELP in bfloat16 under the names of its Hub repository, with what its file holds beside the model."""
    state = {}
    for key, value in fairseq_keys(model).items():
        key = re.sub(r"^(contrast|caption)_pooler\.ln_out\.", r"ln_\1.", key)
        key = re.sub(r"^(contrast|caption)_pooler\.", r"attn_pool_\1.", key)
        key = key.replace("contrast_projection", "proj_contrast")
        inner = "" if re.match("attn_pool|ln_con|ln_cap|proj_con", key) else "ecg_encoder."
        state[f"ecg_encoder.{inner}{key}"] = value.to(torch.bfloat16)
    state |= {"ecg_encoder.logit_scale": torch.zeros(()), "ecg_encoder.bn.running_mean": torch.zeros(768)}
    core = "ecg_encoder.ecg_encoder"
    return state | {f"{core}.mask_emb": torch.zeros(32), f"{core}.quantizer.vars": torch.zeros(1)}


def _wav2vec2(row: Checkpoint, model: Any) -> dict[str, Any]:
    variant = row.overrides["variant"]
    if variant == "melp":
        return melp_keys(model)
    tensors = fairseq_keys(model)
    if variant == "d_beta":
        others = {"encoder.class_embedding": "class_embedding", "token_projection": "multi_modal_ecg_proj"}
        others |= {"class_pooler": "unimodal_ecg_pooler.dense"}
        renamed = {}
        for key, value in tensors.items():
            ours = next((name for name in others if key == name or key.startswith(f"{name}.")), None)
            renamed[f"ecg_encoder.{key}" if ours is None else key.replace(ours, others[ours])] = value
        tensors = renamed | {"ecg_encoder.mask_emb": torch.zeros(48)}
    if variant == "deepecg_ssl":  # trained with fp16, which the reference saves as such
        tensors = {key: value.half() for key, value in tensors.items()}
    history = [{"num_updates": 3}]
    return {"args": None, "cfg": {"model": {"_name": "wav2vec2_cmsc"}}, "model": tensors, "optimizer_history": history}


WEIGHT_NORM_NAMES = {
    "old": {"gain": "weight_g", "direction": "weight_v"},
    "new": {"gain": "parametrizations.weight.original0", "direction": "parametrizations.weight.original1"},
}


def hubert_keys(model: Any, generation: str = "new", prefix: str = "") -> dict[str, Tensor]:
    """HuBERT-ECG under the authors' names, with one of the two generations of weight-norm names."""
    state = {}
    for key, value in model.state_dict().items():
        key = key.removeprefix("hubert_ecg.")
        for ours, theirs in WEIGHT_NORM_NAMES[generation].items():
            key = key.replace(f"pos_conv_embed.conv.{ours}", f"pos_conv_embed.conv.{theirs}")
        state[key if key.startswith("classifier.") else prefix + key] = value
    return state


def _hubert(row: Checkpoint, model: Any) -> dict[str, Any]:
    if row.label_names:
        return hubert_keys(model, prefix="hubert_ecg.")
    heads = {"final_proj.0.weight": torch.zeros(4, 32), "label_embedding.0.weight": torch.zeros(500, 4)}
    return hubert_keys(model, "old") | heads


_MERL_BLOCK = {"path.0.0": "conv1", "path.0.1": "bn1", "path.1.0": "conv2", "path.1.1": "bn2"}
_MERL_BLOCK |= {"shortcut.0": "shortcut.0", "shortcut.1": "shortcut.1"}


def _merl(row: Checkpoint, model: Any) -> dict[str, Any]:
    state = {key.removeprefix("backbone."): value for key, value in model.state_dict().items()}
    if model.config.backbone == "vit":
        names = {"patch_embeddings.weight": "to_patch_embedding.weight", "position_embeddings": "pos_embedding"}
        return blocks_of_masked_autoencoders(
            state, names | {"layernorm.weight": "norm.weight", "layernorm.bias": "norm.bias"}
        )
    out = {"linear.weight": torch.zeros(10, 512), "linear.bias": torch.zeros(10)}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "stem":
            out[f"{('conv1', 'bn1')[int(parts[1])]}.{parts[2]}"] = value
        else:
            inner, _, kind = ".".join(parts[4:]).rpartition(".")
            out[f"layer{int(parts[1]) + 1}.{parts[3]}.{_MERL_BLOCK[inner]}.{kind}"] = value
    return out


def blocks_of_masked_autoencoders(state: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Transformer blocks under the names of the ST-MEM repository; what is not of a block by `names`."""
    parts = {"layernorm_before": "attn.norm", "attention.output": "attn.fn.to_out.0", "layernorm_after": "ff.norm"}
    parts |= {"intermediate": "ff.fn.net.0", "output": "ff.fn.net.3"}
    out: dict[str, Tensor] = {}
    packed: dict[str, list[Tensor]] = {}
    for key, value in state.items():
        found = re.match(r"encoder\.layer\.(\d+)\.(.*)\.(weight|bias)$", key)
        if found is None:
            out[names[key]] = value
        elif found[2] in parts:
            out[f"block{found[1]}.{parts[found[2]]}.{found[3]}"] = value
        else:  # query, key, value, in this order
            packed.setdefault(f"block{found[1]}.attn.fn.to_qkv.{found[3]}", []).append(value)
    return out | {key: torch.cat(three) for key, three in packed.items()}


def _st_mem(row: Checkpoint, model: Any) -> dict[str, Any]:
    state = dict(model.state_dict())
    leads = state.pop("embeddings.lead_embeddings.weight")
    names = {"embeddings.position_embeddings": "pos_embedding", "embeddings.sep_token": "sep_embedding"}
    for index, ours in ((1, "norm_in"), (2, "projection"), (3, "norm_out")):
        for kind in ("weight", "bias"):
            names[f"embeddings.patch_embeddings.{ours}.{kind}"] = f"to_patch_embedding.{index}.{kind}"
    names |= {f"layernorm.{kind}": f"norm.{kind}" for kind in ("weight", "bias")}
    out = blocks_of_masked_autoencoders(state, names)
    out |= {f"lead_embeddings.{index}": row for index, row in enumerate(leads)}
    return {"model": {f"encoder.{key}": value for key, value in out.items()}, "epoch": 799}


def weimann_keys(model: Any, part: str = "") -> dict[str, Tensor]:
    """The tensors of an encoder, or of a whole pre-training model, under the names of kweimann/ECG-JEPA."""
    names = {"encoder.layer.": "blocks.", "embeddings.projection": "patch_embed.proj"}
    names |= {"layernorm_before": "norm1", "layernorm_after": "norm2", "layernorm": "norm", "intermediate": "mlp.fc1"}
    names |= {"attention.output": "attn.proj", "projection": "proj", "blocks.layer.": "blocks."}
    out: dict[str, Tensor] = {}
    packed: dict[str, list[Tensor]] = {}
    for key, value in model.state_dict().items():
        own, dot, rest = (part, "." if part else "", key) if part else key.partition(".")
        for ours, theirs in names.items():
            rest = rest.replace(ours, theirs, 1)
        own = {"student": "encoder", "weimann_jepa": "target_encoder"}.get(own, own)
        key = (own + dot + rest).replace(".output.", ".mlp.fc2.")
        if ".attention." in key:
            packed.setdefault(key.split(".attention.")[0], []).append(value)
        else:
            out[key] = value
    return out | {f"{block}.attn.qkv.weight": torch.cat(parts) for block, parts in packed.items()}


def _weimann(row: Checkpoint, model: Any) -> dict[str, Any]:
    config = {"num_heads": model.config.num_attention_heads, "channel_size": 5000, "norm_eps": 1e-6}
    return {"model": weimann_keys(model, "target_encoder"), "config": config}


def s4_keys(model: Any, head: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors of an S4 encoder under the released names, with the stored roots of unity."""
    out = {}
    for key, value in model.state_dict().items():
        if key.startswith("encoder."):
            out[f"ts_encoder.encoder.layers.{key.removeprefix('encoder.')}"] = value
            continue
        _, index, name = key.replace(".s4.", ".").split(".", 2) if key.startswith("layers") else ("", "", key)
        stack = "ts_encoder.predictor.predictor"
        if name.startswith("norm."):
            out[f"{stack}.norms.{index}.{name.removeprefix('norm.')}"] = value
        elif name.startswith("context_map."):
            out[f"{stack}.encoder.{name.removeprefix('context_map.')}"] = value
        else:
            kernel = name.replace("kernel.", "kernel.kernel.").replace("output.", "output_linear.0.")
            layer = f"{stack}.s4_layers.{index}"
            value = value[:, None] if kernel == "output_linear.0.bias" else value
            out[f"{layer}.{'D' if kernel == 'skip' else kernel}"] = value
            built = model.config.s4_max_length
            angle = -2 * np.pi / built * torch.arange(built // 2 + 1)
            out[f"{layer}.kernel.kernel.omega"] = torch.stack([angle.cos(), angle.sin()], -1)
    return out | ({} if head is None else {"ts_encoder.head_ssl.proj.0.weight": head})


def _s4(row: Checkpoint, model: Any) -> dict[str, Any]:
    others = {"ts_encoder.ema.encoder.layers.0.0.weight": torch.zeros(3), "criterion.weight": torch.ones(2)}
    width = model.config.hidden_size
    head = torch.randn(width, width) if row.name == "ecg-cpc" else None
    return {"state_dict": {**s4_keys(model, head), **others}, "epoch": 9}


def xresnet_keys(model: Any) -> dict[str, Tensor]:
    """The tensors of an xresnet1d under the published names."""
    kinds, config, state = {"conv": "0", "norm": "1"}, model.config, {}
    first, head = len(config.stem_dims) + 1, len(config.stem_dims) + 1 + len(config.depths)
    for key, value in model.state_dict().items():
        parts = key.removeprefix("ecg_resnet.").split(".")
        if parts[0] == "stem":
            name = f"{parts[1]}.{kinds[parts[2]]}"
        elif parts[0] == "classifier":
            name = f"{head}.{2 + 4 * int(parts[2]) + (2 if parts[1] == 'linears' else 0)}"
        elif parts[4] == "path":
            name = f"{int(parts[1]) + first}.{parts[3]}.convpath.0.{parts[5]}.{kinds[parts[6]]}"
        else:  # behind the pooling of a strided block
            name = f"{int(parts[1]) + first}.{parts[3]}.idpath.{int(parts[1] != '0')}.{kinds[parts[5]]}"
        state[f"{name}.{parts[-1]}"] = value
    return state


def _ked(row: Checkpoint, model: Any) -> dict[str, Any]:
    return {"model": {"decoder_norm.weight": torch.ones(4)}, "ecg_model": xresnet_keys(model), "epoch": 3, "config": {}}


LAYOUTS: dict[str, Any] = {
    "ecg_net1d": _net1d,
    "ecg_wav2vec2": _wav2vec2,
    "hubert_ecg": _hubert,
    "merl": _merl,
    "ked": _ked,
    "xecg": lambda row, model: xecg_files.published_layout(model),
    "ecg_cpc": _s4,
    "st_mem": _st_mem,
    "ecg_jepa": lambda row, model: {"encoder": official_ecg_jepa(model), "epoch": 100},
    "weimann_jepa": _weimann,
}
