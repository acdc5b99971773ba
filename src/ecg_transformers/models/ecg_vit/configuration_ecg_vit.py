# Copyright 2026 The ecg_transformers authors.
"""ECG ViT configuration."""

from typing import Any

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import check_choice
from ecg_transformers.models.shared.class_token_config import ClassTokenConfig


@strict
class ECGViTConfig(ClassTokenConfig):
    """Configuration of the plain ECG vision transformer. Defaults are the base size, trained from scratch.

    Args:
        initializer: "torch_default" is how the released code starts its supervised runs.
        feature_pooling: what `pooler_output` is: "cls", the class token as published, or "mean", the mean of
            the other tokens.
    """

    model_type = "ecg_vit"

    initializer: str = "torch_default"
    feature_pooling: str = "cls"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        check_choice(self, "feature_pooling", ("cls", "mean"))
