"""Names of the table of checkpoints where transformers takes a folder: its Auto classes, and with them `pipeline`.

transformers has no hook for such names, so the functions through which it reads a folder are given a step before their
own: a name of the table becomes the folder of the converted checkpoint. Whatever else they are given passes through
untouched, and a folder that is there comes first, as ever in transformers.
"""

import functools
from pathlib import Path
from typing import Any

from ecg_transformers.hub.checkpoints import checkpoint_folder

# class methods of transformers whose first argument is a folder or a repository; together they are what `pipeline` calls
READERS = (
    ("AutoConfig", "from_pretrained"),
    ("FeatureExtractionMixin", "get_feature_extractor_dict"),
    ("AutoModel", "from_pretrained"),
    ("AutoModelForSequenceClassification", "from_pretrained"),
)
_MARK = "takes_names_of_checkpoints"


def register_names() -> None:
    """Let transformers take names of the table (safe to call again)."""
    import transformers

    for owner_name, reader_name in READERS:
        owner = getattr(transformers, owner_name)
        reader = getattr(owner, reader_name)
        if not hasattr(reader, _MARK):
            setattr(owner, reader_name, _taking_names(reader.__func__))


def _taking_names(read: Any) -> Any:
    @functools.wraps(read)
    def with_names(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        source = pretrained_model_name_or_path
        if isinstance(source, str) and not Path(source).is_dir():
            source = checkpoint_folder(source, kwargs.get("token"))
        return read(cls, source, *args, **kwargs)

    setattr(with_names, _MARK, True)
    return classmethod(with_names)
