"""The fields that every config of the package has, and the bounds that a config from outside must keep."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.utils import logging

from ecg_transformers import words
from ecg_transformers.signal.leads import STANDARD_LEADS

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")
LABEL_RESOLUTIONS = ("samples", "patches")  # of a class that labels tokens

MAX_HIDDEN_SIZE, MAX_LAYERS, MAX_POSITIONS, MAX_LEADS = 16_384, 256, 1_000_000, 1_024
MAX_LABELS = 100_000
MISSPELT = 0.88  # so like a field that nothing else can be meant: a letter of eight
MAX_WORDS = 200  # that are looked at

logger = logging.get_logger(__name__)


@strict
class ECGConfig(PreTrainedConfig):
    """Fields that every config of the package has.

    Args:
        num_leads: leads of the model's own table; `lead_indices` of a forward call point into it.
        seq_len: samples of one lead the model is built for.
        lead_names: names of the leads in the table's order; None for a series that is no ECG. Not given, twelve leads
            with a sampling rate are the standard ones: twelve variables of another kind need `sampling_rate=None`.
        sampling_rate: of the input, in Hz; None when it is not known.
        head_pooling: what the classification head sees: "pooler" (the published feature), "attention" (a learned query
            over the tokens), "per_lead" (mean token of each lead, concatenated).
        head_norm: "none", or "batch_norm" (without affine) before the linear head: records share most of their mean
            token, and a head of small initialisation hardly moves without it.
        head_dropout: before the linear head.
        evaluation_crops: evenly spaced crops of a record by which the checkpoint was evaluated (1 is the centre crop):
            the default of pipelines. None: it was not.
        evaluation_seconds: longest record of that evaluation.
        evaluation_records: validation records by which the checkpoint and its thresholds were chosen.
        decision_thresholds: of the classes of a multi-label task, chosen on the validation split.
        variant: which of the method's published models this is, where several share the network; its preprocessing
            and licence follow from it.
        converted_from: name of the official file that the weights come from; stays with everything made from them.
        weights_licence: licence of that source, which binds these weights too.
    """

    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "probabilities",
        "hidden_states",
        "attentions",
        "num_loss_terms",
        "aggregation_weights",
    ]
    """What `Trainer` does not hand to `compute_metrics`: it sees the logits."""

    num_leads: int = 12
    seq_len: int = 2250
    lead_names: list[str] | None = None
    sampling_rate: float | int | None = None
    head_pooling: str = "pooler"
    head_norm: str = "none"
    head_dropout: float | int = 0.0
    evaluation_crops: int | None = None
    evaluation_seconds: float | int | None = None
    evaluation_records: int | None = None
    decision_thresholds: list[float] | None = None
    variant: str | None = None
    converted_from: str | None = None
    weights_licence: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        if self.lead_names is None and self.num_leads == len(STANDARD_LEADS) and self.sampling_rate is not None:
            self.lead_names = list(STANDARD_LEADS)
        labels = kwargs.get("num_labels")
        if isinstance(labels, int) and not 0 <= labels <= MAX_LABELS:  # before a name is made for each of them
            raise ValueError(f"{type(self).__name__}: num_labels must be between 0 and {MAX_LABELS}, got {labels}.")
        self._say_misspelt(kwargs)
        super().__post_init__(**kwargs)
        names: dict[int, str] | None = self.id2label
        if getattr(self, "label2id", None) is None and names is not None:
            self.label2id = {name: index for index, name in names.items()}
        self._check_bounds()

    def _say_misspelt(self, given: Iterable[str]) -> None:
        """A warning only: config files of other versions and packages hold words of their own."""
        fields = [field.name for field in dataclasses.fields(self)]
        for name in itertools.islice(given, MAX_WORDS):
            close = words.nearest(name, fields, cutoff=MISSPELT)
            if close and not hasattr(type(self), name):
                logger.warning(
                    f"{type(self).__name__} has no field {name!r}, which is not read: did you mean {close!r}?"
                )

    def _check_bounds(self) -> None:
        """A config is data from outside: a few bytes must not make us allocate a terabyte."""
        bounds = {
            "num_leads": MAX_LEADS,
            "seq_len": MAX_POSITIONS,
            "patch_size": MAX_POSITIONS,
        }
        for prefix in ("", "decoder_", "predictor_"):
            bounds[f"{prefix}hidden_size"] = MAX_HIDDEN_SIZE
            bounds[f"{prefix}intermediate_size"] = 4 * MAX_HIDDEN_SIZE
            bounds[f"{prefix}num_hidden_layers"] = MAX_LAYERS
            bounds[f"{prefix}num_attention_heads"] = MAX_LAYERS
            bounds[f"{prefix}attention_head_size"] = MAX_HIDDEN_SIZE
        for name, limit in bounds.items():
            value = getattr(self, name, None)
            if isinstance(value, int) and not 0 <= value <= limit:
                raise ValueError(f"{type(self).__name__}: {name} must be between 0 and {limit}, got {value}.")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name, None)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{type(self).__name__}: {field.name} must be a finite number, got {value}.")
        if "/" in str(self._attn_implementation):  # code from a Hub repository, at the word of a data file
            raise ValueError(
                f"{type(self).__name__}: a config may not name an attention kernel of a repository "
                f"({self._attn_implementation!r}); pass attn_implementation to from_pretrained instead."
            )
        if self.num_leads < 1 or self.seq_len < 1:
            raise ValueError(f"{type(self).__name__}: num_leads and seq_len must be positive.")
        if self.lead_names is not None and len(self.lead_names) != self.num_leads:
            raise ValueError(
                f"{type(self).__name__}: {len(self.lead_names)} lead names were given for num_leads={self.num_leads}."
            )
        choices = {"head_pooling": ("pooler", "attention", "per_lead"), "head_norm": ("none", "batch_norm")}
        if self.problem_type is not None:  # any other word would mean softmax and cross-entropy
            choices["problem_type"] = PROBLEM_TYPES
        for name, allowed in choices.items():
            check_choice(self, name, allowed)


def check_choice(config: PreTrainedConfig, name: str, allowed: Sequence[str]) -> None:
    """Raise a ValueError that lists the choices when a config field holds something else."""
    words.check_choice(f"{type(config).__name__}: {name}", getattr(config, name), allowed)
