"""Sending a checkpoint folder to a Hub repository: what belongs to a checkpoint, and nothing else."""

import re
from pathlib import Path

from huggingface_hub import CommitInfo, HfApi

from ecg_transformers.files import write_text
from ecg_transformers.models.auto import SHIM_NAME

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
) -> CommitInfo:
    """Send the files of a checkpoint folder to a Hub repository, by allow-list: optimiser states, logs and data stay here.

    The name of the repository replaces the local folder in the card's usage snippet.
    """
    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None and not create_pr:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    card = Path(folder) / "README.md"
    if card.is_file():
        write_text(card, name_card(card.read_text(encoding="utf-8"), repo_id))
    return api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        allow_patterns=[*UPLOADED, *UPLOADED_TEXT],
        ignore_patterns=["checkpoints/**", "crash/**"],
        commit_message=commit_message or "Upload model with ecg_transformers",
        revision=revision,
        create_pr=create_pr,
    )


def name_card(text: str, repo_id: str) -> str:
    """A card under the name of its repository: title, model-index and usage snippet."""
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    if title:
        old = re.escape(title.group(1))
        text = re.sub(
            rf"^(# |- name: |  name: ){old}$", rf"\g<1>{repo_id.rpartition('/')[2]}", text, flags=re.MULTILINE
        )
    return re.sub(r'^MODEL = ".*"', f'MODEL = "{repo_id}"', text, flags=re.MULTILINE)
