"""Names of the table of checkpoints where transformers takes a folder: its Auto classes, and with them `pipeline`.

transformers has no hook for such names, so `from_pretrained` of the Auto classes is given a step before its own: a name
of the table becomes the folder of the converted checkpoint. Whatever else they are given passes through untouched.
"""

import functools
from pathlib import Path
from typing import Any

from ecg_transformers.hub.checkpoints import checkpoint_folder

AUTO_CLASSES = ("AutoConfig", "AutoFeatureExtractor", "AutoModel", "AutoModelForSequenceClassification")
_MARK = "takes_names_of_checkpoints"


def register_names() -> None:
    """Let the Auto classes take names of the table (safe to call again)."""
    import transformers

    for name in AUTO_CLASSES:
        auto_class = getattr(transformers, name)
        if not hasattr(auto_class.from_pretrained, _MARK):
            auto_class.from_pretrained = _taking_names(auto_class.from_pretrained.__func__)


def _taking_names(load: Any) -> Any:
    @functools.wraps(load)
    def from_pretrained(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        source = pretrained_model_name_or_path
        if isinstance(source, str) and not Path(source).is_dir():  # as ever in transformers, a folder comes first
            source = checkpoint_folder(source, kwargs.get("token"))
        return load(cls, source, *args, **kwargs)

    setattr(from_pretrained, _MARK, True)
    return classmethod(from_pretrained)
