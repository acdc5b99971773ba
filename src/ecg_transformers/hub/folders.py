"""Checkpoint folders that are complete: model, preprocessor, shim and card, from wherever the model came."""

import inspect
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.hub.cards import write_card
from ecg_transformers.hub.official.conversion import convert_checkpoint
from ecg_transformers.models.registry import method_of

if TYPE_CHECKING:
    from ecg_transformers.features.protocol import Extractor
    from ecg_transformers.models.base import ECGPreTrainedModel

PREPROCESSOR, RUN, CARD = "preprocessor_config.json", "run.json", "README.md"


def complete_folder(model: "ECGPreTrainedModel", directory: Path) -> None:
    """Put preprocessor and card beside saved weights, where they are not there yet.

    A model that was loaded from a local folder takes that folder's preprocessor and run description along; any other
    gets the method's published preprocessing, fitted to its config.
    """
    source = Path(str(model.config._name_or_path or ""))
    for name in (PREPROCESSOR, RUN):
        if not (directory / name).exists() and (source / name).is_file() and source.is_dir():
            shutil.copyfile(source / name, directory / name)
    if not (directory / PREPROCESSOR).exists():
        extractor_for(model).save_pretrained(directory)
    if not (directory / CARD).exists():
        write_card(directory)


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
