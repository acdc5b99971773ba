"""ECG-JEPA under the official names, to compare with the reference and to lay out files as the authors did."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_transformers.models.ecg_jepa.convert_ecg_jepa import BLOCK_NAMES
from ecg_transformers.models.ecg_jepa.modeling_ecg_jepa import ECGJEPAForPreTraining, ECGJEPAModel


def official_ecg_jepa(model: ECGJEPAModel | ECGJEPAForPreTraining) -> dict[str, Tensor]:
    """The state dict under the official names, position tables included: the inverse of `convert_ecg_jepa`."""
    if isinstance(model, ECGJEPAModel):
        return _official_encoder(model)
    state = {f"encoder.{key}": value for key, value in _official_encoder(model.ecg_jepa).items()}
    state |= {f"target_encoder.{key}": value for key, value in _official_encoder(model.target_encoder).items()}
    own, names = model.predictor.state_dict(), {"embed": "predictor_embed", "norm": "predictor_norm"}
    names["projection"] = "predictor_proj"
    predictor = {"mask_token": own["mask_token"], "pos_embed": _table(model.predictor.positions)}
    for ours, official in names.items():
        predictor |= {f"{official}.{kind}": own[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    predictor |= _official_blocks(own, "blocks.layer", "predictor_blocks.blocks")
    return state | {f"predictor.{key}": value for key, value in predictor.items()}


def _official_encoder(model: ECGJEPAModel) -> dict[str, Tensor]:
    own = model.state_dict()
    out = {"pos_embed": _table(model.embeddings.positions)}
    for ours, official in (("embeddings.projection", "W_P"), ("layernorm", "norm")):
        out |= {f"{official}.{kind}": own[f"{ours}.{kind}"] for kind in ("weight", "bias")}
    return out | _official_blocks(own, "encoder.layer", "encoder_blocks.blocks")


def _official_blocks(own: Mapping[str, Tensor], ours: str, official: str) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    index = 0
    while f"{ours}.{index}.output.weight" in own:
        for kind in ("weight", "bias"):
            for theirs, name in BLOCK_NAMES.items():
                out[f"{official}.{index}.{theirs}.{kind}"] = own[f"{ours}.{index}.{name}.{kind}"]
            parts = [own.get(f"{ours}.{index}.attention.{name}.{kind}") for name in ("query", "key", "value")]
            present = [part for part in parts if part is not None]
            if present:
                out[f"{official}.{index}.attn.qkv.{kind}"] = torch.cat(present)
        index += 1
    return out


def _table(positions: Any) -> Tensor:
    if positions.table is None:
        raise ValueError("A model with rotary positions has no counterpart under the official names.")
    table: Tensor = positions.table.detach().clone()
    return table
