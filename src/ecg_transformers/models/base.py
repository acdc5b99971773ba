"""What all models of the package share: layers, hooks of training, loading and saving."""

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from huggingface_hub import CommitInfo
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput, logging

from ecg_transformers.files import give_usual_permissions
from ecg_transformers.layers.attention import AttentionFunction, SelfAttention, eager_attention
from ecg_transformers.layers.patching import PatchEmbedding
from ecg_transformers.layers.transformer import TransformerBlock, drop_path_rates
from ecg_transformers.models.auto import SHIM_NAME, auto_map_of, rewrite_json, write_shim
from ecg_transformers.models.config import ECGConfig
from ecg_transformers.models.refusals import refuse_misfits, refuse_pickles
from ecg_transformers.models.registry import resolve

logger = logging.get_logger(__name__)

# what a saved folder and an upload need lives on a higher floor: named as the registry names extractors
COMPLETE_FOLDER = "ecg_transformers.hub.folders.complete_folder"  # preprocessor and card
UPLOAD = "ecg_transformers.hub.upload.upload_checkpoint"

# inputs that hold a signal, and follow the precision of the model
SIGNALS = frozenset({"input_values", "beats", "rr"})

MAX_PARAMETERS = 20_000_000_000


def select_attention(config: PreTrainedConfig) -> AttentionFunction:
    """The attention function that the config names at this moment (`set_attn_implementation` may change it)."""
    name = config._attn_implementation
    if name in (None, "eager"):
        return eager_attention
    function: AttentionFunction = ALL_ATTENTION_FUNCTIONS.get_interface(name, eager_attention)
    return function


@contextlib.contextmanager
def eager_for_attentions(config: PreTrainedConfig, asked: bool | None) -> Iterator[None]:
    """Attention weights exist in the eager implementation only: it is taken for a call that asks for them, and said."""
    chosen = config._attn_implementation
    if not (config.output_attentions if asked is None else asked) or chosen in (None, "eager"):
        yield
        return
    logger.warning_once(f"attention weights are not kept by {chosen!r} attention: this call computes it eagerly.")
    config._attn_implementation = "eager"
    try:
        yield
    finally:
        config._attn_implementation = chosen


class ECGLayer(GradientCheckpointingLayer, TransformerBlock):
    """A transformer block that transformers can checkpoint and whose output it can record."""


def build_layers(
    config: PreTrainedConfig, depth: int, hidden_size: int, num_heads: int, intermediate_size: int, **options: Any
) -> nn.ModuleList:
    """`depth` blocks with a linear ramp of stochastic depth; `options` as for `TransformerBlock`."""
    rates = drop_path_rates(options.pop("drop_path", 0.0), depth)
    select = functools.partial(select_attention, config)
    return nn.ModuleList(
        ECGLayer(hidden_size, num_heads, intermediate_size, drop_path=rate, select_attention=select, **options)
        for rate in rates
    )


class ECGEncoder(nn.Module):
    """A stack of blocks."""

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.layer = layers

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        for layer in self.layer:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states


class ECGPreTrainedModel(PreTrainedModel):
    """Base of all models: loading that freezes what is fixed, saving that a Hub repository can be loaded from.

    Subclasses override the hooks they need; training calls them and knows no method by name.
    """

    config: ECGConfig
    main_input_name = "input_values"
    input_modalities = ("time",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ["ECGLayer"]
    _can_record_outputs: ClassVar[dict[str, Any]] = {"hidden_states": ECGLayer, "attentions": SelfAttention}
    # of the base model: what makes tokens of the signal
    input_embeddings_name: ClassVar[str] = "embeddings"
    # patterns of key names in published repositories that carry a config, and what they become here
    published_keys: ClassVar[Mapping[str, str]] = {}
    # last parts of the names of encoder tensors that a checkpoint may lack
    optional_tensors: ClassVar[frozenset[str]] = frozenset()

    def freeze_fixed(self) -> None:
        """Switch gradients off where the method fixes parameters; called after building and after loading."""

    def after_loading(self, missing_keys: set[str]) -> None:
        """Called when a checkpoint was loaded; `missing_keys` were not in it and hold fresh values."""

    def draw_sample_noise(self, generator: torch.Generator) -> dict[str, Tensor]:
        """Random tensors that one training sample needs; training stacks them along a new first axis."""
        return {}

    def draw_batch_noise(self, generator: torch.Generator, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Random tensors of a whole batch: the same on every process and in every accumulated pass of a step."""
        return {}

    @property
    def compares_records(self) -> bool:
        """Whether the loss of a record depends on the other records of its forward pass, gathered over processes.

        Training then gives every pass at least two records, and equally many to all processes.
        """
        return False

    @property
    def compares_patients(self) -> bool:
        """Whether the loss contrasts patients, so that the records of a forward pass must be of at least two."""
        return False

    @property
    def gathers_patients(self) -> bool:
        """Whether the patients contrasted are those of all processes; else each process needs two in its own records."""
        return True

    @property
    def moves_before_step(self) -> bool:
        """Whether `training_step_started` moves parameters without gradient (a momentum encoder).

        When a step fails, training restores them to what they were before it.
        """
        return False

    def training_step_started(self, step: int, total_steps: int) -> None:
        """Called before the forward passes of optimiser step `step` (counted from 0)."""

    def training_step_finished(self, step: int, total_steps: int) -> None:
        """Called after the optimiser's update of step `step`."""

    def monitor(self, outputs: ModelOutput) -> dict[str, float]:
        """Figures to log beside the loss."""
        return {}

    def patch_projections(self) -> list[nn.Module]:
        """The modules that map raw patches to tokens, which some objectives keep as drawn; none without patches."""
        return [module.projection for module in self.modules() if isinstance(module, PatchEmbedding)]

    def tokens_by_lead(self, last_hidden_state: Tensor, num_leads: int) -> Tensor | None:
        """`(B, num_leads, n, D)` patch tokens without special tokens, or None where tokens do not belong to a lead."""
        return None

    @property
    def has_tokens_by_lead(self) -> bool:
        """Whether a token belongs to a lead."""
        return type(self).tokens_by_lead is not ECGPreTrainedModel.tokens_by_lead

    @property
    def feature_size(self) -> int:
        """Width of `pooler_output`."""
        return int(self.config.hidden_size)

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        """Small valid inputs, always the same."""
        generator = torch.Generator().manual_seed(0)
        shape = (2, self.config.num_leads, self.config.seq_len)
        inputs = {"input_values": torch.randn(shape, generator=generator)}
        noise = [self.draw_sample_noise(generator) for _ in range(shape[0])]
        inputs.update({key: torch.stack([sample[key] for sample in noise]) for key in noise[0]})
        inputs.update(self.draw_batch_noise(generator, inputs))
        return inputs

    def get_input_embeddings(self) -> nn.Module:
        """The module that makes tokens of the signal (transformers asks for it)."""
        return self.base_model.get_submodule(self.input_embeddings_name)

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.set_submodule(self.input_embeddings_name, value)

    def post_init(self) -> None:
        # loading builds the model without memory first, so this comes before anything of that size is allocated
        count = sum(tensor.numel() for tensor in (*self.parameters(), *self.buffers()))
        if count > MAX_PARAMETERS:
            raise ValueError(
                f"{type(self).__name__}: this config asks for {count:.2g} parameters, more than {MAX_PARAMETERS:.0g}."
            )
        super().post_init()
        self.freeze_fixed()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As `forward`, on an input in the model's own precision: an extractor gives float32, a folder may be float16.

        Raises:
            ValueError: the input is no tensor, as an extractor gives it without `return_tensors="pt"`.
        """
        asked = kwargs.get("output_attentions")
        with eager_for_attentions(self.config, asked):
            output = self._called(*args, **kwargs)
        if asked and getattr(output, "attentions", ()) is None:
            logger.warning_once(f"{type(self).__name__} has no attention layers: the output holds no attentions.")
        return output

    def _called(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            args = (self._own_precision(self.main_input_name, args[0]), *args[1:])
        kwargs = {name: self._own_precision(name, kwargs[name]) if name in SIGNALS else kwargs[name] for name in kwargs}
        return super().__call__(*args, **kwargs)

    def _own_precision(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Tensor):
            is_other = value.is_floating_point() and value.dtype != self.dtype
            return value.to(self.dtype) if is_other else value
        raise ValueError(
            f'{name} is a {type(value).__name__}, not a tensor: call the extractor with return_tensors="pt" '
            '(model(**extractor(record, return_tensors="pt"))).'
        )

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False) -> None:
        # for classes outside its own package transformers passes over modules without parameters of their own, such as
        # an attention or a residual block that sets its children; all our initialisers spare what was loaded by themselves
        super()._initialize_weights(module)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        """As in transformers; fixed parameters are frozen again, and a checkpoint that does not fit is refused.

        Raises:
            ValueError: none or only some of the encoder's tensors are in the checkpoint, with the shapes that the config
                asks for, or the checkpoint holds more encoder tensors than the config has a place for; or its file is damaged.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs.setdefault("use_safetensors", True)
        refuse_pickles(args[0] if args else kwargs.get("pretrained_model_name_or_path"))
        if cls.published_keys:
            kwargs.setdefault("key_mapping", dict(cls.published_keys))
        try:
            model, info = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        except SafetensorError as error:
            source = args[0] if args else kwargs.get("pretrained_model_name_or_path")
            raise ValueError(f"{source}: its weights are damaged, or were not written to the end ({error}).") from error
        vars(model).pop("_weight_conversions", None)  # else saving would give the tensors their foreign names again
        missing = set(info["missing_keys"])
        needed = {key for key in missing if key.rpartition(".")[2] not in cls.optional_tensors}
        refuse_misfits(model, needed, set(info["unexpected_keys"]), {key for key, *_ in info["mismatched_keys"]})
        model.freeze_fixed()
        model.after_loading(missing)
        return (model, info) if wants_info else model  # type: ignore[return-value]  # as transformers has it

    def save_pretrained(self, save_directory: str | PathLike[str], *args: Any, **kwargs: Any) -> None:
        """As in transformers, plus `hub_shim.py` and the `auto_map` that points to it."""
        directory = Path(save_directory)
        if kwargs.get("is_main_process", True):
            directory.mkdir(parents=True, exist_ok=True)
            write_shim(directory)
        self.config.auto_map = auto_map_of(self.config.model_type)
        super().save_pretrained(save_directory, *args, **kwargs)
        if kwargs.get("is_main_process", True):
            rewrite_json(directory / "config.json", auto_map=auto_map_of(self.config.model_type))
            remove_stray_sources(directory)
            for weights in directory.glob("*.safetensors"):
                give_usual_permissions(weights)
            resolve(COMPLETE_FOLDER)(self, directory)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        max_shard_size: int | str = "50GB",
    ) -> CommitInfo:
        """Upload model, preprocessor, shim and card; only files that belong to a checkpoint are sent.

        Args:
            repo_id: "name" or "owner/name"; created when it does not exist.
            private, token, revision, create_pr, commit_message: as in `huggingface_hub`.
            max_shard_size: as in `save_pretrained`.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, max_shard_size=max_shard_size)
            upload: Callable[..., CommitInfo] = resolve(UPLOAD)
            return upload(
                folder,
                repo_id,
                commit_message=commit_message,
                private=private,
                token=token,
                revision=revision,
                create_pr=create_pr,
            )


def remove_stray_sources(directory: Path) -> None:
    """transformers copies model sources beside checkpoints that came through the shim; they cannot be imported."""
    for pattern in ("configuration_*.py", "modeling_*.py", "feature_extraction_*.py"):
        for path in directory.glob(pattern):
            path.unlink()
    if not (directory / SHIM_NAME).exists():
        write_shim(directory)
