"""The classification head that every method's encoder can carry."""

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.layers.heads import AttentionPooling
from ecg_transformers.models.config import ECGConfig
from ecg_transformers.models.leads import LeadIndices, check_input, repeat_for_crops
from ecg_transformers.models.outputs import ECGClassifierOutput
from ecg_transformers.models.shared.with_head import ECGModelWithHead


class ECGForSequenceClassification(ECGModelWithHead):
    """A base model with a linear head; takes single crops `(B, L, T)` or several crops of a record `(B, k, L, T)`.

    Loss uses the mean of the crops' logits, metrics the mean of their probabilities, as ST-MEM publishes it.
    A method's class derives from this class and its own pre-trained class, and names its config and base class:
    `config: STMEMConfig` (transformers reads the annotation) and `base_class = STMEMModel`.
    """

    def __init__(self, config: ECGConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        base = self.base_class(config)
        if config.head_pooling == "per_lead" and not base.has_tokens_by_lead:
            raise ValueError(f'{type(self).__name__} has no tokens by lead; head_pooling="per_lead" cannot be used.')
        setattr(self, self.base_model_prefix, base)
        size = {
            "pooler": base.feature_size,
            "attention": config.hidden_size,
            "per_lead": config.num_leads * config.hidden_size,
        }[config.head_pooling]
        if config.head_pooling == "attention":
            heads = getattr(config, "num_attention_heads", 1) or 1
            # a network of convolutions may name heads that it does not have, and that do not part its width
            self.attention_pooling = AttentionPooling(size, 1 if size % heads else heads)
        if config.head_norm == "batch_norm":
            self.head_norm = nn.BatchNorm1d(size, affine=False)
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = self.build_classifier(size)
        self.post_init()

    def build_classifier(self, size: int) -> nn.Module:
        """The last map, `(B, size)` to `(B, num_labels)`."""
        return nn.Linear(size, self.config.num_labels)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # of the method, which stands behind this class in the order of bases
        if isinstance(module, AttentionPooling):
            init_attention_pooling(module)
        elif isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:  # a head norm that is not loaded
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)

    def pool(self, outputs: ModelOutput, num_leads: int) -> Tensor:
        """`(B, features)` for the head."""
        if self.config.head_pooling == "pooler":
            return outputs.pooler_output
        tokens = self.base_model.tokens_by_lead(outputs.last_hidden_state, num_leads)
        if self.config.head_pooling == "attention":
            return self.attention_pooling(outputs.last_hidden_state if tokens is None else tokens.flatten(1, 2))
        assert tokens is not None
        if num_leads != self.config.num_leads:
            raise ValueError(
                f'head_pooling="per_lead" needs all {self.config.num_leads} leads of the model, got {num_leads}.'
            )
        return tokens.mean(dim=2).flatten(1)

    def head(self, features: Tensor) -> Tensor:
        """`(B, features)` to logits `(B, C)`."""
        if self.config.head_norm == "batch_norm":
            features = self.head_norm(features)
        return self.classifier(self.dropout(features))

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGClassifierOutput:
        """Logits and probabilities of records.

        Args:
            input_values: `(B, L, T)`, or `(B, k, L, T)` with k crops a record.
            lead_indices: rows of the model's lead table, one list or one a record.
            labels: class indices `(B,)`, or multi-hot `(B, C)`, or values for `problem_type="regression"`.
        """
        num_crops = None
        if input_values.ndim == 4:
            num_crops = input_values.shape[1]
            input_values = input_values.flatten(0, 1)
            lead_indices = repeat_for_crops(lead_indices, num_crops)
        check_input(input_values)
        outputs = self.base_model(input_values, lead_indices=lead_indices, **kwargs)
        logits = self.head(self.pool(outputs, input_values.shape[1]))
        if labels is not None:
            self.settle_problem_type(labels)
        probabilities = self.probabilities(logits)
        if num_crops is not None:
            logits = logits.unflatten(0, (-1, num_crops)).mean(dim=1)
            probabilities = self.combine_crops(probabilities.unflatten(0, (-1, num_crops)))
        loss = None if labels is None else self.classification_loss(logits, labels)
        return ECGClassifierOutput(
            loss=loss,
            logits=logits,
            probabilities=probabilities,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax, or sigmoid for multi-label problems; values as they are in regression."""
        if self.config.problem_type == "regression" or (self.config.problem_type is None and self.num_labels == 1):
            return logits
        if self.config.problem_type == "multi_label_classification":
            return logits.sigmoid()
        return logits.softmax(dim=-1)

    def combine_crops(self, probabilities: Tensor) -> Tensor:
        """`(B, k, C)` probabilities of crops to `(B, C)` of records."""
        return probabilities.mean(dim=1)

    def settle_problem_type(self, labels: Tensor) -> None:
        """Set `config.problem_type` from the first labels seen, where nobody has."""
        if self.config.problem_type is None:
            if self.num_labels == 1:
                self.config.problem_type = "regression"
            else:
                kind = "multi" if labels.ndim == 2 or labels.is_floating_point() else "single"
                self.config.problem_type = f"{kind}_label_classification"

    def classification_loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, binary cross-entropy or squared error, by `problem_type`."""
        problem = self.config.problem_type
        if problem == "regression":
            return nn.functional.mse_loss(logits.squeeze(-1) if labels.ndim == 1 else logits, labels.to(logits.dtype))
        if problem == "multi_label_classification":
            return nn.functional.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        return nn.functional.cross_entropy(logits, labels)


def init_attention_pooling(module: AttentionPooling) -> None:
    """Raw parameters must be set here: loading leaves missing ones as uninitialised memory."""
    init.normal_(module.query, std=0.02)
    init.xavier_uniform_(module.attention.in_proj_weight)
    init.zeros_(module.attention.in_proj_bias)
    init.zeros_(module.attention.out_proj.bias)
