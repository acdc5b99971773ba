"""The head that labels every sample, or every patch, of every lead: encoders whose tokens belong to a lead can carry it."""

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.layers.patch_labels import PatchLabels
from ecg_transformers.models.config import ECGConfig
from ecg_transformers.models.leads import LeadIndices, check_input
from ecg_transformers.models.outputs import ECGTokenClassifierOutput
from ecg_transformers.models.shared.with_head import ECGModelWithHead

IGNORED = -100
"""The label of a place that nobody has judged: neither loss nor figures see it."""


class ECGForTokenClassification(ECGModelWithHead):
    """A base model with `layers.patch_labels.PatchLabels` on its tokens.

    A method's class derives from this class and its own pre-trained class, and names its config and base class:
    `config: STMEMConfig` (transformers reads the annotation) and `base_class = STMEMModel`.
    """

    def __init__(self, config: ECGConfig) -> None:
        super().__init__(config)
        if not 0 <= config.lead_subset_prob <= 1:
            raise ValueError(f"lead_subset_prob is a probability, from 0 to 1, not {config.lead_subset_prob}.")
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.base_class(config))
        self.dropout = nn.Dropout(config.head_dropout)
        patch_size = config.patch_size if config.label_resolution == "samples" else 1
        self.classifier = PatchLabels(config.hidden_size, patch_size, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)  # of the method, which stands behind this class in the order of bases
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight, nonlinearity="linear")
            init.zeros_(module.bias)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGTokenClassifierOutput:
        """Logits of every sample or patch.

        Args:
            input_values: `(B, L, T)`.
            lead_indices: rows of the model's lead table, one list or one a record.
            labels: class indices `(B, L, T')`, -100 where nobody knows; T' = T, or the patches of a lead with
                `config.label_resolution="patches"`.

        Returns:
            `logits (B, L, T', C)`, and the mean loss over the labelled places (0 where there are none). In training both
            are those of a random subset of the leads with probability `config.lead_subset_prob`.

        Raises:
            ValueError: labels of another shape than the logits.
        """
        check_input(input_values)
        if self.training and labels is not None:
            input_values, lead_indices, labels = self.choose_leads(input_values, lead_indices, labels)
        outputs = self.base_model(input_values, lead_indices=lead_indices, **kwargs)
        tokens = self.base_model.tokens_by_lead(outputs.last_hidden_state, input_values.shape[1])  # (B, L, n, D)
        logits = self.classifier(self.dropout(tokens))  # (B, L, T', C)
        loss, terms = (None, None) if labels is None else label_loss(logits, labels)
        return ECGTokenClassifierOutput(
            loss=loss,
            logits=logits,
            num_loss_terms=terms,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def choose_leads(
        self, input_values: Tensor, lead_indices: LeadIndices | None, labels: Tensor
    ) -> tuple[Tensor, LeadIndices | None, Tensor]:
        """Some leads of a batch and their labels, any number equally likely: who always saw all cannot do with one."""
        num_leads = input_values.shape[1]
        whole = num_leads == 1 or labels.shape[1:2] != (num_leads,)  # labels of other leads are refused with the loss
        if whole or torch.rand(()) >= self.config.lead_subset_prob:
            return input_values, lead_indices, labels
        kept = torch.randperm(num_leads)[: int(torch.randint(1, num_leads, ()))].sort().values
        rows = kept if lead_indices is None else torch.as_tensor(lead_indices)[..., kept]
        return input_values[:, kept], rows, labels[:, kept]


def label_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of `(B, L, T', C)` with `(B, L, T')`, and how many places it is the mean of.

    Raises:
        ValueError: the shapes disagree.
    """
    if labels.shape != logits.shape[:-1]:
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} do not fit logits {tuple(logits.shape)}: give one class for each of "
            f"{tuple(logits.shape[:-1])} (record, lead, place), {IGNORED} where it is not known."
        )
    labels = labels.long()
    terms = (labels != IGNORED).sum()
    total = nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / terms.clamp(min=1), terms.to(total.dtype)
