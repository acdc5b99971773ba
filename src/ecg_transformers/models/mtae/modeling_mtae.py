"""MTAE, the masked time autoencoder (baseline in Na et al., ICLR 2024, arXiv 2402.09450; after Zhang et al., "MaeFE",
2022), and MTAE+RLM with the random lead masking of Oh et al., CHIL 2022."""

import torch
from torch import Tensor
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple

from ecg_transformers.layers.patching import time_major_patches
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.leads import LeadIndices, check_input, resolve_lead_indices, to_lead_table
from ecg_transformers.models.mtae.configuration_mtae import MTAEConfig
from ecg_transformers.models.outputs import MaskedReconstructionOutput
from ecg_transformers.models.shared.class_token_model import (
    ClassTokenForPreTraining,
    ClassTokenModel,
    ClassTokenPreTrainedModel,
)


def random_lead_masking(signal: Tensor, present: Tensor, noise: Tensor, prob: float, rescale: bool) -> Tensor:
    """Zero the leads whose noise is below `prob`; standardise the rest jointly (one mean and deviation a record).

    Args:
        signal: `(B, L, T)`.
        present: `(B, L)` bool, leads that the record has; absent ones are zero and stay out of the statistics.
        noise: `(B, L)`, uniform in [0, 1).
        prob: probability of a lead to be zeroed.
        rescale: without it the remaining leads are left as they are.
    """
    keep = (present & (noise >= prob)).to(signal.dtype)[..., None]  # (B, L, 1)
    if not rescale:
        return signal * keep
    count = (keep.sum(dim=(1, 2)) * signal.shape[2]).clamp(min=1)[:, None, None]
    centred = (signal - (signal * keep).sum(dim=(1, 2), keepdim=True) / count) * keep
    deviation = (centred.square().sum(dim=(1, 2), keepdim=True) / count).sqrt()
    return centred / torch.where(deviation > 0, deviation, torch.ones_like(deviation))


class MTAEPreTrainedModel(ClassTokenPreTrainedModel):
    """A token is a window of time over all leads; leads that an input lacks are zeros."""

    config: MTAEConfig
    base_model_prefix = "mtae"


class MTAEModel(MTAEPreTrainedModel, ClassTokenModel):
    """The MTAE encoder.

    Example:
        >>> model = MTAEModel(MTAEConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2))
        >>> model(torch.randn(1, 12, 2250)).pooler_output.shape
        torch.Size([1, 64])
    """


class MTAEForPreTraining(MTAEPreTrainedModel, ClassTokenForPreTraining):
    """MTAE with its decoder: reconstructs masked windows of time, all leads at once."""

    base_class = MTAEModel

    def draw_sample_noise(self, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = super().draw_sample_noise(generator)
        if self.config.random_lead_masking:
            drawn["lead_noise"] = torch.rand(self.config.num_leads, generator=generator)
        return drawn

    def present_leads(self, input_values: Tensor, lead_indices: LeadIndices | None) -> Tensor:
        """Which leads of the model the input holds, `(B, num_leads)` bool."""
        batch, count, _ = input_values.shape
        indices = resolve_lead_indices(lead_indices, input_values, self.config.num_leads)
        present = torch.zeros(batch, self.config.num_leads, dtype=torch.bool, device=input_values.device)
        return present.scatter(1, indices.expand(batch, count), True)

    def mask_leads(self, signal: Tensor, present: Tensor, lead_noise: Tensor | None) -> Tensor:
        """The signal `(B, num_leads, T)` after random lead masking."""
        shape = signal.shape[:2]
        if lead_noise is None:
            lead_noise = torch.rand(shape, device=signal.device)
        if lead_noise.shape != shape:
            raise ValueError(
                f"lead_noise must have shape {tuple(shape)} (batch, leads of the model), got {tuple(lead_noise.shape)}."
            )
        return random_lead_masking(signal, present, lead_noise, self.config.rlm_prob, self.config.rlm_rescale)

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        noise: torch.Tensor | None = None,
        lead_noise: torch.Tensor | None = None,
        mask_ratio: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedReconstructionOutput:
        """Reconstruction and loss.

        Args:
            input_values: `(B, L, T)`, standardised.
            lead_indices: rows of the lead table; the model's other leads are zeros.
            noise: `(B, n)`; the windows of lowest noise stay visible. Drawn from the global generator when not given.
            lead_noise: `(B, num_leads)`, with `random_lead_masking` only: leads below `rlm_prob` are zeroed.
            mask_ratio: in place of the config's.

        Returns:
            `loss`, `reconstruction (B, n, p·L)` time-major, `mask (B, n)` with 1 = masked, `ids_restore (B, n)`,
            `last_hidden_state (B, m + 1, D)`, class token first, then the visible tokens in the order of their noise.
        """
        check_input(input_values)
        clean = signal = to_lead_table(lead_indices, input_values, self.config.num_leads)  # (B, num_leads, T)
        if self.config.random_lead_masking:
            signal = self.mask_leads(clean, self.present_leads(input_values, lead_indices), lead_noise)
        target = signal if self.config.rlm_target == "masked" else clean
        values = time_major_patches(target, self.config.patch_size)  # (B, n, p·L)
        ranking = self.rank(values, noise, mask_ratio)
        return self.reconstruct(signal, None, values, ranking, **kwargs)


class MTAEForSequenceClassification(ECGForSequenceClassification, MTAEPreTrainedModel):
    """MTAE with a linear head on the class token (or on the tokens: `config.head_pooling`)."""

    config: MTAEConfig
    base_class = MTAEModel
