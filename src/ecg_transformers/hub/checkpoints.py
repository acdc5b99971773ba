"""`load_checkpoint`: a model and its preprocessing from a name of the table, a folder, a Hub repository or a file."""

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.hub.official.cache import (
    conversion_key,
    converted,
    converted_root,
    is_whole,
    keep,
    kept_conversion,
)
from ecg_transformers.hub.official.fetch import SUFFIXES, brought_files, checkpoint_file
from ecg_transformers.models.checkpoints import CHECKPOINTS, get_checkpoint
from ecg_transformers.models.registry import get_method, list_methods, method_of, resolve
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.words import did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from ecg_transformers.models.base import ECGPreTrainedModel


logger = logging.getLogger(__name__)


def load_checkpoint(
    checkpoint: str | os.PathLike[str], *, token: str | bool | None = None, **config_overrides: Any
) -> "tuple[ECGPreTrainedModel, Any]":
    """A model in eval mode and the feature extractor that feeds it.

    A name of the table is fetched once (or taken from where the user put its file), converted without executing anything
    in it, and kept as safetensors in the cache. What a model is never has to be guessed: a file that more than one
    network fits is refused.

    Args:
        checkpoint: a name of `list_checkpoints()`, a folder, a Hub repository, or a file of the authors.
        token: for gated or private repositories.
        config_overrides: config fields that tensors cannot tell; of a folder or repository, config fields to change.

    Returns:
        the model, of the class that the checkpoint holds, and the extractor.

    Raises:
        ValueError: one sentence: an unknown name with the known ones, a file that does not fit, or which file to put
            where.

    Example:
        >>> model, extractor = load_checkpoint("ecgfounder")  # doctest: +SKIP
        >>> model(**extractor("records/00001_hr", return_tensors="pt")).logits.shape  # doctest: +SKIP
        torch.Size([1, 150])
    """
    name = os.fspath(checkpoint)
    if name in CHECKPOINTS:
        return _load_folder(checkpoint_folder(name, token, **config_overrides), {})
    name = _folder_of_weights(name)
    path = Path(name)
    if path.is_dir():
        return _load_folder(name, config_overrides)
    if path.is_file():
        return _load_file(path, config_overrides)
    if not _may_be_repository(name) or path.suffix in SUFFIXES:
        raise _not_there(name)
    return _load_repository(name, token, config_overrides)


def checkpoint_folder(
    name: str, token: str | bool | None = None, *, method: str | None = None, **config_overrides: Any
) -> str:
    """The folder that a name of the table, or a file of the authors, stands for; converted now where that was not done.

    Folders and repositories are returned as they are.

    Args:
        method: whose layout a file has, where several could be meant.

    Raises:
        ValueError: as `load_checkpoint`; also where a model's folder of that name lies here, so that both could be meant.
    """
    if name not in CHECKPOINTS:
        name = _folder_of_weights(name)
        path = Path(name)
        if path.is_file() and path.suffix != ".json":  # a config alone is for transformers
            return str(_folder_of_file(path, method, config_overrides))
        if path.suffix in SUFFIXES and not _may_be_repository(name):
            raise _not_there(name)
        return name
    if (Path(name) / "config.json").is_file():
        raise CheckpointError(
            f"{name} is the name of a published checkpoint, and of a folder with a model here: write {os.path.join('.', name)} "
            "for the folder, or load the checkpoint from another place."
        )
    row = get_checkpoint(name)
    overrides = {**row.overrides, **config_overrides}
    try:
        file = checkpoint_file(row, token)
    except CheckpointError:
        kept = None if brought_files(row) else kept_conversion(row, overrides)
        if kept is None:
            raise
        logger.warning("The file of %s is not here any more; what was made of it before is loaded.", name)
        return str(kept)
    return str(converted(row, file, overrides))


def _folder_of_weights(name: str) -> str:
    """The folder that `save_pretrained` wrote, where its weights file is named; any other name as it is."""
    path = Path(name)
    if path.name != "model.safetensors" or not path.with_name("config.json").is_file():
        return name
    try:
        content = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))
    except ValueError:
        return name
    ours = isinstance(content, dict) and content.get("model_type") in known_model_types()
    return str(path.absolute().parent) if ours else name


def _may_be_repository(name: str) -> bool:
    return name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _not_there(name: str) -> CheckpointError:
    from ecg_transformers.hub.folders import models_here

    return CheckpointError(
        f"{name!r} is no checkpoint's name, no folder, no file, and no Hub repository"
        f"{did_you_mean(name, [*CHECKPOINTS, *models_here(Path(name).parent)])}"
    )


def _load_folder(name: str, overrides: dict[str, Any], **options: Any) -> "tuple[ECGPreTrainedModel, Any]":
    from transformers import AutoConfig, AutoFeatureExtractor

    from ecg_transformers.hub.folders import PREPROCESSOR, extractor_for
    from ecg_transformers.hub.official.conversion import check_overrides

    config = AutoConfig.from_pretrained(name, **options)
    if getattr(config, "model_type", None) not in known_model_types():
        raise CheckpointError(
            f"{name} holds a {getattr(config, 'model_type', None)!r} model, which is no method of this package."
        )
    check_overrides(method_of(config), overrides)
    model = model_class_of(config).from_pretrained(name, **options, **overrides)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        if (Path(name) / PREPROCESSOR).is_file():  # another preprocessing would run, and be wrong
            raise CheckpointError(f"{Path(name) / PREPROCESSOR} cannot be read ({error}).") from error
        extractor = None
    if not isinstance(extractor, method_of(config).extractor_class):  # repositories of the authors hold none of ours
        extractor = extractor_for(model)
    return model.eval(), extractor


def known_model_types() -> set[str]:
    """Every `model_type` that a config of ours, or one that is registered for us, may carry."""
    types = set(list_methods())
    for name in list_methods():
        types |= set(get_method(name).model_types)
    return types


def model_class_of(config: "PreTrainedConfig") -> "type[ECGPreTrainedModel]":
    """The class that a config names in `architectures`, or the base model of its method."""
    method = method_of(config)
    named = (config.architectures or [""])[0]
    dotted = {name.rpartition(".")[2]: name for name in method.classes.values()}
    return resolve(dotted.get(named, method.classes["base"]))


def _load_repository(name: str, token: Any, overrides: dict[str, Any]) -> "tuple[ECGPreTrainedModel, Any]":
    try:
        return _load_folder(name, overrides, token=token)
    except CheckpointError:
        raise
    except (OSError, ValueError) as error:  # no config, or none that says what the model is
        rows = [row.name for row in CHECKPOINTS.values() if row.source.repository == name]
        if rows:
            raise CheckpointError(
                f"{name} has no config that can be loaded: load it by its name, {' or '.join(rows)}."
            ) from error
        raise CheckpointError(
            f"{name} could not be loaded as a Hub repository ({str(error).splitlines()[0]}){did_you_mean(name, CHECKPOINTS)}"
        ) from error


def _folder_of_file(path: Path, method: str | None, overrides: dict[str, Any]) -> Path:
    """The folder in the cache that a file of the authors becomes."""
    folder = converted_root() / "files" / conversion_key(path, {"method": method, **overrides})
    if not is_whole(folder):
        keep(*_load_file(path, overrides, method), folder)
    return folder


def _load_file(path: Path, overrides: dict[str, Any], method: str | None = None) -> "tuple[ECGPreTrainedModel, Any]":
    """By the layout of `method`, or of the only method that the file fits."""
    from ecg_transformers.hub.folders import extractor_for
    from ecg_transformers.hub.official.conversion import convert_checkpoint
    from ecg_transformers.hub.official.loading import read_checkpoint

    content = read_checkpoint(path)
    fitting: dict[str, Any] = {}
    for candidate in [method] if method else list_methods():
        if get_method(candidate).convert is None:
            continue
        try:
            fitting[candidate] = convert_checkpoint(candidate, content, **overrides)
        except ValueError as error:  # strict: every tensor must fit
            if method:
                raise CheckpointError(f"{path}: {error}") from error
    if len(fitting) != 1:
        what = f"fits {' and '.join(fitting)}" if fitting else "fits no method of this package"
        raise CheckpointError(
            f"{path} {what}: convert it by name (`ecg-transformers convert METHOD {path.name} OUT_DIR`) and load the folder; "
            "what tensors cannot tell (variant=…, num_attention_heads=…) is given there or here."
        )
    (model,) = fitting.values()
    model.config.converted_from = path.name
    return model.eval(), extractor_for(model)
