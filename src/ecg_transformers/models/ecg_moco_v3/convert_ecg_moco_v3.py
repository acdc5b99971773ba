"""MoCo v3 checkpoints on the class-token ViT of the ST-MEM repository, whose head is the projector."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.ecg_moco_v3.configuration_ecg_moco_v3 import ECGMoCoV3Config
from ecg_transformers.models.ecg_moco_v3.modeling_ecg_moco_v3 import ECGMoCoV3ForPreTraining
from ecg_transformers.models.shared.class_token_state_dicts import ClassTokenSource, head_sizes_of, time_window_sizes
from ecg_transformers.models.shared.state_dicts import CheckpointError, StateDictReader, load_converted


def convert_ecg_moco_v3(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> ECGMoCoV3ForPreTraining:
    """A full pre-training checkpoint: `base_encoder.*`, `momentum_encoder.*` and `predictor.*`.

    Args:
        state_dict: keys as MoCo v3 writes them, with or without the `module.` of a distributed run.
        config_overrides: what tensors cannot tell (`num_leads`, `attention_head_size`, `temperature`, …).

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    tensors = {key.removeprefix("module."): value for key, value in state_dict.items()}
    if not any(key.startswith("base_encoder.") for key in tensors):
        raise CheckpointError("This is no MoCo v3 checkpoint: no tensor's name starts with 'base_encoder.'.")
    converted: dict[str, Tensor] = {}
    sources = {}
    for name in ("base_encoder", "momentum_encoder"):
        part = {key: value for key, value in tensors.items() if key.startswith(f"{name}.")}
        sources[name] = ClassTokenSource(part, "MoCo v3", head_sizes_of(config_overrides), prefix=f"{name}.")
    source = sources["base_encoder"]
    sizes = source.sizes() | time_window_sizes(source, config_overrides)
    backbone = {"model_type": "ecg_vit", "qkv_bias": sizes.pop("qkv_bias")}
    backbone["attention_head_size"] = sizes.pop("attention_head_size")
    config_overrides.pop("attention_head_size", None)
    heads = {"projector": take_head(source.reader, "base_encoder.head")}
    heads["momentum_projector"] = take_head(sources["momentum_encoder"].reader, "momentum_encoder.head")
    heads["predictor"] = take_head(StateDictReader(tensors, "MoCo v3"), "predictor")
    for target, found in heads.items():
        converted |= {f"{target}.{key}": value for key, value in found.items()}
    config = ECGMoCoV3Config(
        **{**sizes, **head_sizes(heads), "backbone_config": backbone, **config_overrides},
    )
    for name, target in (("base_encoder", "ecg_moco_v3.encoder."), ("momentum_encoder", "momentum_encoder.")):
        converted |= sources[name].encoder(target, config.seq_len // int(config.patch_size or 1), config.num_leads)
        sources[name].reader.finish()
    refuse_leftovers(tensors)
    return load_converted(ECGMoCoV3ForPreTraining(config), converted)


def take_head(reader: StateDictReader, prefix: str) -> dict[str, Tensor]:
    """All tensors of a projection head by their own names."""
    names = [key for key in reader.tensors if key.startswith(f"{prefix}.")]
    if not names:
        raise CheckpointError(f"This is no MoCo v3 checkpoint: the head {prefix!r} is missing.")
    return {key.removeprefix(f"{prefix}."): reader.take(key) for key in names}


def head_sizes(heads: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Config fields that the heads' tensors tell."""
    linear = {
        name: [value for key, value in sorted(head.items()) if key.endswith(".weight") and value.ndim == 2]
        for name, head in heads.items()
    }
    if not linear["predictor"] or not linear["projector"]:
        raise CheckpointError(
            "This is no MoCo v3 checkpoint: projector and predictor need at least one linear map each."
        )
    predictor = heads["predictor"]
    last = max(int(key.split(".")[0]) for key in predictor)
    return {
        "projector_num_layers": len(linear["projector"]),
        "predictor_num_layers": len(linear["predictor"]),
        "projector_hidden_size": linear["predictor"][0].shape[0],
        "projection_size": linear["predictor"][-1].shape[0],
        "predictor_last_norm": f"{last}.running_mean" in predictor,
    }


def refuse_leftovers(tensors: Mapping[str, Tensor]) -> None:
    """Every tensor must belong to one of the three parts."""
    unused = sorted(k for k in tensors if not k.startswith(("base_encoder.", "momentum_encoder.", "predictor.")))
    if unused:
        raise CheckpointError(f"The MoCo v3 checkpoint holds tensors that no part of the model takes: {unused[:8]}.")
