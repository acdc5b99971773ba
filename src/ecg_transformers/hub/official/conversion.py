"""Official checkpoints into models of the package."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError

from ecg_transformers.hub.official.loading import read_checkpoint
from ecg_transformers.hub.official.state_dict import convert_unwrapped, has_container, state_dict_of
from ecg_transformers.models.checkpoints import CHECKPOINTS, Checkpoint
from ecg_transformers.models.registry import (
    ECGMethod,
    get_method,
    list_methods,
    method_of,
    resolve,
    variant_of,
)
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.words import did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

DEPTHS = ("num_hidden_layers", "stage_dims", "depths")  # config fields that a file tells by how many tensors it holds


def convert_checkpoint(
    method: str, path_or_state_dict: str | Path | Mapping[str, Any], **config_overrides: Any
) -> "PreTrainedModel":
    """The model that a published checkpoint holds, in eval mode.

    Args:
        method: name of the registry ("st_mem", "ecg_jepa", …), or of a published model that shares a network ("ked").
        path_or_state_dict: a `.pth`/`.pt`/`.bin` file (read with `weights_only=True`), a `.safetensors` file, or the state
            dict itself, bare or inside the dictionary that the published script saves. Prefixes of wrappers
            (`module.`, `_orig_mod.`, `model.`, `encoder.`) are taken off where that makes every key fit, and logged.
        config_overrides: config fields that tensors cannot tell (`norm_pix_loss`, `num_attention_heads`, `variant`, …).

    Returns:
        The class that the tensors describe: encoder, pre-training model or fine-tuned classifier.

    Raises:
        ValueError: unknown method, unreadable file, keys that are missing or left over, unknown config fields.
    """
    entry = get_method(method)
    if entry.convert is None:
        able = ", ".join(name for name in list_methods() if get_method(name).convert)
        raise ValueError(f"{entry.title} has no published checkpoint layout to convert. Convertible: {able}.")
    if isinstance(path_or_state_dict, Mapping):
        source, name, content = "the state dict", "a state dict", path_or_state_dict
    else:
        source, name = str(path_or_state_dict), Path(path_or_state_dict).name
        content = read_checkpoint(Path(path_or_state_dict))
    check_overrides(entry, config_overrides)
    if entry.file_overrides is not None:  # what the file itself says of what its tensors cannot tell
        config_overrides = {**resolve(entry.file_overrides)(content), **config_overrides}
    variant = config_overrides.get("variant") or variant_of(method) or _variant_in(entry, content)
    containers = entry.containers
    if variant is not None:
        containers = (*entry.variant(variant).containers, *containers)
        config_overrides = {**entry.variant(variant).config, **config_overrides, "variant": variant}
    convert = resolve(entry.convert)
    try:
        tensors = state_dict_of(content, containers)
        model: PreTrainedModel = convert_unwrapped(tensors, lambda candidate: convert(candidate, **config_overrides))
    except ValueError as error:  # tensors that do not fit, or sizes from them that the config refuses
        raise CheckpointError(f"{source}: {error}") from error
    except StrictDataclassError as error:  # not a ValueError; its text has several lines
        raise ValueError(f"{source}, {entry.title}: {' '.join(str(error).split())}") from error
    check_depth(model.config, config_overrides, source)
    model.config.converted_from, model.config.weights_licence = name, method_of(model.config).licence
    return model


def check_depth(config: PreTrainedConfig, given: Mapping[str, Any], source: str) -> None:
    """Refuse a network as wide as a released one and of another depth: a file that lost layers looks like one.

    Args:
        given: config fields that the caller states; a depth among them is meant.

    Raises:
        CheckpointError: with the depth, and that of the released networks of this width.
    """
    as_wide = [row for row in CHECKPOINTS.values() if _is_same_network(row, config)]
    depths = [{name: row.sizes[name] for name in DEPTHS if name in row.sizes and name not in given} for row in as_wide]
    found = [{name: getattr(config, name, None) for name in depth} for depth in depths]
    if not depths or any(own == released for own, released in zip(found, depths)):
        return
    wanted = "; ".join(f"{row.name} {_fields(depth)}" for row, depth in zip(as_wide, depths))
    raise CheckpointError(
        f"{source} describes a network as wide as a released one and of another depth, {_fields(found[0])} (released: "
        f"{wanted}): it lost a part, or is another model; then say so ({next(iter(depths[0]))}=…)."
    )


def _is_same_network(row: Checkpoint, config: Any) -> bool:
    """Whether a row is of the same kind of network as a config, and as wide."""
    method = get_method(row.method)
    variant = row.preprocessing.get("variant") or method.current_variant
    if method.name != config.model_type or variant != getattr(config, "variant", None):
        return False
    backbone = row.released_config.get("backbone")
    return row.is_as_wide(config) and backbone in (None, getattr(config, "backbone", None))


def _fields(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _variant_in(entry: ECGMethod, content: Mapping[str, Any]) -> str | None:
    """The variant whose own container is in the file."""
    return next((name for name, variant in entry.variants.items() if has_container(content, variant.containers)), None)


def check_overrides(entry: ECGMethod, overrides: Mapping[str, Any]) -> None:
    """Raise a ValueError for a config field that the method does not have: transformers would accept it in silence."""
    fields = sorted({field.name for field in dataclasses.fields(entry.config_class)} | {"num_labels"})
    for name in overrides:
        if name not in fields:
            raise ValueError(f"The config of {entry.title} has no field {name!r}{did_you_mean(name, fields)}")
