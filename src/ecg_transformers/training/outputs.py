"""Saving the finished model: all files or none appear in the output folder."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.training.checkpointing import sync_folder, write_errors
from ecg_transformers.training.loop import on_main_process
from ecg_transformers.training.state import model_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator


def save_model(accelerator: Accelerator, model: Any, extractor: Any, output_dir: Path) -> None:
    """Save a model and its extractor as `save_pretrained` does, through a temporary folder; every process takes part."""
    tensors = {name: value.cpu() for name, value in model_tensors(model).items()}

    def write() -> None:
        save_pretrained_atomically(model, extractor, output_dir, tensors)

    on_main_process(accelerator, write)


def save_pretrained_atomically(model: Any, extractor: Any, output_dir: Path, tensors: dict[str, Any]) -> None:
    """Write model and extractor beside the target, flush them, and move file after file into place."""
    temporary = output_dir / f".saving-{os.getpid()}-{secrets.token_hex(4)}"
    with write_errors("the model", output_dir):
        try:
            temporary.mkdir(parents=True)
            model.save_pretrained(temporary, state_dict=tensors)
            extractor.save_pretrained(temporary)
            for path in sorted(temporary.rglob("*")):
                if path.is_file():
                    with open(path, "rb+") as file:
                        os.fsync(file.fileno())
            for path in sorted(temporary.iterdir()):
                os.replace(path, output_dir / path.name)
            sync_folder(output_dir)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
