"""What a fine-tuning run is going to do: its splits, its classifier, and one plan a seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from accelerate import Accelerator

from ecg_transformers.evaluation.subsets import label_subset
from ecg_transformers.files import as_json
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.registry import StageRecipe
from ecg_transformers.training.arguments import FinetuningArguments
from ecg_transformers.training.checkpoints.identity import model_facts
from ecg_transformers.training.classifier.network import ClassifierPlan, HeadKind, plan_classifier
from ecg_transformers.training.classifier.results import (
    describe_data,
    metrics_of_seeds,
    thresholds_from_validation,
    untrained_classes,
    write_predictions,
)
from ecg_transformers.training.classifier.scores import Evaluator
from ecg_transformers.training.classifier.selection import validation_figures
from ecg_transformers.training.errors import usage_errors
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.settings import resolve_batches, resolve_length
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.process.start import say
from ecg_transformers.training.samples.checking import BadRecord, check_all
from ecg_transformers.training.samples.splits import Split, check_split_has_records, load_split, longest_record
from ecg_transformers.training.samples.views import Augmentation, View, classifier_view

SEEDS = "seeds"


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
    """A fine-tuning run: of a classifier of records, unless a subclass says otherwise."""

    head: ClassVar[HeadKind] = HeadKind()
    headline: ClassVar[str] = "macro_auroc"

    args: FinetuningArguments
    accelerator: Accelerator
    train: Split
    validation: Split
    classifier: ClassifierPlan
    num_crops: int
    seeds: list[SeedPlan]
    skipped: dict[str, int]
    bad_in_test: list[BadRecord]

    @classmethod
    def load(cls, args: FinetuningArguments, name: str) -> Split:
        """A split with its labels."""
        return load_split(args, name, task=args.task, labelled=True)

    @staticmethod
    def class_table(split: Split) -> np.ndarray:
        """What few-label subsets are drawn by: which class stands in which record, `(N, C)`."""
        return split.multi_hot()

    @staticmethod
    def view_of(classifier: ClassifierPlan, augmentation: Augmentation | None = None) -> View:
        """What a classifier sees of a record."""
        return classifier_view(classifier.method.view, classifier.extractor, augmentation)

    @property
    def criterion(self) -> str:
        """The validation figure that chooses."""
        return self.args.selection_metric

    def tell_untrained(self) -> None:
        """Name the classes that cannot be learned, before any step."""
        untrained, counts = untrained_classes(self.train), self.train.multi_hot().sum(axis=0)
        for name in untrained:
            alone = counts[self.train.label_names.index(name)] > 0
            where = "stands in every record of the training part" if alone else "has no record in the training part"
            say(f"warning: the label {name!r} {where}: its figures measure nothing and are left out of the averages.")
        for seed in self.seeds:
            lost = [name for name in seed.subset["classes_without_positives"] if name not in untrained]
            if lost:
                say(
                    f"warning: the {len(seed.train)} records whose labels seed {seed.seed} uses hold none of "
                    f"{', '.join(map(repr, lost))}, of which its model learns nothing. The averages keep all classes, so that "
                    "label fractions can be compared."
                )

    def validate(self, evaluator: Evaluator, model: ECGPreTrainedModel) -> dict[str, float | None]:
        """Figures on the validation split; "loss" is one of them."""
        return validation_figures(self.validation, *evaluator.probabilities(model))

    def settle(self, evaluator: Evaluator, model: ECGPreTrainedModel) -> dict[str, Any]:
        """What is decided on the validation split once a model is chosen: put into its config, and given for the record."""
        probabilities, loss = evaluator.probabilities(model)
        thresholds = thresholds_from_validation(self.validation, probabilities, untrained_classes(self.train))
        # whoever applies the checkpoint applies the predictor that is evaluated here
        model.config.evaluation_crops, model.config.decision_thresholds = self.num_crops, thresholds
        model.config.evaluation_seconds = longest_record(self.train)
        model.config.evaluation_records = len(self.validation)
        return {"validation": validation_figures(self.validation, probabilities, loss), "thresholds": thresholds}

    def predict(self, evaluator: Evaluator, model: ECGPreTrainedModel) -> Any:
        """The answer of a seed's model for all records of a split."""
        return evaluator.probabilities(model)[0]

    def judge(
        self, test: Split, answers: Mapping[int, Any], selections: Mapping[int, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """The figures of the test split, by seed and over seeds; and what the data are."""
        thresholds = {seed: facts["thresholds"] for seed, facts in selections.items()}
        return {
            "test": metrics_of_seeds(test, answers, thresholds, self.args.n_boot, untrained_classes(self.train)),
            "data": describe_data([self.train, self.validation, test], self.class_table),
        }

    def write_predictions(self, path: Path, test: Split, answers: Mapping[int, Any]) -> None:
        """The answers of all seeds as a table."""
        write_predictions(path, test, answers)

    @property
    def output_dir(self) -> Path:
        """Where everything is written."""
        return Path(self.args.output_dir)

    @property
    def total_steps(self) -> int:
        """Steps of all seeds."""
        return self.seeds[-1].offset + self.seeds[-1].total_steps

    @property
    def length(self) -> str:
        """What all seeds take, in words."""
        first, count = self.seeds[0], len(self.seeds)
        if self.args.mode == "linear":
            one = f"one pass over {first.plan.num_records:,} records, which a linear probe is fitted to"
        else:
            one = first.plan.length(first.total_steps)
        return one if count == 1 else f"{one}, for each of {count} seeds ({self.total_steps:,} steps)"

    @property
    def frozen(self) -> bool:
        """Whether only the head is trained."""
        return self.args.mode in ("linear", "attention")

    @property
    def hyper(self) -> StageRecipe:
        """The recipe as this run takes it."""
        hyper = self.classifier.settings.hyper
        if not self.frozen:
            return hyper
        return dataclasses.replace(hyper, no_decay=(), lr_factors={})  # their patterns are about the encoder

    def folder(self, seed: int) -> Path:
        """Where the result of a finished seed is."""
        return self.output_dir / SEEDS / f"seed-{seed}"

    def evaluator(self, split: Split, stop: StopRequest | None = None) -> Evaluator:
        """Runs classifiers over a split; a stop request ends it there where nothing is lost by that."""
        view = self.view_of(self.classifier)
        batch_size = max(1, 2 * self.seeds[0].plan.per_device_batch_size // self.num_crops)
        arguments, cache_mb = self.classifier.forward_arguments, self.args.cache_mb
        return Evaluator(self.accelerator, split, view, self.num_crops, batch_size, arguments, cache_mb, stop)


def prepare_job(args: FinetuningArguments, accelerator: Accelerator, kind: type[Job] = Job) -> Job:
    """Load training and validation split, look at all records, plan the classifier and the seeds.

    Of the test records only the signals are looked at: their labels are loaded when the models are chosen.
    """
    train_split, validation = kind.load(args, "train"), kind.load(args, "validation")
    check_split_has_records(args, "test", args.task)
    classifier = plan_classifier(args, train_split, kind.head)
    splits = [train_split, validation, load_split(args, "test", task=args.task)]
    (train_split, validation, _), skipped, found = check_all(args, splits, kind.view_of(classifier), accelerator)
    seeds, offset = [], 0
    for seed in args.seed_list():
        table = kind.class_table(train_split)
        seeds.append(plan_seed(args, classifier, train_split, table, accelerator.num_processes, seed, offset))
        offset += seeds[-1].total_steps
    crops = args.num_crops or classifier.settings.hyper.num_crops or 1
    return kind(args, accelerator, train_split, validation, classifier, crops, seeds, skipped, found[2])


def plan_seed(
    args: FinetuningArguments,
    classifier: ClassifierPlan,
    train_split: Split,
    class_table: np.ndarray,
    processes: int,
    seed: int,
    offset: int,
) -> SeedPlan:
    """The labelled subset of a seed (nested over label fractions, drawn by patient) and its batches."""
    with usage_errors():
        subset = label_subset(class_table, args.label_fraction, seed, train_split.patient_ids, train_split.record_ids)
    chosen = train_split.select(subset.indices.tolist())
    hyper = classifier.settings.hyper
    plan = resolve_batches(args, hyper, len(chosen), processes, seed, few_labels=True, groups=chosen.groups)
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
        "recipe": vars(classifier.settings.hyper),
        "data": {"train": job.train.facts, "validation": job.validation.facts},
        "label_fraction": job.args.label_fraction,
        "seeds": job.args.seed_list(),
        "global_batch_size": job.seeds[0].plan.global_batch_size,
        "num_crops": job.num_crops,
        "selection_metric": job.criterion,
        "precision": job.accelerator.mixed_precision,
        "total_steps": job.total_steps,
    }
    return as_json(identity)
