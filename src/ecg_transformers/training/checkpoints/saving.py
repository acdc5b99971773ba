"""Saving and restoring a run of the loop; every process takes part, the main one writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.training.checkpoints.folder import STATE, Checkpoint, write_checkpoint
from ecg_transformers.training.checkpoints.tensors import (
    load_model_tensors,
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
    scaler_state,
)
from ecg_transformers.training.errors import CheckpointWriteError, OutputInUseError, TrainingError, UsageError
from ecg_transformers.training.report.log import Reporter

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from ecg_transformers.training.loop import Run

CHECKPOINTS = "checkpoints"


def save(run: Run, reporter: Reporter, done: int, folder: Path | None = None, **state: Any) -> None:
    """Write a checkpoint of the state after `done` steps; every process takes part, the main one writes."""
    tensors = {
        "model.safetensors": model_tensors(run.plain_model),
        "optimizer.safetensors": optimizer_tensors(run.optimizer, run.plain_model),
        **run.extra_tensors(),
    }
    trainer_state = {
        "step": run.offset + done,
        "identity": run.identity,
        "scaler": scaler_state(run.accelerator.scaler),
        **run.extra_state(),
        **state,
    }
    objects = {STATE: trainer_state, "config.json": json.loads(run.plain_model.config.to_json_string(use_diff=False))}

    def write() -> None:
        reporter.sync()
        write_checkpoint(folder or run.output_dir / CHECKPOINTS, run.offset + done, tensors, objects, keep=run.keep)

    on_main_process(run.accelerator, write)
    reporter.skip_time()


def on_main_process(accelerator: Accelerator, action: Callable[[], None]) -> None:
    """Do something on the main process; when it fails there, all processes raise instead of waiting for it."""
    failure: list[TrainingError | None] = [None]
    if accelerator.is_main_process:
        try:
            action()
        except TrainingError as error:
            failure = [error]
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        message = [None if failure[0] is None else (type(failure[0]).__name__, str(failure[0]))]
        broadcast_object_list(message)
        if message[0] is not None and failure[0] is None:
            kinds = {kind.__name__: kind for kind in (CheckpointWriteError, UsageError, OutputInUseError)}
            failure = [kinds.get(message[0][0], TrainingError)(message[0][1])]
    if failure[0] is not None:
        failure[0].is_shared = True
        raise failure[0]


def restore_training(run: Run, checkpoint: Checkpoint) -> None:
    """Bring optimiser and scaler to the state of a checkpoint (the model was loaded before it was prepared)."""
    load_optimizer_tensors(run.optimizer, run.plain_model, checkpoint.tensors("optimizer.safetensors"))
    scaler = checkpoint.json()["scaler"]
    if scaler and run.accelerator.scaler is not None:
        run.accelerator.scaler.load_state_dict(scaler)


def restore_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights and buffers into a model that is not yet prepared."""
    load_model_tensors(model, checkpoint.tensors("model.safetensors"))
