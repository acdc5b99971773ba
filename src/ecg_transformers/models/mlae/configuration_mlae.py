# Copyright 2026 The ecg_transformers authors.
"""MLAE configuration."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.shared.class_token_config import MaskedClassTokenConfig


@strict
class MLAEConfig(MaskedClassTokenConfig):
    """Configuration of MLAE. Defaults are the released base size; a token is a whole lead.

    Args:
        patch_size: leads in one token. Only 1 works: the released decoder always gives the values of one lead, so its
            loss does not fit tokens of several.
    """

    model_type = "mlae"

    patch_size: int = 1

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.patch_size != 1:
            raise ValueError(
                f"MLAEConfig: patch_size counts the leads in one token and must be 1, got {self.patch_size}: "
                "the published decoder gives the values of one lead only."
            )

    @property
    def num_tokens(self) -> int:
        """Tokens of a full input, without the class token: its leads."""
        return self.num_leads

    @property
    def token_dim(self) -> int:
        """Raw values in one token: the samples of a lead."""
        return self.seq_len
