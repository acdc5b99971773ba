"""From names and overrides to a config, an extractor and hyper-parameters that fit each other."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub.errors import StrictDataclassError

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.features.protocol import Extractor
from ecg_transformers.files import as_json
from ecg_transformers.models.config import ECGConfig
from ecg_transformers.models.registry import ECGMethod, Recipe, StageRecipe
from ecg_transformers.training.arguments import (
    BatchArguments,
    RecipeArguments,
    check_keys,
    field_names,
    none_as_text,
    parse_overrides,
    replace_fields,
)
from ecg_transformers.training.errors import UsageError, usage_errors
from ecg_transformers.training.plan.batches import BatchPlan
from ecg_transformers.training.plan.optimization import Schedule


@dataclass(frozen=True)
class Settings:
    """The resolved settings of one stage of one method."""

    method: ECGMethod
    stage: str
    recipe: Recipe
    hyper: StageRecipe
    config: dict[str, Any]
    preprocessing: dict[str, Any]


def resolve_settings(
    method: ECGMethod,
    stage: str,
    args: RecipeArguments,
    *,
    recipe_name: str | None = None,
    start: Mapping[str, Any] | None = None,
) -> Settings:
    """Lay command line over recipe over the method's presets; config and extractor are kept consistent.

    Args:
        start: config fields of the checkpoint that the run goes on from, in place of the recipe's sizes.

    Raises:
        UsageError: an unknown recipe or stage, or an unknown key (named with the nearest known one).
    """
    with usage_errors():
        recipe = method.recipe(recipe_name or args.recipe)
        hyper = recipe.stage(stage)
    changes = parse_overrides(args.recipe_overrides, "recipe_overrides")
    hyper = replace_fields(hyper, changes, f"The recipe {args.recipe!r}")
    config_fields, extractor_fields = field_names(method.config_class), extractor_arguments(method)
    config_overrides = parse_overrides(args.config_overrides, "config_overrides")
    check_keys(config_overrides, config_fields, method.config_class.__name__)
    config_overrides = none_as_text(config_overrides, method.config_class)
    preprocessing_overrides = parse_overrides(args.preprocessing_overrides, "preprocessing_overrides")
    check_keys(preprocessing_overrides, extractor_fields, method.extractor_class.__name__)
    if stage in method.stages and len(method.stages) > 1 and "stage" in config_fields:
        config_overrides = {"stage": stage, **config_overrides}
    config = {**(recipe.config if start is None else start), **hyper.config, **config_overrides}
    preprocessing = {**recipe.preprocessing, **preprocessing_overrides}
    sources = (config_overrides, preprocessing_overrides, config, preprocessing, method.preprocessing)
    for field in config_fields & extractor_fields:  # sampling rate, lead names, lengths: model and extractor must agree
        value = next((source[field] for source in sources if source.get(field) is not None), None)
        if value is not None:
            config[field] = preprocessing[field] = value
    if "num_leads" in config_fields and "num_leads" not in config and config.get("lead_names"):
        config["num_leads"] = len(config["lead_names"])
    return Settings(method, stage, recipe, hyper, config, preprocessing)


def extractor_arguments(method: ECGMethod) -> set[str]:
    """The arguments that the method's feature extractor takes."""
    signature = inspect.signature(method.extractor_class.__init__)
    return {name for name, entry in signature.parameters.items() if name != "self" and entry.kind != entry.VAR_KEYWORD}


def build_config(settings: Settings) -> ECGConfig:
    """The model config; a value that the config refuses is a `UsageError`."""
    with usage_errors(StrictDataclassError, TypeError):
        return settings.method.config_class(**settings.config)


def build_extractor(settings: Settings) -> Extractor:
    """The feature extractor of the method with the run's settings."""
    with usage_errors(TypeError):
        return _of_equal_length(settings.method.make_extractor(**settings.preprocessing))


def extractor_beside(source: str, settings: Settings, changes: Mapping[str, Any]) -> Extractor | None:
    """The extractor that lies beside a checkpoint's weights, with some settings changed; None where none does."""
    if Path(source).is_dir() and not (Path(source) / "preprocessor_config.json").is_file():
        return None
    with usage_errors(TypeError):
        try:
            beside: Extractor = settings.method.extractor_class.from_pretrained(source, **changes)
        except OSError:  # repositories of the authors hold none
            if Path(source).is_dir():
                raise
            return None
        return _of_equal_length(beside)


def _of_equal_length(extractor: Extractor) -> Extractor:
    """The crops of a batch are stacked: records that an extractor would keep short are padded in training."""
    if not isinstance(extractor, ECGFeatureExtractor) or extractor.pad_short != "keep":
        return extractor
    return ECGFeatureExtractor.from_dict(extractor.to_dict(), pad="zero")


def resolve_batches(
    args: BatchArguments,
    hyper: StageRecipe,
    num_records: int,
    num_processes: int,
    seed: int,
    *,
    few_labels: bool = False,
    groups: np.ndarray | None = None,
) -> BatchPlan:
    """Per-device batch from the command line, else so that all processes together make up the recipe's batch.

    Args:
        few_labels: the default batch is no larger than the training set, which is one batch where it is smaller.
        groups: see `BatchPlan`.
    """
    accumulation, per_device, drop_last = args.gradient_accumulation_steps, args.per_device_batch_size, args.drop_last
    if per_device is None:
        wanted = min(hyper.batch_size, num_records) if few_labels else hyper.batch_size
        per_device = max(1, wanted // (num_processes * accumulation))
    if few_labels and num_records < per_device * accumulation * num_processes:
        drop_last = False
    return BatchPlan(num_records, per_device, accumulation, num_processes, seed, drop_last, groups)


def resolve_length(
    args: RecipeArguments, hyper: StageRecipe, steps_per_epoch: int, label_fraction: float | None = None
) -> int:
    """Optimiser steps of the run: the command line's, else the recipe's."""
    if args.max_steps is not None:
        return args.max_steps
    if args.num_epochs is not None:
        return max(1, round(args.num_epochs * steps_per_epoch))
    if label_fraction is not None and label_fraction < 1 and hyper.max_steps_by_fraction:
        nearest = min(hyper.max_steps_by_fraction, key=lambda fraction: abs(fraction - label_fraction))
        if abs(nearest - label_fraction) < 1 - label_fraction:
            return hyper.max_steps_by_fraction[nearest]
    return recipe_length(hyper, steps_per_epoch)


def recipe_length(hyper: StageRecipe, steps_per_epoch: int) -> int:
    """Optimiser steps that the recipe itself prescribes."""
    if hyper.max_steps is not None:
        return hyper.max_steps
    if hyper.epochs is not None:
        return hyper.epochs * steps_per_epoch
    raise UsageError("The recipe names no length: give --max_steps or --num_epochs.")


def resolve_schedule(hyper: StageRecipe, total_steps: int, steps_per_epoch: int, global_batch_size: int) -> Schedule:
    """The learning-rate schedule of a run.

    A run that is shorter or longer than the recipe's keeps the recipe's *share* of warm-up, so that a trial of a few
    steps does not end within it. Without `lr` the peak is `base_lr * global_batch_size / 256`.
    """
    lr = hyper.lr
    if lr is None:
        if hyper.base_lr is None:
            raise UsageError("The recipe names no learning rate: give --recipe_overrides lr=….")
        lr = hyper.base_lr * global_batch_size / 256
    return Schedule(
        name=hyper.schedule,
        lr=lr,
        total_steps=total_steps,
        warmup_steps=_warmup(hyper, total_steps, steps_per_epoch),
        min_lr=hyper.min_lr,
        weight_decay=None if hyper.final_weight_decay is None else (hyper.weight_decay, hyper.final_weight_decay),
    )


def settings_as_used(
    hyper: StageRecipe, config: Mapping[str, Any], schedule: Schedule, plan: BatchPlan
) -> dict[str, Any]:
    """The recipe as a run took it, for its record: batch, length, learning rate, warm-up and config are those of the run."""
    changes = {
        "batch_size": plan.global_batch_size,
        "lr": schedule.lr,
        "max_steps": schedule.total_steps,
        "warmup_steps": schedule.warmup_steps,
        "config": {key: config.get(key, value) for key, value in hyper.config.items()},
    }
    in_other_words = ("base_lr", "epochs", "max_steps_by_fraction", "warmup_epochs", "warmup_fraction")
    used = {**vars(hyper), **dict.fromkeys(in_other_words), **changes}
    return {key: value for key, value in as_json(used).items() if value not in (None, {}, [])}


def _warmup(hyper: StageRecipe, total_steps: int, steps_per_epoch: int) -> float:
    if hyper.warmup_steps is None and hyper.warmup_epochs is None:
        return hyper.warmup_fraction * total_steps
    warmup = hyper.warmup_steps if hyper.warmup_steps is not None else (hyper.warmup_epochs or 0.0) * steps_per_epoch
    if hyper.max_steps is None and hyper.epochs is None:
        return float(warmup)
    return warmup * total_steps / recipe_length(hyper, steps_per_epoch)
