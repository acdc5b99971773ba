"""Pre-training of any method of the registry, from arguments to a saved model."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.models.registry import get_method
from ecg_transformers.training.arguments import PretrainingArguments
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.identity import check_identity, model_facts
from ecg_transformers.training.checkpoints.saving import on_main_process
from ecg_transformers.training.errors import UsageError, usage_errors
from ecg_transformers.training.loop import Run, train
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.randomness import seed_global_generators
from ecg_transformers.training.plan.settings import (
    Settings,
    build_config,
    build_extractor,
    check_passes,
    plain,
    resolve_batches,
    resolve_length,
    resolve_schedule,
    resolve_settings,
    warn_of_divided_batches,
)
from ecg_transformers.training.process.lock import OutputLock
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.process.start import main_process_speaks, start_accelerator
from ecg_transformers.training.report.log import (
    TRAIN_LOG,
    Reporter,
    RunSummary,
    check_output_is_free,
    library_versions,
    read_log,
    save_loss_curve,
)
from ecg_transformers.training.report.model_folder import quiet_loading, save_model
from ecg_transformers.training.run import assemble_run, checkpoint_to_resume, training_samples
from ecg_transformers.training.samples.splits import Split, load_split, representative_records
from ecg_transformers.training.samples.views import build_augmentation, build_view

if TYPE_CHECKING:
    from accelerate import Accelerator


def pretrain(args: PretrainingArguments) -> RunSummary:
    """Pre-train a method and save model, extractor, logs and checkpoints to `args.output_dir`.

    Returns:
        What the run did; the same is in `run.json`. The model card is made from it.

    Raises:
        TrainingError: one of its subclasses, each with the exit code of the command.
    """
    args.check()
    output_dir = Path(args.output_dir)
    with ExitStack() as stack:
        stop = stack.enter_context(StopRequest())
        accelerator = start_accelerator(args)
        stack.enter_context(main_process_speaks(accelerator))
        lock = OutputLock(output_dir)
        on_main_process(accelerator, lock.acquire)
        stack.callback(lock.release)
        check_output_is_free(output_dir, resuming=args.resume_from_checkpoint is not None)
        return _pretrain(args, output_dir, accelerator, stop)


def _pretrain(args: PretrainingArguments, output_dir: Path, accelerator: Accelerator, stop: StopRequest) -> RunSummary:
    settings = pretraining_settings(args)
    checkpoint = checkpoint_to_resume(args, output_dir)
    split = load_split(args, args.split)
    run, extractor, first_step = prepare_run(args, settings, split, accelerator, output_dir, checkpoint)
    reporter = Reporter(
        output_dir,
        first_step=first_step,
        total_steps=run.schedule.total_steps,
        is_main=accelerator.is_main_process,
        tensorboard=args.tensorboard,
        title=settings.method.title,
    )
    try:
        train(run, reporter, stop, first_step)
    finally:
        reporter.close()
    summary = summarize(args, settings, split, run)
    save_model(accelerator, run.plain_model, extractor, output_dir)

    def finish() -> None:
        summary.final = read_log(output_dir / TRAIN_LOG)[-1]
        summary.save(output_dir)
        save_loss_curve(output_dir)

    on_main_process(accelerator, finish)
    return summary


def pretraining_settings(args: PretrainingArguments) -> Settings:
    """Method, stage and hyper-parameters of the run."""
    with usage_errors():
        method = get_method(args.method)
    if "pretraining" not in method.model_classes or not method.stages:
        raise UsageError(
            f"{method.title} is a supervised method without pre-training: use finetune_classification.py --mode "
            f"scratch."
        )
    stage = args.stage or method.stages[0]
    if stage not in method.stages:
        raise UsageError(f"{method.title} has no stage {stage!r}; it has {', '.join(method.stages)}.")
    return resolve_settings(method, stage, args)


def prepare_run(
    args: PretrainingArguments,
    settings: Settings,
    split: Split,
    accelerator: Accelerator,
    output_dir: Path,
    checkpoint: Checkpoint | None,
) -> tuple[Run, Any, int]:
    """Everything that the loop needs, the extractor, and the step to start from."""
    batches = resolve_batches(args, settings.hyper, accelerator.num_processes)
    plan = BatchPlan(
        len(split),
        batches.per_device,
        batches.accumulation,
        batches.num_processes,
        args.seed,
        drop_last=args.drop_last,
    )
    total_steps = resolve_length(args, settings.hyper, plan.steps_per_epoch)
    schedule = resolve_schedule(settings.hyper, total_steps, plan.steps_per_epoch, plan.global_batch_size)
    extractor = build_extractor(settings)
    model = build_model(args, settings)
    check_passes(model, plan)
    identity = {
        "kind": "pretraining",
        "method": settings.method.name,
        "stage": settings.stage,
        "model": model_facts(model),
        "preprocessing": extractor.to_dict(),
        "recipe": plain(vars(settings.hyper)),
        "data": split.facts,
        "seed": args.seed,
        "global_batch_size": plan.global_batch_size,
        "drop_last": args.drop_last,
        "precision": accelerator.mixed_precision,
        "total_steps": total_steps,
        "start": args.model_name_or_path,
    }
    identity = json.loads(json.dumps(identity, default=str))
    if checkpoint is not None:
        check_identity(checkpoint, identity, allow_new_schedule=args.new_schedule)
    view = build_view(settings.method.view, extractor, build_augmentation(settings.hyper))
    samples = training_samples(split, view, args.seed, args)
    samples.check(representative_records(split))
    run = assemble_run(
        args,
        accelerator,
        model,
        settings.hyper,
        plan,
        schedule,
        samples,
        record_ids=split.record_ids,
        identity=identity,
        output_dir=output_dir,
        checkpoint=checkpoint,
    )
    warn_of_divided_batches(settings.method.title, run.plain_model, batches, is_main=accelerator.is_main_process)
    return run, extractor, 0 if checkpoint is None else checkpoint.step


def build_model(args: PretrainingArguments, settings: Settings) -> Any:
    """A fresh pre-training model, keyed by the seed, or one from a checkpoint."""
    config = build_config(settings)
    cls = settings.method.model_classes["pretraining"]
    seed_global_generators(args.seed, "initial weights")
    with usage_errors(RuntimeError), quiet_loading():
        if args.model_name_or_path is None:
            return cls(config)
        return cls.from_pretrained(args.model_name_or_path, config=config)


def summarize(args: PretrainingArguments, settings: Settings, split: Split, run: Run) -> RunSummary:
    """The run in words and figures."""
    return RunSummary(
        kind="pretraining",
        method=settings.method.name,
        model_class=type(run.plain_model).__name__,
        dataset=split.facts,
        recipe={"name": args.recipe, "stage": settings.stage, **plain(vars(settings.hyper)), "lr": run.schedule.lr},
        arguments=vars(args),
        steps=run.schedule.total_steps,
        epochs=run.schedule.total_steps / run.plan.steps_per_epoch,
        num_processes=run.accelerator.num_processes,
        global_batch_size=run.plan.global_batch_size,
        seeds=[args.seed],
        versions=library_versions(),
        parent=args.model_name_or_path,
        is_main_process=run.accelerator.is_main_process,
    )
