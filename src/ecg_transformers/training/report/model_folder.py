"""Saving the finished model: all files or none appear in the output folder. Loading one without the libraries' chatter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor
from transformers.utils import logging as library_logging

from ecg_transformers.features.protocol import Extractor
from ecg_transformers.files import sync_file, sync_folder, temporary_folder
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.training.checkpoints.tensors import model_tensors
from ecg_transformers.training.errors import write_errors
from ecg_transformers.training.process.start import on_main_process
from ecg_transformers.training.report.summary import write_result


def is_finished(folder: Path) -> bool:
    """Whether a folder holds the model of a run that came to its end."""
    return (folder / "run.json").is_file() and (folder / "model.safetensors").is_file()


def save_model(accelerator: Accelerator, model: ECGPreTrainedModel, extractor: Extractor, output_dir: Path) -> None:
    """Save a model and its extractor as `save_pretrained` does, at once; every process takes part."""
    tensors = {name: value.cpu() for name, value in model_tensors(model).items()}
    on_main_process(accelerator, lambda: save_pretrained_atomically(model, extractor, output_dir, tensors))


def save_pretrained_atomically(
    model: ECGPreTrainedModel, extractor: Extractor, output_dir: Path, tensors: Mapping[str, Tensor]
) -> None:
    """Write model and extractor beside the target, flush them, and move file after file into place."""
    with write_errors("the model", output_dir), temporary_folder(output_dir) as temporary:
        _fill(temporary, model, extractor, tensors, {})
        for path in sorted(temporary.iterdir()):
            os.replace(path, output_dir / path.name)
        sync_folder(output_dir)


def save_folder(
    folder: Path,
    model: ECGPreTrainedModel,
    extractor: Extractor,
    tensors: Mapping[str, Tensor],
    objects: Mapping[str, Any],
) -> None:
    """Write model, extractor and JSON files to a folder that appears only when it is complete, instead of an old one."""
    with write_errors("the model", folder.parent), temporary_folder(folder.parent) as temporary:
        _fill(temporary, model, extractor, tensors, objects)
        old = temporary.with_name(f"{temporary.name}-old")
        if folder.exists():
            os.rename(folder, old)
        os.rename(temporary, folder)
        sync_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)


def _fill(
    folder: Path,
    model: ECGPreTrainedModel,
    extractor: Extractor,
    tensors: Mapping[str, Tensor],
    objects: Mapping[str, Any],
) -> None:
    for name, value in objects.items():  # first: the card that the model is saved with reads them
        write_result(folder / name, value)
    extractor.save_pretrained(folder)
    with quiet_loading():
        model.save_pretrained(folder, state_dict=dict(tensors))
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            sync_file(path)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Without the libraries' bars and tables of tensors: what matters of them is checked and said by us."""
    had_bar, verbosity = library_logging.is_progress_bar_enabled(), library_logging.get_verbosity()
    library_logging.disable_progress_bar()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(verbosity)
        if had_bar:
            library_logging.enable_progress_bar()
