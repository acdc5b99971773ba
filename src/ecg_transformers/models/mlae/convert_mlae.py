"""Official MLAE checkpoints (full, encoder alone, fine-tuned) into our classes."""

from collections.abc import Mapping
from typing import Any

from ecg_transformers.models.mlae.configuration_mlae import MLAEConfig
from ecg_transformers.models.mlae.modeling_mlae import (
    MLAEForPreTraining,
    MLAEForSequenceClassification,
    MLAEModel,
)
from ecg_transformers.models.shared.class_token_state_dicts import ClassTokenSource, converter
from ecg_transformers.models.shared.state_dicts import CheckpointError

CLASSES = {
    "base": MLAEModel,
    "pretraining": MLAEForPreTraining,
    "classification": MLAEForSequenceClassification,
}


def whole_lead_sizes(source: ClassTokenSource, config_overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Leads and length where a token is a whole lead.

    Raises:
        CheckpointError: another length than that of the projection.
    """
    seq_len = config_overrides.get("seq_len", source.token_dim)
    if seq_len != source.token_dim:
        raise CheckpointError(
            f"MLAE: the checkpoint projects leads of {source.token_dim} samples, so seq_len cannot be {seq_len}."
        )
    return {"num_leads": source.num_tokens, "seq_len": source.token_dim, "patch_size": 1}


convert_mlae = converter("MLAE", MLAEConfig, CLASSES, whole_lead_sizes)
