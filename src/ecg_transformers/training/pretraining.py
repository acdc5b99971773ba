"""Pre-training of any method of the registry, from arguments to a saved model."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator

from ecg_transformers.data.overlap import FINGERPRINTS
from ecg_transformers.features.protocol import Extractor
from ecg_transformers.files import as_json
from ecg_transformers.hub.checkpoints import checkpoint_folder
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.registry import get_method
from ecg_transformers.training.arguments import PretrainingArguments, field_names, parse_overrides
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.identity import check_identity, model_facts, note_changed_data
from ecg_transformers.training.checkpoints.saving import Saving, checkpoint_to_resume
from ecg_transformers.training.errors import UsageError, usage_errors
from ecg_transformers.training.loop import train
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.passes import check_passes, warn_of_divided_batches
from ecg_transformers.training.plan.randomness import seed_global_generators
from ecg_transformers.training.plan.settings import (
    Settings,
    build_config,
    build_extractor,
    extractor_arguments,
    extractor_beside,
    resolve_batches,
    resolve_length,
    resolve_schedule,
    resolve_settings,
    settings_as_used,
)
from ecg_transformers.training.plan.start import sizes_of_start
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.process.start import on_main_process, say, started
from ecg_transformers.training.process.threads import fix_threads
from ecg_transformers.training.report.log import Reporter
from ecg_transformers.training.report.model_folder import quiet_loading, save_model
from ecg_transformers.training.report.summary import RunSummary, library_versions
from ecg_transformers.training.run import Run, prepare_model
from ecg_transformers.training.samples.checking import check_all
from ecg_transformers.training.samples.loader import TrainingData
from ecg_transformers.training.samples.overlap import (
    evaluation_fingerprints,
    overlap_flags,
    say_flags,
    split_fingerprints,
)
from ecg_transformers.training.samples.splits import Split, load_split, other_splits
from ecg_transformers.training.samples.views import build_augmentation, build_view


def main(args: PretrainingArguments) -> None:
    """The command: pre-train, say what was saved."""
    summary = pretrain(args)
    if summary.is_main_process:
        loss = summary.final["loss"]
        print(f"saved {summary.model_class} to {args.output_dir}; loss {loss:.4f} after {summary.steps} steps")


def pretrain(args: PretrainingArguments) -> RunSummary:
    """Pre-train a method and save model, extractor, logs and checkpoints to `args.output_dir`.

    Returns:
        What the run did; the same is in `run.json`. The model card is made from it.

    Raises:
        TrainingError: one of its subclasses, each with the exit code of the command.
    """
    with started(args) as (accelerator, stop):
        return _pretrain(args, accelerator, stop)


def _pretrain(args: PretrainingArguments, accelerator: Accelerator, stop: StopRequest) -> RunSummary:
    with usage_errors():
        source = checkpoint_folder(args.model_name_or_path, method=args.method) if args.model_name_or_path else None
    settings = pretraining_settings(args, source)
    checkpoint = checkpoint_to_resume(args)
    fix_threads(args, accelerator, None if checkpoint is None else checkpoint.json())
    evaluations = evaluation_fingerprints(args.overlap_with)
    extractor = run_extractor(args, settings, source)
    loaded = load_split(args, args.split)
    view = build_view(settings.method.view, extractor)
    (split,), skipped, _ = check_all(args, [loaded], view, accelerator, lambda: other_splits(args, args.split))
    before = {} if checkpoint is None else checkpoint.json().get("identity", {}).get("data", {})
    note_changed_data(checkpoint if args.allow_changed_data else None, split.facts, before)
    prints = split_fingerprints(split)
    flags = overlap_flags(prints, evaluations)
    on_main_process(accelerator, lambda: say_flags(flags))
    run = prepare_run(args, settings, split, extractor, accelerator, checkpoint, source)
    output_dir = run.saving.output_dir
    first_step = 0 if checkpoint is None else checkpoint.step
    on_main_process(accelerator, lambda: say(f"training takes {run.plan.length(run.schedule.total_steps)}"))
    title, is_main = settings.method.title, accelerator.is_main_process
    with Reporter(output_dir, first_step, run.schedule.total_steps, title, is_main, args.tensorboard) as reporter:
        train(run, reporter, stop, first_step)
    summary = summarize(args, settings, split, run)
    summary.skipped = skipped
    summary.dataset = {**summary.dataset, **({"overlap": flags} if flags else {})}
    save_model(accelerator, run.plain_model, extractor, output_dir)
    on_main_process(accelerator, lambda: summary.finish(output_dir))
    on_main_process(accelerator, lambda: prints.save(output_dir / FINGERPRINTS))
    return summary


def pretraining_settings(args: PretrainingArguments, source: str | None = None) -> Settings:
    """Method, stage and hyper-parameters of the run; its sizes are those of the checkpoint in `source`, if there is one."""
    start = None
    if source is None:
        with usage_errors():
            method = get_method(args.method)
    else:
        method, start = sizes_of_start(source, args.method)
    if "pretraining" not in method.model_classes or not method.stages:
        raise UsageError(
            f"{method.title} is a supervised method without pre-training: use finetune_classification.py --mode scratch."
        )
    stage = args.stage or method.stages[0]
    if stage not in method.stages:
        raise UsageError(f"{method.title} has no stage {stage!r}; it has {', '.join(method.stages)}.")
    return resolve_settings(method, stage, args, start=start)


def run_extractor(args: PretrainingArguments, settings: Settings, source: str | None) -> Extractor:
    """The method's own extractor, or the one beside the checkpoint in `source`, with the lengths that the model has."""
    beside = None if source is None else extractor_beside(source, settings, {})
    if source is None or beside is None:
        return build_extractor(settings)
    common = field_names(settings.method.config_class) & extractor_arguments(settings.method)
    sizes = {name: settings.config[name] for name in common if settings.config.get(name) is not None}
    changes = {name: value for name, value in sizes.items() if getattr(beside, name, None) != value}
    changes |= parse_overrides(args.preprocessing_overrides, "preprocessing_overrides")
    return extractor_beside(source, settings, changes) or beside


def prepare_run(
    args: PretrainingArguments,
    settings: Settings,
    split: Split,
    extractor: Extractor,
    accelerator: Accelerator,
    checkpoint: Checkpoint | None,
    source: str | None,
) -> Run:
    """Everything that the loop needs, checked before anything is trained."""
    hyper = settings.hyper
    plan = resolve_batches(args, hyper, len(split), accelerator.num_processes, args.seed, groups=split.groups)
    total_steps = resolve_length(args, hyper, plan.steps_per_epoch)
    schedule = resolve_schedule(hyper, total_steps, plan.steps_per_epoch, plan.global_batch_size)
    model = build_model(args, settings, source)
    check_passes(model, plan)
    identity = run_identity(args, settings, split, extractor, model, plan, accelerator.mixed_precision, total_steps)
    if checkpoint is not None:
        check_identity(
            checkpoint,
            identity,
            allow_new_schedule=args.new_schedule,
            allow_changed_data=args.allow_changed_data,
        )
    view = build_view(settings.method.view, extractor, build_augmentation(hyper))
    data = TrainingData.of(args, split, view, plan)
    wrapped, optimizer = prepare_model(args, accelerator, model, hyper, schedule.lr, checkpoint)
    saving = Saving.of(args, identity, total_steps)
    run = Run(accelerator, wrapped, optimizer, data, schedule, saving, hyper.clip_norm)
    run.resume(checkpoint)
    if accelerator.is_main_process:
        warn_of_divided_batches(settings.method.title, run.plain_model, plan)
    return run


def build_model(args: PretrainingArguments, settings: Settings, source: str | None) -> ECGPreTrainedModel:
    """A fresh pre-training model, keyed by the seed, or one from a checkpoint; what an encoder alone lacks is drawn."""
    config = build_config(settings)
    cls = settings.method.model_classes["pretraining"]
    seed_global_generators(args.seed, "initial weights")
    with usage_errors(RuntimeError), quiet_loading():
        return cls(config) if source is None else cls.from_pretrained(source, config=config)


def run_identity(
    args: PretrainingArguments,
    settings: Settings,
    split: Split,
    extractor: Extractor,
    model: ECGPreTrainedModel,
    plan: BatchPlan,
    precision: str,
    total_steps: int,
) -> dict[str, Any]:
    """What must be the same for a resumed run."""
    identity = {
        "kind": "pretraining",
        "method": settings.method.name,
        "stage": settings.stage,
        "model": model_facts(type(model).__name__, model.config),
        "preprocessing": extractor.to_dict(),
        "recipe": vars(settings.hyper),
        "data": split.facts,
        "seed": args.seed,
        "global_batch_size": plan.global_batch_size,
        "drop_last": args.drop_last,
        "precision": precision,
        "total_steps": total_steps,
        "start": args.model_name_or_path,
    }
    return as_json(identity)


def summarize(args: PretrainingArguments, settings: Settings, split: Split, run: Run) -> RunSummary:
    """The run in words and figures."""
    return RunSummary(
        kind="pretraining",
        method=settings.method.name,
        model_class=type(run.plain_model).__name__,
        dataset=split.facts,
        recipe={
            "name": args.recipe,
            "stage": settings.stage,
            **settings_as_used(settings.hyper, settings.config, run.schedule, run.plan),
        },
        arguments=vars(args),
        steps=run.schedule.total_steps,
        epochs=run.schedule.total_steps / run.plan.steps_per_epoch,
        num_processes=run.accelerator.num_processes,
        precision=run.accelerator.mixed_precision,
        threads=torch.get_num_threads(),
        global_batch_size=run.plan.global_batch_size,
        seeds=[args.seed],
        weights_seed=args.seed,
        records_seen=run.plan.records_in(run.schedule.total_steps),
        versions=library_versions(),
        parent=args.model_name_or_path,
        is_main_process=run.accelerator.is_main_process,
    )
