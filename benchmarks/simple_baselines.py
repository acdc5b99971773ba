"""What a representation has to beat: logistic regression on plain figures of the signal, and MiniRocket with ridge.

    python benchmarks/simple_baselines.py --data_dir DIR --output_dir OUT

Each method is trained on 100 %, 10 % and 5 % of the labelled training records (whole patients, nested, three seeds),
chooses its strength on the validation records, and is scored once on the test records. For every method and fraction
``OUT/<method>/labels-<fraction>/`` receives `metrics.json` and `predictions.parquet` in the form of fine-tuning; the
comparison is printed and written to `OUT/summary.md` and `OUT/summary.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from minirocket import MiniRocket
from numpy.typing import NDArray

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.loading import label_names, load_ecg_dataset
from ecg_transformers.data.record_table import RecordTable
from ecg_transformers.evaluation.probes import LinearProbe, RidgeProbe
from ecg_transformers.evaluation.signal_features import median_beat, simple_features
from ecg_transformers.evaluation.statistics import compare_models
from ecg_transformers.evaluation.subsets import label_subset
from ecg_transformers.evaluation.summary import evaluation_summary, write_predictions

Array = NDArray[Any]
SPLITS = ("train", "validation", "test")
METHODS = ("logistic_regression", "logistic_regression_median_beat", "minirocket")


@dataclass
class Split:
    """One part of the corpus in memory."""

    signals: Array  # (records, samples, leads), millivolts
    labels: Array  # (records, classes)
    record_ids: list[str]
    patient_ids: list[str | None]
    sampling_rate: float


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark; 0 when done, 2 for wrong arguments or data."""
    options = parse(arguments)
    try:
        dataset = load_ecg_dataset(options.dataset, data_dir=options.data_dir, task=options.task)
        parts = {name: read_split(dataset[name]) for name in SPLITS}
    except (ECGDataError, KeyError, ValueError) as error:
        print(f"simple_baselines: {error}", file=sys.stderr)
        return 2
    names = label_names(dataset)
    about = {"dataset": options.dataset, "task": options.task, "fingerprint": dataset_fingerprint(dataset)}
    options.output_dir.mkdir(parents=True, exist_ok=True)
    scores: dict[str, dict[float, dict[int, Array]]] = {}
    summary: dict[str, dict[str, Any]] = {}
    for method in options.methods:
        started = time.process_time()
        scores[method] = run_method(method, parts, options.fractions, options.seeds)
        cost = time.process_time() - started
        for fraction, by_seed in scores[method].items():
            folder = options.output_dir / method / f"labels-{fraction:g}"
            result = evaluation_summary(parts["test"].labels, by_seed, "multilabel", names, parts["test"].patient_ids)
            write_cell(folder, result, by_seed, parts["test"], names, {**about, "method": method, "label_fraction": fraction})
            summary.setdefault(method, {})[f"{fraction:g}"] = {"test": result}
        summary[method]["cpu_seconds"] = round(cost, 1)
    comparisons = compare(scores, parts["test"])
    text = table(summary, comparisons, options.fractions)
    (options.output_dir / "summary.md").write_text(text, encoding="utf-8")
    everything = {**about, "methods": summary, "comparisons": comparisons}
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


def read_split(dataset: Any) -> Split:
    """All records of one part; they must have the same length, rate and leads."""
    table = RecordTable(dataset)
    records = [table.record(index) for index in range(len(table))]
    shapes = {(record.signal.shape, record.sampling_rate, tuple(record.lead_names)) for record in records}
    if len(shapes) != 1:
        raise ValueError(f"these baselines need records of one length, rate and lead order; found {len(shapes)} kinds.")
    return Split(
        signals=np.nan_to_num(np.stack([record.signal for record in records])),
        labels=np.asarray(table.label_matrix()),
        record_ids=list(table.record_ids),
        patient_ids=list(table.patient_ids),
        sampling_rate=records[0].sampling_rate,
    )


def run_method(
    method: str, parts: dict[str, Split], fractions: list[float], seeds: list[int]
) -> dict[float, dict[int, Array]]:
    """Test probabilities of every fraction and seed."""
    results: dict[float, dict[int, Array]] = {fraction: {} for fraction in fractions}
    features: dict[str, Array] = {}
    train = parts["train"]
    for seed in seeds:
        if method == "minirocket" or not features:  # only MiniRocket's features depend on the seed
            features = FEATURES[method](parts, seed)
        for fraction in fractions:
            rows = label_subset(train.labels, fraction, seed, train.patient_ids, train.record_ids).indices
            fitted_on = (features["train"][rows], train.labels[rows])
            chosen_on = (features["validation"], parts["validation"].labels)
            if method == "minirocket":
                ridge = RidgeProbe("classification").fit(*fitted_on, *chosen_on)
                # ridge aims at -1 and 1: a monotone map to (0, 1), not a calibrated probability
                probability = 1.0 / (1.0 + np.exp(-2.0 * ridge.predict(features["test"])))
            else:
                probability = LinearProbe().fit(*fitted_on, *chosen_on).predict_proba(features["test"])
            results[fraction][seed] = probability
    return results


def plain_features(parts: dict[str, Split], seed: int) -> dict[str, Array]:
    """259 figures of a 12-lead record."""
    return {
        name: np.stack([simple_features(signal, part.sampling_rate) for signal in part.signals])
        for name, part in parts.items()
    }


def beat_features(parts: dict[str, Split], seed: int) -> dict[str, Array]:
    """The plain figures and the median beat of each lead."""
    plain = plain_features(parts, seed)
    for name, part in parts.items():
        beats = np.stack([median_beat(signal, part.sampling_rate) for signal in part.signals])
        plain[name] = np.concatenate([plain[name], beats], axis=1)
    return plain


def rocket_features(parts: dict[str, Split], seed: int) -> dict[str, Array]:
    """9,996 proportions of positive values; biases come from the training signals, without their labels."""
    transform = MiniRocket(seed=seed).fit(parts["train"].signals.transpose(0, 2, 1))
    return {name: transform(part.signals.transpose(0, 2, 1)) for name, part in parts.items()}


FEATURES: dict[str, Callable[[dict[str, Split], int], dict[str, Array]]] = {
    "logistic_regression": plain_features,
    "logistic_regression_median_beat": beat_features,
    "minirocket": rocket_features,
}


def write_cell(
    folder: Path, result: dict[str, Any], scores: dict[int, Array], test: Split, names: list[str], about: dict[str, Any]
) -> None:
    """`metrics.json` and `predictions.parquet` of one method at one fraction."""
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(
        folder / "predictions.parquet", test.record_ids, test.patient_ids, test.labels, scores, names
    )
    (folder / "metrics.json").write_text(json.dumps({"test": result, **about}, indent=2) + "\n", encoding="utf-8")


def compare(scores: dict[str, dict[float, dict[int, Array]]], test: Split) -> list[dict[str, Any]]:
    """Each later method less the first one, paired by seed and patient."""
    methods = list(scores)
    found = []
    for method in methods[1:]:
        for fraction in scores[method]:
            pair = [list(scores[name][fraction].values()) for name in (method, methods[0])]
            result = compare_models(test.labels, pair[0], pair[1], test.patient_ids)
            found.append({"method": method, "reference": methods[0], "label_fraction": fraction, **result})
    return found


def table(summary: dict[str, dict[str, Any]], comparisons: list[dict[str, Any]], fractions: list[float]) -> str:
    """A Markdown table of macro AUROC, and the paired differences below it."""
    lines = ["| method | " + " | ".join(f"{100 * fraction:g} % labels" for fraction in fractions) + " | CPU s |"]
    lines.append("|---" * (len(fractions) + 2) + "|")
    for method, cells in summary.items():
        shown = [cell_text(cells[f"{fraction:g}"]["test"]["macro_auroc"]) for fraction in fractions]
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
