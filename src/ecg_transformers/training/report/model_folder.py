"""Saving the finished model: all files or none appear in the output folder."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.training.checkpoints.folder import sync_folder, write_errors
from ecg_transformers.training.checkpoints.saving import on_main_process
from ecg_transformers.training.checkpoints.tensors import model_tensors
from ecg_transformers.training.report.log import write_json

if TYPE_CHECKING:
    from accelerate import Accelerator


def save_model(accelerator: Accelerator, model: Any, extractor: Any, output_dir: Path) -> None:
    """Save a model and its extractor as `save_pretrained` does, through a temporary folder; every process takes
    part."""
    tensors = {name: value.cpu() for name, value in model_tensors(model).items()}

    def write() -> None:
        save_pretrained_atomically(model, extractor, output_dir, tensors)

    on_main_process(accelerator, write)


def save_pretrained_atomically(model: Any, extractor: Any, output_dir: Path, tensors: dict[str, Any]) -> None:
    """Write model and extractor beside the target, flush them, and move file after file into place."""
    with _temporary_folder(output_dir) as temporary:
        _fill(temporary, model, extractor, tensors, {})
        for path in sorted(temporary.iterdir()):
            os.replace(path, output_dir / path.name)
        sync_folder(output_dir)


def save_folder(folder: Path, model: Any, extractor: Any, tensors: dict[str, Any], objects: Mapping[str, Any]) -> None:
    """Write model, extractor and JSON files to a folder that appears only when it is complete; an existing one is
    replaced."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(folder.parent) as temporary:
        _fill(temporary, model, extractor, tensors, objects)
        if folder.exists():
            os.rename(folder, temporary.with_name(f"{temporary.name}-old"))
        os.rename(temporary, folder)
        sync_folder(folder.parent)
        shutil.rmtree(temporary.with_name(f"{temporary.name}-old"), ignore_errors=True)


def _fill(folder: Path, model: Any, extractor: Any, tensors: dict[str, Any], objects: Mapping[str, Any]) -> None:
    with quiet_loading():
        model.save_pretrained(folder, state_dict=tensors)
    extractor.save_pretrained(folder)
    for name, value in objects.items():
        write_json(folder / name, value)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb+") as file:
                os.fsync(file.fileno())


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    temporary = parent / f".saving-{os.getpid()}-{secrets.token_hex(4)}"
    with write_errors("the model", parent):
        try:
            temporary.mkdir(parents=True)
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without the libraries' bars and tables of tensors: what matters of them is checked and said by us."""
    from transformers.utils import logging as library_logging

    had_bar, verbosity = library_logging.is_progress_bar_enabled(), library_logging.get_verbosity()
    library_logging.disable_progress_bar()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)
        if had_bar:
            library_logging.enable_progress_bar()
