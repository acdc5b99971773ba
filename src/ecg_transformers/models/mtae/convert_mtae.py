"""Official MTAE checkpoints (full, encoder alone, fine-tuned) into our classes."""

from ecg_transformers.models.mtae.configuration_mtae import MTAEConfig
from ecg_transformers.models.mtae.modeling_mtae import (
    MTAEForPreTraining,
    MTAEForSequenceClassification,
    MTAEModel,
)
from ecg_transformers.models.shared.class_token_state_dicts import converter, time_window_sizes

CLASSES = {
    "base": MTAEModel,
    "pretraining": MTAEForPreTraining,
    "classification": MTAEForSequenceClassification,
}

convert_mtae = converter("MTAE", MTAEConfig, CLASSES, time_window_sizes)
