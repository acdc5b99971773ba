"""Official MTAE checkpoints (full, encoder alone, fine-tuned) into our classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.mtae.configuration_mtae import MTAEConfig
from ecg_transformers.models.mtae.modeling_mtae import (
    MTAEForPreTraining,
    MTAEForSequenceClassification,
    MTAEModel,
    MTAEPreTrainedModel,
)
from ecg_transformers.models.shared.class_token_state_dicts import ClassTokenSource, head_sizes_of, time_window_sizes

CLASSES = {
    "base": MTAEModel,
    "pretraining": MTAEForPreTraining,
    "classification": MTAEForSequenceClassification,
}


def convert_mtae(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> MTAEPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: official keys, the encoder's with or without the `encoder.` prefix.
        config_overrides: what tensors cannot tell (`num_leads`, 12 unless given; `norm_pix_loss`, `mask_ratio`) or
            should be changed (`seq_len`).

    Returns:
        `MTAEForPreTraining` for a full file, `MTAEForSequenceClassification` when there is a head, else `MTAEModel`;
        in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    source = ClassTokenSource(state_dict, "MTAE", head_sizes_of(config_overrides))
    sizes = source.sizes() | time_window_sizes(source, config_overrides)
    return source.build(MTAEConfig(**{**sizes, **config_overrides}), CLASSES)
