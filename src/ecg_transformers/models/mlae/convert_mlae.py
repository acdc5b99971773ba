"""Official MLAE checkpoints (full, encoder alone, fine-tuned) into our classes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_transformers.models.mlae.configuration_mlae import MLAEConfig
from ecg_transformers.models.mlae.modeling_mlae import (
    MLAEForPreTraining,
    MLAEForSequenceClassification,
    MLAEModel,
    MLAEPreTrainedModel,
)
from ecg_transformers.models.shared.class_token_state_dicts import ClassTokenSource, head_sizes_of
from ecg_transformers.models.shared.state_dicts import CheckpointError

CLASSES = {
    "base": MLAEModel,
    "pretraining": MLAEForPreTraining,
    "classification": MLAEForSequenceClassification,
}


def convert_mlae(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> MLAEPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: official keys, the encoder's with or without the `encoder.` prefix.
        config_overrides: what tensors cannot tell (`norm_pix_loss`, `mask_ratio`) or should be changed (`num_leads`).

    Returns:
        `MLAEForPreTraining` for a full file, `MLAEForSequenceClassification` when there is a head, else `MLAEModel`;
        in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    source = ClassTokenSource(state_dict, "MLAE", head_sizes_of(config_overrides))
    seq_len = config_overrides.get("seq_len", source.token_dim)
    if seq_len != source.token_dim:
        raise CheckpointError(
            f"MLAE: the checkpoint projects leads of {source.token_dim} samples, so seq_len cannot be {seq_len}."
        )
    sizes = source.sizes() | {"num_leads": source.num_tokens, "seq_len": source.token_dim, "patch_size": 1}
    return source.build(MLAEConfig(**{**sizes, **config_overrides}), CLASSES)
