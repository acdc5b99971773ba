"""ECG-JEPA (Kim, "Learning General Representation of 12-Lead Electrocardiogram with a Joint-Embedding Predictive
Architecture", arXiv 2410.08559): encoder with Cross-Pattern Attention, pre-training against a slow teacher,
classification."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.masking import TimeSplit, gather_tokens, split_times
from ecg_transformers.layers.patching import patchify
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_jepa.configuration_ecg_jepa import ECGJEPAConfig
from ecg_transformers.models.ecg_jepa.layers_ecg_jepa import (
    JEPABlocks,
    JEPAPredictor,
    PositionTable,
    check_length,
    rotary_angles,
)
from ecg_transformers.models.ecg_jepa.masking_ecg_jepa import draw_time_mask, draw_time_masks
from ecg_transformers.models.leads import LeadIndices, check_input, resolve_lead_indices
from ecg_transformers.models.outputs import ECGModelOutput
from ecg_transformers.models.shared.slow_teacher import PredictedTargetsOutput, SlowTeacher
from ecg_transformers.models.shared.token_classification import ECGForTokenClassification


class ECGJEPAEmbeddings(nn.Module):
    """Raw patches to tokens by one linear map that all leads share; holds the table of position codes."""

    def __init__(self, config: ECGJEPAConfig) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(config.patch_size, config.hidden_size)
        self.positions = PositionTable(config, config.num_leads, config.hidden_size)

    def forward(self, patches: Tensor, visible: Tensor | None) -> Tensor:
        """`(B, L, n, p)` to `(B, L · V, D)`; without `visible (V,)` or `(B, V)` all n patches are embedded."""
        if visible is not None and visible.ndim == 1:
            patches = patches.index_select(2, visible)  # hidden samples never enter the network
        elif visible is not None:
            batch, num_leads = patches.shape[:2]
            patches = gather_tokens(patches, visible[:, None].expand(batch, num_leads, -1))
        return self.projection(patches).flatten(1, 2)

    def codes(self, lead_indices: Tensor, times: Tensor, num_patches: int) -> tuple[Tensor | None, Tensor | None]:
        """Position codes `(1 or B, L · V, D)` to add, or the angles of rotary positions."""
        config = self.config
        if config.positions == "rotary":
            width = config.hidden_size // config.num_attention_heads
            return None, rotary_angles(config, lead_indices, times, num_patches, width)
        return self.positions(lead_indices, times, num_patches), None


class ECGJEPAPreTrainedModel(ECGPreTrainedModel):
    """Initialisation and token layout of ECG-JEPA."""

    config: ECGJEPAConfig
    base_model_prefix = "ecg_jepa"
    _no_split_modules = ["ECGJEPAEmbeddings", "ECGLayer"]
    # a pre-training checkpoint holds more than the encoder, and its encoder is wanted
    _keys_to_ignore_on_load_unexpected = [r"^target_encoder\.", r"^predictor\."]
    _supports_flash_attn = False  # no flash kernel knows the cross pattern

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        std = self.config.initializer_range
        if isinstance(module, nn.Linear):
            self._init_matrix(module.weight, std * self.initial_scale(module))
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, PositionTable):
            if self.config.positions == "sincos":
                init.copy_(module.table, module.formula())
            elif self.config.positions == "learnable":
                init.uniform_(module.table, -0.02, 0.02)
        elif isinstance(module, JEPAPredictor):
            self._init_matrix(module.mask_token, std)

    def initial_scale(self, linear: nn.Linear) -> float:
        """Factor of the standard deviation of a map's initial weights."""
        for module in self.modules():
            if isinstance(module, ECGJEPAEmbeddings) and linear is module.projection:
                return float(self.config.patch_projection_scale)
            if isinstance(module, JEPABlocks) and linear in (scales := module.initial_scales()):
                return scales[linear]
        return 1.0

    def _init_matrix(self, weight: Tensor, std: float) -> None:
        cut = self.config.init_truncation
        if cut is None:
            init.normal_(weight, std=std)
        else:
            init.trunc_normal_(weight, std=std, a=-cut, b=cut)

    def tokens_by_lead(self, last_hidden_state: Tensor, num_leads: int) -> Tensor:
        """`(B, L · n, D)` to `(B, L, n, D)`."""
        return last_hidden_state.unflatten(1, (num_leads, -1))


class ECGJEPAModel(ECGJEPAPreTrainedModel):
    """The ECG-JEPA encoder.

    Args:
        config: sizes and quirks.
        drop_path: stochastic depth in place of the config's `downstream_drop_path_rate`.

    Example:
        >>> model = ECGJEPAModel(ECGJEPAConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4))
        >>> model(torch.randn(1, 2, 2500), lead_indices=[1, 2]).pooler_output.shape      # leads II and V1
        torch.Size([1, 64])
    """

    embeddings: ECGJEPAEmbeddings

    def __init__(self, config: ECGJEPAConfig, drop_path: float | None = None) -> None:
        super().__init__(config)
        self.embeddings = ECGJEPAEmbeddings(config)
        rate = config.downstream_drop_path_rate if drop_path is None else drop_path
        self.encoder = JEPABlocks(config, "", rate, cross_pattern=True)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def patch_projections(self) -> list[nn.Module]:
        return [self.embeddings.projection]

    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        visible: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens and features of records; absent leads are left out, not filled with zeros.

        Args:
            input_values: `(B, L, T)` in millivolts.
            lead_indices: rows of the model's lead table in the order of the input, one list or one a record.
            visible: `(V,)` or `(B, V)` times that the encoder sees (pre-training); None sees all.

        Returns:
            `last_hidden_state (B, L · V, D)` after the final norm, lead-major, and `pooler_output (B, D)`, the mean of
            all tokens, the published downstream feature.
        """
        check_input(input_values)
        indices = resolve_lead_indices(lead_indices, input_values, self.config.num_leads)
        patches = patchify(input_values, self.config.patch_size)  # (B, L, n, p)
        num_leads, num_patches = patches.shape[1:3]
        check_length(self.config, num_patches)
        times = torch.arange(num_patches, device=patches.device) if visible is None else visible
        hidden = self.embeddings(patches, visible)  # (B, L·V, D)
        positions, rotary = self.embeddings.codes(indices, times, num_patches)
        if hidden.shape[1]:  # a mask may hide everything
            hidden = self.encoder(hidden, positions, num_leads=num_leads, rotary=rotary)
        hidden = self.layernorm(hidden)
        return ECGModelOutput(last_hidden_state=hidden, pooler_output=hidden.mean(dim=1))


class ECGJEPATargetEncoder(ECGJEPAModel):
    """The teacher: the same encoder, of another class because a checkpoint of the base model is not its checkpoint."""


class ECGJEPAForPreTraining(SlowTeacher, ECGJEPAPreTrainedModel):
    """Student (the base model), slow teacher (`target_encoder`), which moves after each step, and per-lead predictor."""

    config: ECGJEPAConfig
    copy_name = "target_encoder"

    def __init__(self, config: ECGJEPAConfig) -> None:
        super().__init__(config)
        self.ecg_jepa = ECGJEPAModel(config, drop_path=config.drop_path_rate)
        self.target_encoder = ECGJEPATargetEncoder(config, drop_path=config.drop_path_rate)
        self.predictor = JEPAPredictor(config)
        self.post_init()

    def student_and_teacher(self) -> tuple[ECGJEPAModel, ECGJEPAModel]:
        return self.ecg_jepa, self.target_encoder

    def freeze_fixed(self) -> None:
        super().freeze_fixed()
        if self.config.positions == "learnable":
            self.predictor.positions.requires_grad_(self.config.train_predictor_positions)

    def training_step_finished(self, step: int, total_steps: int) -> None:
        self.update_target(self.target_momentum(step, total_steps))

    def train(self, mode: bool = True) -> "ECGJEPAForPreTraining":
        super().train(mode)
        if not self.config.teacher_drop_path:
            self.target_encoder.eval()
        return self

    def export_encoder(self, which: str | None = None) -> ECGJEPAModel:
        """A copy of the "student" or the "target" encoder for downstream use; `config.export` when not given."""
        which = self.config.export if which is None else which
        if which not in ("student", "target"):
            raise ValueError(f'which must be "student" or "target", got {which!r}.')
        encoder = ECGJEPAModel(self.config)
        encoder.load_state_dict((self.ecg_jepa if which == "student" else self.target_encoder).state_dict())
        return encoder.eval()

    def draw_mask(self, num_patches: int, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """`(n,)`, or `(B, n)` with `config.mask_per_sample`; from the CPU's global generator when none is given."""
        if self.config.mask_per_sample:
            return draw_time_masks(self.config, num_patches, batch, generator)
        return draw_time_mask(self.config, num_patches, generator)

    def draw_batch_noise(self, generator: torch.Generator, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        values = batch["input_values"]
        return {"mask": self.draw_mask(values.shape[-1] // self.config.patch_size, values.shape[0], generator)}

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        inputs = super().dummy_inputs
        batch = inputs["input_values"].shape[0]
        inputs["mask"] = inputs["mask"].expand(batch, -1).clone()  # one row a record: safe to cut the batch
        return inputs

    @torch.no_grad()
    def make_targets(self, input_values: Tensor, lead_indices: LeadIndices | None, split: TimeSplit) -> Tensor:
        """What is to be predicted, `(B, L · M, D)`: the teacher saw all patches; each token is normalised."""
        num_leads = input_values.shape[1]
        if self.config.target == "signal":
            tokens = patchify(input_values, self.config.patch_size)  # (B, L, n, p)
        else:
            teacher = self.target_encoder(input_values, lead_indices=lead_indices, return_dict=True)
            tokens = self.tokens_by_lead(teacher.last_hidden_state, num_leads)  # (B, L, n, D)
            tokens = nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=self.config.layer_norm_eps)
        masked = split.masked[..., None, :].expand(tokens.shape[0], num_leads, -1)  # the same times in every lead
        return gather_tokens(tokens, masked).flatten(1, 2)

    def prediction_loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """SmoothL1 with beta 1 (released code) or L1 (the paper's text), mean over everything."""
        distance = nn.functional.smooth_l1_loss if self.config.loss == "smooth_l1" else nn.functional.l1_loss
        precision = torch.promote_types(predictions.dtype, torch.float32)  # never averaged in half precision
        return distance(predictions.to(precision), targets.to(precision))

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PredictedTargetsOutput:
        """Predictions of the teacher's tokens at hidden times, and the loss.

        Args:
            input_values: `(B, L, T)` in millivolts.
            lead_indices: rows of the lead table, one list for the batch or one a record.
            mask: bool `(n,)` for the whole batch or `(B, n)`, True = masked, as many in each record; drawn when not
                given.

        Returns:
            `loss`, `predictions` and `targets (B, L · M, D)`, `mask` (1 = masked), `last_hidden_state (B, L · V, D)`.
        """
        check_input(input_values)
        batch, num_patches = input_values.shape[0], input_values.shape[-1] // self.config.patch_size
        if mask is None:
            mask = self.draw_mask(num_patches, batch)
        split = split_times(mask, batch, num_patches, input_values.device)
        targets = self.make_targets(input_values, lead_indices, split)  # first: random draws follow the released order
        student = self.ecg_jepa(input_values, lead_indices=lead_indices, visible=split.visible, **kwargs)
        indices = resolve_lead_indices(lead_indices, input_values, self.config.num_leads)
        predictions = self.predictor(student.last_hidden_state, indices, split.order, split.num_visible)
        return PredictedTargetsOutput(
            loss=self.prediction_loss(predictions, targets),
            predictions=predictions,
            targets=targets,
            mask=mask.to(device=input_values.device, dtype=torch.float32),
            last_hidden_state=student.last_hidden_state,
            hidden_states=student.hidden_states,
            attentions=student.attentions,
        )


class ECGJEPAForSequenceClassification(ECGForSequenceClassification, ECGJEPAPreTrainedModel):
    """ECG-JEPA with a linear head on the published feature (or on the tokens: `config.head_pooling`)."""

    config: ECGJEPAConfig
    base_class = ECGJEPAModel


class ECGJEPAForTokenClassification(ECGForTokenClassification, ECGJEPAPreTrainedModel):
    """ECG-JEPA with a head that labels every sample (or patch) of every lead: where the waves are."""

    config: ECGJEPAConfig
    base_class = ECGJEPAModel
