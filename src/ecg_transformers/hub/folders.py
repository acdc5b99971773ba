"""Checkpoint folders that are complete: model, preprocessor, shim and card, from wherever the model came."""

import inspect
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.files import file_sha256, write_json
from ecg_transformers.hub.cards import write_card
from ecg_transformers.hub.official.conversion import convert_checkpoint
from ecg_transformers.models.checkpoints import list_checkpoints
from ecg_transformers.models.registry import method_of
from ecg_transformers.words import nearest

if TYPE_CHECKING:
    from ecg_transformers.features.protocol import Extractor
    from ecg_transformers.models.base import ECGPreTrainedModel

PREPROCESSOR, RUN, CARD = "preprocessor_config.json", "run.json", "README.md"
WEIGHTS = "model.safetensors"


def complete_folder(model: "ECGPreTrainedModel", directory: Path) -> None:
    """Put preprocessor and card beside saved weights, where they are not there yet.

    A model that was loaded from a local folder takes that folder's preprocessor along, and its run description as long
    as the weights are those that the run made; any other gets the method's published preprocessing, fitted to its
    config.
    """
    source = Path(str(model.config._name_or_path or ""))
    if not (directory / PREPROCESSOR).exists():
        if (source / PREPROCESSOR).is_file():
            shutil.copyfile(source / PREPROCESSOR, directory / PREPROCESSOR)
        else:
            extractor_for(model).save_pretrained(directory)
    is_new = _describe_run(directory, source)
    if is_new or not (directory / CARD).exists():
        write_card(directory)


def _describe_run(directory: Path, source: Path) -> bool:
    """`run.json` of the run that made the weights in `directory`, or the word that nobody recorded it.

    Returns:
        Whether what stood there was about other weights.
    """
    own, parents = directory / RUN, source / RUN
    if own.is_file():
        if made_by(own, directory / WEIGHTS):
            return False
        write_json(own, {"kind": "not recorded", "parent": directory.resolve().name})
        return True
    if source.is_dir() and parents.is_file():
        if made_by(parents, directory / WEIGHTS):
            shutil.copyfile(parents, own)
        else:
            write_json(own, {"kind": "not recorded", "parent": source.resolve().name})
    return False


def made_by(run: Path, weights: Path) -> bool:
    """Whether a run description is about a file of weights: by the hash it names, else by the weights beside it."""
    if not weights.is_file():  # in several files: not told apart
        return True
    known = json.loads(run.read_text(encoding="utf-8")).get("weights_sha256")
    if known is None:
        beside = run.parent / WEIGHTS
        known = file_sha256(beside) if beside.is_file() else None
    return known is None or known == file_sha256(weights)


def check_model_name(name: str) -> None:
    """Whether a name can be that of a model, before the Hub is asked for it.

    Raises:
        ValueError: it is neither a model folder nor `OWNER/NAME`; with the nearest model folder that is here.
    """
    if name in list_checkpoints():
        return
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ValueError(f"{name} is not a model folder: it has no config.json.")
    elif name.count("/") != 1 or path.is_absolute() or name.startswith((".", "~")):
        close = nearest(name, [*models_here(path.parent), *list_checkpoints()])
        raise ValueError(
            f"There is no model folder {name}{f'; did you mean {close}?' if close else '.'} Name a folder that holds a "
            "config.json, or a repository of the Hub as OWNER/NAME."
        )


def models_here(folder: Path) -> list[str]:
    """The model folders of a folder."""
    return [str(config.parent) for config in sorted(folder.glob("*/config.json"))] if folder.is_dir() else []


def extractor_for(model: "ECGPreTrainedModel") -> "Extractor":
    """The published preprocessing of the model's method, with the lengths, rate and leads of its config."""
    method = method_of(model.config)
    takes = inspect.signature(method.extractor_class.__init__).parameters
    settings: dict[str, Any] = {}
    for name in set(takes) & set(model.config.to_dict()) - {"lead_names"}:  # seq_len, sampling_rate, beat_len, …
        value = getattr(model.config, name)
        if value is not None:
            settings[name] = value
    if "lead_names" in method.preprocessing:
        settings["lead_names"] = settings["lead_table"] = model.config.lead_names
        if model.config.lead_names is None:
            settings |= {"missing_leads": "error", "feature_size": model.config.num_leads}
    settings = {name: value for name, value in settings.items() if name in takes}
    return method.extractor_class(**{**method.preprocessing, **settings})


def convert_to_folder(
    method: str, source: str | Path, directory: str | Path, **config_overrides: Any
) -> "ECGPreTrainedModel":
    """Convert an official checkpoint into a folder that `AutoModel` loads; nothing is written when conversion fails.

    Returns:
        The converted model.

    Raises:
        ValueError: see `convert_checkpoint`; also when the folder already holds a model.
    """
    target = Path(directory)
    if (target / "config.json").exists():
        raise ValueError(f"{target} already holds a model; name a new folder.")
    model = convert_checkpoint(method, source, **config_overrides)
    model.save_pretrained(target)
    return model
