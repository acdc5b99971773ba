"""A run of the loop: everything that it needs, put together from a fresh model and a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from operator import methodcaller
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.registry import StageRecipe
from ecg_transformers.training.arguments import MachineArguments
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.saving import MODEL, Saving, leave_later_steps, restore_optimizer
from ecg_transformers.training.checkpoints.tensors import load_model_tensors
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.optimization import Schedule, build_optimizer, parameter_groups
from ecg_transformers.training.plan.passes import with_sync_batch_norm
from ecg_transformers.training.samples.loader import TrainingData


@dataclass(frozen=True)
class Place:
    """Where a run stands in a log that holds several (seeds of fine-tuning).

    Attributes:
        offset: steps of the runs before it.
        row_head: entries that each of its log rows begins with.
    """

    offset: int = 0
    row_head: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """Everything one run of the loop needs.

    Attributes:
        accelerator: devices, processes, precision.
        model: as `accelerator.prepare` gave it; `plain_model` is the model inside.
        optimizer: prepared, too.
        data: the training set, and which of its records a step sees.
        schedule: the learning rate of a step.
        saving: checkpoints.
        clip_norm: bound of the gradient norm.
        place: in the log.
        train_mode: puts the plain model into training mode (a frozen encoder stays in evaluation mode).
        forward_arguments: fixed keyword arguments of each forward pass (lead indices).
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: Optimizer
    data: TrainingData
    schedule: Schedule
    saving: Saving
    clip_norm: float | None = None
    place: Place = field(default_factory=Place)
    train_mode: Callable[[ECGPreTrainedModel], object] = methodcaller("train")
    forward_arguments: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def plain_model(self) -> ECGPreTrainedModel:
        """The model without what the accelerator wrapped around it."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def plan(self) -> BatchPlan:
        """Which records a step sees."""
        return self.data.plan

    @property
    def rank(self) -> int:
        """The number of this process."""
        return int(self.accelerator.process_index)

    def number(self, step: int) -> int:
        """What people call step `step` (counted from 0) of this run: its number in the log."""
        return self.place.offset + step + 1

    def save(
        self, done: int, before: Callable[[], object] = lambda: None, folder: Path | None = None, **state: Any
    ) -> None:
        """Write a checkpoint of the state after `done` steps, as `Saving.save` does."""
        number = self.place.offset + done
        self.saving.save(
            self.accelerator, self.plain_model, self.optimizer, number, folder=folder, before=before, **state
        )

    def resume(self, checkpoint: Checkpoint | None) -> None:
        """Take the optimiser's state from the checkpoint that the model was loaded from, where there is one."""
        if checkpoint is not None:
            restore_optimizer(self.accelerator, self.plain_model, self.optimizer, checkpoint)
            leave_later_steps(self.accelerator, checkpoint, self.saving.output_dir)


def prepare_model(
    args: MachineArguments,
    accelerator: Accelerator,
    model: ECGPreTrainedModel,
    hyper: StageRecipe,
    lr: float,
    checkpoint: Checkpoint | None = None,
) -> tuple[nn.Module, Optimizer]:
    """A fresh model, in the state of `checkpoint` where there is one, and its optimiser, both as the accelerator wants.

    Raises:
        UsageError: nothing is trainable, or the checkpoint does not fit.
    """
    if checkpoint is not None:
        load_model_tensors(model, checkpoint.tensors(MODEL))
    groups = parameter_groups(
        model,
        weight_decay=hyper.weight_decay,
        decay_one_dimensional=hyper.decay_one_dimensional,
        no_decay=hyper.no_decay,
        lr_factors=hyper.lr_factors,
    )
    optimizer = build_optimizer(groups, name=hyper.optimizer, lr=lr, betas=hyper.betas, eps=hyper.eps)
    wrapped = with_sync_batch_norm(model, accelerator) if args.sync_batch_norm else model
    return accelerator.prepare(wrapped, optimizer)  # type: ignore[no-any-return]
