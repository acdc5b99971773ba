"""The arguments of the two training scripts, and the small language of `--config_overrides a=1,b=[2,3]`."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from transformers import HfArgumentParser

from ecg_transformers.training.errors import UsageError
from ecg_transformers.words import check_choice, did_you_mean, key_values

T = TypeVar("T")
MAX_SEED = 2**32
POSITIVE = (
    "max_steps",
    "num_epochs",
    "per_device_batch_size",
    "save_steps",
    "max_records",
    "threads",
    "stop_after_step",
)
AT_LEAST = {"gradient_accumulation_steps": 1, "save_total_limit": 1, "num_workers": 0, "cache_mb": 0}


def option(default: T, text: str) -> T:
    """A dataclass field with a help text."""
    return field(default=default, metadata={"help": text})


@dataclass
class DataArguments:
    """Which records, and what happens to those that cannot be used."""

    dataset: str = option("synthetic", "Corpus name of load_ecg_dataset, or several separated by commas.")
    data_dir: str | None = option(
        None, "Folder of the corpus in its native layout (for several corpora: separated by commas)."
    )
    dataset_options: str = option(
        "", "Further options of the corpus, key=value,…, e.g. num_records=200 or sampling_rate=500."
    )
    folds: str | None = option(
        None, "CSV file of published folds (record id or file, fold) in place of the corpus's own parts."
    )
    test_folds: str | None = option(None, "Folds of the test part, e.g. 9,10 (default: the highest).")
    validation_folds: str | None = option(None, "Folds of the validation part (default: the one below the test part).")
    streaming: bool = option(
        False,
        "Read a prepared corpus from its shards as records are drawn, without unpacking it first; records that lie together "
        "are drawn near each other.",
    )
    on_bad_record: str = option(
        "stop", "Records that cannot be used: stop before the first step and name them all, or skip and count them."
    )
    allow_changed_data: bool = option(False, "Go on from a checkpoint although the records have changed since.")
    max_records: int | None = option(None, "Train on the first N records only (to try things out).")


@dataclass
class RecipeArguments:
    """With which hyper-parameters, and for how long."""

    recipe: str = option("published", "Named set of hyper-parameters of the method; 'tiny' runs on a CPU.")
    config_overrides: str = option(
        "", "Fields of the model config, key=value,…, e.g. hidden_size=64,num_hidden_layers=4."
    )
    preprocessing_overrides: str = option("", "Arguments of the feature extractor, key=value,…, e.g. highpass=0.5.")
    recipe_overrides: str = option("", "Hyper-parameters of the recipe's stage, key=value,…, e.g. lr=1e-3,clip_norm=1.")
    max_steps: int | None = option(None, "Length of the run in optimiser steps (default: as the recipe says).")
    num_epochs: float | None = option(None, "Length of the run in epochs, when --max_steps is not given.")


@dataclass
class BatchArguments:
    """How a step gets its records."""

    per_device_batch_size: int | None = option(
        None, "Records of one forward pass of one process (default: so that the global batch is the recipe's)."
    )
    gradient_accumulation_steps: int = option(1, "Forward passes of one optimiser step.")
    drop_last: bool = option(True, "Leave out the incomplete batch at the end of an epoch, as published.")
    num_workers: int = option(0, "Processes that prepare batches; they cannot change a result.")
    cache_mb: int = option(1024, "Memory for prepared records (shared out over the workers).")


@dataclass
class CheckpointArguments:
    """What is kept on the way, and from where a run goes on."""

    save_steps: int | None = option(
        None, "Optimiser steps between checkpoints (default: a twentieth of the run, at most 1000)."
    )
    save_total_limit: int = option(3, "Checkpoints to keep.")
    resume_from_checkpoint: str | None = option(None, "'latest', or the folder of one checkpoint.")
    new_schedule: bool = option(False, "Allow a resumed run to have another length than the checkpoint's run.")
    verify_checkpoint: bool = option(True, "Compare the hashes of a checkpoint's files before resuming from it.")
    stop_after_step: int | None = option(
        None, "Save and stop after this optimiser step; the schedule is that of the whole run."
    )


@dataclass
class MachineArguments:
    """What of the machine is used."""

    mixed_precision: str | None = option(
        None, "no, bf16 or fp16 (default: what accelerate is configured for, else no)."
    )
    deterministic: bool = option(False, "Allow only deterministic kernels (CPU runs repeat exactly without it).")
    sync_batch_norm: bool = option(True, "Batch norm over all processes on GPUs, for methods that have it.")
    cpu: bool = option(False, "Train on the CPU even if there is an accelerator.")
    threads: int | None = option(
        None, "Threads of torch in each process (default: those of the run that goes on, else what torch has)."
    )
    tensorboard: bool = option(True, "Write TensorBoard events to OUTPUT_DIR/tensorboard.")


@dataclass
class RunArguments(MachineArguments, CheckpointArguments, BatchArguments, RecipeArguments, DataArguments):
    """What pre-training and fine-tuning have in common."""

    output_dir: str = option("", "Folder for the model, logs and checkpoints; one run writes to it at a time.")

    def check(self) -> None:
        """Raise `UsageError` for values that cannot be meant."""
        if not self.output_dir:
            raise UsageError("--output_dir is missing: name a folder for the model, logs and checkpoints.")
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise UsageError(f"--{name} must be positive, not {value}.")
        for name, lowest in AT_LEAST.items():
            if getattr(self, name) < lowest:
                raise UsageError(f"--{name} must be at least {lowest}, not {getattr(self, name)}.")
        check_choice("--on_bad_record", self.on_bad_record, ("stop", "skip"), UsageError)
        if self.mixed_precision not in (None, "no", "bf16", "fp16"):
            raise UsageError(f"--mixed_precision must be no, bf16 or fp16, not {self.mixed_precision!r}.")


@dataclass
class PretrainingArguments(RunArguments):
    """Pre-train a method of the registry on a corpus."""

    method: str = option("", "Name of the method, e.g. st_mem; `ecg-transformers methods` lists them.")
    stage: str | None = option(None, "Stage of a method that has several (default: its first).")
    model_name_or_path: str | None = option(
        None,
        "Go on from this checkpoint, with its sizes and preprocessing: a folder (the stage before, say), a Hub repository, a "
        "name that `ecg-transformers checkpoints` lists, or a file of the authors.",
    )
    split: str = option("train", "Part of the corpus, or of each corpus of a list; all: every record.")
    overlap_with: str | None = option(
        None,
        "Evaluations whose test records must not be in the corpus, NAME=DIR or a folder, separated by commas: what "
        "is found is told in log and card.",
    )
    seed: int = option(0, "Key of every random draw of the run.")

    def check(self) -> None:
        super().check()
        if not self.method and not self.model_name_or_path:
            raise UsageError("--method is missing: name the method to pre-train, e.g. --method st_mem.")
        check_seed(self.seed)


@dataclass
class FinetuningArguments(RunArguments):
    """Train a classifier on a labelled corpus and evaluate it on the test split."""

    model_name_or_path: str = option(
        "",
        "Pre-trained model: a folder, a Hub repository, a file of the authors, or a name that `ecg-transformers checkpoints` "
        "lists; in mode scratch also a method's name.",
    )
    task: str | None = option(None, "Task of the corpus, e.g. superclass for ptb_xl, delineation for ludb.")
    mode: str = option(
        "finetune",
        "finetune (all weights), linear (frozen encoder, linear probe), attention (frozen encoder, attention probe) "
        "or scratch.",
    )
    label_fraction: float = option(1.0, "Share of the training patients whose labels are used.")
    leads: str | None = option(None, "Leads the model sees, e.g. I,II,V2 (default: all of the model's).")
    seeds: str = option("0", "Seeds of the repetitions, separated by commas.")
    readout: str | None = option(
        None, "What the classifier sees: pooler, per_lead or attention (default: as the recipe says)."
    )
    num_crops: int | None = option(
        None, "Crops of a record in evaluation, their probabilities averaged (default: as the recipe says)."
    )
    recipe: str | None = option(  # type: ignore[assignment]
        None, "Named set of hyper-parameters (default: the one the checkpoint was pre-trained with, else published)."
    )
    selection_metric: str = option(
        "macro_auroc",
        "What chooses on the validation split: macro_auroc (of waves their macro F1), or loss (as published for ST-MEM).",
    )
    evaluations: int | None = option(None, "Checks on the validation split during the run; the best one is kept.")
    n_boot: int = option(2000, "Resamples of the patient bootstrap for the 95 %% intervals.")

    def check(self) -> None:
        super().check()
        if not self.model_name_or_path:
            raise UsageError(
                "--model_name_or_path is missing: name a pre-trained model (in mode scratch a method's name will do)."
            )
        modes = ["finetune", "linear", "attention", "scratch"]
        if self.mode not in modes:
            raise UsageError(f"There is no mode {self.mode!r}{did_you_mean(self.mode, modes)}")
        if self.readout not in (None, "pooler", "per_lead", "attention"):
            raise UsageError(f"--readout must be pooler, per_lead or attention, not {self.readout!r}.")
        if not 0 < self.label_fraction <= 1:
            raise UsageError(f"--label_fraction must lie above 0 and at most at 1, not {self.label_fraction}.")
        if self.num_crops is not None and self.num_crops < 1:
            raise UsageError(f"--num_crops must be at least 1, not {self.num_crops}.")
        if self.selection_metric not in ("macro_auroc", "loss"):
            raise UsageError(f"--selection_metric must be macro_auroc or loss, not {self.selection_metric!r}.")
        self.seed_list()

    def seed_list(self) -> list[int]:
        """The seeds as numbers."""
        try:
            seeds = [int(part) for part in self.seeds.split(",") if part.strip()]
        except ValueError:
            raise UsageError(f"--seeds takes whole numbers separated by commas, not {self.seeds!r}.") from None
        if not seeds or len(set(seeds)) != len(seeds):
            raise UsageError(f"--seeds takes at least one seed and none twice, not {self.seeds!r}.")
        for seed in seeds:
            check_seed(seed)
        return seeds


def parse_arguments(cls: type[T], description: str, arguments: list[str] | None = None, **shown: str) -> T:
    """The command line as a dataclass; `shown` (`prog`, `epilog`) is for its help.

    Raises:
        UsageError: an option that does not exist, with the nearest one that does.
    """
    parser = _Parser(cls, description=description, formatter_class=_Formatter, **shown)
    args, rest = parser.parse_args_into_dataclasses(args=arguments, return_remaining_strings=True)
    if rest:
        options = [f"--{name}" for name in sorted(field_names(cls))]
        raise UsageError(f"There is no option {rest[0]!r}{did_you_mean(rest[0], options)}")
    return args  # type: ignore[no-any-return]


class _Parser(HfArgumentParser):
    """`--no_…` says that it is the opposite, not what the option itself does."""

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        if settings.get("action") == "store_false":
            settings["help"] = f"The same as --{settings['dest']} false."
        return super().add_argument(*names, **settings)


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Defaults are shown where there is one; an example keeps its lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if "\n" in text else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_opposite = isinstance(action, argparse._StoreFalseAction)
        return action.help if is_opposite or action.default in (None, "") else super()._get_help_string(action)


def check_seed(seed: int) -> None:
    """Raise `UsageError` for a seed outside 0 … 2**32 - 1."""
    if not 0 <= seed < MAX_SEED:
        raise UsageError(f"A seed lies between 0 and 2**32 - 1, not at {seed}.")


def parse_overrides(text: str, option_name: str) -> dict[str, Any]:
    """`a=1,b=[I,II],c=none` as a dict: numbers, true/false, none, lists in brackets, else text.

    Raises:
        UsageError: a part is not `key=value`.
    """
    try:
        return key_values(text)
    except ValueError as error:
        raise UsageError(f"--{option_name} takes key=value pairs separated by commas: {error}") from None


def check_keys(given: Iterable[str], allowed: Iterable[str], what: str) -> None:
    """Raise `UsageError` for a key that is not allowed, with the nearest one that is."""
    allowed = sorted(allowed)
    for key in given:
        if key not in allowed:
            raise UsageError(f"{what} has no field {key!r}{did_you_mean(key, allowed)}")


def none_as_text(values: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """`head_norm=none` means the text "none" where a dataclass's field holds text and cannot be None."""
    text_fields = {entry.name for entry in dataclasses.fields(cls) if entry.type in (str, "str")}
    return {key: "none" if value is None and key in text_fields else value for key, value in values.items()}


def field_names(cls: type) -> set[str]:
    """Names of a dataclass's fields."""
    return {entry.name for entry in dataclasses.fields(cls)}


def replace_fields(value: T, changes: Mapping[str, Any], what: str) -> T:
    """A copy of a dataclass with some fields changed; unknown names are refused, lists become tuples where one was."""
    check_keys(changes, field_names(type(value)), what)
    plain = {
        key: tuple(new) if isinstance(getattr(value, key), tuple) and isinstance(new, list) else new
        for key, new in changes.items()
    }
    return dataclasses.replace(value, **plain)  # type: ignore[type-var]
