"""Fine-tuning, probing and training from scratch: labelled records in, a classifier with honest figures out.

The test split is loaded only after the selection on the validation split is final and written (`selection.json`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_transformers.training.arguments import FinetuningArguments
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.identity import IDENTITY, check_identity, check_result, model_facts
from ecg_transformers.training.checkpoints.saving import on_main_process
from ecg_transformers.training.checkpoints.tensors import FrozenGuard, model_tensors
from ecg_transformers.training.classifier.linear_probe import fit_linear_probe
from ecg_transformers.training.classifier.network import (
    ClassifierPlan,
    freeze_encoder,
    plan_classifier,
    train_head_only,
)
from ecg_transformers.training.classifier.results import (
    describe_data,
    test_metrics,
    thresholds_from_validation,
    validation_figures,
    write_predictions,
)
from ecg_transformers.training.classifier.scores import Evaluator
from ecg_transformers.training.classifier.selection import BEST, Best, evaluation_steps
from ecg_transformers.training.errors import usage_errors
from ecg_transformers.training.loop import Run, train
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.settings import plain, resolve_batches, resolve_length, resolve_schedule
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
    write_json,
)
from ecg_transformers.training.report.model_folder import quiet_loading, save_folder, save_model
from ecg_transformers.training.run import assemble_run, checkpoint_to_resume, training_samples
from ecg_transformers.training.samples.splits import Split, check_split_has_records, load_split, representative_records
from ecg_transformers.training.samples.views import build_augmentation, build_view

if TYPE_CHECKING:
    from accelerate import Accelerator

SEEDS = "seeds"


def finetune(args: FinetuningArguments) -> RunSummary:
    """Train a classifier for each seed, choose on validation, evaluate on test; everything is written to
    `args.output_dir`.

    Returns:
        What the run did, with the metrics; the same is in `run.json` and `metrics.json`.

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
        checkpoint = checkpoint_to_resume(args, output_dir)
        job = prepare_job(args, output_dir, accelerator)
        train_all_seeds(job, stop, checkpoint)
        return evaluate_all_seeds(job, stop)


@dataclass
class SeedPlan:
    """One repetition: its labelled records, its batches, and where its steps lie in the log of the whole run."""

    seed: int
    train: Split
    subset: dict[str, Any]
    plan: BatchPlan
    total_steps: int
    offset: int


@dataclass
class Job:
    """A fine-tuning run."""

    args: FinetuningArguments
    output_dir: Path
    accelerator: Accelerator
    train: Split
    validation: Split
    classifier: ClassifierPlan
    num_crops: int
    seeds: list[SeedPlan]

    @property
    def total_steps(self) -> int:
        """Steps of all seeds."""
        return self.seeds[-1].offset + self.seeds[-1].total_steps

    def folder(self, seed: int) -> Path:
        """Where the result of a finished seed is."""
        return self.output_dir / SEEDS / f"seed-{seed}"

    def evaluator(self, split: Split, stop: StopRequest | None = None) -> Evaluator:
        """Runs classifiers over a split; a stop request ends it there where nothing is lost by that."""
        view = build_view(evaluation_view(self.classifier), self.classifier.extractor)
        batch_size = max(1, 2 * self.seeds[0].plan.per_device_batch_size // self.num_crops)
        return Evaluator(
            self.accelerator,
            split,
            view,
            self.num_crops,
            batch_size,
            self.classifier.forward_arguments,
            self.args.cache_mb,
            stop,
        )


def evaluation_view(classifier: ClassifierPlan) -> str:
    """One crop a record, unless the method's input is of another kind."""
    return classifier.method.view if classifier.method.view == "beats" else "crop"


def prepare_job(args: FinetuningArguments, output_dir: Path, accelerator: Accelerator) -> Job:
    """Load training and validation split, plan the classifier and the seeds."""
    train_split = load_split(args, "train", task=args.task, labelled=True)
    validation = load_split(args, "validation", task=args.task, labelled=True)
    check_split_has_records(args, "test", args.task)
    classifier = plan_classifier(args, train_split)
    seeds, offset = [], 0
    for seed in args.seed_list():
        seeds.append(plan_seed(args, classifier, train_split, accelerator.num_processes, seed, offset))
        offset += seeds[-1].total_steps
    view = build_view(evaluation_view(classifier), classifier.extractor)
    for split in (train_split, validation):
        training_samples(split, view, 0, args).check(representative_records(split))
    crops = args.num_crops or classifier.settings.hyper.num_crops or 1
    return Job(args, output_dir, accelerator, train_split, validation, classifier, crops, seeds)


def plan_seed(
    args: FinetuningArguments, classifier: ClassifierPlan, train_split: Split, processes: int, seed: int, offset: int
) -> SeedPlan:
    """The labelled subset of a seed (nested over label fractions, drawn by patient) and its batches."""
    from ecg_transformers.evaluation.subsets import label_subset

    assert train_split.labels is not None
    with usage_errors():
        subset = label_subset(
            train_split.multi_hot(), args.label_fraction, seed, train_split.patient_ids, train_split.record_ids
        )
    chosen = train_split.select(subset.indices.tolist())
    hyper = classifier.settings.hyper
    batches = resolve_batches(args, hyper, processes, num_records=len(chosen))
    drop_last = args.drop_last and len(chosen) >= batches.total
    plan = BatchPlan(len(chosen), batches.per_device, batches.accumulation, processes, seed, drop_last)
    fraction = args.label_fraction
    total = 1 if args.mode == "linear" else resolve_length(args, hyper, plan.steps_per_epoch, fraction)
    facts = {
        "fraction": fraction,
        "records": len(chosen),
        "sha256": subset.sha256,
        "record_ids": chosen.record_ids if fraction < 1 else "all",
        "classes_without_positives": [train_split.label_names[index] for index in subset.classes_without_positives],
    }
    return SeedPlan(seed, chosen, facts, plan, total, offset)


def train_all_seeds(job: Job, stop: StopRequest, checkpoint: Checkpoint | None) -> None:
    """Train seed after seed; finished ones are passed over, an interrupted one continues at its checkpoint."""
    if checkpoint is not None:
        check_identity(checkpoint, run_identity(job), allow_new_schedule=job.args.new_schedule)
    finished = [job.folder(seed.seed) for seed in job.seeds if job.folder(seed.seed).exists()]
    for folder in finished if job.args.resume_from_checkpoint is not None else []:
        check_result(folder, run_identity(job), allow_new_schedule=job.args.new_schedule)
    done = 0 if checkpoint is None else checkpoint.step
    if job.args.mode == "linear" and job.args.resume_from_checkpoint is not None:
        done = sum(seed.total_steps for seed in job.seeds if job.folder(seed.seed).exists())
    reporter = Reporter(
        job.output_dir,
        first_step=done,
        total_steps=job.total_steps,
        is_main=job.accelerator.is_main_process,
        tensorboard=job.args.tensorboard,
        title=f"{job.classifier.method.title} {job.args.mode}",
    )
    try:
        for seed in job.seeds:
            if job.folder(seed.seed).exists() and done >= seed.offset + seed.total_steps:
                continue
            if job.args.mode == "linear":
                probe_seed(job, seed, reporter, stop)
                continue
            inside = checkpoint is not None and seed.offset < done <= seed.offset + seed.total_steps
            train_seed(job, seed, reporter, stop, checkpoint if inside else None)
    finally:
        reporter.close()


def train_seed(job: Job, seed: SeedPlan, reporter: Reporter, stop: StopRequest, checkpoint: Checkpoint | None) -> None:
    """One gradient-trained repetition, from a fresh model (or its checkpoint) to its folder."""
    run = seed_run(job, seed, checkpoint)
    guard = FrozenGuard({run.plain_model.base_model_prefix: run.plain_model.base_model} if frozen(job) else {})
    best = Best(job.args.selection_metric)
    if checkpoint is not None:
        best.restore(checkpoint)
    run.extra_tensors = lambda: {BEST: best.tensors} if best.tensors else {}
    run.extra_state = best.facts
    evaluator = job.evaluator(job.validation)
    moments = evaluation_steps(seed.total_steps, job.args.evaluations or job.classifier.settings.hyper.evaluations)

    def evaluate(done: int) -> None:
        if done in moments:
            figures = validation_figures(job.validation, *evaluator.probabilities(run.plain_model))
            best.note(done, figures, run.plain_model)
            known = {f"validation/{key}": value for key, value in figures.items() if value is not None}
            reporter.scalars(seed.offset + done, known)

    first_step = 0 if checkpoint is None else checkpoint.step - seed.offset
    train(run, reporter, stop, first_step, evaluate)
    guard.check()
    run.plain_model.load_state_dict(best.tensors)
    evaluator.stop = stop  # the last checkpoint is written: from here on nothing is lost
    finish_seed(job, seed, run.plain_model, evaluator, {"best_step": best.step, "history": best.history})
    job.accelerator.free_memory()


def frozen(job: Job) -> bool:
    """Whether the encoder of this run is frozen."""
    return job.args.mode in ("linear", "attention")


def seed_run(job: Job, seed: SeedPlan, checkpoint: Checkpoint | None) -> Run:
    """The run of the loop for one seed."""
    args, classifier = job.args, job.classifier
    hyper = classifier.settings.hyper
    model = classifier.build(seed.seed)
    if frozen(job):
        freeze_encoder(model)
        hyper = dataclasses.replace(hyper, no_decay=(), lr_factors={})  # their patterns are about the encoder
    schedule = resolve_schedule(hyper, seed.total_steps, seed.plan.steps_per_epoch, seed.plan.global_batch_size)
    view = build_view(evaluation_view(classifier), classifier.extractor, build_augmentation(hyper))
    return assemble_run(
        args,
        job.accelerator,
        model,
        hyper,
        seed.plan,
        schedule,
        training_samples(seed.train, view, seed.seed, args, seed.train.labels),
        record_ids=seed.train.record_ids,
        identity=run_identity(job),
        output_dir=job.output_dir,
        checkpoint=checkpoint,
        train_mode=train_head_only if frozen(job) else None,
        forward_arguments=classifier.forward_arguments,
        offset=seed.offset,
        row_head={"seed": seed.seed},
    )


def probe_seed(job: Job, seed: SeedPlan, reporter: Reporter, stop: StopRequest) -> None:
    """One linear probe on frozen features; its solution becomes the linear head of the saved model."""
    model = job.classifier.build(seed.seed)
    freeze_encoder(model)
    model.to(job.accelerator.device)
    guard = FrozenGuard({model.base_model_prefix: model.base_model})
    evaluator = job.evaluator(job.validation, stop)
    facts, loss = fit_linear_probe(model, job.evaluator(seed.train, stop), evaluator)
    row = {"step": seed.offset + 1, "seed": seed.seed, "epoch": 1.0, "loss": loss, "lr": 0.0, **facts["log"]}
    reporter.step(row, len(seed.train))
    guard.check()
    finish_seed(job, seed, model, evaluator, {"best_step": 1, **facts})


def finish_seed(job: Job, seed: SeedPlan, model: Any, evaluator: Evaluator, facts: Mapping[str, Any]) -> None:
    """Write the chosen model of a seed and what is known of it from the validation split, all at once."""
    probabilities, loss = evaluator.probabilities(model)
    selection = {
        "seed": seed.seed,
        "validation": validation_figures(job.validation, probabilities, loss),
        "thresholds": thresholds_from_validation(job.validation, probabilities),
        "label_subset": seed.subset,
        **facts,
    }
    tensors = {name: value.to("cpu") for name, value in model_tensors(model).items()}
    objects = {"selection.json": selection, IDENTITY: run_identity(job)}

    def write() -> None:
        save_folder(job.folder(seed.seed), model, job.classifier.extractor, tensors, objects)

    on_main_process(job.accelerator, write)


def evaluate_all_seeds(job: Job, stop: StopRequest) -> RunSummary:
    """Write the selection, then load the test split for the first time, predict and report."""
    args, accelerator = job.args, job.accelerator
    selections = {
        seed.seed: json.loads((job.folder(seed.seed) / "selection.json").read_text(encoding="utf-8"))
        for seed in job.seeds
    }
    record = {"metric": args.selection_metric, "seeds": {str(seed): facts for seed, facts in selections.items()}}
    on_main_process(accelerator, lambda: write_json(job.output_dir / "selection.json", record))
    test = load_split(args, "test", task=args.task, labelled=True)
    evaluator = job.evaluator(test, stop)
    cls = job.classifier.method.model_classes["classification"]
    scores: dict[int, np.ndarray] = {}
    saved: Any = None
    for seed in job.seeds:
        with quiet_loading():
            model = cls.from_pretrained(job.folder(seed.seed)).to(accelerator.device)
        scores[seed.seed] = evaluator.probabilities(model)[0]
        saved = model if saved is None else saved
    metrics = {
        "test": test_metrics(
            test, scores, {seed: facts["thresholds"] for seed, facts in selections.items()}, args.n_boot
        ),
        "validation": validation_summary(selections),
        "mode": args.mode,
        "label_fraction": args.label_fraction,
        "label_subsets": {str(seed.seed): seed.subset for seed in job.seeds},
        "leads": list(job.classifier.extractor.lead_names or []),
        "num_crops": job.num_crops,
        "readout": job.classifier.config.head_pooling,
        "selection_metric": args.selection_metric,
        "best_steps": {str(seed): facts["best_step"] for seed, facts in selections.items()},
        "data": describe_data([job.train, job.validation, test]),
    }
    summary = summarize(job, metrics)
    save_model(accelerator, saved, job.classifier.extractor, job.output_dir)

    def finish() -> None:
        write_predictions(job.output_dir / "predictions.parquet", test, scores)
        write_json(job.output_dir / "metrics.json", metrics)
        summary.final = read_log(job.output_dir / TRAIN_LOG)[-1]
        summary.save(job.output_dir)
        save_loss_curve(job.output_dir)

    on_main_process(accelerator, finish)
    return summary


def validation_summary(selections: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """The chosen models' figures on the validation split."""
    values = [facts["validation"]["macro_auroc"] for facts in selections.values()]
    known = [value for value in values if value is not None]
    return {"macro_auroc": {"per_seed": values, "mean": float(np.mean(known)) if len(known) == len(values) else None}}


def run_identity(job: Job) -> dict[str, Any]:
    """What must be the same for a resumed run."""
    classifier = job.classifier
    identity = {
        "kind": "finetuning",
        "method": classifier.method.name,
        "mode": job.args.mode,
        "start": job.args.model_name_or_path,
        "model": model_facts(classifier),
        "preprocessing": classifier.extractor.to_dict(),
        "recipe": plain(vars(classifier.settings.hyper)),
        "data": {"train": job.train.facts, "validation": job.validation.facts},
        "label_fraction": job.args.label_fraction,
        "seeds": job.args.seed_list(),
        "global_batch_size": job.seeds[0].plan.global_batch_size,
        "num_crops": job.num_crops,
        "selection_metric": job.args.selection_metric,
        "precision": job.accelerator.mixed_precision,
        "total_steps": job.total_steps,
    }
    return json.loads(json.dumps(identity, default=str))  # type: ignore[no-any-return]


def summarize(job: Job, metrics: dict[str, Any]) -> RunSummary:
    """The run in words and figures."""
    first = job.seeds[0]
    hyper = job.classifier.settings.hyper
    return RunSummary(
        kind="finetuning",
        method=job.classifier.method.name,
        model_class=job.classifier.method.model_classes["classification"].__name__,
        dataset=job.train.facts,
        recipe={"name": job.classifier.recipe_name, "stage": job.args.mode, **plain(vars(hyper))},
        arguments=vars(job.args),
        steps=job.total_steps,
        epochs=first.total_steps / first.plan.steps_per_epoch,
        num_processes=job.accelerator.num_processes,
        global_batch_size=first.plan.global_batch_size,
        seeds=job.args.seed_list(),
        metrics=metrics,
        versions=library_versions(),
        parent=job.classifier.source,
        is_main_process=job.accelerator.is_main_process,
    )
