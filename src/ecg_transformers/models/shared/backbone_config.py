# Copyright 2026 The ecg_transformers authors.
"""Configuration of methods whose encoder is the encoder of any other method."""

import copy
from dataclasses import fields
from typing import Any, ClassVar, Self

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig

from ecg_transformers.models.config import ECGConfig
from ecg_transformers.models.registry import list_methods

GEOMETRY = ("num_leads", "seq_len", "sampling_rate", "lead_names")
SIZES = ("patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@strict
class BackboneConfig(ECGConfig):
    """A config around another method's config.

    Lead, length and size fields may be given here or in `backbone_config`; where one is given in neither, the
    backbone's default holds, and afterwards both places show the same.

    Args:
        backbone_config: fields of the backbone's config, with its `model_type`; None takes the method's usual one.
        num_leads, seq_len: 0 takes the backbone's.
        patch_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: None takes the backbone's,
            and stays None where the backbone has no such field.
        initializer: how the backbone starts, in place of what `backbone_config` or the method's usual one says; None leaves
            it at that. Backbones with one way to start have no such field.
    """

    # what the method uses when no model_type is given, and how it differs from that backbone's own defaults
    default_backbone: ClassVar[dict[str, Any]] = {"model_type": "ecg_vit"}

    num_leads: int = 0
    seq_len: int = 0
    backbone_config: dict[str, Any] | None = None
    patch_size: int | None = None
    hidden_size: int | None = None
    num_hidden_layers: int | None = None
    num_attention_heads: int | None = None
    intermediate_size: int | None = None
    initializer: str | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        backbone = self._resolve_backbone()
        self.backbone_config = own_fields(backbone)
        for name in (*GEOMETRY, *SIZES):
            value = getattr(backbone, name, None)
            if value is not None:
                setattr(self, name, copy.deepcopy(value))
        super().__post_init__(**kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:
        """As in transformers; lead, length and size fields among `kwargs` reach the backbone, too."""
        given = {name: kwargs[name] for name in (*GEOMETRY, *SIZES) if name in kwargs}
        saved = config_dict.get("backbone_config") or {}
        backbone = {**saved, **{name: value for name, value in given.items() if name in saved}}
        return super().from_dict({**config_dict, **given, "backbone_config": backbone}, **kwargs)

    def _resolve_backbone(self) -> PreTrainedConfig:
        """The backbone's config, with what is given at the top filled in."""
        settings = copy.deepcopy(self.backbone_config or {})
        settings.setdefault("model_type", self.default_backbone["model_type"])
        if settings["model_type"] not in list_methods():
            raise ValueError(
                f"{type(self).__name__}: a backbone must be a method of this package, got model_type "
                f"{settings['model_type']!r}. Known: {', '.join(list_methods())}."
            )
        config_class = type(AutoConfig.for_model(settings["model_type"]))
        known = {field.name for field in fields(config_class)}
        for name in (*GEOMETRY, *SIZES):
            value = getattr(self, name)
            if not value or name not in known:
                continue
            if settings.get(name) not in (None, value):
                raise ValueError(
                    f"{type(self).__name__}: {name}={value} contradicts backbone_config, which has {settings[name]}."
                )
            settings[name] = copy.deepcopy(value)
        if settings["model_type"] == self.default_backbone["model_type"]:
            settings = {**self.default_backbone, **settings}
        if self.initializer is not None and "initializer" in known:
            settings["initializer"] = self.initializer
        del settings["model_type"]
        return config_class(**settings)

    def make_backbone_config(self) -> PreTrainedConfig:
        """A fresh config of the backbone, with this config's attention implementation where it has attention."""
        settings = copy.deepcopy(self.backbone_config or {})
        backbone: PreTrainedConfig = AutoConfig.for_model(**settings)
        if self.num_attention_heads is not None:
            backbone._attn_implementation = self._attn_implementation
        return backbone


def own_fields(config: PreTrainedConfig) -> dict[str, Any]:
    """The fields that a config class adds to transformers' own, with its `model_type`."""
    general = {field.name for field in fields(PreTrainedConfig)}
    values = {f.name: copy.deepcopy(getattr(config, f.name)) for f in fields(config) if f.name not in general}
    return {"model_type": config.model_type, **values}
