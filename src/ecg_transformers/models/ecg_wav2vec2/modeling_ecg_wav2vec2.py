"""wav2vec 2.0 on twelve leads: the encoder of ECG-FM (arXiv 2408.05178), DeepECG-SSL (European Heart Journal 2026),
MELP (ICML 2025, arXiv 2506.21803) and D-BETA (ICML 2025, arXiv 2410.02131), with what each of them reads out."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GroupNormConvLayer, Wav2Vec2NoLayerNormConvLayer
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.gradients import scale_gradient
from ecg_transformers.layers.heads import mean_of_nonzero
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.ecg_wav2vec2.configuration_ecg_wav2vec2 import ECGWav2Vec2Config
from ecg_transformers.models.ecg_wav2vec2.keys_ecg_wav2vec2 import MELP_UNUSED_KEYS, PRETRAINING_KEYS, PUBLISHED_KEYS
from ecg_transformers.models.leads import LeadIndices, check_input, repeat_for_crops, to_lead_table
from ecg_transformers.models.shared.conv_position_encoder import CAN_RECORD, ConvPositionEncoder, init_encoder


@dataclass
class ECGWav2Vec2ModelOutput(ModelOutput):
    """Output of the encoder, `n` tokens of width `D`.

    Attributes:
        last_hidden_state: `(B, n, D)`; with a class token `(B, n + 1, D)`, the class token first.
        pooler_output: what the authors' users take as embedding: the mean token, MELP's rhythm embedding, or D-BETA's
            class token behind its pooler.
        conv_features: `(B, C, n)` of the convolution stack, before the norm.
        beat_embeddings: MELP, `(B, queries, E)`, whose mean is the embedding.
        token_embeddings: MELP, `(B, caption queries, E)`.
        linear_probe: MELP, `(B, E)`, what the authors' linear probe is trained on.
    """

    last_hidden_state: torch.Tensor | None = None
    pooler_output: torch.Tensor | None = None
    conv_features: torch.Tensor | None = None
    beat_embeddings: torch.Tensor | None = None
    token_embeddings: torch.Tensor | None = None
    linear_probe: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None

    @property
    def attentions_mean(self) -> Tensor | None:
        """Attention weights averaged over heads, `(B, layers, n, n)`, when they were asked for."""
        return None if not self.attentions else torch.stack([one.mean(dim=1) for one in self.attentions], dim=1)


class ECGWav2Vec2FirstConvLayer(Wav2Vec2GroupNormConvLayer):
    """The first convolution, which mixes the leads, with its group norm: `(B, L, T)` to `(B, C, T')`."""

    def __init__(self, config: ECGWav2Vec2Config) -> None:
        super().__init__(config, layer_id=0)
        self.conv = nn.Conv1d(
            config.num_leads, config.conv_dim[0], config.conv_kernel[0], config.conv_stride[0], bias=config.conv_bias
        )


class ECGWav2Vec2FeatureEncoder(nn.Module):
    """Convolutions without padding, exact GELU after each: `(B, L, T)` to `(B, C, n)`."""

    def __init__(self, config: ECGWav2Vec2Config) -> None:
        super().__init__()
        further = (Wav2Vec2NoLayerNormConvLayer(config, layer_id=i) for i in range(1, len(config.conv_dim)))
        self.conv_layers = nn.ModuleList([ECGWav2Vec2FirstConvLayer(config), *further])

    def forward(self, signal: Tensor) -> Tensor:
        if self.training and self.conv_layers[0].gradient_checkpointing:
            signal = signal.detach().requires_grad_()  # a checkpoint passes gradients only if its input wants one
        for layer in self.conv_layers:
            signal = layer(signal)
        return signal


class ECGWav2Vec2FeatureProjection(nn.Module):
    """Norm over features, then a linear map where the widths differ: `(B, C, n)` to `(B, n, D)`."""

    def __init__(self, config: ECGWav2Vec2Config) -> None:
        super().__init__()
        width = config.conv_dim[-1]
        self.layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = nn.Identity() if width == config.hidden_size else nn.Linear(width, config.hidden_size)
        self.dropout = nn.Dropout(config.feat_proj_dropout)

    def forward(self, features: Tensor) -> Tensor:
        return self.dropout(self.projection(self.layer_norm(features.transpose(1, 2))))


class ECGWav2Vec2Encoder(ConvPositionEncoder):
    """Position convolution, class token, transformer: `(B, n, D)` to `(B, n (+ 1), D)`."""

    def __init__(self, config: ECGWav2Vec2Config) -> None:
        super().__init__(config, config.norm_first)
        if config.class_token:
            self.class_embedding = nn.Parameter(torch.zeros(config.hidden_size))

    def forward(self, tokens: Tensor, valid: Tensor | None = None, **kwargs: Any) -> Tensor:
        if not self.config.class_token:
            return super().forward(tokens, valid, **kwargs)
        hidden = tokens + self.pos_conv_embed(tokens)  # the class token has no position
        first = self.class_embedding.to(hidden.dtype).expand(len(hidden), 1, -1)
        return self.transform(torch.cat([first, hidden], dim=1), valid, **kwargs)


class ECGWav2Vec2QueryPooler(nn.Module):
    """Learned queries attend to all tokens, without a residual: `(B, n, D)` to `(B, queries, E)`."""

    def __init__(self, config: ECGWav2Vec2Config, queries: int, width: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(queries, width))
        self.attn = nn.MultiheadAttention(
            width, config.attn_pooler_heads, kdim=config.hidden_size, vdim=config.hidden_size, batch_first=True
        )
        self.ln_q = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.ln_k = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ln_out = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, tokens: Tensor, padding: Tensor | None = None) -> Tensor:
        keys = self.ln_k(tokens)
        queries = self.ln_q(self.query).expand(len(tokens), -1, -1)
        pooled, _ = self.attn(queries, keys, keys, key_padding_mask=padding, need_weights=False)
        return self.ln_out(pooled)


class ECGWav2Vec2PreTrainedModel(ECGPreTrainedModel):
    """Initialisation, and the key names of MELP's Hub repository."""

    config: ECGWav2Vec2Config
    base_model_prefix = "ecg_wav2vec2"
    input_embeddings_name = "feature_extractor"
    published_keys = PUBLISHED_KEYS
    _keys_to_ignore_on_load_unexpected = [*PRETRAINING_KEYS, *MELP_UNUSED_KEYS]
    _no_split_modules = ["Wav2Vec2EncoderLayer", "Wav2Vec2EncoderLayerStableLayerNorm"]
    _can_record_outputs = CAN_RECORD

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """As published: Kaiming-normal convolutions, linear maps of the transformer with a deviation of 0.02."""
        super()._init_weights(module)
        init_encoder(module)
        if isinstance(module, nn.Conv1d):
            init.kaiming_normal_(module.weight)
        elif isinstance(module, ECGWav2Vec2FeatureProjection) and isinstance(module.projection, nn.Linear):
            module.projection.reset_parameters()
        elif isinstance(module, ECGWav2Vec2Encoder) and self.config.class_token:
            init.uniform_(module.class_embedding)
        elif isinstance(module, ECGWav2Vec2QueryPooler):
            init_pooler(module)
        elif isinstance(module, ECGWav2Vec2Model) and self.config.pooling == "attention":
            init.normal_(module.contrast_projection, std=self.config.shared_emb_dim**-0.5)

    def freeze_fixed(self) -> None:
        if self.config.feature_grad_mult == 0:
            self.base_model.feature_extractor.requires_grad_(False)

    @property
    def feature_size(self) -> int:
        return self.config.shared_emb_dim if self.config.pooling == "attention" else self.config.hidden_size


def init_pooler(pooler: ECGWav2Vec2QueryPooler) -> None:
    """Raw parameters must be set here: loading leaves missing ones as uninitialised memory."""
    init.normal_(pooler.query)
    for name, parameter in pooler.attn.named_parameters(recurse=False):
        if name.endswith("weight"):
            init.xavier_uniform_(parameter)
        else:
            init.zeros_(parameter)
    init.zeros_(pooler.attn.out_proj.bias)


class ECGWav2Vec2Model(ECGWav2Vec2PreTrainedModel):
    """The encoder with the read-out of its variant. It never masks.

    Example:
        >>> config = ECGWav2Vec2Config(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128)
        >>> ECGWav2Vec2Model(config)(torch.randn(1, 12, 2500)).last_hidden_state.shape
        torch.Size([1, 156, 64])
    """

    def __init__(self, config: ECGWav2Vec2Config) -> None:
        super().__init__(config)
        self.feature_extractor = ECGWav2Vec2FeatureEncoder(config)
        self.feature_projection = ECGWav2Vec2FeatureProjection(config)
        self.encoder = ECGWav2Vec2Encoder(self.config)
        if config.pooling == "attention":
            width = config.shared_emb_dim
            self.contrast_pooler = ECGWav2Vec2QueryPooler(config, config.n_queries_contrast, width)
            self.contrast_projection = nn.Parameter(torch.zeros(width, width))
            self.caption_pooler = ECGWav2Vec2QueryPooler(config, config.n_queries_caption, config.embed_dim_caption)
        elif config.pooling == "class_tanh":
            self.token_projection = nn.Linear(config.hidden_size, config.hidden_size)
            self.class_pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.post_init()

    def read_out(self, hidden: Tensor, padding: Tensor | None) -> dict[str, Tensor]:
        """`pooler_output`, and what the variant gives beside it, of tokens `(B, n, D)`."""
        if self.config.pooling == "class_tanh":
            return {"pooler_output": torch.tanh(self.class_pooler(self.token_projection(hidden[:, 0])))}
        if self.config.pooling == "mean_nonzero":
            return {"pooler_output": mean_of_nonzero(hidden[:, 1:] if self.config.class_token else hidden)}
        queried = self.contrast_pooler(hidden, padding)  # (B, q, E)
        beats = queried @ self.contrast_projection
        return {
            "pooler_output": beats.mean(dim=1),
            "beat_embeddings": beats,
            "token_embeddings": self.caption_pooler(hidden, padding),
            "linear_probe": queried.mean(dim=1),
        }

    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        attention_mask: torch.Tensor | None = None,
        mask_time_indices: torch.Tensor | None = None,
        mask_embedding: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGWav2Vec2ModelOutput:
        """Tokens and embedding of records.

        Args:
            input_values: `(B, L, T)`, prepared as the variant wants it; any length of at least one token. With segments
                of a record, `(B, k, L, T)`, tokens stand one segment after the other, `(B, k·n, D)`, and the embeddings
                are means over segments.
            lead_indices: rows of the lead table; the model's other leads are zeros, as its pre-training zeroed leads.
            attention_mask: `(B, T)`, 1 = signal, 0 = padding at the end. As in the published code the convolutions and
                the norm behind the first of them run over the padding, so a padded record does not give the tokens of
                the unpadded one.
            mask_time_indices: `(B, n)` bool, tokens that `mask_embedding (D,)` replaces; for pre-training.
        """
        segments = input_values.shape[1] if input_values.ndim == 4 else None
        if segments is not None:
            input_values, lead_indices = input_values.flatten(0, 1), repeat_for_crops(lead_indices, segments)
        check_input(input_values)
        if self.config.num_tokens(input_values.shape[-1]) < 1:
            raise ValueError(f"An input of {input_values.shape[-1]} samples is shorter than one token.")
        signal = to_lead_table(lead_indices, input_values, self.config.num_leads)
        features = scale_gradient(
            self.feature_extractor(signal), float(self.config.feature_grad_mult or 0)
        )  # (B, C, n)
        hidden = self.feature_projection(features)  # (B, n, D)
        if mask_time_indices is not None and mask_embedding is not None:
            hidden = torch.where(mask_time_indices[..., None], mask_embedding.to(hidden.dtype), hidden)
        valid = None if attention_mask is None else self.valid_tokens(attention_mask, hidden.shape[1])
        hidden = self.encoder(hidden, valid, **kwargs)  # (B, n (+ 1), D)
        embeddings: dict[str, Any] = {**self.read_out(hidden, None if valid is None else ~valid)}
        if segments is not None:
            hidden = hidden.unflatten(0, (-1, segments)).flatten(1, 2)
            embeddings = {key: one.unflatten(0, (-1, segments)).mean(dim=1) for key, one in embeddings.items()}
        return ECGWav2Vec2ModelOutput(last_hidden_state=hidden, conv_features=features, **embeddings)

    def valid_tokens(self, attention_mask: Tensor, count: int) -> Tensor:
        """Bool `(B, n)`, with a class token `(B, n + 1)`: the tokens that a record of that many true samples has."""
        lengths = self.config.num_tokens(attention_mask.long().sum(dim=-1))
        valid = torch.arange(count, device=attention_mask.device) < lengths[:, None]
        return nn.functional.pad(valid, (1, 0), value=True) if self.config.class_token else valid


class ECGWav2Vec2ForSequenceClassification(ECGForSequenceClassification, ECGWav2Vec2PreTrainedModel):
    """The encoder with a linear head on its embedding; behind MELP's poolers on what its authors' probe sees."""

    config: ECGWav2Vec2Config
    base_class = ECGWav2Vec2Model

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is getattr(self, "classifier", None):
            init.xavier_uniform_(module.weight)
            init.zeros_(module.bias)

    def pool(self, outputs: ModelOutput, num_leads: int) -> Tensor:
        if self.config.head_pooling == "pooler" and outputs.linear_probe is not None:
            return outputs.linear_probe
        return super().pool(outputs, num_leads)

    def combine_crops(self, probabilities: Tensor) -> Tensor:
        mean = super().combine_crops(probabilities)
        if self.config.crop_aggregation == "ecg_fm":
            mean[:, self.config.labels_by_maximum] = probabilities[..., self.config.labels_by_maximum].amax(dim=1)
        return mean
