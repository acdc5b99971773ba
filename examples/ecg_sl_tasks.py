"""The three tasks of the ECG-SL paper and its ablations: conditions of a record, apnea by the minute, class of a beat.

    python examples/ecg_sl_tasks.py --task ptb_xl_superclass --data_dir PTB_XL --pretraining both --output_dir OUT
    python examples/ecg_sl_tasks.py --task mitdb_beats --data_dir MITDB --pretrain_data_dir PTB_XL --output_dir OUT
    python examples/ecg_sl_tasks.py --task apnea_minutes --data_dir APNEA --pretraining none --output_dir OUT

Pre-training (`--pretraining none|autoencoder|masked|both`) runs on the training folds of PTB-XL, once, into
`--pretrained_dir`, where later calls find it. Records and minutes are trained by the common fine-tuning; labels of beats
have their own short loop below. `OUT` then holds `metrics.json` and `predictions.parquet` in the common form; the entry
"ecg_sl" of `metrics.json` says which variant it is, and holds the scores under worse segmentation (`--segmentation
clean,jitter:20,drop:0.1`, applied to the test records of the trained model).
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import HfArgumentParser

from ecg_transformers.evaluation.metrics import classification_report, f1_scores, hard_predictions
from ecg_transformers.signal.beat_matching import match_beats
from ecg_transformers.signal.beats import detect_r_peaks
from ecg_transformers.training.arguments import FinetuningArguments, PretrainingArguments
from ecg_transformers.training.classifier import plan_classifier
from ecg_transformers.training.corpus import Split, load_split
from ecg_transformers.training.errors import UsageError, run_command
from ecg_transformers.training.evaluating import Evaluator
from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.optimization import build_optimizer, parameter_groups, set_learning_rate
from ecg_transformers.training.outputs import save_pretrained_atomically
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.randomness import numpy_generator, seed_global_generators
from ecg_transformers.training.reporting import library_versions, write_json
from ecg_transformers.training.results import test_metrics, write_predictions
from ecg_transformers.training.setup import resolve_length, resolve_schedule
from ecg_transformers.training.views import BeatsView, collate

METHOD = "ecg_sl"
RECORD_TASKS = {
    "ptb_xl_superclass": {"dataset": "ptb_xl", "task": "superclass"},
    "apnea_minutes": {"dataset": "apnea_ecg", "task": "minutes", "dataset_options": "window_minutes=1"},
}
TASKS = (*RECORD_TASKS, "mitdb_beats")
STAGES = {"none": (), "autoencoder": ("autoencoder",), "masked": ("masked",), "both": ("autoencoder", "masked")}
BEAT_CLASSES = ["N", "S", "V"]
"""F and Q beats are seen but neither learned nor scored."""
MATCH_SECONDS = 0.15
RUNS_PER_STEP = 8
APNEIC_MINUTES = 5


def option(default: Any, text: str) -> Any:
    """A dataclass field with a help text."""
    return field(default=default, metadata={"help": text})


@dataclass
class TaskArguments:
    """One variant of one task."""

    task: str = option("ptb_xl_superclass", f"One of {', '.join(TASKS)}.")
    data_dir: str | None = option(None, "Folder of the task's corpus in its native layout.")
    output_dir: str = option("runs/ecg_sl", "Folder for model, metrics.json and predictions.parquet.")
    pretraining: str = option("both", "none, autoencoder, masked (the second stage alone) or both.")
    pretrain_data_dir: str | None = option(None, "Folder of PTB-XL for the pre-training (default: --data_dir).")
    pretrained_dir: str = option("runs/ecg_sl/pretrained", "Where pre-trained models are kept for later calls.")
    pretrain_steps: int | None = option(None, "Updates of each pre-training stage (default: as the recipe says).")
    aggregation: str = option("attention", "Beats to record: attention, mean or max.")
    segmentation: str = option("clean", "Of the test: clean, detect, jitter:MS, drop:SHARE; several with commas.")
    leads: str = option("II", "One lead or several, separated by commas; for MIT-BIH the name in the file, MLII.")
    seeds: str = option("0,1,2", "Seeds of the fine-tuning.")
    recipe: str = option("tiny", "Set of hyper-parameters.")
    max_steps: int | None = option(None, "Updates of the fine-tuning (default: as the recipe says).")
    folds: str = option("leave_one_out", "MIT-BIH: leave_one_out or a number of folds by record in DS1, or ds2.")
    n_boot: int = option(1000, "Resamples of the bootstrap over patients.")

    def check(self) -> None:
        """Raise `UsageError` for values that cannot be meant."""
        for name, allowed in (("task", TASKS), ("pretraining", STAGES), ("aggregation", ("attention", "mean", "max"))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")
        for text in self.segmentations():
            disturb(np.arange(3), 100.0, text, np.random.default_rng(0))

    def segmentations(self) -> list[str]:
        """The segmentations of the test."""
        return [part.strip() for part in self.segmentation.split(",") if part.strip()]

    def lead_names(self) -> list[str]:
        """Leads of the model."""
        return ["II" if name.strip() == "MLII" else name.strip() for name in self.leads.split(",") if name.strip()]


def main() -> None:
    (args,) = HfArgumentParser(
        TaskArguments, description="Tasks and ablations of ECG-SL."
    ).parse_args_into_dataclasses()
    metrics = run_task(args)
    f1 = metrics["test"]["macro_f1"]
    print(f"{args.task}, pre-training {args.pretraining}: macro F1 {f1['mean']:.3f}, per seed {f1['per_seed']}")


def run_task(args: TaskArguments) -> dict[str, Any]:
    """Pre-train where that is not done yet, train, evaluate, write; returns the metrics."""
    args.check()
    started = time.process_time()
    source = pretrained_model(args)
    ready = time.process_time()
    metrics = run_beats(args, source) if args.task == "mitdb_beats" else run_records(args, source)
    metrics[METHOD] = {
        **metrics.get(METHOD, {}),
        **{name: getattr(args, name) for name in ("task", "pretraining", "aggregation", "folds")},
        "leads": args.lead_names(),
        "cpu_seconds": {"pretraining": ready - started, "task": time.process_time() - ready},
    }
    write_json(Path(args.output_dir) / "metrics.json", metrics)
    return metrics


def lead_overrides(args: TaskArguments) -> str:
    """Config overrides of a model on other leads than the method's one."""
    names = args.lead_names()
    return "" if names == ["II"] else f"num_leads={len(names)},lead_names=[{','.join(names)}]"


def pretrained_model(args: TaskArguments) -> Path | None:
    """The folder with the wanted pre-training, each stage started from the one before; None for none."""
    source: Path | None = None
    for number, stage in enumerate(STAGES[args.pretraining]):
        name = "both" if number else stage
        folder = Path(args.pretrained_dir) / "-".join(args.lead_names()) / name
        if not (folder / "run.json").is_file():
            data = args.pretrain_data_dir or args.data_dir
            pretrain(
                PretrainingArguments(
                    method=METHOD,
                    stage=stage,
                    recipe=args.recipe,
                    dataset="ptb_xl",
                    data_dir=data,
                    output_dir=str(folder),
                    max_steps=args.pretrain_steps,
                    config_overrides=lead_overrides(args),
                    model_name_or_path=None if source is None else str(source),
                )
            )
        source = folder
    return source


def finetuning_arguments(args: TaskArguments, source: Path | None, *config: str, **further: Any) -> FinetuningArguments:
    """Arguments of the common fine-tuning for this variant."""
    overrides = [f"aggregation={args.aggregation}", *([] if source else [lead_overrides(args)]), *config]
    return FinetuningArguments(
        model_name_or_path=METHOD if source is None else str(source),
        mode="scratch" if source is None else "finetune",
        recipe=args.recipe,
        data_dir=args.data_dir,
        output_dir=args.output_dir,
        config_overrides=",".join(part for part in overrides if part),
        seeds=args.seeds,
        max_steps=args.max_steps,
        n_boot=args.n_boot,
        save_steps=1_000_000,
        **further,
    )


# ---------------------------------------------------------------------------------------------- records and minutes


def run_records(args: TaskArguments, source: Path | None) -> dict[str, Any]:
    """Common fine-tuning, then the test again under each disturbed segmentation."""
    longest = {"preprocessing_overrides": "max_beats=256"} if args.task == "apnea_minutes" else {}
    settings = finetuning_arguments(args, source, **RECORD_TASKS[args.task], **longest)
    metrics = finetune(settings).metrics
    extra: dict[str, Any] = {}
    wanted = [name for name in args.segmentations() if name not in ("clean", "detect")]
    if wanted:
        extra["segmentation"] = {name: disturbed_scores(settings, metrics, name) for name in wanted}
    if args.task == "apnea_minutes":
        extra["per_record"] = apnea_by_record(Path(args.output_dir), metrics)
    return {**metrics, METHOD: extra}


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


def disturbed_scores(settings: FinetuningArguments, metrics: dict[str, Any], segmentation: str) -> dict[str, Any]:
    """Macro F1 and AUROC of the trained seeds when the test records are cut worse than in training."""
    from accelerate import Accelerator
    from transformers import AutoFeatureExtractor, AutoModelForSequenceClassification

    test = load_split(settings, "test", task=settings.task, labelled=True)
    extractor = AutoFeatureExtractor.from_pretrained(settings.output_dir)
    evaluator = Evaluator(Accelerator(cpu=True), test, DisturbedBeats(extractor, segmentation), 1, 64)
    figures: dict[str, list[float]] = {"macro_f1": [], "macro_auroc": []}
    for seed in settings.seed_list():
        model = AutoModelForSequenceClassification.from_pretrained(f"{settings.output_dir}/seeds/seed-{seed}")
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
    import pandas as pd

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


def disturb(
    peaks: np.ndarray,
    sampling_rate: float,
    segmentation: str,
    generator: np.random.Generator,
    length: int | None = None,
) -> np.ndarray:
    """R peaks as a worse detector would give them: moved by a normal error of MS, or a SHARE of them missing."""
    kind, _, text = segmentation.partition(":")
    if segmentation in ("clean", "detect"):
        return peaks
    try:
        amount = float(text)
    except ValueError:
        amount = -1.0
    if kind not in ("jitter", "drop") or amount < 0 or (kind == "drop" and amount >= 1):
        raise UsageError(f"--segmentation takes clean, detect, jitter:MS and drop:SHARE, not {segmentation!r}.")
    if kind == "drop":
        return peaks[generator.random(len(peaks)) >= amount]
    moved = np.rint(peaks + generator.normal(0, amount / 1000 * sampling_rate, len(peaks))).astype(np.int64)
    return np.unique(np.clip(moved, 0, None if length is None else length - 1))


# ------------------------------------------------------------------------------------------------------------- beats


def run_beats(args: TaskArguments, source: Path | None) -> dict[str, Any]:
    """Train for each seed and fold, predict the held-out records, pool their beats, score."""
    records, tests = load_beat_records(args)
    folds = beat_folds(args.folds, records, tests)
    judged = [record for held_out in folds for record in held_out]
    names = list(dict.fromkeys(["clean", *args.segmentations()]))
    settings = finetuning_arguments(
        args,
        source,
        "label_level=beat",
        dataset="mitdb",
        preprocessing_overrides=f"peak_source=annotations,beat_label_names=[{','.join(BEAT_CLASSES)}]",
    )
    predictions: dict[str, dict[int, Any]] = {name: {} for name in names}
    for seed in settings.seed_list():
        pieces: dict[str, list[Any]] = {name: [] for name in names}
        for held_out in folds:
            model, extractor = train_beats(settings, without(records, held_out), seed)
            for name in names:
                pieces[name] += [predict_beats(model, extractor, record, name) for record in held_out]
        for name in names:
            predictions[name][seed] = pieces[name]
        print(f"seed {seed}: {len(folds)} folds done", flush=True)
    extractor.peak_source = "detect"  # who loads the model has no annotations
    save_pretrained_atomically(model, extractor, Path(args.output_dir), model.state_dict())
    return beat_metrics(args, judged, folds, predictions)


def load_beat_records(args: TaskArguments) -> tuple[list[Any], list[Any]]:
    """The records of DS1 and of DS2 that are there, in the order of their names."""
    lead = args.leads if args.leads not in ("", "II") else "MLII"
    parts: dict[str, list[Any]] = {"train": [], "validation": [], "test": []}
    for split, found in parts.items():
        settings = FinetuningArguments(dataset="mitdb", data_dir=args.data_dir, dataset_options=f"lead={lead}")
        records = load_split(settings, split, task="beats").records
        found += [records[index] for index in range(len(records))]
    return sorted(parts["train"] + parts["validation"], key=_name), sorted(parts["test"], key=_name)


def _name(record: Any) -> str:
    return str(record.record_id)


def beat_folds(choice: str, records: list[Any], tests: list[Any]) -> list[list[Any]]:
    """Whole records to hold out in turn; with "ds2" the test records, once."""
    if choice == "ds2":
        return [tests]
    count = len(records) if choice == "leave_one_out" else int(choice) if choice.isdigit() else 0
    if not 2 <= count <= len(records):
        raise UsageError(f"--folds takes leave_one_out, ds2, or 2 to {len(records)} folds, not {choice!r}.")
    return [records[number::count] for number in range(count)]


def without(records: list[Any], held_out: list[Any]) -> list[Any]:
    """The records that are not held out."""
    names = {_name(record) for record in held_out}
    return [record for record in records if _name(record) not in names]


def beat_labels(record: Any) -> np.ndarray:
    """Class of each annotated beat; -1 for classes that are left out."""
    names = record.annotations["beat_labels"]
    return np.asarray([BEAT_CLASSES.index(name) if name in BEAT_CLASSES else -1 for name in names], dtype=np.int64)


def train_beats(settings: FinetuningArguments, records: list[Any], seed: int) -> tuple[Any, Any]:
    """A classifier of beats after a fixed number of updates: nothing is chosen on the held-out records."""
    import torch

    plan = plan_classifier(settings, Split("train", [], [], [], None, BEAT_CLASSES, "beats"))
    counts = np.bincount(np.concatenate([beat_labels(record) + 1 for record in records]), minlength=4)[1:]
    weights = np.where(counts > 0, np.maximum(counts, 1) ** -0.5, 0.0)  # inverse square root of the frequency
    plan.config.class_weights = (weights / weights.mean()).tolist()
    hyper, extractor, model = plan.settings.hyper, plan.extractor, plan.build(seed)
    prepared = [extractor.prepare(record) for record in records]
    steps = resolve_length(settings, hyper, 1)
    schedule = resolve_schedule(hyper, steps, 1, RUNS_PER_STEP)
    groups = parameter_groups(model, weight_decay=hyper.weight_decay, lr_factors=hyper.lr_factors)
    optimizer = build_optimizer(groups, lr=schedule.lr, betas=hyper.betas, eps=hyper.eps)
    seed_global_generators(seed, "dropout")
    model.train()
    for step in range(steps):
        set_learning_rate(optimizer, schedule(step))
        batch = random_runs(extractor, prepared, numpy_generator(seed, "runs", step))
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), hyper.clip_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model.eval(), extractor


def random_runs(extractor: Any, prepared: list[Any], generator: np.random.Generator) -> Any:
    """A batch of runs of neighbouring beats; a record is drawn as often as it has beats."""
    sizes = np.asarray([len(beats) for beats in prepared], dtype=float)
    chosen = generator.choice(len(prepared), RUNS_PER_STEP, p=sizes / sizes.sum())
    return collate([extractor.finish(prepared[index], generator=generator) for index in chosen])


@dataclass
class BeatPrediction:
    """Probabilities `(beats, classes)` of the annotated beats, all zero where the segmentation missed one."""

    scores: np.ndarray
    found: np.ndarray
    surplus: int


def predict_beats(model: Any, extractor: Any, record: Any, segmentation: str) -> BeatPrediction:
    """Predict every beat of a record in overlapping runs, and bring the result to the annotated beats."""
    import torch

    true, rate = np.asarray(record.annotations["beat_samples"]), record.sampling_rate
    peaks = true
    if segmentation == "detect":
        peaks = detect_r_peaks(record.signal[:, 0], rate)
    elif segmentation != "clean":
        generator = numpy_generator("segmentation", segmentation, _name(record))
        peaks = disturb(true, rate, segmentation, generator, len(record.signal))
    runs = -(-len(peaks) // extractor.max_beats)
    features = extractor(record, rpeaks=peaks, num_crops=runs, return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**features).probabilities.numpy().astype(np.float64)
    valid = features["beat_mask"][0].numpy()
    place = np.searchsorted(peaks, features["beat_samples"][0].numpy()[valid])
    total, count = np.zeros((len(peaks), len(BEAT_CLASSES))), np.zeros(len(peaks))
    np.add.at(total, place, probabilities[valid])
    np.add.at(count, place, 1)
    reference, detected = match_beats(true, peaks, MATCH_SECONDS * rate)
    scores, found = np.zeros((len(true), len(BEAT_CLASSES))), np.zeros(len(true), dtype=bool)
    scores[reference], found[reference] = (total / count[:, None])[detected], True
    return BeatPrediction(scores, found, len(peaks) - len(detected))


def beat_metrics(
    args: TaskArguments,
    judged: list[Any],
    folds: list[list[Any]],
    predictions: dict[str, dict[int, list[BeatPrediction]]],
) -> dict[str, Any]:
    """Scores over the beats of all held-out records together."""
    labels = np.concatenate([beat_labels(record) for record in judged])
    kept = labels >= 0
    ids = [f"{_name(record)}/{sample}" for record in judged for sample in record.annotations["beat_samples"]]
    people = [record.patient_id for record in judged for _ in record.annotations["beat_samples"]]
    split = Split(
        "test",
        [],
        [name for name, keep in zip(ids, kept) if keep],
        [name for name, keep in zip(people, kept) if keep],
        labels[kept],
        BEAT_CLASSES,
        "multiclass",
    )
    clean = {seed: np.concatenate([p.scores for p in parts])[kept] for seed, parts in predictions["clean"].items()}
    metrics = test_metrics(split, clean, dict.fromkeys(clean), args.n_boot)
    write_predictions(Path(args.output_dir) / "predictions.parquet", split, clean)
    disturbed = {
        name: segmentation_scores(split.multi_hot(), kept, by_seed)
        for name, by_seed in predictions.items()
        if name != "clean"
    }
    data = {
        "dataset": "mitdb",
        "folds": [[_name(record) for record in held_out] for held_out in folds],
        "beats": dict(zip(BEAT_CLASSES, split.multi_hot().sum(axis=0).tolist())),
        "left_out_beats": int((~kept).sum()),
        "versions": library_versions(),
    }
    return {"test": metrics, "data": data, METHOD: {"segmentation": disturbed}}


def segmentation_scores(
    target: np.ndarray, kept: np.ndarray, by_seed: dict[int, list[BeatPrediction]]
) -> dict[str, Any]:
    """Macro F1 where a missed beat is a wrong one; the share of beats that were found, and beats that are none."""
    values = []
    for parts in by_seed.values():
        scores = np.concatenate([part.scores for part in parts])[kept]
        found = np.concatenate([part.found for part in parts])[kept]
        values.append(float(np.mean(f1_scores(target, hard_predictions(scores, "multiclass") * found[:, None]))))
    first = next(iter(by_seed.values()))
    return {
        "macro_f1": {"per_seed": values, "mean": float(np.mean(values))},
        "found": float(np.concatenate([part.found for part in first])[kept].mean()),
        "surplus_beats": sum(part.surplus for part in first),
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
