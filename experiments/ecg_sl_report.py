"""Tables of the ECG-SL runs, written between the markers of a card.

    python experiments/ecg_sl_report.py runs RUN RUN … [--card CARD --table NAME]
    python experiments/ecg_sl_report.py differences BASE RUN RUN …
    python experiments/ecg_sl_report.py segmentation RUN RUN …
    python experiments/ecg_sl_report.py pretraining PRETRAINED_DIR/LEADS …
    python experiments/ecg_sl_report.py cost --model DIR --model DIR --data_dir PTB_XL
    python experiments/ecg_sl_report.py waves --model DIR --model DIR --data_dir PTB_XL
    python experiments/ecg_sl_report.py attention --model DIR --data_dir MITDB

`runs`, `differences` and `segmentation` read what `ecg_sl_tasks.py` and the common fine-tuning wrote; `differences` compares
each run with the first one, seed by seed and on the same resamples of patients. `pretraining` reads the logs. `cost` measures
CPU time per record of preparing and of the forward pass. `waves` says how much of the saliency falls on P, QRS and ST-T, per
class; `attention` how much weight the aggregation gives to abnormal beats. A table goes between `<!-- NAME -->` and
`<!-- end of NAME -->`; without `--card` it is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ecg_sl_model_tables import attention_table, cost_table, lead_text, markdown, waves_table

from ecg_transformers.benchmark.figures import pretraining_facts
from ecg_transformers.benchmark.page import fold
from ecg_transformers.evaluation.metrics import hard_predictions
from ecg_transformers.evaluation.statistics import compare_models
from ecg_transformers.training.errors import UsageError, run_command


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Tables of the ECG-SL runs.")
    parser.add_argument("table_kind", choices=list(TABLES), metavar="KIND", help=", ".join(TABLES))
    parser.add_argument("folders", nargs="*", help="folders of runs; differences: the first is the base")
    parser.add_argument("--model", action="append", default=[], help="folder of a classifier")
    parser.add_argument("--data_dir", help="PTB-XL, or MIT-BIH for the attention table")
    parser.add_argument("--num_records", type=int, default=200, help="test records that are looked at, at most")
    parser.add_argument("--n_boot", type=int, default=2000, help="resamples of the bootstrap for the differences")
    parser.add_argument("--card", help="file whose marked part is replaced")
    parser.add_argument("--table", help="name of the marker (default: KIND)")
    options = parser.parse_args(arguments)
    text = TABLES[options.table_kind](options)
    if options.card is None:
        print(text)
    else:
        fill(Path(options.card), options.table or options.table_kind, text)


def fill(card: Path, name: str, text: str) -> None:
    """Replace what stands between the markers of a table."""
    before, start, rest = card.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not start or not end:
        raise UsageError(f"{card} has no markers <!-- {name} --> and <!-- end of {name} -->.")
    card.write_text(before + start + text + "\n" + end + after, encoding="utf-8")


def runs_table(options: argparse.Namespace) -> str:
    """One row a run: what was trained, and the figures on the held-out records; spread, intervals and classes folded away."""
    head = ["run", "pre-training", "leads", "labels", "beats to record", "seeds", "macro F1", "macro AUROC", "accuracy"]
    rows, spread, classes = [], [], []
    for folder, metrics in _metrics(options.folders):
        test, variant = metrics["test"], metrics.get("ecg_sl", {})
        leads = variant.get("leads", metrics.get("leads", []))
        level = "(each beat)" if variant.get("task") == "mitdb_beats" else variant.get("aggregation", "–")
        shown = ("macro_f1", "macro_auroc", "accuracy", "macro_sensitivity", "macro_specificity")
        rows.append(
            [
                folder.name,
                variant.get("pretraining", "–"),
                lead_text(leads),
                f"{metrics.get('label_fraction', 1.0):.0%}",
                level,
                len(test["macro_f1"]["per_seed"]),
                *(f"{test[name]['mean']:.3f}" for name in shown),
            ]
        )
        spread.append([folder.name, *_spread(test["macro_f1"]), *_spread(test["macro_auroc"])])
        classes.append({"run": folder.name} | {n: f"{e['f1']['mean']:.2f}" for n, e in test["per_class"].items()})
    names = list(dict.fromkeys(name for row in classes for name in row))
    about = [f"{metric}, {figure}" for metric in ("macro F1", "macro AUROC") for figure in ("SD", "low", "high")]
    tables = [
        markdown([*head, "sensitivity", "specificity"], rows),
        fold("SD over the seeds, 95 % interval of the mean", markdown(["run", *about], spread)),
        fold("F1 of each class", markdown(names, [[row.get(name, "") for name in names] for row in classes])),
    ]
    return "\n\n".join(table.strip() for table in tables)


def segmentation_table(options: argparse.Namespace) -> str:
    """One row a segmentation of the test records, one column pair a run."""
    found = [
        (folder, metrics, metrics.get("ecg_sl", {}).get("segmentation", {}))
        for folder, metrics in _metrics(options.folders)
    ]
    head = ["segmentation of the test"] + [f"{folder.name}: macro F1" for folder, _, _ in found]
    rows = [["clean", *(f"{metrics['test']['macro_f1']['mean']:.3f}" for _, metrics, _ in found)]]
    for name in dict.fromkeys(name for _, _, entries in found for name in entries):
        rows.append(
            [name, *(f"{entries[name]['macro_f1']['mean']:.3f}" if name in entries else "–" for _, _, entries in found)]
        )
    return markdown(head, rows)


def differences_table(options: argparse.Namespace) -> str:
    """One row a run and metric against the first run: mean over seeds, interval over patients, and each seed."""
    (base, base_metrics), *others = _metrics(options.folders)
    if not others:
        raise UsageError("differences needs a base and at least one run to compare with it.")
    head, rows = ["difference", "metric", "mean", "low", "high"], []
    head += [f"seed {seed}" for seed in sorted(_predictions(base, base_metrics, "macro_auroc")[2])]
    for folder, metrics in others:
        for metric in ("macro_f1", "macro_auroc"):
            target, people, first = _predictions(base, base_metrics, metric)
            _, _, second = _predictions(folder, metrics, metric, like=(target, people, sorted(first)))
            found = compare_models(
                target,
                [second[seed] for seed in sorted(first)],
                [first[seed] for seed in sorted(first)],
                people,
                metric=metric,
                n_boot=options.n_boot,
            )
            figures = [found["difference"], *found["ci95"], *found["per_seed"]]
            name = metric.replace("_f1", " F1").replace("_auroc", " AUROC")
            rows.append([f"{folder.name} − {base.name}", name, *(f"{value:+.3f}" for value in figures)])
    return markdown(head, rows)


def _predictions(
    folder: Path, metrics: dict[str, Any], metric: str, like: tuple[Any, Any, Any] | None = None
) -> tuple[np.ndarray, list[str], dict[int, np.ndarray]]:
    """Labels, patients, and per seed what the metric is computed from; of the same records as `like`."""
    table = pd.read_parquet(folder / "predictions.parquet").sort_values(["seed", "record_id"])
    names = [column.removeprefix("y_true_") for column in table.columns if column.startswith("y_true_")]
    limits, scores = metrics["test"]["thresholds"], {}
    for seed, rows in table.groupby("seed"):
        target = rows[[f"y_true_{name}" for name in names]].to_numpy()
        people = rows["patient_id"].tolist()
        score = rows[[f"y_score_{name}" for name in names]].to_numpy(dtype=np.float64)
        limit = limits[str(seed)]
        kind = "multiclass" if limit is None else "multilabel"
        hard = hard_predictions(score, kind, 0.5 if limit is None else limit)
        scores[int(str(seed))] = hard if metric == "macro_f1" else score
    same = like is None or (np.array_equal(target, like[0]) and people == like[1] and sorted(scores) == like[2])
    if not same:
        raise UsageError(f"{folder} was tested on other records, or with other seeds, than the base.")
    return target, people, scores


def pretraining_table(options: argparse.Namespace) -> str:
    """One row a kept pre-trained model: its loss in the first and in the last updates."""
    folders = [path.parent for given in options.folders for path in sorted(Path(given).glob("seed-*/*/run.json"))]
    if not folders:
        raise UsageError("Name folders of pre-trained models, e.g. runs/ecg_sl/pretrained/II.")
    rows = []
    for folder in sorted(folders, key=lambda path: (path.parts[-3], path.name, path.parts[-2])):
        facts = pretraining_facts(folder, int(folder.parts[-2].removeprefix("seed-")))
        rows.append(
            [
                folder.parts[-3],
                folder.name,
                facts["recipe"]["stage"],
                facts["seed"],
                facts["steps"],
                f"{facts['first_loss']:.3f}",
                f"{facts['last_loss']:.3f}",
            ]
        )
    return markdown(["leads", "run", "stage", "seed", "updates", "loss, first", "loss, mean of the last 50"], rows)


def _spread(entry: dict[str, Any]) -> list[str]:
    """SD over the seeds, and the interval of their mean over patients."""
    figures = [entry.get("sd"), *(entry.get("ci95") or (None, None))]
    return ["" if value is None else f"{value:.3f}" for value in figures]


def _metrics(folders: Sequence[str]) -> list[tuple[Path, dict[str, Any]]]:
    if not folders:
        raise UsageError("Name the folders of the runs.")
    paths = [Path(folder) for folder in folders]
    missing = [path for path in paths if not (path / "metrics.json").is_file()]
    if missing:
        raise UsageError(f"{missing[0]} holds no metrics.json.")
    return [(path, json.loads((path / "metrics.json").read_text(encoding="utf-8"))) for path in paths]


TABLES: dict[str, Callable[[argparse.Namespace], str]] = {
    "runs": runs_table,
    "differences": differences_table,
    "segmentation": segmentation_table,
    "pretraining": pretraining_table,
    "cost": cost_table,
    "waves": waves_table,
    "attention": attention_table,
}


if __name__ == "__main__":
    sys.exit(run_command(main))
