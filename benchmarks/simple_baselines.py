"""What a representation has to beat: logistic regression on plain figures of the signal, and MiniRocket with ridge.

    python benchmarks/simple_baselines.py --data_dir DIR --output_dir OUT

Each method is trained on 100 %, 10 % and 5 % of the labelled training records (whole patients, nested, three seeds),
chooses its strength on the validation records, and is scored once on the test records. For every method and fraction
`OUT/<method>/labels-<fraction>/` receives `metrics.json` and `predictions.parquet` in the form of fine-tuning; the
comparison is printed and written to `OUT/summary.md` and `OUT/summary.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from minirocket import MiniRocket
from numpy.typing import NDArray

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.loading import label_names, load_ecg_dataset, task_kind
from ecg_transformers.data.rows import RecordTable
from ecg_transformers.evaluation.probes import LinearProbe, RidgeProbe
from ecg_transformers.evaluation.signal_features import median_beat, simple_features
from ecg_transformers.evaluation.statistics import compare_models
from ecg_transformers.evaluation.subsets import label_subset
from ecg_transformers.training.classifier.results import (
    describe_data,
    metrics_of_seeds,
    thresholds_from_validation,
    write_predictions,
)
from ecg_transformers.training.samples.splits import Split

Array = NDArray[Any]
SPLITS = ("train", "validation", "test")
METHODS = ("logistic_regression", "logistic_regression_median_beat", "minirocket")
NUM_RESAMPLES = 2000


@dataclass
class Part:
    """One split of the corpus with its signals in memory."""

    split: Split
    signals: Array  # (records, samples, leads), millivolts
    sampling_rate: float


@dataclass
class Scores:
    """Probabilities `(records, classes)` of each seed."""

    validation: dict[int, Array] = field(default_factory=dict)
    test: dict[int, Array] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when done, 2 for wrong arguments or data."""
    options = parse(arguments)
    try:
        dataset = load_ecg_dataset(options.dataset, data_dir=options.data_dir, task=options.task)
        facts = {"name": options.dataset, "task": options.task, "options": {}}
        parts = {name: read_part(name, dataset[name], facts) for name in SPLITS}
    except (ECGDataError, KeyError, ValueError) as error:
        print(f"simple_baselines: {error}", file=sys.stderr)
        return 2
    options.output_dir.mkdir(parents=True, exist_ok=True)
    data = describe_data([part.split for part in parts.values()])
    scores: dict[str, dict[float, Scores]] = {}
    summary: dict[str, dict[str, Any]] = {}
    for method in options.methods:
        started = time.process_time()
        scores[method] = run_method(method, parts, options.fractions, options.seeds)
        summary[method] = {"cpu_seconds": round(time.process_time() - started, 1)}
        for fraction, cell in scores[method].items():
            folder = options.output_dir / method / f"labels-{fraction:g}"
            about = {"data": data, "method": method, "label_fraction": fraction, "seeds": options.seeds}
            summary[method][f"{fraction:g}"] = write_cell(folder, cell, parts, about)["test"]
    comparisons = compare(scores, parts["test"].split)
    text = table(summary, comparisons, options.fractions)
    (options.output_dir / "summary.md").write_text(text, encoding="utf-8")
    everything = {"data": data, "methods": summary, "comparisons": comparisons}
    (options.output_dir / "summary.json").write_text(json.dumps(everything, indent=2) + "\n", encoding="utf-8")
    print(text)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ptb_xl")
    parser.add_argument("--task", default="superclass", help="of a corpus that has several; it must be multi-label")
    parser.add_argument("--data_dir", default=None)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--fractions", nargs="+", type=float, default=[1.0, 0.1, 0.05])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    return parser.parse_args(arguments)


def read_part(name: str, dataset: Any, facts: dict[str, Any]) -> Part:
    """All records of one split; they must have the same length, rate and leads."""
    records = RecordTable(dataset)
    read = [records.record(index) for index in range(len(records))]
    shapes = {(record.signal.shape, record.sampling_rate, tuple(record.lead_names)) for record in read}
    if len(shapes) != 1 or task_kind(dataset) != "multilabel":
        raise ValueError(
            "these baselines need a multi-label task, and records of one length, rate and lead order "
            f"(the {name} split has {len(shapes)} kinds of record and the task {task_kind(dataset)!r})."
        )
    split = Split(
        name=name,
        records=records,
        record_ids=records.record_ids,
        patient_ids=records.patient_ids,
        labels=records.label_matrix().astype(np.float32),
        label_names=label_names(dataset),
        task_kind="multilabel",
        facts={**facts, "fingerprint": dataset_fingerprint(dataset)},
    )
    signals = np.nan_to_num(np.stack([record.signal for record in read]))
    return Part(split, signals, read[0].sampling_rate)


def run_method(method: str, parts: dict[str, Part], fractions: list[float], seeds: list[int]) -> dict[float, Scores]:
    """Probabilities of every fraction and seed."""
    results = {fraction: Scores() for fraction in fractions}
    features: dict[str, Array] = {}
    train, target = parts["train"].split, {name: part.split.multi_hot() for name, part in parts.items()}
    for seed in seeds:
        if method == "minirocket" or not features:  # only MiniRocket's features depend on the seed
            features = FEATURES[method](parts, seed)
        for fraction, scores in results.items():
            rows = label_subset(target["train"], fraction, seed, train.patient_ids, train.record_ids).indices
            predict = fit(
                method, features["train"][rows], target["train"][rows], features["validation"], target["validation"]
            )
            for name, store in (("validation", scores.validation), ("test", scores.test)):
                store[seed] = predict(features[name])
    return results


def fit(method: str, x: Array, y: Array, x_val: Array, y_val: Array) -> Callable[[Array], Array]:
    """Fit the readout of a method; the strength is chosen on validation records."""
    if method != "minirocket":
        return LinearProbe().fit(x, y, x_val, y_val).predict_proba
    ridge = RidgeProbe("classification").fit(x, y, x_val, y_val)
    # ridge aims at -1 and 1: a monotone map to (0, 1), not a calibrated probability
    return lambda features: 1.0 / (1.0 + np.exp(-2.0 * ridge.predict(features)))


def plain_features(parts: dict[str, Part], seed: int) -> dict[str, Array]:
    """259 figures of a 12-lead record."""
    return {
        name: np.stack([simple_features(signal, part.sampling_rate) for signal in part.signals])
        for name, part in parts.items()
    }


def beat_features(parts: dict[str, Part], seed: int) -> dict[str, Array]:
    """The plain figures and the median beat of each lead."""
    plain = plain_features(parts, seed)
    for name, part in parts.items():
        beats = np.stack([median_beat(signal, part.sampling_rate) for signal in part.signals])
        plain[name] = np.concatenate([plain[name], beats], axis=1)
    return plain


def rocket_features(parts: dict[str, Part], seed: int) -> dict[str, Array]:
    """9,996 proportions of positive values; biases come from the training signals, without their labels."""
    transform = MiniRocket(seed=seed).fit(parts["train"].signals.transpose(0, 2, 1))
    return {name: transform(part.signals.transpose(0, 2, 1)) for name, part in parts.items()}


FEATURES: dict[str, Callable[[dict[str, Part], int], dict[str, Array]]] = {
    "logistic_regression": plain_features,
    "logistic_regression_median_beat": beat_features,
    "minirocket": rocket_features,
}


def write_cell(folder: Path, scores: Scores, parts: dict[str, Part], about: dict[str, Any]) -> dict[str, Any]:
    """`metrics.json` and `predictions.parquet` of one method at one fraction; returns the metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    validation, test = parts["validation"].split, parts["test"].split
    thresholds = {seed: thresholds_from_validation(validation, prob) for seed, prob in scores.validation.items()}
    metrics = {"test": metrics_of_seeds(test, scores.test, thresholds, NUM_RESAMPLES), **about}
    write_predictions(folder / "predictions.parquet", test, scores.test)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def compare(scores: dict[str, dict[float, Scores]], test: Split) -> list[dict[str, Any]]:
    """Each later method less the first one, paired by seed and patient."""
    methods = list(scores)
    found = []
    for method in methods[1:]:
        for fraction, cell in scores[method].items():
            reference = scores[methods[0]][fraction]
            first, second = list(cell.test.values()), list(reference.test.values())
            result = compare_models(test.multi_hot(), first, second, test.patient_ids, n_boot=NUM_RESAMPLES)
            found.append({"method": method, "reference": methods[0], "label_fraction": fraction, **result})
    return found


def table(summary: dict[str, dict[str, Any]], comparisons: list[dict[str, Any]], fractions: list[float]) -> str:
    """A Markdown table of macro AUROC, and the paired differences below it."""
    lines = ["| method | " + " | ".join(f"{100 * fraction:g} % labels" for fraction in fractions) + " | CPU s |"]
    lines.append("|---" * (len(fractions) + 2) + "|")
    for method, cells in summary.items():
        shown = [cell_text(cells[f"{fraction:g}"]["macro_auroc"]) for fraction in fractions]
        lines.append(f"| {method} | " + " | ".join(shown) + f" | {cells['cpu_seconds']:.0f} |")
    lines.append("")
    for entry in comparisons:
        low, high = entry["ci95"]
        lines.append(
            f"- {entry['method']} - {entry['reference']}, {100 * entry['label_fraction']:g} % labels: "
            f"{entry['difference']:+.3f} [{low:+.3f}, {high:+.3f}], p = {entry['p_value']:.3f}"
        )
    return "\n".join(lines) + "\n"


def cell_text(entry: dict[str, Any]) -> str:
    """Mean, interval and values of the seeds."""
    low, high = entry["ci95"]
    seeds = " ".join(f"{value:.3f}" for value in entry["per_seed"])
    return f"**{entry['mean']:.3f}** [{low:.3f}, {high:.3f}] ({seeds})"


if __name__ == "__main__":
    sys.exit(main())
