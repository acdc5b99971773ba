"""The registry of methods: what a method is called, where its classes are, how it is published and trained.

This module and the `method.py` of every method import neither torch nor transformers; classes are named by dotted
strings and imported when first asked for. Nothing outside `models/` names a method: it asks here.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from ecg_transformers.words import did_you_mean

# one line per method: its folder below `models/`, which holds `method.py` with METHOD
METHOD_NAMES = (
    "st_mem",
    "ecg_jepa",
    "ecg_sl",
    "mtae",
    "mlae",
    "ecg_moco_v3",
    "cmsc",
    "ecg_cpc",
    "ecg_vit",
    "ecg_resnet",
)


@dataclass(frozen=True)
class StageRecipe:
    """Hyper-parameters of one training stage.

    Attributes:
        batch_size: records in one optimiser step, over all processes and accumulated micro-batches.
        lr: peak learning rate; None takes `base_lr · batch_size / 256`.
        base_lr: see `lr`.
        epochs, max_steps: length; `max_steps` wins when both are given.
        warmup_epochs, warmup_steps: length of the linear warm-up; `warmup_steps` wins.
        warmup_fraction: share of all steps, used when neither of the two is given.
        min_lr: where the schedule ends.
        schedule: name of a schedule of `training/plan/optimization.py`.
        optimizer: "adamw" or "sgd".
        weight_decay, betas, eps: of AdamW.
        decay_one_dimensional: weight decay on biases, norms and other vectors too (some published codes do).
        no_decay: further name patterns without weight decay.
        lr_factors: name pattern to factor of the learning rate.
        clip_norm: bound of the gradient norm, None for none.
        augmentation: "randaugment", "circular_shift", "rlm" or None; drawn per sample.
        augmentation_options: arguments of it.
        config: config fields that belong to this stage (head options in fine-tuning, say).
        num_crops: crops of a record in evaluation.
        evaluations: checks on the validation fold in a fine-tuning run; the best one is kept.
        max_steps_by_fraction: label fraction to `max_steps`, for few-label runs; the nearest fraction is taken.
    """

    batch_size: int = 64
    lr: float | None = None
    base_lr: float | None = None
    epochs: int | None = None
    max_steps: int | None = None
    warmup_epochs: float | None = None
    warmup_steps: int | None = None
    warmup_fraction: float = 0.0
    min_lr: float = 0.0
    schedule: str = "half_cosine"
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    decay_one_dimensional: bool = False
    no_decay: tuple[str, ...] = ()
    lr_factors: Mapping[str, float] = field(default_factory=dict)
    clip_norm: float | None = None
    augmentation: str | None = None
    augmentation_options: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    num_crops: int | None = None
    evaluations: int = 4
    max_steps_by_fraction: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A named set of settings: model size, preprocessing, and the hyper-parameters of each stage.

    Attributes:
        description: one sentence with the source of the numbers.
        config: overrides of the config's defaults.
        preprocessing: overrides of the method's extractor preset.
        stages: stage name ("pretrain", or the method's own stages; "finetune", "scratch", "attention") to settings.
    """

    description: str
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, StageRecipe] = field(default_factory=dict)

    def stage(self, name: str) -> StageRecipe:
        """Settings of a stage; "scratch" falls back to "finetune".

        Raises:
            ValueError: when the recipe has no such stage.
        """
        for candidate in (name, "finetune" if name in ("scratch", "attention", "linear") else name):
            if candidate in self.stages:
                return self.stages[candidate]
        raise ValueError(f"This recipe has no stage {name!r}; it has {', '.join(self.stages) or 'none'}.")


class LazyClasses(Mapping[str, Any]):
    """Role ("base", "pretraining", "classification") to class, imported when asked for."""

    def __init__(self, dotted: Mapping[str, str]) -> None:
        self._dotted = dict(dotted)

    def __getitem__(self, role: str) -> Any:
        return resolve(self._dotted[role])

    def __iter__(self) -> Iterator[str]:
        return iter(self._dotted)

    def __len__(self) -> int:
        return len(self._dotted)

    def __repr__(self) -> str:
        return f"LazyClasses({self._dotted})"


_ENDINGS = {"base": "Model", "pretraining": "ForPreTraining", "classification": "ForSequenceClassification"}


@dataclass(frozen=True)
class ECGMethod:
    """The registry entry of one method.

    Attributes:
        name: the `model_type`, and the folder below `models/`.
        prefix: what the names of its classes begin with, `STMEM` say. With it they follow: `STMEMConfig`, `STMEMModel`,
            `STMEMForPreTraining` where there are stages of pre-training, `STMEMForSequenceClassification`.
        title: as the paper writes it.
        paper: authors, title, year, identifier.
        summary: one sentence on what the method does.
        licence: of the published code and weights, as far as they exist.
        preprocessing: keyword arguments of the extractor that reproduce the published preprocessing.
        recipes: named recipes; "published" always exists, "tiny" runs on a CPU.
        view: what of a batch the objective sees (`training/samples/views.py`).
        extractor: dotted name of the extractor class.
        config, classes: dotted name of the config class, role to dotted name; by convention from `name` and `prefix`.
        convert: dotted name of `convert(state_dict, **overrides) -> model` for the key layout of the published code; by
            convention `convert_<name>` of the module of that name, None where the folder has none.
        tiny_config: config arguments small enough for tests.
        stages: pre-training stages in order; empty for supervised methods.
        has_official_weights: the authors released weights that `convert` reads.
        notes: what the card says about faithfulness.
    """

    name: str
    title: str
    paper: str
    summary: str
    licence: str
    preprocessing: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    prefix: str = ""
    view: str = "crop"
    extractor: str = "ecg_transformers.features.feature_extraction_ecg.ECGFeatureExtractor"
    config: str = ""
    classes: Mapping[str, str] = field(default_factory=dict)
    convert: str | None = None
    tiny_config: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = ("pretrain",)
    has_official_weights: bool = False
    notes: str = ""

    def __post_init__(self) -> None:
        folder, name = f"{__package__}.{self.name}", self.name
        roles = [role for role in _ENDINGS if role != "pretraining" or self.stages]
        has_converter = (Path(__file__).parent / name / f"convert_{name}.py").is_file()
        by_convention = {
            "config": f"{folder}.configuration_{name}.{self.prefix}Config",
            "classes": {role: f"{folder}.modeling_{name}.{self.prefix}{_ENDINGS[role]}" for role in roles},
            "convert": f"{folder}.convert_{name}.convert_{name}" if has_converter else None,
        }
        for field_name, value in by_convention.items():
            if not getattr(self, field_name):
                object.__setattr__(self, field_name, value)

    @property
    def config_class(self) -> Any:
        return resolve(self.config)

    @property
    def model_classes(self) -> LazyClasses:
        return LazyClasses(self.classes)

    @property
    def extractor_class(self) -> Any:
        return resolve(self.extractor)

    def recipe(self, name: str = "published") -> Recipe:
        """A recipe by name.

        Raises:
            ValueError: for an unknown name, with the known ones.
        """
        if name not in self.recipes:
            raise ValueError(f"{self.title} has no recipe {name!r}{did_you_mean(name, self.recipes)}")
        return self.recipes[name]


def resolve(dotted: str) -> Any:
    """The object behind a dotted name."""
    module, _, attribute = dotted.rpartition(".")
    return getattr(import_module(module), attribute)


def list_methods() -> list[str]:
    """Names of all methods, in the order of the registry."""
    return list(METHOD_NAMES)


def get_method(name: str) -> ECGMethod:
    """The registry entry of a method.

    Raises:
        ValueError: for an unknown name, with the known ones.

    Example:
        >>> get_method("st_mem").title
        'ST-MEM'
    """
    if name not in METHOD_NAMES:
        raise ValueError(f"There is no method {name!r}{did_you_mean(name, METHOD_NAMES)}")
    entry: ECGMethod = resolve(f"ecg_transformers.models.{name}.method.METHOD")
    return entry


def class_modules() -> dict[str, str]:
    """Name of every config and model class of the registry to the module that holds it."""
    entries = map(get_method, list_methods())
    dotted = [name for entry in entries for name in (entry.config, *entry.classes.values())]
    return {name.rpartition(".")[2]: name.rpartition(".")[0] for name in dotted}


def method_of(config: Any) -> ECGMethod:
    """The registry entry behind a model config (by its `model_type`)."""
    return get_method(config.model_type)


def method_table() -> str:
    """The methods as a Markdown table: what the README shows."""
    lines = [
        "| method | name | what it does | recipes | converts official weights | paper |",
        "|---|---|---|---|---|---|",
    ]
    for method in map(get_method, list_methods()):
        convert = "yes" if method.has_official_weights else "no"
        recipes = ", ".join(method.recipes)
        lines.append(
            f"| {method.title} | `{method.name}` | {method.summary} | {recipes} | {convert} | {method.paper} |"
        )
    return "\n".join(lines)
