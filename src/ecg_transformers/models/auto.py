"""What transformers' Auto classes and a Hub repository need to know of our classes."""

import json
import logging
from pathlib import Path
from typing import Any

from ecg_transformers.files import write_json, write_text
from ecg_transformers.models.registry import METHOD_NAMES, ECGMethod, external_methods, get_method, resolve

logger = logging.getLogger(__name__)

SHIM_NAME = "hub_shim.py"
AUTO_CLASS_OF_ROLE = {
    "base": "AutoModel",
    "pretraining": "AutoModelForPreTraining",
    "classification": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
}


def register_auto_classes() -> None:
    """Register every config, model and extractor with transformers' Auto classes (safe to call again)."""
    for name in METHOD_NAMES:
        _register(get_method(name))
    for name, method in external_methods().items():
        try:
            _register(method)
        except Exception as error:  # whatever a foreign package raises, the methods of this one must work
            logger.warning(
                "transformers does not know the method %r of %s: %s. Import ecg_transformers and transformers before it.",
                *(name, method.package, error),
            )


def _register(method: ECGMethod) -> None:
    import transformers

    transformers.AutoConfig.register(method.name, method.config_class, exist_ok=True)
    for model_type, config in method.model_types.items():  # they read into the method's own config
        transformers.AutoConfig.register(model_type, resolve(config), exist_ok=True)
    for role, model_class in method.model_classes.items():
        auto_class = getattr(transformers, AUTO_CLASS_OF_ROLE[role])
        auto_class.register(method.config_class, model_class, exist_ok=True)
    transformers.AutoFeatureExtractor.register(method.config_class, method.extractor_class, exist_ok=True)


def shim_class_names() -> list[str]:
    """Every name that a checkpoint's `auto_map` may point to: the classes of this package, which is all the shim needs."""
    methods = [get_method(name) for name in METHOD_NAMES]
    names = list(dict.fromkeys(method.extractor.rpartition(".")[2] for method in methods))
    for method in methods:
        names += [method.config.rpartition(".")[2], *(dotted.rpartition(".")[2] for dotted in method.classes.values())]
    return names


def shim_source() -> str:
    """The text of `hub_shim.py`: it only imports the installed package."""
    names = ",\n    ".join(shim_class_names())
    return (
        '"""Loads the classes of the installed package ecg_transformers; contains no model code of its own."""\n\n'
        "try:\n"
        "    import ecg_transformers  # noqa: F401\n"
        "except ModuleNotFoundError as error:\n"
        "    raise ModuleNotFoundError(\n"
        '        "This model needs the package ecg_transformers. Install it, then load the model again."\n'
        "    ) from error\n\n"
        "from ecg_transformers import (  # noqa: F401\n"
        f"    {names},\n"
        ")\n"
    )


def write_shim(directory: str | Path) -> None:
    """Write `hub_shim.py`, through which `trust_remote_code=True` finds the installed package."""
    write_text(Path(directory) / SHIM_NAME, shim_source())


def auto_map_of(model_type: str) -> dict[str, str]:
    """The `auto_map` of a method's `config.json`: every class of the method, through the shim.

    Empty for a method of another package, whose classes the shim does not know: it is loaded where that is installed.
    """
    if model_type in external_methods():
        return {}
    method = get_method(model_type)
    shim = Path(SHIM_NAME).stem
    entries = {"AutoConfig": f"{shim}.{method.config.rpartition('.')[2]}"}
    for role, dotted in method.classes.items():
        entries[AUTO_CLASS_OF_ROLE[role]] = f"{shim}.{dotted.rpartition('.')[2]}"
    return entries


def rewrite_json(path: Path, **changes: Any) -> None:
    """Change top-level keys of a JSON file, atomically."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if all(content.get(key) == value for key, value in changes.items()):
        return
    write_json(path, content | changes)
