"""What a card is about: the arguments of `python -m ecg_transformers.benchmark.card`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ecg_transformers.benchmark.probes import READOUTS
from ecg_transformers.training.arguments import FinetuningArguments, option
from ecg_transformers.training.errors import UsageError, usage_errors
from ecg_transformers.words import did_you_mean


@dataclass
class CardArguments:
    """What is measured, on what, and where the card goes."""

    method: str = option("", "Name of the method, e.g. st_mem.")
    recipe: str = option("tiny", "Named set of hyper-parameters of the method.")
    dataset: str = option("synthetic", "Labelled corpus; its train split without labels is pre-trained on.")
    data_dir: str | None = option(None, "Folder of the corpus in its native layout.")
    dataset_options: str = option("", "Further options of the corpus, key=value,…")
    task: str | None = option(None, "Task of the corpus, e.g. superclass for ptb_xl.")
    output_dir: str = option("", "Folder for everything that is measured.")
    card: str | None = option(None, "Where the card is written (default: OUTPUT_DIR/card.md).")
    seeds: str = option("0,1,2", "Seeds of the repetitions: weights, masks, crops and label subsets.")
    fractions: str = option("1.0,0.1,0.05", "Label fractions of the probes.")
    finetune_fractions: str = option("1.0,0.1", "Label fractions of fine-tuning and training from scratch.")
    readout: str = option(
        "per_lead,per_lead+amplitude,pooler",
        "Readouts of the frozen encoder, the main one first: per_lead, per_lead+amplitude, pooler, attention.",
    )
    num_crops: int | None = option(None, "Crops of a record for the probes (default: 4, or the whole record).")
    pretrained: str | None = option(None, "Folders of finished pre-training runs, e.g. runs/st_mem_s{seed}.")
    max_steps: int | None = option(None, "Updates of each pre-training stage (default: as the recipe says).")
    config_overrides: str = option("", "Fields of the model config, key=value,…")
    recipe_overrides: str = option("", "Hyper-parameters of the pre-training, key=value,…")
    skip_finetuning: bool = option(False, "Probes only.")
    finetune_readout: str | None = option(None, "What the fine-tuned classifier sees: pooler or per_lead.")
    finetune_overrides: str = option("", "Hyper-parameters of fine-tuning and training from scratch, key=value,…")
    finetune_steps: int | None = option(None, "Updates of both (default: as the recipe says).")
    baselines: str | None = option(None, "Output folder of benchmarks/simple_baselines.py, for the same table.")
    n_boot: int = option(2000, "Resamples of the patient bootstrap.")
    note: str = option("", "A sentence for the card, e.g. why a run was shorter than its recipe.")

    def seed_list(self) -> list[int]:
        """The seeds as numbers."""
        return FinetuningArguments(model_name_or_path="-", output_dir="-", seeds=self.seeds).seed_list()

    def fraction_list(self, text: str) -> list[float]:
        """Label fractions, the largest first."""
        with usage_errors():
            values = sorted({float(part) for part in text.split(",") if part.strip()}, reverse=True)
        if not values or not all(0 < value <= 1 for value in values):
            raise UsageError(f"A label fraction lies above 0 and at most at 1; found {text!r}.")
        return values

    def readout_list(self) -> list[str]:
        """The readouts in the order given."""
        names = [part.strip() for part in self.readout.split(",") if part.strip()]
        wrong = [name for name in names if name not in READOUTS]
        if wrong or not names:
            raise UsageError(
                f"There is no readout {(wrong or [''])[0]!r}{did_you_mean((wrong or [''])[0], list(READOUTS))}"
            )
        return names

    def common(self) -> dict[str, Any]:
        """Arguments that every run of the package takes."""
        names = ("dataset", "data_dir", "dataset_options", "recipe", "config_overrides")
        return {**{name: getattr(self, name) for name in names}, "tensorboard": False}
