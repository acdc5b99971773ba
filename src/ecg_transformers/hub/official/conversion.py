"""Official checkpoints into models of the package."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.models.registry import ECGMethod, get_method, list_methods, resolve
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.words import did_you_mean

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

# names under which published training scripts keep the weights inside their checkpoint dictionaries
CONTAINERS = ("model", "state_dict", "encoder", "model_state_dict")
MAX_FILE_BYTES = 20 * 2**30


def convert_checkpoint(
    method: str, path_or_state_dict: str | Path | Mapping[str, Any], **config_overrides: Any
) -> "PreTrainedModel":
    """The model that a published checkpoint holds, in eval mode.

    Args:
        method: name of the registry ("st_mem", "ecg_jepa", …).
        path_or_state_dict: a `.pth`/`.pt`/`.bin` file (read with `weights_only=True`), a `.safetensors` file, or the state
            dict itself, bare or inside the dictionary that the published script saves.
        config_overrides: config fields that tensors cannot tell (`norm_pix_loss`, `num_attention_heads`, …).

    Returns:
        The class that the tensors describe: encoder, pre-training model or fine-tuned classifier.

    Raises:
        ValueError: unknown method, unreadable file, keys that are missing or left over, unknown config fields.
    """
    entry = get_method(method)
    if entry.convert is None:
        able = ", ".join(name for name in list_methods() if get_method(name).convert)
        raise ValueError(f"{entry.title} has no published checkpoint layout to convert. Convertible: {able}.")
    from huggingface_hub.errors import StrictDataclassError

    if isinstance(path_or_state_dict, Mapping):
        source, name, content = "the state dict", "a state dict", path_or_state_dict
    else:
        source, name = str(path_or_state_dict), Path(path_or_state_dict).name
        content = read_checkpoint(Path(path_or_state_dict))
    check_overrides(entry, config_overrides)
    try:
        model: PreTrainedModel = resolve(entry.convert)(state_dict_of(content), **config_overrides)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    except StrictDataclassError as error:  # not a ValueError; its text has several lines
        raise ValueError(f"{source}, {entry.title}: {' '.join(str(error).split())}") from error
    model.config.converted_from, model.config.weights_licence = name, entry.licence
    return model


def check_overrides(entry: ECGMethod, overrides: Mapping[str, Any]) -> None:
    """Raise a ValueError for a config field that the method does not have: transformers would accept it in silence."""
    fields = sorted({field.name for field in dataclasses.fields(entry.config_class)} | {"num_labels"})
    for name in overrides:
        if name not in fields:
            raise ValueError(f"The config of {entry.title} has no field {name!r}{did_you_mean(name, fields)}")


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The content of a checkpoint file; nothing in it is ever executed.

    Raises:
        CheckpointError: no such file, or a file with more in it than tensors and plain values.
    """
    import pickle

    import torch

    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such file.")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise CheckpointError(
            f"{path}: {path.stat().st_size} bytes are more than a checkpoint of these methods can have."
        )
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: no readable safetensors file ({error}).") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError) as error:
        blocked = sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        reason = f"it holds objects that are not tensors ({', '.join(blocked)})" if blocked else "it cannot be read"
        raise CheckpointError(
            f"{path}: {reason}. Checkpoints are loaded without executing anything in them; save the state dict alone "
            "(torch.save(model.state_dict(), file)) and convert that."
        ) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a dictionary of tensors.")
    return content


def state_dict_of(content: Mapping[str, Any]) -> "dict[str, Tensor]":
    """The tensors of a checkpoint dictionary, without the wrapper of the training script and of DDP."""
    for name in CONTAINERS:
        inner = content.get(name)
        if isinstance(inner, Mapping) and inner:
            content = inner
            break
    tensors = dict(content)
    if tensors and all(str(key).startswith("module.") for key in tensors):
        tensors = {str(key).removeprefix("module."): value for key, value in tensors.items()}
    return tensors
