"""The beats of MIT-BIH: train on the records of DS1 but those held out, predict every beat of these, score all together.

Labels of beats have their own short training loop; `ecg_sl_tasks.py --task mitdb_beats` calls `run_beats`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ecg_sl_variant import METHOD, TaskArguments, disturb

from ecg_transformers.evaluation.metrics import f1_scores, hard_predictions
from ecg_transformers.signal.beat_matching import match_beats
from ecg_transformers.signal.beats import detect_r_peaks
from ecg_transformers.training.arguments import FinetuningArguments
from ecg_transformers.training.classifier.network import plan_classifier
from ecg_transformers.training.classifier.results import metrics_of_seeds, write_predictions
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.plan.optimization import build_optimizer, parameter_groups, set_learning_rate
from ecg_transformers.training.plan.randomness import numpy_generator, seed_global_generators
from ecg_transformers.training.plan.settings import resolve_length, resolve_schedule
from ecg_transformers.training.report.model_folder import save_pretrained_atomically
from ecg_transformers.training.report.summary import library_versions
from ecg_transformers.training.samples.loader import collate
from ecg_transformers.training.samples.splits import Split, load_split

BEAT_CLASSES = ["N", "S", "V"]
"""F and Q beats are seen but neither learned nor scored."""
MATCH_SECONDS = 0.15
RUNS_PER_STEP = 8
SECONDS_BETWEEN_LINES = 20


def run_beats(args: TaskArguments, sources: Mapping[int, Path | None]) -> dict[str, Any]:
    """Train for each seed and fold, predict the held-out records, pool their beats, score."""
    records, tests = load_beat_records(args)
    folds = beat_folds(args.folds, records, tests)
    judged = [record for held_out in folds for record in held_out]
    names = list(dict.fromkeys(["clean", *args.segmentations()]))
    predictions: dict[str, dict[int, Any]] = {name: {} for name in names}
    for seed, source in sources.items():
        settings = args.finetuning(
            seed,
            source,
            "label_level=beat",
            dataset="mitdb",
            preprocessing_overrides=f"peak_source=annotations,beat_label_names=[{','.join(BEAT_CLASSES)}]",
        )
        pieces: dict[str, list[Any]] = {name: [] for name in names}
        for number, held_out in enumerate(folds, start=1):
            model, extractor = train_beats(settings, without(records, held_out), seed)
            for name in names:
                pieces[name] += [predict_beats(model, extractor, record, name) for record in held_out]
                print(f"seed {seed}, fold {number} of {len(folds)}: predicted, segmentation {name}", flush=True)
        for name in names:
            predictions[name][seed] = pieces[name]
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
    told = time.monotonic()
    for step in range(steps):
        set_learning_rate(optimizer, schedule(step))
        batch = random_runs(extractor, prepared, numpy_generator(seed, "runs", step))
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), hyper.clip_norm or float("inf"))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step + 1 == steps or time.monotonic() - told > SECONDS_BETWEEN_LINES:
            told = time.monotonic()
            print(f"seed {seed}: update {step + 1} of {steps}, loss {loss.item():.3f}", flush=True)
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
    metrics = metrics_of_seeds(split, clean, dict.fromkeys(clean), args.n_boot)
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
