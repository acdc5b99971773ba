"""The transformer of wav2vec 2.0 and HuBERT over tokens `(B, n, D)`, in transformers' blocks."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers import initialization as init
from transformers.masking_utils import create_bidirectional_mask
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Attention,
    Wav2Vec2EncoderLayer,
    Wav2Vec2EncoderLayerStableLayerNorm,
)
from transformers.utils.output_capturing import OutputRecorder

from ecg_transformers.layers.position_convolution import PositionConvolution, WeightNormedConv1d

LAYERS = (Wav2Vec2EncoderLayer, Wav2Vec2EncoderLayerStableLayerNorm)
CAN_RECORD = {
    "hidden_states": list(LAYERS),
    "attentions": OutputRecorder(Wav2Vec2Attention, index=1, layer_name="encoder"),
}
# the two generations of names that published files have for a weight-normed convolution
WEIGHT_NORM_KEYS = {
    r"\.weight_g$": ".gain",
    r"\.weight_v$": ".direction",
    r"\.parametrizations\.weight\.original0$": ".gain",
    r"\.parametrizations\.weight\.original1$": ".direction",
}


class ConvPositionEncoder(nn.Module):
    """Position convolution, then layers with their norms behind (or before) attention and feed-forward network.

    Args:
        config: with the names that transformers' Wav2Vec2 blocks ask for.
        norm_first: norms before; the encoder's own norm then stands behind the layers instead of before them.
    """

    def __init__(self, config: PreTrainedConfig, norm_first: bool = False) -> None:
        super().__init__()
        self.config, self.norm_first = config, norm_first
        self.pos_conv_embed = PositionConvolution(
            config.hidden_size, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
        )
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
        layer = Wav2Vec2EncoderLayerStableLayerNorm if norm_first else Wav2Vec2EncoderLayer
        self.layers = nn.ModuleList(layer(config) for _ in range(config.num_hidden_layers))

    def forward(self, tokens: Tensor, valid: Tensor | None = None, **kwargs: Any) -> Tensor:
        """`valid (B, n)` is False for tokens of padding, over which the position convolution runs all the same."""
        return self.transform(tokens + self.pos_conv_embed(tokens), valid, **kwargs)

    def transform(self, hidden: Tensor, valid: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The layers on tokens that have their positions; padded tokens are no keys, and come out as zeros."""
        mask = None
        if valid is not None:
            hidden = hidden * valid[..., None]
            mask = create_bidirectional_mask(config=self.config, inputs_embeds=hidden, attention_mask=valid)
        hidden = self.dropout(hidden if self.norm_first else self.layer_norm(hidden))
        for layer in self.layers:
            if not (self.training and self.config.layerdrop and torch.rand(()) < self.config.layerdrop):
                hidden = layer(hidden, attention_mask=mask, **kwargs)
        hidden = self.layer_norm(hidden) if self.norm_first else hidden
        return hidden if valid is None else hidden * valid[..., None]


def init_encoder(module: nn.Module) -> None:
    """What was not loaded: linear maps of a layer with a deviation of 0.02, the position convolution as it is built."""
    if isinstance(module, LAYERS):
        for linear in (child for child in module.modules() if isinstance(child, nn.Linear)):
            init.normal_(linear.weight, std=0.02)
            init.zeros_(linear.bias)
    elif isinstance(module, WeightNormedConv1d):
        features, _, kernel_size = module.direction.shape
        init.normal_(module.direction, std=2 * (kernel_size * features) ** -0.5)
        init.copy_(module.gain, module.norm())
        init.zeros_(module.bias)
