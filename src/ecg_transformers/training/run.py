"""Putting a run together: optimiser, wrapped model, batches, and the state of a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_transformers.models.registry import StageRecipe
from ecg_transformers.training.arguments import RunArguments
from ecg_transformers.training.checkpoints.folder import (
    STATE,
    Checkpoint,
    debris,
    find_checkpoint,
    logger,
    set_newer_aside,
    write_errors,
)
from ecg_transformers.training.checkpoints.saving import CHECKPOINTS, on_main_process, restore_model, restore_training
from ecg_transformers.training.loop import Run
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.optimization import Schedule, build_optimizer, parameter_groups, warmup_cosine
from ecg_transformers.training.process.start import with_sync_batch_norm
from ecg_transformers.training.samples.splits import Split
from ecg_transformers.training.samples.views import PreparedRecords, TrainingSamples, View, patient_keys

if TYPE_CHECKING:
    from accelerate import Accelerator

NEEDED_TO_RESUME = ("model.safetensors", "optimizer.safetensors", STATE)


def checkpoint_to_resume(args: RunArguments, output_dir: Path) -> Checkpoint | None:
    """The checkpoint that the arguments ask for; None when the run starts from the beginning."""
    folder = output_dir / CHECKPOINTS
    for path in debris(folder):
        logger.warning(
            "%s is what an interrupted, damaged or rolled-back save left; it is not used and may be deleted.", path
        )
    if args.resume_from_checkpoint is None:
        return None
    checkpoint = find_checkpoint(
        args.resume_from_checkpoint, folder, hashes=args.verify_checkpoint, needed=NEEDED_TO_RESUME
    )
    if checkpoint is None:
        logger.warning("%s holds no checkpoint yet: the run starts from the beginning.", folder)
    return checkpoint


def leave_later_steps(accelerator: Accelerator, checkpoint: Checkpoint, output_dir: Path) -> None:
    """When a run goes on from one of its older checkpoints, the newer ones are no longer its own."""
    folder = output_dir / CHECKPOINTS

    def rename() -> None:
        with write_errors("the names of later checkpoints", folder):
            set_newer_aside(folder, checkpoint.step)

    if checkpoint.path.resolve().parent == folder.resolve():  # else its first own checkpoint takes their place
        on_main_process(accelerator, rename)


def training_samples(
    split: Split, view: View, seed: int, args: RunArguments, labels: np.ndarray | None = None
) -> TrainingSamples:
    """The training set with its cache; workers share out the memory for it."""
    prepared = PreparedRecords(split.records, view.prepare, args.cache_mb / max(args.num_workers, 1))
    keys = patient_keys(split.patient_ids, split.record_ids, split.sources)
    return TrainingSamples(prepared, view, seed, keys, labels)


def assemble_run(
    args: RunArguments,
    accelerator: Accelerator,
    model: Any,
    hyper: StageRecipe,
    plan: BatchPlan,
    schedule: Schedule,
    samples: TrainingSamples,
    *,
    record_ids: Sequence[str],
    identity: dict[str, Any],
    output_dir: Path,
    checkpoint: Checkpoint | None = None,
    train_mode: Callable[[Any], None] | None = None,
    **further: Any,
) -> Run:
    """A run of the loop over a fresh model, in the state of `checkpoint` where there is one.

    Args:
        train_mode: puts the plain model into training mode where `model.train()` is not what is meant.
        further: fields of `Run`.
    """
    if checkpoint is not None:
        restore_model(model, checkpoint)
    groups = parameter_groups(
        model,
        weight_decay=hyper.weight_decay,
        decay_one_dimensional=hyper.decay_one_dimensional,
        no_decay=hyper.no_decay,
        lr_factors=hyper.lr_factors,
    )
    optimizer: Any = build_optimizer(groups, name=hyper.optimizer, lr=schedule.lr, betas=hyper.betas, eps=hyper.eps)
    wrapped = with_sync_batch_norm(model, accelerator) if args.sync_batch_norm else model
    wrapped, optimizer = accelerator.prepare(wrapped, optimizer)
    plain_model = accelerator.unwrap_model(wrapped)
    run = Run(
        accelerator=accelerator,
        model=wrapped,
        plain_model=plain_model,
        optimizer=optimizer,
        samples=samples,
        plan=plan,
        schedule=schedule,
        seed=plan.seed,
        output_dir=output_dir,
        identity=identity,
        record_ids=list(record_ids),
        clip_norm=hyper.clip_norm,
        weight_decay=decay_schedule(hyper, schedule.total_steps),
        save_steps=args.save_steps or min(1000, max(1, schedule.total_steps // 20)),
        keep=args.save_total_limit,
        num_workers=args.num_workers,
        stop_after_step=args.stop_after_step,
        train_mode=wrapped.train if train_mode is None else lambda: train_mode(plain_model),
        **further,
    )
    if checkpoint is not None:
        restore_training(run, checkpoint)
        leave_later_steps(accelerator, checkpoint, output_dir)
    return run


def decay_schedule(hyper: StageRecipe, total_steps: int) -> Callable[[int], float] | None:
    """The weight decay of every step, None where it stays as it is."""
    if hyper.final_weight_decay is None:
        return None
    return functools.partial(
        warmup_cosine,
        start=hyper.weight_decay,
        final=hyper.final_weight_decay,
        warmup_steps=0,
        total_steps=total_steps,
    )
