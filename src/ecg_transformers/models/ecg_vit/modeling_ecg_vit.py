"""The plain ECG vision transformer: windows of time over all leads, a class token, pre-norm blocks.

It is the supervised baseline and the backbone of the contrastive baselines in Na et al. (ICLR 2024, arXiv 2402.09450),
and equals the encoder of their masked time autoencoder.
"""

from torch import Tensor

from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_vit.configuration_ecg_vit import ECGViTConfig
from ecg_transformers.models.shared.class_token_model import ClassTokenModel, ClassTokenPreTrainedModel


class ECGViTPreTrainedModel(ClassTokenPreTrainedModel):
    """A token is a window of time over all leads; leads that an input lacks are zeros."""

    config: ECGViTConfig
    base_model_prefix = "ecg_vit"


class ECGViTModel(ECGViTPreTrainedModel, ClassTokenModel):
    """The encoder.

    Example:
        >>> model = ECGViTModel(ECGViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2))
        >>> model(torch.randn(1, 12, 2250)).pooler_output.shape
        torch.Size([1, 64])
    """

    def pool(self, last_hidden_state: Tensor) -> Tensor:
        """`(B, D)` of the normed tokens: class token or mean of the others."""
        if self.config.feature_pooling == "mean":
            return last_hidden_state[:, 1:].mean(dim=1)
        return super().pool(last_hidden_state)


class ECGViTForSequenceClassification(ECGForSequenceClassification, ECGViTPreTrainedModel):
    """The ViT with a linear head on its feature (or on the tokens: `config.head_pooling`)."""

    config: ECGViTConfig
    base_class = ECGViTModel
