"""The three tasks of the ECG-SL paper and its ablations: conditions of a record, apnea by the minute, class of a beat.

    python experiments/ecg_sl_tasks.py --task ptb_xl_superclass --data_dir PTB_XL --pretraining both --output_dir OUT
    python experiments/ecg_sl_tasks.py --task mitdb_beats --data_dir MITDB --pretrain_data_dir PTB_XL --output_dir OUT
    python experiments/ecg_sl_tasks.py --task apnea_minutes --data_dir APNEA --pretraining none --output_dir OUT

Pre-training (`--pretraining none|autoencoder|masked|both`) runs on the training folds of PTB-XL, once for each seed, into
`--pretrained_dir`, where later calls find it; each seed of the fine-tuning starts from the pre-training of its own seed, so
that the spread over seeds is that of the whole way. Records and minutes are trained by the common fine-tuning, beats by the
short loop of `ecg_sl_beats.py`. `OUT` then holds `metrics.json` and `predictions.parquet` of all seeds in the common form,
and the model of the first seed; the entry "ecg_sl" of `metrics.json` says which variant it is, and holds the scores under
worse segmentation (`--segmentation clean,jitter:20,drop:0.1`, applied to the test records of the trained models).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from accelerate import Accelerator
from ecg_sl_beats import run_beats
from ecg_sl_variant import CLEAN, METHOD, TaskArguments, disturb, pretrained_model
from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

from ecg_transformers.benchmark.figures import read_predictions
from ecg_transformers.evaluation.metrics import classification_report
from ecg_transformers.training.arguments import FinetuningArguments, parse_arguments
from ecg_transformers.training.classifier.results import metrics_of_seeds, write_predictions
from ecg_transformers.training.classifier.scores import Evaluator
from ecg_transformers.training.errors import run_command
from ecg_transformers.training.finetuning import finetune, validation_summary
from ecg_transformers.training.plan.randomness import numpy_generator
from ecg_transformers.training.report.summary import write_result
from ecg_transformers.training.samples.splits import Split, load_split
from ecg_transformers.training.samples.views import BeatsView

RECORD_TASKS: dict[str, dict[str, Any]] = {
    "ptb_xl_superclass": {"dataset": "ptb_xl", "task": "superclass"},
    "apnea_minutes": {
        "dataset": "apnea_ecg",
        "task": "minutes",
        "dataset_options": "window_minutes=1",
        "preprocessing_overrides": "max_beats=256",
    },
}
MODEL_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
APNEIC_MINUTES = 5


def main() -> None:
    args = parse_arguments(TaskArguments, "Tasks and ablations of ECG-SL.")
    metrics = run_task(args)
    f1 = metrics["test"]["macro_f1"]
    print(f"{args.task}, pre-training {args.pretraining}: macro F1 {f1['mean']:.3f}, per seed {f1['per_seed']}")


def run_task(args: TaskArguments) -> dict[str, Any]:
    """Pre-train where that is not done yet, train, evaluate, write; returns the metrics."""
    args.check()
    sources = {seed: pretrained_model(args, seed) for seed in args.seed_list()}
    metrics = run_beats(args, sources) if args.task == "mitdb_beats" else run_records(args, sources)
    metrics[METHOD] = {
        **metrics.get(METHOD, {}),
        **{name: getattr(args, name) for name in ("task", "pretraining", "aggregation", "folds", "label_fraction")},
        "leads": args.lead_names(),
    }
    write_result(Path(args.output_dir) / "metrics.json", metrics)
    return metrics


def run_records(args: TaskArguments, sources: Mapping[int, Path | None]) -> dict[str, Any]:
    """Common fine-tuning of each seed, all seeds together, then the test again under each disturbed segmentation."""
    runs = {seed: args.finetuning(seed, source, **RECORD_TASKS[args.task]) for seed, source in sources.items()}
    found = {seed: finetune(settings).metrics for seed, settings in runs.items()}
    folder, first = Path(args.output_dir), next(iter(runs.values()))
    test = load_split(first, "test", task=first.task, labelled=True)
    metrics = {**next(iter(found.values())), **merge_seeds(runs, test, args.n_boot, folder)}
    for name in MODEL_FILES:
        shutil.copy2(Path(first.output_dir) / name, folder / name)
    wanted = [name for name in args.segmentations() if name not in CLEAN]
    extra: dict[str, Any] = {"segmentation": {name: disturbed_scores(runs, test, metrics, name) for name in wanted}}
    if args.task == "apnea_minutes":
        extra["per_record"] = apnea_by_record(folder, metrics)
    return {**metrics, METHOD: extra}


def merge_seeds(
    runs: Mapping[int, FinetuningArguments], test: Split, n_boot: int, folder: Path
) -> dict[str, dict[str, Any]]:
    """What depends on the seed, over all seeds: one interval for their mean; writes their predictions."""
    folders = {seed: Path(settings.output_dir) for seed, settings in runs.items()}
    scores = {seed: read_predictions(path / "predictions.parquet", test)[seed] for seed, path in folders.items()}
    selections = {
        seed: json.loads((path / "selection.json").read_text(encoding="utf-8"))["seeds"][str(seed)]
        for seed, path in folders.items()
    }
    write_predictions(folder / "predictions.parquet", test, scores)
    thresholds = {seed: facts["thresholds"] for seed, facts in selections.items()}
    return {
        "test": metrics_of_seeds(test, scores, thresholds, n_boot),
        "validation": validation_summary(selections, "macro_auroc"),
        "label_subsets": {str(seed): facts["label_subset"] for seed, facts in selections.items()},
        "best_steps": {str(seed): facts["best_step"] for seed, facts in selections.items()},
    }


class DisturbedBeats(BeatsView):
    """Beats cut at disturbed R peaks."""

    def __init__(self, extractor: Any, segmentation: str) -> None:
        super().__init__(extractor)
        self.segmentation = segmentation

    def prepare(self, record: Any) -> Any:
        clean = self.extractor.prepare(record).segments.samples
        generator = numpy_generator("segmentation", self.segmentation, str(record.record_id))
        peaks = disturb(clean, record.sampling_rate, self.segmentation, generator, len(record.signal))
        return self.extractor.prepare(record, rpeaks=peaks)


def disturbed_scores(
    runs: Mapping[int, FinetuningArguments], test: Split, metrics: dict[str, Any], segmentation: str
) -> dict[str, Any]:
    """Macro F1 and AUROC of the trained seeds when the test records are cut worse than in training."""
    extractor = AutoFeatureExtractor.from_pretrained(next(iter(runs.values())).output_dir)
    evaluator = Evaluator(Accelerator(cpu=True), test, DisturbedBeats(extractor, segmentation), 1, 64)
    figures: dict[str, list[float]] = {"macro_f1": [], "macro_auroc": []}
    for seed, settings in runs.items():
        model = AutoModelForSequenceClassification.from_pretrained(settings.output_dir)
        limits = metrics["test"]["thresholds"][str(seed)]
        scores = evaluator.probabilities(model)[0]
        report = classification_report(
            test.multi_hot(), scores, test.task_kind, test.label_names, 0.5 if limits is None else limits
        )
        for name, values in figures.items():
            values.append(report[name])
    return {name: {"per_seed": values, "mean": float(np.mean(values))} for name, values in figures.items()}


def apnea_by_record(folder: Path, metrics: dict[str, Any]) -> dict[str, Any]:
    """A night is apneic from five minutes on: share of nights that are told right, mean over seeds."""
    table = pd.read_parquet(folder / "predictions.parquet")
    limits = {int(seed): values[0] for seed, values in metrics["test"]["thresholds"].items()}
    table["predicted"] = table["y_score_apnea"] >= table["seed"].map(limits)
    table["record"] = table["record_id"].str.split("/").str[0]
    minutes = table.groupby(["seed", "record"])[["y_true_apnea", "predicted"]].sum()
    apneic = minutes >= APNEIC_MINUTES
    right = (apneic["y_true_apnea"] == apneic["predicted"]).groupby("seed").mean()
    return {
        "nights": int(table["record"].nunique()),
        "accuracy": {"per_seed": right.tolist(), "mean": float(right.mean())},
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
