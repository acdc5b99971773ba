"""Checkpoints of the ST-MEM repository's supervised ViT (encoder alone or with a head) into our classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.ecg_vit.configuration_ecg_vit import ECGViTConfig
from ecg_transformers.models.ecg_vit.modeling_ecg_vit import (
    ECGViTForSequenceClassification,
    ECGViTModel,
    ECGViTPreTrainedModel,
)
from ecg_transformers.models.shared.class_token_state_dicts import ClassTokenSource, head_sizes_of, time_window_sizes

CLASSES = {"base": ECGViTModel, "classification": ECGViTForSequenceClassification}


def convert_ecg_vit(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> ECGViTPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: official keys, with or without the `encoder.` prefix.
        config_overrides: what tensors cannot tell (`num_leads`, 12 unless given) or should be changed (`seq_len`).

    Returns:
        `ECGViTForSequenceClassification` when there is a head, else `ECGViTModel`; in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    source = ClassTokenSource(state_dict, "ECG ViT", head_sizes_of(config_overrides))
    sizes = source.sizes() | time_window_sizes(source, config_overrides)
    return source.build(ECGViTConfig(**{**sizes, **config_overrides}), CLASSES)
