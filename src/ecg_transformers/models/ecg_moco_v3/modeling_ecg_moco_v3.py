"""MoCo v3 (Chen, Xie and He, "An Empirical Study of Training Self-Supervised Vision Transformers", ICCV 2021) on ECG,
as one of the baselines of Na et al., ICLR 2024. The views are two random crops of a record, augmented apart."""

import torch
from torch import Tensor
from transformers import AutoModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.layers.collapse import paired_figures
from ecg_transformers.layers.heads import ProjectionMLP
from ecg_transformers.layers.momentum import copy_state, ema_update, freeze, scheduled_momentum
from ecg_transformers.layers.objectives import moco_v3_loss
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_moco_v3.configuration_ecg_moco_v3 import ECGMoCoV3Config
from ecg_transformers.models.leads import LeadIndices
from ecg_transformers.models.shared.backbone_model import (
    BackboneModel,
    BackbonePreTrainedModel,
    PairedViewsOutput,
    check_pairs,
    fix_tables_and_patches,
)


class ECGMoCoV3PreTrainedModel(BackbonePreTrainedModel):
    """Base of the MoCo v3 classes."""

    config: ECGMoCoV3Config
    base_model_prefix = "ecg_moco_v3"


class ECGMoCoV3Model(ECGMoCoV3PreTrainedModel, BackboneModel):
    """The backbone, as MoCo v3 trains it.

    Example:
        >>> config = ECGMoCoV3Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
        >>> ECGMoCoV3Model(config)(torch.randn(1, 12, 2250)).pooler_output.shape
        torch.Size([1, 64])
    """


class ECGMoCoV3ForPreTraining(ECGMoCoV3PreTrainedModel):
    """Query encoder with projector and predictor, and a momentum encoder with projector that gives the keys.

    The momentum encoder moves in `training_step_started`, before the keys of a step are made, as published. It keeps
    batch-norm statistics of its own. A training loop that does not call the hooks calls `update_momentum_encoder`.
    """

    def __init__(self, config: ECGMoCoV3Config) -> None:
        super().__init__(config)
        self.ecg_moco_v3 = ECGMoCoV3Model(config)
        self.momentum_encoder = AutoModel.from_config(config.make_backbone_config())
        self.projector = self.build_projector()
        self.momentum_projector = self.build_projector()
        self.predictor = ProjectionMLP(
            config.projection_size,
            config.projector_hidden_size,
            config.projection_size,
            config.predictor_num_layers,
            last_norm=bool(config.predictor_last_norm),
        )
        self.post_init()
        self.sync_momentum_encoder()

    def build_projector(self) -> ProjectionMLP:
        """Backbone features to embeddings."""
        config = self.config
        num_layers = int(config.projector_num_layers or 1)
        return ProjectionMLP(self.feature_size, config.projector_hidden_size, config.projection_size, num_layers)

    def freeze_fixed(self) -> None:
        super().freeze_fixed()
        fix_tables_and_patches(
            self.backbone, self.config.freeze_patch_projection, self.config.freeze_position_embeddings
        )
        freeze(self.momentum_encoder, self.momentum_projector)

    def after_loading(self, missing_keys: set[str]) -> None:
        if any(key.startswith("momentum_") for key in missing_keys):
            self.sync_momentum_encoder()

    def sync_momentum_encoder(self) -> None:
        """Make the momentum encoder equal to the query encoder."""
        copy_state(self.momentum_encoder, self.backbone)
        copy_state(self.momentum_projector, self.projector)

    def update_momentum_encoder(self, momentum: float) -> None:
        """One step of the moving average, over parameters only."""
        ema_update(self.momentum_encoder, self.backbone, momentum)
        ema_update(self.momentum_projector, self.projector, momentum)

    @property
    def compares_records(self) -> bool:
        return True

    @property
    def moves_before_step(self) -> bool:
        return True

    def training_step_started(self, step: int, total_steps: int) -> None:
        progress = step / max(total_steps, 1)
        self.update_momentum_encoder(scheduled_momentum(self.config.momentum_schedule, progress, self.config.momentum))

    @property
    def dummy_inputs(self) -> dict[str, Tensor]:
        return self.paired_dummy_inputs

    @torch.no_grad()
    def keys(self, input_values: Tensor, lead_indices: LeadIndices | None) -> Tensor:
        """`(B, D)` embeddings of the momentum encoder."""
        features = self.momentum_encoder(input_values, lead_indices=lead_indices, return_dict=True).pooler_output
        return self.momentum_projector(features)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> PairedViewsOutput:
        """The symmetric loss of two views; keys of all processes are candidates.

        Args:
            input_values: `(B, 2, L, T)`, two views of each record.
            lead_indices: rows of the lead table, one list for the batch or one a record.

        Returns:
            `loss`, `embeddings (B, 2, D)`: queries after the predictor, `targets (B, 2, D)`: keys; hidden states and
            attentions, when asked for, are those of the first view.
        """
        check_pairs(input_values, "MoCo v3")
        view1, view2 = input_values.unbind(dim=1)  # (B, L, T) each; batch norm sees one view at a time
        outputs = self.ecg_moco_v3(view1, lead_indices=lead_indices, **kwargs)
        q1 = self.predictor(self.projector(outputs.pooler_output))  # (B, D)
        q2 = self.predictor(self.projector(self.ecg_moco_v3(view2, lead_indices=lead_indices).pooler_output))
        k1, k2 = self.keys(view1, lead_indices), self.keys(view2, lead_indices)
        return PairedViewsOutput(
            loss=moco_v3_loss(q1, q2, k1, k2, self.config.temperature, self.config.loss_scale),
            embeddings=torch.stack([q1, q2], dim=1),
            targets=torch.stack([k1, k2], dim=1),
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def monitor(self, outputs: ModelOutput) -> dict[str, float]:
        queries, keys = outputs.embeddings, outputs.targets
        return paired_figures(queries[:, 0], keys[:, 1], spread_of=keys[:, 0])


class ECGMoCoV3ForSequenceClassification(ECGForSequenceClassification, ECGMoCoV3PreTrainedModel):
    """The backbone with a linear head on its feature (or on the tokens: `config.head_pooling`)."""

    config: ECGMoCoV3Config
    base_class = ECGMoCoV3Model
