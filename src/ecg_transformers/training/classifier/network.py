"""Which network a fine-tuning run trains: from a checkpoint or from scratch, on which leads, with which head."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from ecg_transformers.features.protocol import Extractor
from ecg_transformers.hub.checkpoints import checkpoint_folder
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.config import ECGConfig
from ecg_transformers.models.registry import ECGMethod, get_method, is_method, list_methods
from ecg_transformers.training.arguments import (
    FinetuningArguments,
    check_keys,
    field_names,
    none_as_text,
    parse_overrides,
)
from ecg_transformers.training.errors import UsageError, usage_errors
from ecg_transformers.training.plan.randomness import seed_global_generators
from ecg_transformers.training.plan.settings import (
    Settings,
    build_extractor,
    extractor_arguments,
    extractor_beside,
    resolve_settings,
)
from ecg_transformers.training.plan.start import saved_config
from ecg_transformers.training.report.model_folder import quiet_loading
from ecg_transformers.training.samples.splits import Split


@dataclass
class ClassifierPlan:
    """How the classifier of each seed is made.

    Attributes:
        settings: method, stage and hyper-parameters.
        source: the checkpoint, or None when only the method is known.
        config: of the classifier.
        extractor: with the leads of the run.
        forward_arguments: `lead_indices`, where the run's leads are not the model's own.
        recipe_name: the recipe that is used.
        mode: of the run.
        role: of the class in the registry.
    """

    settings: Settings
    source: str | None
    config: ECGConfig
    extractor: Extractor
    forward_arguments: dict[str, Any]
    recipe_name: str
    mode: str
    role: str = "classification"

    @property
    def method(self) -> ECGMethod:
        """The registry entry."""
        return self.settings.method

    def build(self, seed: int) -> ECGPreTrainedModel:
        """The classifier of one seed: the head (in mode scratch everything) is drawn anew, keyed by the seed."""
        model = self._loaded(seed)
        self._check_length(model)
        return model

    def _loaded(self, seed: int) -> ECGPreTrainedModel:
        cls = self.method.model_classes[self.role]
        config = type(self.config).from_dict(self.config.to_dict())
        seed_global_generators(seed, "initial weights")
        with usage_errors(RuntimeError), quiet_loading():
            if self.mode == "scratch" or self.source is None:
                return cls(config)
            model, info = cls.from_pretrained(
                self.source, config=config, ignore_mismatched_sizes=True, output_loading_info=True
            )
        prefix = f"{model.base_model_prefix}."
        wrong = sorted(str(entry[0]) for entry in info["mismatched_keys"] if str(entry[0]).startswith(prefix))
        encoder = {name for name in model.state_dict() if name.startswith(prefix)}
        if wrong or encoder <= set(info["missing_keys"]):
            what = f"its {wrong[0]} has another shape" if wrong else "it holds no encoder"
            raise UsageError(f"{self.source} does not fit {cls.__name__} with this config: {what}.")
        return model

    @torch.no_grad()
    def _check_length(self, model: ECGPreTrainedModel) -> None:
        """Try crops of another length than the checkpoint's: many networks take one length only."""
        length, own = getattr(self.extractor, "seq_len", None), getattr(self.config, "seq_len", None)
        if length is None or own is None or length == own:
            return
        was_training = model.training
        leads = len(self.extractor.lead_names or self.config.lead_names or []) or self.config.num_leads
        try:
            model.eval()(torch.zeros(1, leads, length), **self.forward_arguments)
        except (RuntimeError, ValueError, AssertionError, IndexError) as error:
            raise UsageError(
                f"{self.method.title} does not read crops of seq_len={length}, the config is for {own}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        finally:
            model.train(was_training)


@dataclass(frozen=True)
class HeadKind:
    """What kind of head a run trains: role in the registry, stage in a recipe, what it changes in extractor and config."""

    role: str = "classification"
    stage: str | None = None
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


def plan_classifier(args: FinetuningArguments, train: Split, kind: HeadKind = HeadKind()) -> ClassifierPlan:
    """Resolve model, recipe, head and leads.

    Args:
        kind: the stage that it names takes the place of the run's mode; its preprocessing and config stand behind the user's.

    Raises:
        UsageError: no such model, a lead it does not know, or settings that it refuses.
    """
    name = args.model_name_or_path
    with usage_errors():
        source = checkpoint_folder(name) if args.mode != "scratch" or not is_method(name) else name
    leads = [lead.strip() for lead in args.leads.split(",") if lead.strip()] if args.leads else None
    if is_method(name) and not Path(source).is_dir():
        return _plan_from_method(args, get_method(name), train, leads, kind)
    return _plan_from_checkpoint(args, source, train, leads, kind)


def _plan_from_method(
    args: FinetuningArguments, method: ECGMethod, train: Split, leads: list[str] | None, kind: HeadKind
) -> ClassifierPlan:
    if args.mode != "scratch":
        raise UsageError(
            f"{method.name} is a method, not a checkpoint: mode {args.mode} needs a pre-trained model (a folder or a "
            "Hub repository)."
        )
    _check_role(method, kind.role)
    recipe = args.recipe or "published"
    settings = resolve_settings(method, kind.stage or args.mode, args, recipe_name=recipe)
    given = parse_overrides(args.preprocessing_overrides, "preprocessing_overrides")
    settings.preprocessing.update({key: value for key, value in kind.preprocessing.items() if key not in given})
    if leads is not None:
        settings.preprocessing["lead_names"] = leads
        settings.config.update(lead_names=leads, num_leads=len(leads))
    extractor = build_extractor(settings)
    config = _with_head(args, settings, {**settings.config, **kind.config}, train)
    return ClassifierPlan(settings, None, config, extractor, {}, recipe, args.mode, kind.role)


def _plan_from_checkpoint(
    args: FinetuningArguments, source: str, train: Split, leads: list[str] | None, kind: HeadKind
) -> ClassifierPlan:
    method, base = saved_config(source)
    recipe = args.recipe or _recipe_of(source) or "published"
    _check_role(method, kind.role)
    settings = resolve_settings(method, kind.stage or args.mode, args, recipe_name=recipe)
    extractor = _extractor_of(args, source, settings, base, leads, kind.preprocessing)
    config = _with_head(args, settings, {**base, **kind.config}, train)
    arguments = _lead_arguments(extractor, config, leads)
    return ClassifierPlan(settings, source, config, extractor, arguments, recipe, args.mode, kind.role)


def _check_role(method: ECGMethod, role: str) -> None:
    if role not in method.model_classes:
        others = ", ".join(name for name in list_methods() if role in get_method(name).model_classes)
        raise UsageError(f"{method.title} has no model for {role.replace('_', ' ')}; these have one: {others}.")


def _recipe_of(source: str) -> str | None:
    """The recipe that a local checkpoint was pre-trained with, if it says so."""
    try:
        name = json.loads((Path(source) / "run.json").read_text(encoding="utf-8"))["recipe"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return name if isinstance(name, str) else None


def _extractor_of(
    args: FinetuningArguments,
    source: str,
    settings: Settings,
    config: dict[str, Any],
    leads: list[str] | None,
    preprocessing: Mapping[str, Any],
) -> Extractor:
    """The extractor that lies beside the checkpoint, else the method's own with the config's sizes."""
    changes = {**preprocessing, **parse_overrides(args.preprocessing_overrides, "preprocessing_overrides")}
    if leads is not None:
        changes["lead_names"] = leads
    beside = extractor_beside(source, settings, changes)
    if beside is not None:
        return beside
    common = field_names(settings.method.config_class) & extractor_arguments(settings.method)
    shared = {key: config[key] for key in common if config.get(key) is not None}
    with usage_errors(TypeError):
        return settings.method.make_extractor(**{**settings.recipe.preprocessing, **shared, **changes})


def _with_head(args: FinetuningArguments, settings: Settings, fields: dict[str, Any], train: Split) -> ECGConfig:
    """The config with classes, problem type, and the head that recipe, mode and arguments ask for."""
    names, config_class = train.label_names, settings.method.config_class
    overrides = parse_overrides(args.config_overrides, "config_overrides")
    check_keys(overrides, field_names(config_class), config_class.__name__)
    if of_classes := [name for name in overrides if name in ("id2label", "label2id", "problem_type")]:
        raise UsageError(f"config_overrides: {of_classes[0]} follows from the labels of the data: leave it out.")
    overrides = none_as_text(overrides, config_class)
    head = {key: value for key, value in settings.hyper.config.items() if key in field_names(config_class)}
    if args.mode == "linear":
        head["head_norm"] = "none"  # the probe standardises its features itself and folds that into the layer
    if args.mode == "attention":
        head["head_pooling"] = "attention"
    if args.readout is not None:
        head["head_pooling"] = args.readout
    problem = "multi_label_classification" if train.task_kind == "multilabel" else "single_label_classification"
    classes: dict[str, Any] = {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
        "problem_type": problem,
    }
    not_kept = ["num_labels", "architectures", "auto_map"]
    if args.mode == "scratch":
        not_kept += ["converted_from", "weights_licence"]  # new weights owe nothing to those of the checkpoint
    fields = {key: value for key, value in fields.items() if key not in not_kept}
    with usage_errors(StrictDataclassError, TypeError):
        config = config_class.from_dict({**fields, **head, **overrides, **classes})
    if args.mode == "linear" and config.head_pooling == "attention":
        raise UsageError(
            "A linear probe has no attention readout: use --mode attention, or --readout pooler or per_lead."
        )
    return config


def _lead_arguments(extractor: Extractor, config: ECGConfig, leads: list[str] | None) -> dict[str, Any]:
    """`lead_indices` for the forward passes when the run's leads are not the model's own in their order."""
    names, table = list(extractor.lead_names or []), list(config.lead_names or [])
    if config.head_pooling == "per_lead" and leads is not None and len(leads) != config.num_leads:
        raise UsageError(f"A readout per_lead needs all {config.num_leads} leads of the model, got {len(leads)}.")
    if leads is None or names == table:
        return {}
    unknown = [name for name in names if name not in table]
    if unknown:
        raise UsageError(f"The model does not know the lead {unknown[0]}; it knows {', '.join(table)}.")
    return {"lead_indices": [table.index(name) for name in names]}
