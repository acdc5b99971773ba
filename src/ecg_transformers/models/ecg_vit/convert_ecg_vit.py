"""Checkpoints of the ST-MEM repository's supervised ViT (encoder alone or with a head) into our classes."""

from ecg_transformers.models.ecg_vit.configuration_ecg_vit import ECGViTConfig
from ecg_transformers.models.ecg_vit.modeling_ecg_vit import (
    ECGViTForSequenceClassification,
    ECGViTModel,
)
from ecg_transformers.models.shared.class_token_state_dicts import converter, time_window_sizes

CLASSES = {"base": ECGViTModel, "classification": ECGViTForSequenceClassification}

convert_ecg_vit = converter("ECG ViT", ECGViTConfig, CLASSES, time_window_sizes)
