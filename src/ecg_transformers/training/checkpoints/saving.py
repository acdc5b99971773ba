"""Saving and resuming a run: which tensors and objects a checkpoint holds. Every process takes part, the main one writes."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.optim import Optimizer

from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.training.arguments import RunArguments
from ecg_transformers.training.checkpoints.folder import (
    STATE,
    Checkpoint,
    debris,
    find_checkpoint,
    list_checkpoints,
    set_newer_aside,
    write_checkpoint,
)
from ecg_transformers.training.checkpoints.tensors import (
    load_optimizer_tensors,
    model_tensors,
    optimizer_tensors,
    scaler_state,
)
from ecg_transformers.training.errors import write_errors
from ecg_transformers.training.process.start import on_main_process

Arguments = TypeVar("Arguments", bound=RunArguments)

logger = logging.getLogger(__name__)

CHECKPOINTS, MODEL, OPTIMIZER = "checkpoints", "model.safetensors", "optimizer.safetensors"


@dataclass
class Saving:
    """When a run saves, where, and what its checkpoints hold beside model and optimiser.

    Attributes:
        output_dir: of the run; checkpoints go to `checkpoints/` in it.
        identity: what must not change when the run is resumed, as plain JSON.
        every: optimiser steps between two checkpoints.
        keep: how many of them stay.
        stop_after_step: save and stop after this step of the schedule, where one is given.
        extra_tensors, extra_state: what else a checkpoint holds (the best model so far, say).
    """

    output_dir: Path
    identity: dict[str, Any]
    every: int = 1000
    keep: int = 3
    stop_after_step: int | None = None
    extra_tensors: Callable[[], Mapping[str, Mapping[str, Tensor]]] = dict
    extra_state: Callable[[], Mapping[str, Any]] = dict

    @classmethod
    def of(cls, args: RunArguments, identity: dict[str, Any], total_steps: int) -> Saving:
        """As the arguments say; without `--save_steps` every twentieth of the run, at most 1000 steps."""
        every = args.save_steps or min(1000, max(1, total_steps // 20))
        return cls(Path(args.output_dir), identity, every, args.save_total_limit, args.stop_after_step)

    def save(
        self,
        accelerator: Accelerator,
        model: ECGPreTrainedModel,
        optimizer: Optimizer,
        step: int,
        *,
        folder: Path | None = None,
        before: Callable[[], object] = lambda: None,
        **state: Any,
    ) -> None:
        """Write `step-<step>` to `folder` (default: the run's checkpoints).

        Args:
            before: called on the main process before anything is written.
            state: further entries of the trainer's state.
        """
        tensors = {MODEL: model_tensors(model), OPTIMIZER: optimizer_tensors(optimizer, model), **self.extra_tensors()}
        own = {"step": step, "identity": self.identity, "scaler": scaler_state(accelerator.scaler)}
        own["threads"] = torch.get_num_threads()
        config = json.loads(model.config.to_json_string(use_diff=False))
        objects = {STATE: {**own, **self.extra_state(), **state}, "config.json": config}

        def write() -> None:
            before()
            write_checkpoint(folder or self.output_dir / CHECKPOINTS, step, tensors, objects, keep=self.keep)

        on_main_process(accelerator, write)


def continued(args: Arguments) -> Arguments:
    """The same arguments for a run that goes on where an earlier call left it, if it did."""
    if list_checkpoints(Path(args.output_dir) / CHECKPOINTS):
        return dataclasses.replace(args, resume_from_checkpoint="latest")
    return args


def checkpoint_to_resume(args: RunArguments) -> Checkpoint | None:
    """The checkpoint that the arguments ask for; None when the run starts from the beginning."""
    folder = Path(args.output_dir) / CHECKPOINTS
    for path in debris(folder):
        logger.warning(
            "%s is what an interrupted, damaged or rolled-back save left; it is not used and may be deleted.", path
        )
    if args.resume_from_checkpoint is None:
        return None
    needed = (MODEL, OPTIMIZER, STATE)
    checkpoint = find_checkpoint(args.resume_from_checkpoint, folder, hashes=args.verify_checkpoint, needed=needed)
    if checkpoint is None:
        logger.warning("%s holds no checkpoint yet: the run starts from the beginning.", folder)
    return checkpoint


def restore_optimizer(
    accelerator: Accelerator, model: ECGPreTrainedModel, optimizer: Optimizer, checkpoint: Checkpoint
) -> None:
    """Bring optimiser and scaler to the state of a checkpoint (the model was loaded before it was prepared)."""
    load_optimizer_tensors(optimizer, model, checkpoint.tensors(OPTIMIZER))
    scaler = checkpoint.json()["scaler"]
    if scaler and accelerator.scaler is not None:
        accelerator.scaler.load_state_dict(scaler)


def leave_later_steps(accelerator: Accelerator, checkpoint: Checkpoint, output_dir: Path) -> None:
    """When a run goes on from one of its older checkpoints, the newer ones are no longer its own."""
    folder = output_dir / CHECKPOINTS

    def rename() -> None:
        with write_errors("the names of later checkpoints", folder):
            set_newer_aside(folder, checkpoint.step)

    if checkpoint.path.resolve().parent == folder.resolve():  # else its first own checkpoint takes their place
        on_main_process(accelerator, rename)
