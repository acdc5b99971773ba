# Copyright 2026 The ecg_transformers authors.
"""ECG MoCo v3 configuration."""

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict

from ecg_transformers.models.config import MAX_HIDDEN_SIZE, check_choice
from ecg_transformers.models.shared.backbone_config import BackboneConfig


@strict
class ECGMoCoV3Config(BackboneConfig):
    """Configuration of MoCo v3 on ECG. Objective and heads are the published ViT recipe's; no ECG form was published.

    Args:
        backbone_config: the encoder, with its `model_type`; None is a plain ECG ViT with the published initialisation.
        projector_hidden_size: hidden width of projector and predictor.
        projection_size: width of the embeddings.
        projector_num_layers: None as published: 3 for a transformer, 2 for a convolutional network.
        predictor_num_layers: 2 as published.
        predictor_last_norm: None as published: for a transformer only.
        temperature: of the contrastive loss.
        loss_scale: "2tau" multiplies by twice the temperature, as released; "none" does not.
        momentum: of the momentum encoder at the start.
        momentum_schedule: "cosine" rises to 1, "constant" stays.
        freeze_patch_projection: keep the random patch projection of a transformer, for stability; networks without
            patches have none.
        freeze_position_embeddings: keep the position table in pre-training, as published.
    """

    model_type = "ecg_moco_v3"
    default_backbone: ClassVar[dict[str, Any]] = {"model_type": "ecg_vit", "initializer": "xavier_per_projection"}

    projector_hidden_size: int = 4096
    projection_size: int = 256
    projector_num_layers: int | None = None
    predictor_num_layers: int = 2
    predictor_last_norm: bool | None = None
    temperature: float = 0.2
    loss_scale: str = "2tau"
    momentum: float = 0.99
    momentum_schedule: str = "cosine"
    freeze_patch_projection: bool = True
    freeze_position_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        is_transformer = self.num_attention_heads is not None
        if self.projector_num_layers is None:
            self.projector_num_layers = 3 if is_transformer else 2
        if self.predictor_last_norm is None:
            self.predictor_last_norm = is_transformer
        if not 0 <= self.momentum <= 1 or self.temperature <= 0:
            raise ValueError(
                "ECGMoCoV3Config: momentum must lie in [0, 1] and temperature above 0, got "
                f"{self.momentum} and {self.temperature}."
            )
        for name in ("projector_hidden_size", "projection_size"):
            if not 1 <= getattr(self, name) <= MAX_HIDDEN_SIZE:
                raise ValueError(f"ECGMoCoV3Config: {name} must lie in 1 … {MAX_HIDDEN_SIZE}.")
        check_choice(self, "loss_scale", ("2tau", "none"))
        check_choice(self, "momentum_schedule", ("cosine", "constant"))
