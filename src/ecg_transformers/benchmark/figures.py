"""From measured scores to the figures of a card: means, intervals, paired differences, what the logs say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.benchmark.arguments import CardArguments
from ecg_transformers.benchmark.probes import Cell
from ecg_transformers.evaluation.metrics import per_class_auroc
from ecg_transformers.evaluation.statistics import bootstrap_seeds, compare_models
from ecg_transformers.models.registry import ECGMethod
from ecg_transformers.training.classifier.results import describe_data
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.process.lock import TRAIN_LOG
from ecg_transformers.training.report.log import read_log
from ecg_transformers.training.report.summary import library_versions
from ecg_transformers.training.samples.splits import Split

Cells = Mapping[tuple[str, str, float], Cell]
LAST_STEPS = 50
SIZES = "sampling_rate seq_len patch_size num_leads hidden_size num_hidden_layers num_attention_heads intermediate_size"
SIZES += " decoder_hidden_size decoder_num_hidden_layers predictor_hidden_size mask_ratio"
LOG_COLUMNS = ("step", "epoch", "loss", "lr", "grad_norm", "skipped")


def collect(
    args: CardArguments,
    method: ECGMethod,
    splits: Mapping[str, Split],
    cells: Cells,
    checkpoints: Mapping[int, Path],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """All figures of the card, as JSON holds them."""
    everything = {**cells, **baseline_cells(args, splits["test"])}
    kept_out = ("data_dir", "output_dir", "card", "pretrained")  # folders of one machine
    given = {entry.name: getattr(args, entry.name) for entry in fields(args) if entry.name not in kept_out}
    changed = {entry.name for entry in fields(args) if getattr(args, entry.name) != entry.default}
    given["baselines"] = "BASELINES" if args.baselines else None
    recipe = method.recipe(args.recipe)
    return {
        "method": method.name,
        "title": method.title,
        "summary": method.summary,
        "paper": method.paper,
        "notes": method.notes,
        "recipe": {"name": args.recipe, "description": recipe.description},
        "arguments": given,
        "not_default": sorted(changed & set(given)),
        "has_folder": args.data_dir is not None,
        "card": Path(args.card).name if args.card else "card.md",
        "data": describe_data(list(splits.values())),
        "pretraining": [pretraining_facts(path, seed) for seed, path in checkpoints.items()],
        "probes": dict(facts),
        "cells": [measured(cell, splits["test"], args.n_boot) for cell in everything.values()],
        "differences": differences(everything, splits["test"], args.n_boot),
        "versions": library_versions(),
    }


def measured(cell: Cell, test: Split, n_boot: int) -> dict[str, Any]:
    """Mean over seeds, interval, values of the seeds and classes of one cell."""
    target, scores = test.multi_hot(), [cell.scores[seed] for seed in sorted(cell.scores)]
    found = bootstrap_seeds(target, scores, test.patient_ids, n_boot=n_boot)
    classes = np.mean([per_class_auroc(target, score) for score in scores], axis=0)
    return {
        "arm": cell.arm,
        "readout": cell.readout,
        "fraction": cell.fraction,
        "seeds": sorted(cell.scores),
        **{key: found[key] for key in ("mean", "sd", "per_seed", "ci95", "cluster", "n_boot")},
        "per_class": {
            name: float(value) if np.isfinite(value) else None
            for name, value in zip(test.label_names, classes, strict=True)
        },
        "facts": {str(seed): fact for seed, fact in cell.facts.items()},
    }


def differences(cells: Cells, test: Split, n_boot: int) -> list[dict[str, Any]]:
    """The paired differences that the card states; which ones does not depend on what was found."""
    readouts = list(dict.fromkeys(readout for arm, readout, _ in cells if arm == "pretrained"))
    main = readouts[0] if readouts else ""
    pairs = [(("pretrained", readout), ("random", readout)) for readout in readouts]
    pairs += [(("finetune", ""), ("scratch", "")), (("finetune", ""), ("pretrained", main))]
    ours = [("pretrained", readout) for readout in readouts[:2]] + [("finetune" if readouts else "scratch", "")]
    baselines = dict.fromkeys((arm, readout) for arm, readout, _ in cells if arm.startswith("baseline:"))
    pairs += [(own, other) for own in ours for other in baselines]
    found = []
    for (arm_a, readout_a), (arm_b, readout_b) in pairs:
        for fraction in sorted({cell.fraction for cell in cells.values()}, reverse=True):
            a, b = cells.get((arm_a, readout_a, fraction)), cells.get((arm_b, readout_b, fraction))
            seeds = sorted(set(a.scores) & set(b.scores)) if a and b else []
            if not a or not b or not seeds:
                continue
            result = compare_models(
                test.multi_hot(), [a.scores[s] for s in seeds], [b.scores[s] for s in seeds], test.patient_ids, n_boot=n_boot
            )  # fmt: skip
            kept = {key: result[key] for key in ("difference", "ci95", "p_value", "per_seed")}
            found.append(
                {"a": [arm_a, readout_a], "b": [arm_b, readout_b], "fraction": fraction, "seeds": seeds, **kept}
            )
    return found


def pretraining_facts(folder: Path, seed: int) -> dict[str, Any]:
    """What the log and the description of a pre-training run say."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    log = read_log(folder / TRAIN_LOG)
    last, first = log[-LAST_STEPS:], log[:LAST_STEPS]
    monitors = [name for name, value in last[-1].items() if name not in LOG_COLUMNS and isinstance(value, float)]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {
        "seed": seed,
        "steps": run["steps"],
        "epochs": run["epochs"],
        "batch_size": run["global_batch_size"],
        "dataset": run["dataset"],
        "recipe": run["recipe"],
        "max_steps": run["arguments"]["max_steps"],
        "first_loss": log[0]["loss"],
        "last_loss": float(np.mean([row["loss"] for row in last])),
        "monitors": {name: [_mean(first, name), _mean(last, name)] for name in monitors},
        "config": {key: config[key] for key in SIZES.split() if config.get(key) is not None},
    }


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def baseline_cells(args: CardArguments, test: Split) -> dict[tuple[str, str, float], Cell]:
    """The scores of the simple baselines for the seeds and fractions of the card."""
    cells: dict[tuple[str, str, float], Cell] = {}
    if not args.baselines:
        return cells
    folder = Path(args.baselines)
    wanted = {*args.fraction_list(args.fractions), *args.fraction_list(args.finetune_fractions)}
    files = sorted(folder.glob("*/labels-*/predictions.parquet"))
    if not files:
        raise UsageError(
            f"{folder} holds no results of the simple baselines (METHOD/labels-FRACTION/predictions.parquet)."
        )
    for path in files:
        arm, fraction = f"baseline:{path.parent.parent.name}", float(path.parent.name.removeprefix("labels-"))
        scores = {seed: score for seed, score in read_predictions(path, test).items() if seed in args.seed_list()}
        if fraction in wanted and scores:
            cells[arm, "", fraction] = Cell(arm, "", fraction, scores)
    return cells


def read_predictions(path: Path, test: Split) -> dict[int, Any]:
    """Scores of every seed in the order of the test split.

    Raises:
        UsageError: the file is about other records, classes or labels.
    """
    import pandas as pd

    table = pd.read_parquet(path)
    result = {}
    for seed, rows in table.groupby("seed"):
        rows = rows.set_index("record_id")
        columns = [f"y_score_{name}" for name in test.label_names]
        if set(rows.index) != set(test.record_ids) or not set(columns) <= set(rows.columns):
            raise UsageError(f"{path} is about other records or classes than the test split.")
        rows = rows.loc[test.record_ids]
        if not np.array_equal(rows[[f"y_true_{name}" for name in test.label_names]].to_numpy(), test.multi_hot()):
            raise UsageError(f"{path} was made with other labels than the test split has.")
        result[int(str(seed))] = rows[columns].to_numpy()
    return result
