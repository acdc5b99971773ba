"""Fine-tuning, probing and training from scratch: labelled records in, a classifier with honest figures out.

The test split is loaded only after the selection on the validation split is final and written (`selection.json`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from ecg_transformers.evaluation.subsets import label_subset
from ecg_transformers.hub.cards import write_card
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.training.arguments import FinetuningArguments, parse_arguments
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.freezing import FrozenGuard, freeze_encoder, train_head_only
from ecg_transformers.training.checkpoints.identity import IDENTITY, check_identity, check_result, model_facts
from ecg_transformers.training.checkpoints.saving import Saving, checkpoint_to_resume
from ecg_transformers.training.checkpoints.tensors import model_tensors
from ecg_transformers.training.classifier.linear_probe import fit_linear_probe
from ecg_transformers.training.classifier.network import ClassifierPlan, plan_classifier
from ecg_transformers.training.classifier.results import (
    describe_data,
    metrics_of_seeds,
    thresholds_from_validation,
    write_predictions,
)
from ecg_transformers.training.classifier.scores import Evaluator
from ecg_transformers.training.classifier.selection import Best, evaluation_steps, validation_figures
from ecg_transformers.training.errors import usage_errors
from ecg_transformers.training.loop import train
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.settings import plain, resolve_batches, resolve_length, resolve_schedule
from ecg_transformers.training.process.lock import TRAIN_LOG
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.process.start import on_main_process, started
from ecg_transformers.training.report.log import Reporter, read_log, save_loss_curve
from ecg_transformers.training.report.model_folder import quiet_loading, save_folder, save_model
from ecg_transformers.training.report.summary import RunSummary, library_versions, write_result
from ecg_transformers.training.run import Place, Run, prepare_model
from ecg_transformers.training.samples.loader import TrainingData
from ecg_transformers.training.samples.overlap import (
    overlap_flags,
    pretraining_fingerprints,
    say_flags,
    split_fingerprints,
)
from ecg_transformers.training.samples.splits import Split, check_split_has_records, load_split, representative_records
from ecg_transformers.training.samples.views import View, build_augmentation, classifier_view

SEEDS = "seeds"


def main(arguments: list[str] | None = None, **shown: str) -> None:
    """The command: train, evaluate, write the card. Without `arguments` those of the process are taken.

    `shown` (`prog`, `epilog`) is for its help.
    """
    args = parse_arguments(FinetuningArguments, "Train and evaluate a classifier.", arguments, **shown)
    summary = finetune(args)
    if summary.is_main_process:
        write_card(args.output_dir)
        auroc = summary.metrics["test"]["macro_auroc"]
        value = "undefined" if auroc["mean"] is None else f"{auroc['mean']:.3f}, 95 % interval {auroc['ci95']}"
        print(f"saved {summary.model_class} to {args.output_dir}; test macro AUROC {value}")


def finetune(args: FinetuningArguments) -> RunSummary:
    """Train a classifier for each seed, choose on validation, evaluate on test.

    Returns:
        What the run did, with the metrics; the same is in `run.json` and `metrics.json` of `args.output_dir`.

    Raises:
        TrainingError: one of its subclasses, each with the exit code of the command.
    """
    with started(args) as (accelerator, stop):
        checkpoint = checkpoint_to_resume(args)
        job = prepare_job(args, accelerator)
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
    accelerator: Accelerator
    train: Split
    validation: Split
    classifier: ClassifierPlan
    num_crops: int
    seeds: list[SeedPlan]

    @property
    def output_dir(self) -> Path:
        """Where everything is written."""
        return Path(self.args.output_dir)

    @property
    def total_steps(self) -> int:
        """Steps of all seeds."""
        return self.seeds[-1].offset + self.seeds[-1].total_steps

    @property
    def frozen(self) -> bool:
        """Whether only the head is trained."""
        return self.args.mode in ("linear", "attention")

    def folder(self, seed: int) -> Path:
        """Where the result of a finished seed is."""
        return self.output_dir / SEEDS / f"seed-{seed}"

    def evaluator(self, split: Split, stop: StopRequest | None = None) -> Evaluator:
        """Runs classifiers over a split; a stop request ends it there where nothing is lost by that."""
        view = view_of(self.classifier)
        batch_size = max(1, 2 * self.seeds[0].plan.per_device_batch_size // self.num_crops)
        arguments, cache_mb = self.classifier.forward_arguments, self.args.cache_mb
        return Evaluator(self.accelerator, split, view, self.num_crops, batch_size, arguments, cache_mb, stop)


def view_of(classifier: ClassifierPlan) -> View:
    """What a classifier sees of a record, as it is."""
    return classifier_view(classifier.method.view, classifier.extractor)


def prepare_job(args: FinetuningArguments, accelerator: Accelerator) -> Job:
    """Load training and validation split, plan the classifier and the seeds."""
    train_split = load_split(args, "train", task=args.task, labelled=True)
    validation = load_split(args, "validation", task=args.task, labelled=True)
    check_split_has_records(args, "test", args.task)
    classifier = plan_classifier(args, train_split)
    seeds, offset = [], 0
    for seed in args.seed_list():
        seeds.append(plan_seed(args, classifier, train_split, accelerator.num_processes, seed, offset))
        offset += seeds[-1].total_steps
    for split in (train_split, validation):
        data = TrainingData.of(args, split, view_of(classifier), seeds[0].plan)
        data.samples.check(representative_records(split))
    crops = args.num_crops or classifier.settings.hyper.num_crops or 1
    return Job(args, accelerator, train_split, validation, classifier, crops, seeds)


def plan_seed(
    args: FinetuningArguments, classifier: ClassifierPlan, train_split: Split, processes: int, seed: int, offset: int
) -> SeedPlan:
    """The labelled subset of a seed (nested over label fractions, drawn by patient) and its batches."""
    assert train_split.labels is not None
    with usage_errors():
        subset = label_subset(
            train_split.multi_hot(), args.label_fraction, seed, train_split.patient_ids, train_split.record_ids
        )
    chosen = train_split.select(subset.indices.tolist())
    hyper = classifier.settings.hyper
    plan = resolve_batches(args, hyper, len(chosen), processes, seed, few_labels=True)
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
    with reporter:
        for seed in job.seeds:
            if job.folder(seed.seed).exists() and done >= seed.offset + seed.total_steps:
                continue
            if job.args.mode == "linear":
                probe_seed(job, seed, reporter, stop)
                continue
            inside = checkpoint is not None and seed.offset < done <= seed.offset + seed.total_steps
            train_seed(job, seed, reporter, stop, checkpoint if inside else None)


def train_seed(job: Job, seed: SeedPlan, reporter: Reporter, stop: StopRequest, checkpoint: Checkpoint | None) -> None:
    """One gradient-trained repetition, from a fresh model (or its checkpoint) to its folder."""
    best = Best(job.args.selection_metric)
    run = seed_run(job, seed, best, checkpoint)
    guard = FrozenGuard(run.plain_model) if job.frozen else None
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
    if guard is not None:
        guard.check()
    run.plain_model.load_state_dict(best.tensors)
    evaluator.stop = stop  # the last checkpoint is written: from here on nothing is lost
    finish_seed(job, seed, run.plain_model, evaluator, {"best_step": best.step, "history": best.history})
    job.accelerator.free_memory()


def seed_run(job: Job, seed: SeedPlan, best: Best, checkpoint: Checkpoint | None) -> Run:
    """The run of the loop for one seed; its checkpoints hold the best model so far."""
    args, classifier, plan = job.args, job.classifier, seed.plan
    hyper = classifier.settings.hyper
    model = classifier.build(seed.seed)
    if job.frozen:
        freeze_encoder(model)
        hyper = dataclasses.replace(hyper, no_decay=(), lr_factors={})  # their patterns are about the encoder
    schedule = resolve_schedule(hyper, seed.total_steps, plan.steps_per_epoch, plan.global_batch_size)
    view = classifier_view(classifier.method.view, classifier.extractor, build_augmentation(hyper))
    data = TrainingData.of(args, seed.train, view, plan)
    wrapped, optimizer = prepare_model(args, job.accelerator, model, hyper, schedule.lr, checkpoint)
    saving = Saving.of(args, run_identity(job), seed.total_steps)
    saving.extra_tensors, saving.extra_state = best.files, best.facts
    run = Run(job.accelerator, wrapped, optimizer, data, schedule, saving, hyper.clip_norm)
    run.place = Place(seed.offset, {"seed": seed.seed})
    run.forward_arguments = classifier.forward_arguments
    if job.frozen:
        run.train_mode = train_head_only
    run.resume(checkpoint)
    if checkpoint is not None:
        best.restore(checkpoint)
    return run


def probe_seed(job: Job, seed: SeedPlan, reporter: Reporter, stop: StopRequest) -> None:
    """One linear probe on frozen features; its solution becomes the linear head of the saved model."""
    model = job.classifier.build(seed.seed)
    freeze_encoder(model)
    model.to(job.accelerator.device)
    guard = FrozenGuard(model)
    evaluator = job.evaluator(job.validation, stop)
    facts, loss = fit_linear_probe(model, job.evaluator(seed.train, stop), evaluator)
    row = {"step": seed.offset + 1, "seed": seed.seed, "epoch": 1.0, "loss": loss, "lr": 0.0, **facts["log"]}
    reporter.step(row, len(seed.train))
    guard.check()
    finish_seed(job, seed, model, evaluator, {"best_step": 1, **facts})


def finish_seed(
    job: Job, seed: SeedPlan, model: ECGForSequenceClassification, evaluator: Evaluator, facts: Mapping[str, Any]
) -> None:
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
    extractor, folder = job.classifier.extractor, job.folder(seed.seed)
    on_main_process(job.accelerator, lambda: save_folder(folder, model, extractor, tensors, objects))


def evaluate_all_seeds(job: Job, stop: StopRequest) -> RunSummary:
    """Write the selection, then load the test split for the first time, predict and report."""
    args, accelerator, extractor = job.args, job.accelerator, job.classifier.extractor
    selections = {
        seed.seed: json.loads((job.folder(seed.seed) / "selection.json").read_text(encoding="utf-8"))
        for seed in job.seeds
    }
    record = {"metric": args.selection_metric, "seeds": {str(seed): facts for seed, facts in selections.items()}}
    on_main_process(accelerator, lambda: write_result(job.output_dir / "selection.json", record))
    test = load_split(args, "test", task=args.task, labelled=True)
    evaluator = job.evaluator(test, stop)
    scores: dict[int, np.ndarray] = {}
    for seed in job.seeds:
        scores[seed.seed] = evaluator.probabilities(load_seed(job, seed.seed))[0]
    metrics = job_metrics(job, test, scores, selections)
    on_main_process(accelerator, lambda: say_flags(metrics["data"].get("overlap_with_pretraining", [])))
    summary = summarize(job, metrics)
    save_model(accelerator, load_seed(job, job.seeds[0].seed), extractor, job.output_dir)

    def finish() -> None:
        write_predictions(job.output_dir / "predictions.parquet", test, scores)
        write_result(job.output_dir / "metrics.json", metrics)
        summary.final = read_log(job.output_dir / TRAIN_LOG)[-1]
        summary.save(job.output_dir)
        save_loss_curve(job.output_dir)

    on_main_process(accelerator, finish)
    return summary


def load_seed(job: Job, seed: int) -> ECGForSequenceClassification:
    """The chosen model of a finished seed, on the device."""
    with quiet_loading():
        model = job.classifier.method.model_classes["classification"].from_pretrained(job.folder(seed))
    return model.to(job.accelerator.device)  # type: ignore[no-any-return]


def job_metrics(
    job: Job, test: Split, scores: Mapping[int, np.ndarray], selections: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of `metrics.json`."""
    args, classifier = job.args, job.classifier
    thresholds = {seed: facts["thresholds"] for seed, facts in selections.items()}
    return {
        "test": metrics_of_seeds(test, scores, thresholds, args.n_boot),
        "validation": validation_summary(selections),
        "mode": args.mode,
        "label_fraction": args.label_fraction,
        "label_subsets": {str(seed.seed): seed.subset for seed in job.seeds},
        "leads": list(classifier.extractor.lead_names or []),
        "num_crops": job.num_crops,
        "readout": classifier.config.head_pooling,
        "selection_metric": args.selection_metric,
        "best_steps": {str(seed): facts["best_step"] for seed, facts in selections.items()},
        "data": {**describe_data([job.train, job.validation, test]), **pretraining_overlap(args, test)},
    }


def pretraining_overlap(args: FinetuningArguments, test: Split) -> dict[str, Any]:
    """Whether the model's pre-training held records of the test split, where its folder tells what it saw."""
    seen = pretraining_fingerprints(args.model_name_or_path)
    if seen is None:
        return {}
    flags = overlap_flags(seen, {f"{args.dataset}, test part": split_fingerprints(test)})
    return {"overlap_with_pretraining": flags}


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
        "model": model_facts(type(classifier).__name__, classifier.config),
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
