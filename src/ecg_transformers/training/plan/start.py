"""The checkpoint that a run starts from: a name of the table, a folder, a Hub repository or a file of the authors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from ecg_transformers.hub.folders import check_model_name
from ecg_transformers.models.registry import ECGMethod, get_method, method_of
from ecg_transformers.training.arguments import field_names
from ecg_transformers.training.errors import UsageError, usage_errors


def check_source(source: str) -> None:
    """A path that is not there is told apart from a Hub repository before anything is asked of the network.

    Raises:
        UsageError: no such folder, or one without a model.
    """
    path = Path(source)
    if path.exists():
        if not (path / "config.json").is_file():
            raise UsageError(f"{source} is not a model folder: it has no config.json.")
        return
    with usage_errors():
        check_model_name(source)


def saved_config(source: str) -> tuple[ECGMethod, dict[str, Any]]:
    """The method of a folder or repository, and what its `config.json` says.

    Raises:
        UsageError: no such model, or one of another package.
    """
    check_source(source)
    with usage_errors():
        saved, _ = PreTrainedConfig.get_config_dict(source)
    if "model_type" not in saved:
        raise UsageError(f"{source} holds no config.json of a model (it names no model_type).")
    with usage_errors(StrictDataclassError, TypeError, KeyError):
        config = AutoConfig.from_pretrained(source)
        return method_of(config), config.to_dict()


def sizes_of_start(source: str, method: str | None) -> tuple[ECGMethod, dict[str, Any]]:
    """Method and config fields of the checkpoint that pre-training goes on from.

    Raises:
        UsageError: as `saved_config`, or a checkpoint of another method than the one that was asked for.
    """
    found, saved = saved_config(source)
    if method:
        with usage_errors():
            wanted = get_method(method)
        if wanted.name != found.name:
            raise UsageError(f"{source} is a checkpoint of {found.title} ({found.name}), not of {wanted.title}.")
    known = field_names(found.config_class)
    return found, {name: value for name, value in saved.items() if name in known}
