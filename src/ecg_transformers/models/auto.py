"""What transformers' Auto classes and a Hub repository need to know of our classes."""

import json
import os
import re
from pathlib import Path
from typing import Any

from ecg_transformers.models.registry import get_method, list_methods, resolve

SHIM_NAME = "hub_shim.py"
AUTO_CLASS_OF_ROLE = {
    "base": "AutoModel",
    "pretraining": "AutoModelForPreTraining",
    "classification": "AutoModelForSequenceClassification",
}
EXTRACTOR_CLASSES = ("ECGFeatureExtractor", "ECGSLFeatureExtractor")


def register_auto_classes() -> None:
    """Register every config, model and extractor with transformers' Auto classes (safe to call again)."""
    import transformers

    for name in list_methods():
        method = get_method(name)
        transformers.AutoConfig.register(method.name, method.config_class, exist_ok=True)
        for model_type, config in method.model_types.items():  # they read into the method's own config
            transformers.AutoConfig.register(model_type, resolve(config), exist_ok=True)
        for role, model_class in method.model_classes.items():
            auto_class = getattr(transformers, AUTO_CLASS_OF_ROLE[role])
            auto_class.register(method.config_class, model_class, exist_ok=True)
        transformers.AutoFeatureExtractor.register(method.config_class, method.extractor_class, exist_ok=True)


def shim_class_names() -> list[str]:
    """Every name that a checkpoint's `auto_map` may point to."""
    names = list(EXTRACTOR_CLASSES)
    for name in list_methods():
        method = get_method(name)
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
    path = Path(directory) / SHIM_NAME
    temporary = path.with_name(f".{SHIM_NAME}.{os.getpid()}")
    temporary.write_text(shim_source(), encoding="utf-8")
    temporary.replace(path)


def auto_map_of(model_type: str) -> dict[str, str]:
    """The `auto_map` of a method's `config.json`: every class of the method, through the shim."""
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
    content.update(changes)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)


def name_card(text: str, repo_id: str) -> str:
    """A card under the name of its repository: title, model-index and usage snippet."""
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    if title:
        old = re.escape(title.group(1))
        text = re.sub(
            rf"^(# |- name: |  name: ){old}$", rf"\g<1>{repo_id.rpartition('/')[2]}", text, flags=re.MULTILINE
        )
    return re.sub(r'^MODEL = ".*"', f'MODEL = "{repo_id}"', text, flags=re.MULTILINE)


UPLOADED = ("*.safetensors", "config.json", "preprocessor_config.json", "model.safetensors.index.json", "run.json")
UPLOADED_TEXT = ("README.md", SHIM_NAME, "metrics.json", "*.png")


def upload_checkpoint(
    folder: str | Path,
    repo_id: str,
    *,
    commit_message: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> Any:
    """Send the files of a checkpoint folder to a Hub repository, by allow-list: optimiser states, logs and data stay here.

    The name of the repository replaces the local folder in the card's usage snippet.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not create_pr:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    card = Path(folder) / "README.md"
    if card.is_file():
        card.write_text(name_card(card.read_text(encoding="utf-8"), repo_id), encoding="utf-8")
    return api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        allow_patterns=[*UPLOADED, *UPLOADED_TEXT],
        ignore_patterns=["checkpoints/**", "crash/**"],
        commit_message=commit_message or "Upload model with ecg_transformers",
        revision=revision,
        create_pr=create_pr,
    )
