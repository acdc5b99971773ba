"""The registry of methods: what a method is called, where its classes are, how it is published and trained.

This module and the `method.py` of every method import neither torch nor transformers; classes are named by dotted
strings and imported when first asked for. Nothing outside `models/` names a method: it asks here.

Another package adds a method by an entry point of the group `ecg_transformers.methods`: its name is that of the method,
its value the `ECGMethod`, `my_package.method:METHOD` say. The package is imported when methods are first listed.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_transformers.words import did_you_mean

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

logger = logging.getLogger(__name__)

ENTRY_POINTS = "ecg_transformers.methods"
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
    "ecg_net1d",
    "merl",
    "ecg_wav2vec2",
    "hubert_ecg",
    "xecg",
    "weimann_jepa",
)
# other names of published models that share a network: alias -> (method, its variant)
ALIASES = {"ked": ("ecg_resnet", "ked")}
# views (`training/samples/views.py`) of several crops that touch: a record must hold them all
CROPS_END_TO_END = {"adjacent_segments": 2}


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
        final_weight_decay: weight decay at the end of a half cosine over the run; None keeps it constant.
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
    final_weight_decay: float | None = None
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
    """Role ("base", "pretraining", "classification", "token_classification") to class, imported when asked for."""

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


_ENDINGS = {
    "base": "Model",
    "pretraining": "ForPreTraining",
    "classification": "ForSequenceClassification",
    "token_classification": "ForTokenClassification",
}


@dataclass(frozen=True)
class Variant:
    """One of several published models of a method: the same network, fed or stored in another way.

    Attributes:
        preprocessing: its whole extractor preset (nothing is taken over from the method's own).
        title, paper, summary, licence, notes: as in `ECGMethod`; empty takes the method's.
        config: config fields of a converted checkpoint that tensors cannot tell.
        sizes: config fields of the released model that tensors do tell: what training from scratch starts with.
        containers: keys of the checkpoint's dictionary that only this variant's files have.
    """

    preprocessing: Mapping[str, Any]
    title: str = ""
    paper: str = ""
    summary: str = ""
    licence: str = ""
    notes: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[str, Any] = field(default_factory=dict)
    containers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ECGMethod:
    """The registry entry of one method.

    Attributes:
        name: the `model_type`, and the folder below `models/`.
        package: where the modules of its classes are; for a method of another package, its own `__package__`.
        prefix: what the names of its classes begin with, `STMEM` say. With it they follow: `STMEMConfig`, `STMEMModel`,
            `STMEMForPreTraining` where there are stages of pre-training, `STMEMForSequenceClassification`, and
            `STMEMForTokenClassification` where `labels_tokens` says so.
        title: as the paper writes it.
        paper: authors, title, year, identifier.
        idea: the method in at most eight words, for tables.
        summary: one sentence on what the method does.
        licence: of the published code and weights, as far as they exist.
        preprocessing: keyword arguments of the extractor that reproduce the published preprocessing.
        recipes: named recipes; "published" always exists, "tiny" runs on a CPU.
        view: what of a batch the objective sees (`training/samples/views.py`).
        extractor: dotted name of the extractor class.
        config, classes: dotted name of the config class, role to dotted name; by convention from `name` and `prefix`.
        convert: dotted name of `convert(state_dict, **overrides) -> model` for the key layout of the published code; by
            convention `convert_<name>` of the module of that name, None where the folder has none (or is another's).
        file_overrides: dotted name of `f(content) -> config fields` for files that hold settings beside their tensors.
        tiny_config: config arguments small enough for tests.
        stages: pre-training stages in order; empty for supervised methods.
        labels_tokens: there is a `…ForTokenClassification`, which labels every sample of every lead.
        has_official_weights: the authors released weights that `convert` reads.
        notes: what the card says about faithfulness.
        containers: keys of a checkpoint's dictionary under which its published files keep the weights, beside the usual
            ones.
        model_types: further `model_type`s by which Hub repositories of the authors name the network, to the dotted name
            of the config class that reads their `config.json`.
        variants: published models that share the network, by the name that a config's `variant` holds.
        current_variant: the one that this entry was made for, see `with_variant`.
    """

    name: str
    title: str
    paper: str
    idea: str
    summary: str
    licence: str
    preprocessing: Mapping[str, Any]
    recipes: Mapping[str, Recipe]
    prefix: str = ""
    package: str = ""
    view: str = "crop"
    extractor: str = "ecg_transformers.features.feature_extraction_ecg.ECGFeatureExtractor"
    config: str = ""
    classes: Mapping[str, str] = field(default_factory=dict)
    convert: str | None = None
    file_overrides: str | None = None
    tiny_config: Mapping[str, Any] = field(default_factory=dict)
    stages: tuple[str, ...] = ("pretrain",)
    labels_tokens: bool = False
    has_official_weights: bool = False
    notes: str = ""
    containers: tuple[str, ...] = ()
    model_types: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    current_variant: str | None = None

    def __post_init__(self) -> None:
        folder, name = self.package or f"{__package__}.{self.name}", self.name
        absent = {"pretraining": not self.stages, "token_classification": not self.labels_tokens}
        roles = [role for role in _ENDINGS if not absent.get(role, False)]
        has_converter = not self.package and (Path(__file__).parent / name / f"convert_{name}.py").is_file()
        by_convention = {
            "config": f"{folder}.configuration_{name}.{self.prefix}Config",
            "classes": {role: f"{folder}.modeling_{name}.{self.prefix}{_ENDINGS[role]}" for role in roles},
            "convert": f"{folder}.convert_{name}.convert_{name}" if has_converter else None,
        }
        for field_name, value in by_convention.items():
            if not getattr(self, field_name):
                object.__setattr__(self, field_name, value)

    @property
    def config_class(self) -> "type[PreTrainedConfig]":
        return resolve(self.config)

    @property
    def model_classes(self) -> LazyClasses:
        return LazyClasses(self.classes)

    @property
    def crops_end_to_end(self) -> int:
        """How many crops that touch the objective sees of a record."""
        return CROPS_END_TO_END.get(self.view, 1)

    @property
    def extractor_class(self) -> Any:
        return resolve(self.extractor)

    def variant(self, name: str) -> Variant:
        """A variant by name.

        Raises:
            ValueError: for an unknown name, with the known ones.
        """
        if name not in self.variants:
            raise ValueError(f"{self.title} has no variant {name!r}{did_you_mean(name, self.variants)}")
        return self.variants[name]

    def preset(self, variant: str | None = None) -> Mapping[str, Any]:
        """Keyword arguments of the extractor: the method's own preset, or that of a variant."""
        return self.preprocessing if variant is None else self.variant(variant).preprocessing

    def with_variant(self, name: str | None) -> "ECGMethod":
        """The entry as a variant has it: its preset, its texts where it has its own, and its config in every recipe."""
        if name is None:
            return self
        variant = self.variant(name)
        names = ("title", "paper", "summary", "licence", "notes")
        texts = {key: getattr(variant, key) or getattr(self, key) for key in names}
        own = {**variant.sizes, **variant.config, "variant": name}
        recipes = {key: replace(recipe, config={**own, **recipe.config}) for key, recipe in self.recipes.items()}
        return replace(self, preprocessing=variant.preprocessing, recipes=recipes, current_variant=name, **texts)

    def make_extractor(self, **overrides: Any) -> Any:
        """The extractor of the published preprocessing, with settings changed by `overrides`."""
        variant = {} if self.current_variant is None else {"variant": self.current_variant}
        return self.extractor_class.for_method(self.name, **variant, **overrides)

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
    """Names of all methods, in the order of the registry; those of other packages come last."""
    return [*METHOD_NAMES, *external_methods()]


def is_method(name: str) -> bool:
    """Whether `get_method` knows the name: that of a method, or an alias."""
    return name in METHOD_NAMES or name in ALIASES or name in external_methods()


@cache
def external_methods() -> Mapping[str, ECGMethod]:
    """The methods that other installed packages register; one that cannot be loaded is left out with a warning."""
    found: dict[str, ECGMethod] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        if entry.name in METHOD_NAMES or entry.name in ALIASES or entry.name in found:
            logger.warning("The method %r of %s is left out: the name is taken.", entry.name, entry.value)
            continue
        try:
            found[entry.name] = _loaded(entry)
        except Exception as error:  # whatever a foreign package raises, the methods of this one must work
            logger.warning("The method %r of %s is left out: %s", entry.name, entry.value, error)
    return found


def _loaded(entry: EntryPoint) -> ECGMethod:
    method = entry.load()
    if not isinstance(method, ECGMethod):
        raise ValueError(f"it is a {type(method).__name__}, not an ECGMethod.")
    if method.name != entry.name or not method.package:
        raise ValueError(f"an ECGMethod with name={entry.name!r} and its package is wanted.")
    return method


def get_method(name: str) -> ECGMethod:
    """The registry entry of a method, or of the variant that an alias names.

    Raises:
        ValueError: for an unknown name, with the known ones.

    Example:
        >>> get_method("st_mem").title
        'ST-MEM'
    """
    name, variant = ALIASES.get(name, (name, None))
    if name in METHOD_NAMES:
        entry: ECGMethod = resolve(f"ecg_transformers.models.{name}.method.METHOD")
        return entry.with_variant(variant)
    if name not in external_methods():
        raise ValueError(f"There is no method {name!r}{did_you_mean(name, (*list_methods(), *ALIASES))}")
    return external_methods()[name]


def variant_of(name: str) -> str | None:
    """The variant that an alias of a method means; None for a method's own name."""
    return ALIASES.get(name, (name, None))[1]


def class_modules() -> dict[str, str]:
    """Name of every config and model class of the registry to the module that holds it."""
    entries = map(get_method, list_methods())
    dotted = [name for entry in entries for name in (entry.config, *entry.classes.values())]
    return {name.rpartition(".")[2]: name.rpartition(".")[0] for name in dotted}


def method_of(config: "PreTrainedConfig") -> ECGMethod:
    """The registry entry behind a model config (by its `model_type` and `variant`)."""
    return get_method(config.model_type).with_variant(getattr(config, "variant", None))
