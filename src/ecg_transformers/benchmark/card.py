"""Measure a method on a corpus and write its card: pre-trained against random initialisation and training from scratch.

    python -m ecg_transformers.benchmark.card --method st_mem --recipe tiny_wide --dataset ptb_xl --data_dir PTB_XL_FOLDER \\
        --task superclass --output_dir OUT --seeds 0,1,2 --fractions 1.0,0.1,0.05 --card model_cards/my-card.md

For every seed the method is pre-trained without labels (or taken from `--pretrained`); its frozen encoder and the same
network at random initialisation are read by the same probes at the same label fractions; fine-tuning is compared with
training from scratch on the same budget. `OUT/results.json` holds every figure, the card is rendered from it. Whatever
is done is kept in `OUT` and not done again; an interrupted run goes on where it stopped. Methods without pre-training
are trained from scratch only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from ecg_transformers.benchmark.arguments import CardArguments
from ecg_transformers.benchmark.figures import collect, read_predictions
from ecg_transformers.benchmark.page import page
from ecg_transformers.benchmark.probes import SPLITS, Cell, Prober, digest, say
from ecg_transformers.benchmark.report import render
from ecg_transformers.files import file_sha256, write_text
from ecg_transformers.hub.cards import write_card
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.registry import ECGMethod, get_method
from ecg_transformers.training.arguments import (
    DataArguments,
    FinetuningArguments,
    PretrainingArguments,
    parse_arguments,
)
from ecg_transformers.training.checkpoints.saving import continued
from ecg_transformers.training.errors import UsageError, run_command, usage_errors
from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.plan.settings import build_extractor, resolve_settings
from ecg_transformers.training.pretraining import build_model, pretrain
from ecg_transformers.training.report.model_folder import is_finished, quiet_loading
from ecg_transformers.training.samples.splits import Split, load_split

Cells = dict[tuple[str, str, float], Cell]


def main() -> None:
    args = parse_arguments(CardArguments, "Measure a method, write its card.")
    card = make_card(args)
    print(f"wrote {card} and {Path(args.output_dir) / 'results.json'}")


def make_card(args: CardArguments) -> Path:
    """Measure what is not yet measured, write `results.json` and the card; returns the path of the card."""
    if not args.output_dir:
        raise UsageError("--output_dir is missing: name a folder for what is measured.")
    with usage_errors():
        method = get_method(args.method)
    seeds, fractions, readouts = args.seed_list(), args.fraction_list(args.fractions), args.readout_list()
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    reader = DataArguments(dataset=args.dataset, data_dir=args.data_dir, dataset_options=args.dataset_options)
    splits = {name: load_split(reader, name, task=args.task, labelled=True) for name in SPLITS}
    cells: Cells = {}
    checkpoints: dict[int, Path] = {}
    facts: dict[str, Any] = {}
    classifiers = [] if args.skip_finetuning else args.fraction_list(args.finetune_fractions)
    if method.stages:  # first what needs no pre-training
        prober = build_prober(args, method, folder / "probes", splits, readouts, fractions)
        facts["num_crops"] = prober.num_crops
        for seed in seeds:
            prober.probe(random_encoder(args, method, seed), "random", seed, cells)
    for fraction, seed in itertools.product(classifiers, seeds):
        train_classifier(args, folder, splits, "scratch", fraction, seed, None, cells)
    if method.stages:
        for seed in seeds:
            checkpoints[seed] = pretrained_folder(args, method, folder, seed)
            prober.probe(pretrained_encoder(method, checkpoints[seed]), "pretrained", seed, cells)
        for fraction, seed in itertools.product(classifiers, seeds):
            train_classifier(args, folder, splits, "finetune", fraction, seed, checkpoints[seed], cells)
    say("Intervals and differences")
    results = collect(args, method, splits, cells, checkpoints, facts)
    write_text(folder / "results.json", json.dumps(results, indent=2) + "\n")
    card = Path(args.card) if args.card else folder / "card.md"
    card.parent.mkdir(parents=True, exist_ok=True)
    write_text(card, page(render(results), args.method))
    return card


def pretraining_arguments(args: CardArguments, seed: int, **changes: Any) -> PretrainingArguments:
    """The settings of the pre-training of one seed."""
    own = {"recipe_overrides": args.recipe_overrides, "max_steps": args.max_steps, "seed": seed}
    return PretrainingArguments(method=args.method, **{**args.common(), **own, **changes})


def build_prober(
    args: CardArguments,
    method: ECGMethod,
    folder: Path,
    splits: dict[str, Split],
    readouts: list[str],
    fractions: list[float],
) -> Prober:
    """Probes with the extractor of the pre-training."""
    settings = resolve_settings(method, method.stages[-1], pretraining_arguments(args, 0))
    extractor = build_extractor(settings)
    return Prober(folder, splits, extractor, readouts=readouts, fractions=fractions, num_crops=args.num_crops)


def random_encoder(args: CardArguments, method: ECGMethod, seed: int) -> ECGPreTrainedModel:
    """The network of a seed as it was before its first update."""
    settings = pretraining_arguments(args, seed)
    return build_model(settings, resolve_settings(method, method.stages[-1], settings), None).base_model.eval()


def pretrained_folder(args: CardArguments, method: ECGMethod, folder: Path, seed: int) -> Path:
    """A finished pre-training of one seed: the one named on the command line, or one of our own."""
    if args.pretrained:
        given = Path(args.pretrained.replace("{seed}", str(seed)).replace("{s}", str(seed)))
        check_pretrained(args, given, seed)
        return given
    own = folder / "pretrained" / f"seed-{seed}"
    parent: Path | None = None
    for stage in method.stages:
        target = own if stage == method.stages[-1] else own.with_name(f"{own.name}-{stage}")
        pretrain_once(args, stage, target, seed, parent)
        parent = target
    return own


def pretrain_once(args: CardArguments, stage: str, folder: Path, seed: int, parent: Path | None) -> None:
    """One stage of a pre-training; a finished one is passed over, an interrupted one goes on."""
    if is_finished(folder):
        check_pretrained(args, folder, seed)
        return
    say(f"Pre-training {args.method} ({stage}), seed {seed}")
    settings = pretraining_arguments(
        args,
        seed,
        stage=stage,
        output_dir=str(folder),
        save_steps=250,
        save_total_limit=1,
        model_name_or_path=str(parent) if parent else None,
    )
    summary = pretrain(continued(settings))
    write_card(folder)
    say(f"Pre-training {args.method} ({stage}), seed {seed}: loss {summary.final['loss']:.4f}")


def check_pretrained(args: CardArguments, folder: Path, seed: int) -> None:
    """Refuse a run that is not finished, or not the one that the arguments describe."""
    if not is_finished(folder):
        raise UsageError(f"{folder} holds no finished pre-training (no run.json and model.safetensors).")
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    given = run["arguments"]
    found = {"method": run["method"], "recipe": run["recipe"]["name"], "seed": run["seeds"][0]}
    found |= {name: given[name] for name in ("dataset", "config_overrides", "recipe_overrides")}
    asked: dict[str, Any] = {name: getattr(args, name) for name in found if name != "seed"}
    asked["seed"] = seed
    if args.max_steps is not None:
        found["max_steps"], asked["max_steps"] = run["steps"], args.max_steps
    for name, value in asked.items():
        if found[name] != value:
            raise UsageError(f"{folder} was pre-trained with {name} {found[name]!r}, but {value!r} is asked for.")


def pretrained_encoder(method: ECGMethod, folder: Path) -> ECGPreTrainedModel:
    """The encoder of a pre-trained model, ready to be read."""
    with quiet_loading():
        return method.model_classes["pretraining"].from_pretrained(folder).base_model.eval()


def train_classifier(
    args: CardArguments,
    folder: Path,
    splits: dict[str, Split],
    mode: str,
    fraction: float,
    seed: int,
    checkpoint: Path | None,
    cells: Cells,
) -> None:
    """Fine-tune or train from scratch, once for each fraction and seed, and add the test probabilities to `cells`."""
    settings = FinetuningArguments(
        **args.common(),
        model_name_or_path=args.method if checkpoint is None else str(checkpoint),
        task=args.task,
        mode=mode,
        label_fraction=fraction,
        seeds=str(seed),
        max_steps=args.finetune_steps,
        readout=args.finetune_readout,
        recipe_overrides=args.finetune_overrides,
        n_boot=100,  # the intervals of the card are computed over all seeds together
        save_steps=200,
        save_total_limit=1,
    )
    weights = hashlib.sha256().hexdigest()  # of nothing
    if checkpoint is not None and mode == "finetune":
        weights = file_sha256(checkpoint / "model.safetensors")
    key = digest(dataclasses.asdict(settings), weights, [split.facts for split in splits.values()])
    target = folder / "classifiers" / f"{mode}-labels-{fraction:g}-seed-{seed}-{key}"
    if not (target / "run.json").is_file() or not (target / "predictions.parquet").is_file():
        say(f"{mode}, {fraction:.0%} labels, seed {seed}")
        finetune(continued(dataclasses.replace(settings, output_dir=str(target))))
    cell = cells.setdefault((mode, "", fraction), Cell(mode, "", fraction))
    cell.scores[seed] = read_predictions(target / "predictions.parquet", splits["test"])[seed]
    cell.facts[seed] = classifier_facts(target, seed)
    say(f"{mode}, {fraction:.0%} labels, seed {seed}: AUROC {cell.facts[seed]['auroc']:.3f}")


def classifier_facts(folder: Path, seed: int) -> dict[str, Any]:
    """What the card says of a finished classifier."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    subset = metrics["label_subsets"][str(seed)]
    return {
        "auroc": metrics["test"]["macro_auroc"]["per_seed"][0],
        "records": subset["records"],
        "label_subset_sha256": subset["sha256"],
        "best_step": metrics["best_steps"][str(seed)],
        "steps": run["steps"],
        "recipe": run["recipe"],
        "readout": metrics["readout"],
        "num_crops": metrics["num_crops"],
        "batch_size": run["global_batch_size"],
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
