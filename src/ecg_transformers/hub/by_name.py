"""Names of the table of checkpoints, and the authors' files, where transformers takes a folder: Auto classes, `pipeline`.

transformers has no hook for such names, so the functions through which it reads a folder are given a step before their
own: a name of the table, or a file, becomes the folder of the converted checkpoint. Whatever else they are given passes
through untouched, and a folder that is there comes first, as ever in transformers.
"""

import functools
import os
from pathlib import Path
from typing import Any

from ecg_transformers.hub.checkpoints import checkpoint_folder
from ecg_transformers.models.auto import AUTO_CLASS_OF_ROLE

# class methods of transformers whose first argument is a folder or a repository; together they are what `pipeline` calls
READERS = (
    ("AutoConfig", "from_pretrained"),
    ("FeatureExtractionMixin", "get_feature_extractor_dict"),
    *((name, "from_pretrained") for name in AUTO_CLASS_OF_ROLE.values()),
)
_MARK = "takes_names_of_checkpoints"


def register_names() -> None:
    """Let transformers take names of the table, and files (safe to call again)."""
    import transformers
    from transformers import pipelines

    for owner_name, reader_name in READERS:
        owner = getattr(transformers, owner_name)
        reader = getattr(owner, reader_name)
        if not hasattr(reader, _MARK):
            setattr(owner, reader_name, classmethod(_taking_names(reader.__func__)))
    find_adapter = pipelines.find_adapter_config_file  # with which `pipeline` begins where PEFT is installed
    if not hasattr(find_adapter, _MARK):
        pipelines.find_adapter_config_file = _finding_adapters(find_adapter)


def _taking_names(read: Any) -> Any:
    @functools.wraps(read)
    def with_names(cls: Any, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        return read(cls, _folder(pretrained_model_name_or_path, kwargs.get("token")), *args, **kwargs)

    setattr(with_names, _MARK, True)
    return with_names


def _finding_adapters(find: Any) -> Any:
    @functools.wraps(find)
    def with_names(model_id: Any, *args: Any, **kwargs: Any) -> Any:
        return find(_folder(model_id, kwargs.get("token")), *args, **kwargs)

    setattr(with_names, _MARK, True)
    return with_names


def _folder(source: Any, token: Any) -> Any:
    is_name = isinstance(source, str | os.PathLike) and not Path(source).is_dir()
    return checkpoint_folder(os.fspath(source), token) if is_name else source
