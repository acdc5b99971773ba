"""Official checkpoints into models of the package."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.errors import StrictDataclassError

from ecg_transformers.hub.official.loading import read_checkpoint
from ecg_transformers.hub.official.state_dict import convert_unwrapped, has_container, state_dict_of
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
    from transformers import PreTrainedModel


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
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except StrictDataclassError as error:  # not a ValueError; its text has several lines
        raise ValueError(f"{source}, {entry.title}: {' '.join(str(error).split())}") from error
    model.config.converted_from, model.config.weights_licence = name, method_of(model.config).licence
    return model


def _variant_in(entry: ECGMethod, content: Mapping[str, Any]) -> str | None:
    """The variant whose own container is in the file."""
    return next((name for name, variant in entry.variants.items() if has_container(content, variant.containers)), None)


def check_overrides(entry: ECGMethod, overrides: Mapping[str, Any]) -> None:
    """Raise a ValueError for a config field that the method does not have: transformers would accept it in silence."""
    fields = sorted({field.name for field in dataclasses.fields(entry.config_class)} | {"num_labels"})
    for name in overrides:
        if name not in fields:
            raise ValueError(f"The config of {entry.title} has no field {name!r}{did_you_mean(name, fields)}")
