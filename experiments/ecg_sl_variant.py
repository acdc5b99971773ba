"""A variant of the ECG-SL tasks: its arguments, its pre-training (one a seed), and R peaks as a worse detector gives them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.training.arguments import FinetuningArguments, PretrainingArguments, option
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.pretraining import pretrain

METHOD = "ecg_sl"
TASKS = ("ptb_xl_superclass", "apnea_minutes", "mitdb_beats")
STAGES = {"none": (), "autoencoder": ("autoencoder",), "masked": ("masked",), "both": ("autoencoder", "masked")}
CLEAN = ("clean", "detect")
"""Segmentations without a disturbance."""


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
    pretrain_precision: str | None = option(None, "Mixed precision of the pre-training: no, bf16 or fp16.")
    aggregation: str = option("attention", "Beats to record: attention, mean or max.")
    segmentation: str = option("clean", "Of the test: clean, detect, jitter:MS, drop:SHARE; several with commas.")
    leads: str = option("II", "One lead or several, separated by commas; for MIT-BIH the name in the file, MLII.")
    seeds: str = option("0,1,2", "Seeds; each has its own pre-training and its own fine-tuning.")
    recipe: str = option("tiny", "Set of hyper-parameters.")
    max_steps: int | None = option(None, "Updates of the fine-tuning (default: as the recipe says).")
    label_fraction: float = option(1.0, "Share of the training patients whose labels are used (not for MIT-BIH).")
    folds: str = option("leave_one_out", "MIT-BIH: leave_one_out or a number of folds by record in DS1, or ds2.")
    n_boot: int = option(1000, "Resamples of the bootstrap over patients.")

    def check(self) -> None:
        """Raise `UsageError` for values that cannot be meant."""
        for name, allowed in (("task", TASKS), ("pretraining", STAGES), ("aggregation", ("attention", "mean", "max"))):
            if getattr(self, name) not in allowed:
                raise UsageError(f"--{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}.")
        if self.task == "mitdb_beats" and self.label_fraction != 1:
            raise UsageError("--label_fraction is for the record tasks; a fold of MIT-BIH uses all labels.")
        for text in self.segmentations():
            disturb(np.arange(3), 100.0, text, np.random.default_rng(0))
        self.finetuning(0, None).check()
        self.seed_list()

    def segmentations(self) -> list[str]:
        """The segmentations of the test."""
        return [part.strip() for part in self.segmentation.split(",") if part.strip()]

    def lead_names(self) -> list[str]:
        """Leads of the model."""
        return ["II" if name.strip() == "MLII" else name.strip() for name in self.leads.split(",") if name.strip()]

    def lead_overrides(self) -> str:
        """Config overrides of a model on other leads than the method's one."""
        names = self.lead_names()
        return "" if names == ["II"] else f"num_leads={len(names)},lead_names=[{','.join(names)}]"

    def seed_list(self) -> list[int]:
        """The seeds as numbers."""
        return FinetuningArguments(seeds=self.seeds).seed_list()

    def finetuning(self, seed: int, source: Path | None, *config: str, **further: Any) -> FinetuningArguments:
        """Arguments of the common fine-tuning for one seed, from its pre-trained model or (None) from scratch."""
        overrides = [f"aggregation={self.aggregation}", *([] if source else [self.lead_overrides()]), *config]
        return FinetuningArguments(
            model_name_or_path=METHOD if source is None else str(source),
            mode="scratch" if source is None else "finetune",
            recipe=self.recipe,
            data_dir=self.data_dir,
            output_dir=str(Path(self.output_dir) / "seeds" / f"seed-{seed}"),
            config_overrides=",".join(part for part in overrides if part),
            seeds=str(seed),
            max_steps=self.max_steps,
            label_fraction=self.label_fraction,
            n_boot=100,  # the intervals that count are those over all seeds together
            save_steps=1_000_000,
            **further,
        )

    def pretraining_arguments(self, seed: int, stage: str, folder: Path, source: Path | None) -> PretrainingArguments:
        """Arguments of one stage of the pre-training of one seed."""
        return PretrainingArguments(
            method=METHOD,
            stage=stage,
            recipe=self.recipe,
            dataset="ptb_xl",
            data_dir=self.pretrain_data_dir or self.data_dir,
            output_dir=str(folder),
            max_steps=self.pretrain_steps,
            mixed_precision=self.pretrain_precision,
            config_overrides=self.lead_overrides(),
            model_name_or_path=None if source is None else str(source),
            seed=seed,
            save_steps=1_000_000,
        )


def pretrained_model(args: TaskArguments, seed: int) -> Path | None:
    """The folder with the wanted pre-training of a seed, each stage started from the one before; None for none."""
    source: Path | None = None
    for number, stage in enumerate(STAGES[args.pretraining]):
        name = "both" if number else stage
        folder = Path(args.pretrained_dir) / "-".join(args.lead_names()) / f"seed-{seed}" / name
        settings = args.pretraining_arguments(seed, stage, folder, source)
        if (folder / "run.json").is_file():
            check_same_pretraining(folder, settings)
        else:
            pretrain(settings)
        source = folder
    return source


def check_same_pretraining(folder: Path, settings: PretrainingArguments) -> None:
    """Raise `UsageError` when a kept model was not pre-trained as it is asked for now."""
    found = json.loads((folder / "run.json").read_text(encoding="utf-8"))["arguments"]
    asked = dataclasses.asdict(settings)
    for name in ("stage", "recipe", "seed", "max_steps", "mixed_precision", "config_overrides"):
        if found[name] != asked[name]:
            raise UsageError(
                f"{folder} was pre-trained with {name} {found[name]!r}, but {asked[name]!r} is asked for: choose another "
                "--pretrained_dir."
            )


def disturb(
    peaks: np.ndarray,
    sampling_rate: float,
    segmentation: str,
    generator: np.random.Generator,
    length: int | None = None,
) -> np.ndarray:
    """R peaks as a worse detector would give them: moved by a normal error of MS, or a SHARE of them missing."""
    kind, _, text = segmentation.partition(":")
    if segmentation in CLEAN:
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
