"""HuBERT-ECG (Coppola et al., "HuBERT-ECG as a self-supervised foundation model for broad and scalable cardiac
applications", medRxiv 10.1101/2024.11.14.24317328): the encoder of HuBERT over leads joined one after the other."""

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.models.hubert.modeling_hubert import HubertFeatureEncoder, HubertFeatureProjection
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.hubert_ecg.configuration_hubert_ecg import HubertECGConfig
from ecg_transformers.models.leads import LeadIndices, check_input, resolve_lead_indices
from ecg_transformers.models.outputs import ECGModelOutput
from ecg_transformers.models.shared.conv_position_encoder import (
    CAN_RECORD,
    WEIGHT_NORM_KEYS,
    ConvPositionEncoder,
    init_encoder,
)


class HubertECGPreTrainedModel(ECGPreTrainedModel):
    """Initialisation, and the key names of the authors' Hub repositories."""

    config: HubertECGConfig
    base_model_prefix = "hubert_ecg"
    input_embeddings_name = "feature_extractor"
    published_keys = {
        **WEIGHT_NORM_KEYS,
        # without an index this is the head of a classifier, with one it belongs to pre-training
        r"^label_embedding\.weight$": "classifier.weight",
    }
    optional_tensors = frozenset({"masked_spec_embed"})  # old fine-tuned files lack it, and no read-out needs it
    _keys_to_ignore_on_load_unexpected = [r"^final_proj\.", r"^label_embedding\.\d"]
    _no_split_modules = ["Wav2Vec2EncoderLayer"]
    _can_record_outputs = CAN_RECORD

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Kaiming-normal convolutions, linear maps of the transformer with a deviation of 0.02."""
        super()._init_weights(module)
        init_encoder(module)
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, HubertFeatureProjection):
            module.projection.reset_parameters()
        elif isinstance(module, HubertECGModel):
            init.uniform_(module.masked_spec_embed)
        elif isinstance(module, LabelEmbedding):
            init.normal_(module.weight)

    def freeze_fixed(self) -> None:
        # trained by masking, which nothing here asks for by itself; without a gradient it must not wait for one
        self.base_model.masked_spec_embed.requires_grad_(False)
        if self.config.freeze_feature_encoder:
            self.base_model.feature_extractor._freeze_parameters()


class HubertECGModel(HubertECGPreTrainedModel):
    """The encoder.

    Example:
        >>> config = HubertECGConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
        >>> HubertECGModel(config)(torch.randn(1, 12, 500)).last_hidden_state.shape
        torch.Size([1, 93, 64])
    """

    def __init__(self, config: HubertECGConfig) -> None:
        super().__init__(config)
        self.masked_spec_embed = nn.Parameter(torch.zeros(config.hidden_size))
        self.feature_extractor = HubertFeatureEncoder(config)
        self.feature_projection = HubertFeatureProjection(config)
        self.encoder = ConvPositionEncoder(self.config)
        self.post_init()

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        mask_time_indices: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens of records and their mean.

        Args:
            input_values: `(B, L, T)`, leads between -1 and 1, or already joined lead by lead, `(B, L·T)`.
            lead_indices: rows of the lead table; leads are joined in the table's order, and absent ones are left out,
                as in the published experiments with single leads.
            mask_time_indices: `(B, n)` bool, tokens that the learned mask vector replaces. Nothing is masked without
                it, in training neither.

        Returns:
            `last_hidden_state (B, n, D)`, 93 tokens of twelve leads of 500 samples; a token may straddle two leads.
            `pooler_output (B, D)`, their mean.
        """
        joined = input_values if input_values.ndim == 2 else self.join_leads(input_values, lead_indices)
        if self.config.num_tokens(joined.shape[-1]) < 1:
            raise ValueError(f"An input of {joined.shape[-1]} samples, all leads together, is shorter than one token.")
        tokens = self.feature_projection(self.feature_extractor(joined).transpose(1, 2))  # (B, n, D)
        if mask_time_indices is not None:
            tokens = torch.where(mask_time_indices[..., None], self.masked_spec_embed.to(tokens.dtype), tokens)
        hidden = self.encoder(tokens, **kwargs)
        return ECGModelOutput(last_hidden_state=hidden, pooler_output=hidden.mean(dim=1))

    def join_leads(self, input_values: Tensor, lead_indices: LeadIndices | None) -> Tensor:
        """`(B, L, T)` to `(B, L·T)`, leads in the order of the model's table.

        Raises:
            ValueError: as `resolve_lead_indices`.
        """
        check_input(input_values)
        indices = resolve_lead_indices(lead_indices, input_values, self.config.num_leads)
        if lead_indices is not None:
            order = indices.argsort(dim=-1).expand(input_values.shape[:2])
            input_values = input_values.gather(1, order[..., None].expand_as(input_values))
        return input_values.flatten(1)


class LabelEmbedding(nn.Module):
    """Cosine of the embedding with one vector a class: `(B, D)` to `(B, C)`."""

    def __init__(self, in_features: int, num_labels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_labels, in_features))
        nn.init.normal_(self.weight)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.cosine_similarity(features[:, None], self.weight, dim=-1)


class HubertECGForSequenceClassification(ECGForSequenceClassification, HubertECGPreTrainedModel):
    """The encoder with a linear head on the mean token, with a hidden layer, or with a vector a class."""

    config: HubertECGConfig
    base_class = HubertECGModel

    def build_classifier(self, size: int) -> nn.Module:
        config = self.config
        if config.use_label_embedding:
            return LabelEmbedding(size, config.num_labels)
        if config.classifier_hidden_size is None:
            return super().build_classifier(size)
        hidden = config.classifier_hidden_size
        return nn.Sequential(nn.Linear(size, hidden), ACT2FN[config.activation], nn.Linear(hidden, config.num_labels))
