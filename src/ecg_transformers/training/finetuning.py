"""Fine-tuning, probing and training from scratch: labelled records in, a classifier with honest figures out.

The test split is loaded only after the selection on the validation split is final and written (`selection.json`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg_transformers.hub.cards import doubts
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.training.arguments import FinetuningArguments
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.freezing import FrozenGuard, freeze_encoder, train_head_only
from ecg_transformers.training.checkpoints.identity import IDENTITY, check_identity, check_result, note_changed_data
from ecg_transformers.training.checkpoints.saving import Saving, checkpoint_to_resume
from ecg_transformers.training.checkpoints.tensors import model_tensors
from ecg_transformers.training.classifier.job import SEEDS, Job, SeedPlan, prepare_job, run_identity
from ecg_transformers.training.classifier.linear_probe import fit_linear_probe
from ecg_transformers.training.classifier.scores import Evaluator
from ecg_transformers.training.classifier.selection import Best, evaluation_steps
from ecg_transformers.training.delineation.job import DelineationJob
from ecg_transformers.training.loop import train
from ecg_transformers.training.plan.passes import check_head
from ecg_transformers.training.plan.settings import resolve_schedule, settings_as_used
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.process.start import on_main_process, say, started
from ecg_transformers.training.process.threads import fix_threads
from ecg_transformers.training.report.log import Reporter
from ecg_transformers.training.report.model_folder import quiet_loading, save_folder, save_model
from ecg_transformers.training.report.summary import RunSummary, library_versions, write_result
from ecg_transformers.training.run import Place, Run, prepare_model
from ecg_transformers.training.samples.checking import usable_records
from ecg_transformers.training.samples.loader import TrainingData
from ecg_transformers.training.samples.overlap import (
    overlap_flags,
    pretraining_fingerprints,
    say_flags,
    split_fingerprints,
)
from ecg_transformers.training.samples.splits import Split, load_split
from ecg_transformers.training.samples.views import build_augmentation


def main(args: FinetuningArguments) -> None:
    """The command: train, evaluate, say what was saved."""
    summary = finetune(args)
    if summary.is_main_process:
        test = summary.metrics["test"]
        name, figure = ("AUROC", test["macro_auroc"]) if "macro_auroc" in test else ("F1", test["macro_f1"])
        bounds = " to ".join("?" if bound is None else f"{bound:.3f}" for bound in figure["ci95"] or ())
        value = "undefined" if figure["mean"] is None else f"{figure['mean']:.3f}, 95 % interval {bounds}"
        print(f"saved {summary.model_class} to {args.output_dir}; test macro {name} {value}")
        for sentence in doubts(test):
            print(f"warning: {sentence}", file=sys.stderr)


def finetune(args: FinetuningArguments) -> RunSummary:
    """Train a classifier for each seed, choose on validation, evaluate on test.

    Returns:
        What the run did, with the metrics; the same is in `run.json` and `metrics.json` of `args.output_dir`.

    Raises:
        TrainingError: one of its subclasses, each with the exit code of the command.
    """
    with started(args) as (accelerator, stop):
        checkpoint = checkpoint_to_resume(args)
        fix_threads(args, accelerator, state_before(args, checkpoint))
        job = prepare_job(args, accelerator, kind_of_job(args))
        on_main_process(accelerator, job.tell_untrained)
        on_main_process(accelerator, lambda: say(f"training takes {job.length}"))
        train_all_seeds(job, stop, checkpoint)
        return evaluate_all_seeds(job, stop)


def state_before(args: FinetuningArguments, checkpoint: Checkpoint | None) -> Mapping[str, Any] | None:
    """What is known of the run that goes on: its checkpoint, else (probes write none) the first of its finished seeds."""
    if checkpoint is not None or args.resume_from_checkpoint is None:
        return None if checkpoint is None else checkpoint.json()
    finished = sorted((Path(args.output_dir) / SEEDS).glob("seed-*/run.json"))
    return json.loads(finished[0].read_text(encoding="utf-8")) if finished else None


def kind_of_job(args: FinetuningArguments) -> type[Job]:
    """What the labels of the corpus ask for: classes of records, or where the waves are."""
    kind = load_split(args, "train", task=args.task).task_kind
    return DelineationJob if kind == "delineation" else Job


def train_all_seeds(job: Job, stop: StopRequest, checkpoint: Checkpoint | None) -> None:
    """Train seed after seed; finished ones are passed over, an interrupted one continues at its checkpoint."""
    if checkpoint is not None:
        options = {"allow_new_schedule": job.args.new_schedule, "allow_changed_data": job.args.allow_changed_data}
        before = checkpoint.json().get("identity", {}).get("data", {}) if job.args.allow_changed_data else {}
        for name, split in (("train", job.train), ("validation", job.validation)) if before else ():
            note_changed_data(checkpoint, split.facts, before.get(name, {}))
        check_identity(checkpoint, run_identity(job), **options)
    finished = [job.folder(seed.seed) for seed in job.seeds if job.folder(seed.seed).exists()]
    for folder in finished if job.args.resume_from_checkpoint is not None else []:
        check_result(folder, run_identity(job), allow_new_schedule=job.args.new_schedule)
    done = 0 if checkpoint is None else checkpoint.step
    if job.args.mode == "linear" and job.args.resume_from_checkpoint is not None:
        done = sum(seed.total_steps for seed in job.seeds if job.folder(seed.seed).exists())
    title, is_main = f"{job.classifier.method.title} {job.args.mode}", job.accelerator.is_main_process
    with Reporter(job.output_dir, done, job.total_steps, title, is_main, job.args.tensorboard) as reporter:
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
    best = Best(job.criterion)
    run = seed_run(job, seed, best, checkpoint)
    guard = FrozenGuard(run.plain_model) if job.frozen else None
    evaluator = job.evaluator(job.validation)
    moments = evaluation_steps(seed.total_steps, job.args.evaluations or job.hyper.evaluations)

    def evaluate(done: int) -> None:
        if done in moments:
            figures = job.validate(evaluator, run.plain_model)
            best.note(done, figures, run.plain_model)
            reporter.validation(seed.offset + done, figures)

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
    args, classifier, plan, hyper = job.args, job.classifier, seed.plan, job.hyper
    model = classifier.build(seed.seed)
    check_head(model, plan)
    if job.frozen:
        freeze_encoder(model)
    schedule = resolve_schedule(hyper, seed.total_steps, plan.steps_per_epoch, plan.global_batch_size)
    view = job.view_of(classifier, build_augmentation(hyper))
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
    job: Job, seed: SeedPlan, model: ECGPreTrainedModel, evaluator: Evaluator, facts: Mapping[str, Any]
) -> None:
    """Write the chosen model of a seed and what is known of it from the validation split, all at once."""
    settled = job.settle(evaluator, model)
    selection = {"seed": seed.seed, **settled, "label_subset": seed.subset, **facts}
    tensors = {name: value.to("cpu") for name, value in model_tensors(model).items()}
    objects = {"selection.json": selection, IDENTITY: run_identity(job), "run.json": summarize(job, seed).to_dict()}
    extractor, folder = job.classifier.extractor, job.folder(seed.seed)
    on_main_process(job.accelerator, lambda: save_folder(folder, model, extractor, tensors, objects))


def evaluate_all_seeds(job: Job, stop: StopRequest) -> RunSummary:
    """Write the selection, then load the test split for the first time, predict and report."""
    args, accelerator, extractor = job.args, job.accelerator, job.classifier.extractor
    selections = {
        seed.seed: json.loads((job.folder(seed.seed) / "selection.json").read_text(encoding="utf-8"))
        for seed in job.seeds
    }
    record = {"metric": job.criterion, "seeds": {str(seed): facts for seed, facts in selections.items()}}
    on_main_process(accelerator, lambda: write_result(job.output_dir / "selection.json", record))
    test = usable_records(args, job.load(args, "test"), job.bad_in_test)
    evaluator = job.evaluator(test, stop)
    answers = {seed.seed: job.predict(evaluator, load_seed(job, seed.seed)) for seed in job.seeds}
    metrics = job_metrics(job, test, answers, selections)
    on_main_process(accelerator, lambda: say_flags(metrics["data"].get("overlap_with_pretraining", [])))
    summary = summarize(job, *job.seeds)
    summary.metrics, summary.skipped = metrics, job.skipped
    save_model(accelerator, load_seed(job, job.seeds[0].seed), extractor, job.output_dir)

    def finish() -> None:
        job.write_predictions(job.output_dir / "predictions.parquet", test, answers)
        write_result(job.output_dir / "metrics.json", metrics)
        summary.finish(job.output_dir)

    on_main_process(accelerator, finish)
    return summary


def load_seed(job: Job, seed: int) -> ECGPreTrainedModel:
    """The chosen model of a finished seed, on the device."""
    with quiet_loading():
        model = job.classifier.method.model_classes[job.classifier.role].from_pretrained(job.folder(seed))
    return model.to(job.accelerator.device)  # type: ignore[no-any-return]


def job_metrics(
    job: Job, test: Split, answers: Mapping[int, Any], selections: Mapping[int, Mapping[str, Any]]
) -> dict[str, Any]:
    """The content of `metrics.json`."""
    args, classifier = job.args, job.classifier
    judged = job.judge(test, answers, selections)
    return {
        "test": judged["test"],
        "validation": validation_summary(selections, job.headline),
        "mode": args.mode,
        "label_fraction": args.label_fraction,
        "label_subsets": {str(seed.seed): seed.subset for seed in job.seeds},
        "leads": list(classifier.extractor.lead_names or []),
        "num_crops": job.num_crops,
        "readout": classifier.config.head_pooling,
        "selection_metric": job.criterion,
        "best_steps": {str(seed): facts["best_step"] for seed, facts in selections.items()},
        "data": {**judged["data"], **pretraining_overlap(args, test)},
    }


def pretraining_overlap(args: FinetuningArguments, test: Split) -> dict[str, Any]:
    """Whether the model's pre-training held records of the test split, where its folder tells what it saw."""
    seen = pretraining_fingerprints(args.model_name_or_path)
    if seen is None:
        return {}
    flags = overlap_flags(seen, {f"{args.dataset}, test part": split_fingerprints(test)})
    return {"overlap_with_pretraining": flags}


def validation_summary(selections: Mapping[int, Mapping[str, Any]], figure: str) -> dict[str, Any]:
    """A figure of the chosen models on the validation split."""
    values = [facts["validation"][figure] for facts in selections.values()]
    known = [value for value in values if value is not None]
    return {figure: {"per_seed": values, "mean": float(np.mean(known)) if len(known) == len(values) else None}}


def summarize(job: Job, first: SeedPlan, *others: SeedPlan) -> RunSummary:
    """One seed, or all of them with the one whose weights are kept first, in words and figures."""
    seeds = [first, *others]
    probe = job.args.mode == "linear"  # which takes no step by a gradient
    used: dict[str, Any] = {"num_crops": job.num_crops}
    if not probe:
        steps, plan = first.total_steps, first.plan
        schedule = resolve_schedule(job.hyper, steps, plan.steps_per_epoch, plan.global_batch_size)
        used |= settings_as_used(job.hyper, job.classifier.settings.config, schedule, plan)
        used |= {"num_crops": job.num_crops, "evaluations": job.args.evaluations or job.hyper.evaluations}
    return RunSummary(
        kind="finetuning",
        method=job.classifier.method.name,
        model_class=job.classifier.method.model_classes[job.classifier.role].__name__,
        dataset=job.train.facts,
        recipe={"name": job.classifier.recipe_name, "stage": job.args.mode, **used},
        arguments=vars(job.args),
        steps=sum(seed.total_steps for seed in seeds),
        epochs=first.total_steps / first.plan.steps_per_epoch,
        num_processes=job.accelerator.num_processes,
        precision=job.accelerator.mixed_precision,
        threads=torch.get_num_threads(),
        global_batch_size=first.plan.global_batch_size,
        seeds=[seed.seed for seed in seeds],
        mode=job.args.mode,
        label_fraction=job.args.label_fraction,
        weights_seed=first.seed,
        records_seen=sum(len(seed.train) if probe else seed.plan.records_in(seed.total_steps) for seed in seeds),
        versions=library_versions(),
        parent=None if job.classifier.source is None else job.args.model_name_or_path,
        is_main_process=job.accelerator.is_main_process,
    )
