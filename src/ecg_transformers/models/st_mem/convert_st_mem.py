"""Official ST-MEM checkpoints (full, encoder alone, fine-tuned) into our classes."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_transformers.models.shared.class_token_state_dicts import ClassTokenSource, converter
from ecg_transformers.models.shared.state_dicts import CheckpointError
from ecg_transformers.models.st_mem.configuration_st_mem import STMEMConfig
from ecg_transformers.models.st_mem.modeling_st_mem import (
    STMEMForPreTraining,
    STMEMForSequenceClassification,
    STMEMModel,
    separator_table,
)
from ecg_transformers.signal.leads import STANDARD_LEADS

CLASSES = {
    "base": STMEMModel,
    "pretraining": STMEMForPreTraining,
    "classification": STMEMForSequenceClassification,
}


class SeparatorSource(ClassTokenSource):
    """A checkpoint whose leads have separators at both ends and vectors of their own."""

    special_rows = 2
    fixed_table = staticmethod(separator_table)

    @property
    def num_leads(self) -> int:
        return self.reader.count(f"{self.prefix}lead_embeddings.{{}}")

    def special_tokens(self, num_leads: int) -> dict[str, Tensor]:
        """Separator and the first `num_leads` lead embeddings (the published route to fewer leads)."""
        names = [f"{self.prefix}lead_embeddings.{index}" for index in range(self.num_leads)]
        leads = [self.reader.take(name).flatten() for name in names]
        if len({len(lead) for lead in leads}) != 1:
            raise CheckpointError(f"ST-MEM: the lead embeddings have {[len(lead) for lead in leads]} values.")
        return {
            "sep_token": self.reader.take(f"{self.prefix}sep_embedding"),
            "lead_embeddings.weight": torch.stack(leads)[:num_leads].clone(),
        }


def patch_sizes(source: SeparatorSource, config_overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Patches, length and leads; the standard names where there are twelve embeddings."""
    wanted = config_overrides.get("num_leads", source.num_leads)
    names = None
    if source.num_leads == len(STANDARD_LEADS) and isinstance(wanted, int):
        names = list(STANDARD_LEADS[: max(0, wanted)])  # the standard order; fewer leads are its first
    return {
        "patch_size": source.token_dim,
        "seq_len": source.num_tokens * source.token_dim,
        "num_leads": source.num_leads,
        "lead_names": names,
    }


convert_st_mem = converter("ST-MEM", STMEMConfig, CLASSES, patch_sizes, SeparatorSource)
