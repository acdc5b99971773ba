"""Saving that a Hub repository can be loaded from, with and without `import ecg_transformers`."""

import difflib
import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from ecg_transformers.files import write_json
from ecg_transformers.models.auto import write_shim
from ecg_transformers.words import did_you_mean

_WRITTEN_BY_TRANSFORMERS = ("feature_extractor_type", "auto_map", "processor_class", "image_processor_type")
_OF_THE_BASE_CLASS = ("padding_side", "return_attention_mask")


def refuse_unknown(extractor: object, given: Mapping[str, Any], what: str = "argument") -> None:
    """Raise a ValueError for a keyword that an extractor (its class, for settings) does not have, with the nearest one.

    A call takes the arguments of `__call__`, a class those of `__init__`.
    """
    if given:
        cls = extractor if isinstance(extractor, type) else type(extractor)
        function = getattr(cls, "__init__" if isinstance(extractor, type) else "__call__")
        known = [p.name for p in inspect.signature(function).parameters.values() if p.kind != p.VAR_KEYWORD]
        name = sorted(given)[0]
        raise ValueError(f"{cls.__name__} has no {what} {name!r}{did_you_mean(name, known[1:])}")


def base_settings(extractor: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The further keyword arguments of an extractor that its base class takes, without what transformers writes into files.

    Raises:
        ValueError: one that nobody knows.
    """
    others = {name: value for name, value in given.items() if name not in _WRITTEN_BY_TRANSFORMERS}
    refuse_unknown(extractor, {name: None for name in others if name not in _OF_THE_BASE_CLASS}, "setting")
    return others


def refuse_misspelt(extractor: type, given: Mapping[str, Any]) -> None:
    """Raise a ValueError for a keyword of a load that is nearly a setting; others are for the Hub, or for the model."""
    known = list(inspect.signature(extractor).parameters)
    for name in given:
        if name not in known and difflib.get_close_matches(name, known, n=1, cutoff=0.75):
            refuse_unknown(extractor, {name: None}, "setting")


class SavedFeatureExtractor(SequenceFeatureExtractor):
    """A feature extractor whose folder also holds `hub_shim.py` and an `auto_map` that points to it.

    With these, `AutoFeatureExtractor.from_pretrained(…, trust_remote_code=True)` finds the installed package's class
    in a process that has not imported it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._gives_masks = "return_attention_mask" in kwargs and bool(kwargs["return_attention_mask"])
        super().__init__(*args, **kwargs)

    def pad(self, *args: Any, return_attention_mask: bool | None = None, **kwargs: Any) -> BatchFeature:
        """As in transformers, without an `attention_mask` unless it is asked for, here or when the extractor is made.

        `Trainer(processing_class=extractor)` puts batches together by this, and no model of ours takes a mask over leads.
        """
        asked = self._gives_masks if return_attention_mask is None else return_attention_mask
        return super().pad(*args, return_attention_mask=asked, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain data."""
        return {key: value for key, value in super().to_dict().items() if not key.startswith("_")}

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> list[str]:
        """Write `preprocessor_config.json` and `hub_shim.py`; `push_to_hub` also uploads them (`repo_id`, `token`, …).

        Returns the path of `preprocessor_config.json` in a list, as transformers does.
        """
        written = super().save_pretrained(save_directory, push_to_hub=False)
        write_shim(Path(save_directory))
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return list(written)

    def to_json_file(self, json_file_path: str | os.PathLike) -> None:
        """Write the settings as JSON, with the `auto_map` entry that a Hub repository needs."""
        content = json.loads(self.to_json_string())
        content["auto_map"] = {"AutoFeatureExtractor": f"hub_shim.{type(self).__name__}"}
        write_json(json_file_path, content)

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As transformers' own; a misspelt setting is refused."""
        refuse_misspelt(cls, kwargs)
        extractor = super().from_dict(feature_extractor_dict, **kwargs)
        extractor._gives_masks = bool(kwargs.get("return_attention_mask"))  # transformers writes it into every file
        return extractor

    @classmethod
    def register_for_auto_class(cls, auto_class: str | type = "AutoFeatureExtractor") -> None:
        """Does nothing: transformers calls this after a load through the shim, and would then copy source files with
        relative imports into every folder saved later, which cannot be loaded."""
