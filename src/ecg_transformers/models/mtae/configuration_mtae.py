# Copyright 2026 The ecg_transformers authors.
"""MTAE configuration."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import check_choice
from ecg_transformers.models.shared.class_token_config import MaskedClassTokenConfig


@strict
class MTAEConfig(MaskedClassTokenConfig):
    """Configuration of MTAE, with random lead masking MTAE+RLM. Defaults are the released base size.

    Args:
        random_lead_masking: zero whole leads of the input at random in pre-training (MTAE+RLM).
        rlm_prob: probability with which each lead is zeroed; 0.3 in the released code, 0.5 where the idea comes from
            (Oh et al., CHIL 2022). Which of them the published numbers used is not known.
        rlm_rescale: standardise the remaining leads jointly afterwards, as the released code does.
        rlm_target: "masked" reconstructs the signal after random lead masking, as the released code does because the
            same tensor is input and target; "clean" reconstructs the signal before it.
    """

    model_type = "mtae"

    random_lead_masking: bool = False
    rlm_prob: float | int = 0.3
    rlm_rescale: bool = True
    rlm_target: str = "masked"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if not 0 <= self.rlm_prob <= 1:
            raise ValueError(f"MTAEConfig: rlm_prob must lie in [0, 1], got {self.rlm_prob}.")
        check_choice(self, "rlm_target", ("masked", "clean"))
