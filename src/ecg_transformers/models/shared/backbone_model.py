"""A base model that is the encoder of any other method, for methods that define an objective and no network."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import AutoModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.leads import LeadIndices
from ecg_transformers.models.outputs import ECGModelOutput
from ecg_transformers.models.shared.backbone_config import BackboneConfig


@dataclass
class PairedViewsOutput(ModelOutput):
    """Output of a contrastive method with two views of each record.

    Attributes:
        loss: contrastive loss of the batch.
        embeddings: `(B, 2, D)`, what the loss compares.
        targets: `(B, 2, D)`, what it is compared with, where that is another network's output.
    """

    loss: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class BackbonePreTrainedModel(ECGPreTrainedModel):
    """What base, pre-training and classification models around a backbone share."""

    config: BackboneConfig

    @property
    def backbone(self) -> ECGPreTrainedModel:
        """The other method's encoder."""
        return self.base_model.encoder

    def get_input_embeddings(self) -> nn.Module:
        return self.backbone.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.backbone.set_input_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Heads; the backbone's parameters are set by its own class."""
        if isinstance(module, nn.Linear):
            module.reset_parameters()  # torch's own, which the published heads keep
        else:
            super()._init_weights(module)

    def freeze_fixed(self) -> None:
        self.backbone.freeze_fixed()

    def patch_projections(self) -> list[nn.Module]:
        return self.backbone.patch_projections()

    def tokens_by_lead(self, last_hidden_state: Tensor, num_leads: int) -> Tensor | None:
        return self.backbone.tokens_by_lead(last_hidden_state, num_leads)

    @property
    def has_tokens_by_lead(self) -> bool:
        return bool(self.backbone.has_tokens_by_lead)

    @property
    def feature_size(self) -> int:
        return self.backbone.feature_size

    @property
    def paired_dummy_inputs(self) -> dict[str, Tensor]:
        """Two segments of four records."""
        shape = (4, 2, self.config.num_leads, self.config.seq_len)
        return {"input_values": torch.randn(shape, generator=torch.Generator().manual_seed(0))}


class BackboneModel(BackbonePreTrainedModel):
    """The backbone behind a method's own name."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.make_backbone_config())
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens and features of records, as the backbone gives them.

        Args:
            input_values: `(B, L, T)`.
            lead_indices: rows of the lead table, one list for the batch or one a record.
        """
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.get(name) is None:  # the backbone knows its own config only
                kwargs[name] = getattr(self.config, name)
        outputs = self.encoder(input_values, lead_indices=lead_indices, return_dict=True, **kwargs)
        return ECGModelOutput(
            last_hidden_state=outputs.last_hidden_state,
            pooler_output=outputs.pooler_output,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def fix_tables_and_patches(backbone: ECGPreTrainedModel, patches: bool, positions: bool) -> None:
    """Freeze the random patch projection and the position tables of a transformer; other networks have neither."""
    for projection in backbone.patch_projections() if patches else ():
        projection.requires_grad_(False)
    for module in backbone.modules():
        table = getattr(module, "position_embeddings", None)
        if positions and isinstance(table, nn.Parameter):
            table.requires_grad_(False)


def check_pairs(input_values: Tensor, name: str) -> None:
    """Raise a ValueError unless the input is `(B, 2, L, T)`."""
    shape = tuple(input_values.shape)
    if len(shape) != 4 or shape[1] != 2:
        raise ValueError(f"{name} needs two views of each record, (batch, 2, num_leads, seq_len); got {shape}.")
