# Copyright 2026 The ecg_transformers authors.
"""CMSC configuration."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, check_choice
from ecg_transformers.models.shared.backbone_config import BackboneConfig


@strict
class CMSCConfig(BackboneConfig):
    """Configuration of contrastive multi-segment coding.

    Segment length and head of the comparison on ECG transformers were not published.

    Args:
        seq_len: samples of one segment; two of them fit into a record of 10 s.
        backbone_config: the encoder, with its `model_type`; None is a plain ECG ViT on segments of 4.5 s at 250 Hz.
        projection_size: width of the linear map behind the encoder; 0 compares the encoder's features themselves.
        temperature: of the contrastive loss.
        objective: "clocs", the loss of the CLOCS paper and code, or "patient", the later variant in which every pair
            of one patient counts alike and the norm of an embedding is a constant in the gradient.
    """

    model_type = "cmsc"
    default_backbone: ClassVar[dict[str, Any]] = {"model_type": "ecg_vit", "initializer": "mae", "seq_len": 1125}

    projection_size: int = 256
    temperature: float = 0.1
    objective: str = "clocs"

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.temperature <= 0 or not 0 <= self.projection_size <= MAX_HIDDEN_SIZE:
            raise ValueError(
                f"CMSCConfig: temperature must be positive and projection_size lie in 0 … {MAX_HIDDEN_SIZE}, got "
                f"{self.temperature} and {self.projection_size}."
            )
        check_choice(self, "objective", ("clocs", "patient"))
