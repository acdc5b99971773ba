"""What transformers with a class token share (the ECG ViT, MTAE and MLAE): embeddings, encoder, masked pre-training.

Source: the class-token encoder of the code that Na et al. (ICLR 2024, arXiv 2402.09450) released beside ST-MEM.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.masked_autoencoder import MaskedDecoder
from ecg_transformers.layers.masking import NoiseRanking, gather_tokens
from ecg_transformers.layers.patching import PatchEmbedding, time_major_patches
from ecg_transformers.layers.positions import sincos_1d
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.leads import LeadIndices, check_input, to_lead_table
from ecg_transformers.models.outputs import ECGModelOutput, MaskedReconstructionOutput
from ecg_transformers.models.shared.class_token_config import ClassTokenConfig, MaskedClassTokenConfig
from ecg_transformers.models.shared.masked import (
    MaskedReconstruction,
    build_decoder_layers,
    build_encoder,
    init_transformer,
)


def class_token_table(num_tokens: int, hidden_size: int) -> Tensor:
    """`(1, num_tokens + 1, hidden_size)`: a zero row for the class token, then the sine-cosine rows."""
    return nn.functional.pad(sincos_1d(num_tokens, hidden_size), (0, 0, 1, 0))[None]


class ClassTokenEmbeddings(nn.Module):
    """Raw tokens to encoder tokens: projection, positions, masking, then the class token in front."""

    def __init__(self, config: ClassTokenConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.patch_embeddings = PatchEmbedding(config.token_dim, width, config.layer_norm_eps, config.patch_norm)
        self.cls_token = nn.Parameter(torch.zeros(width))
        # a parameter, because fine-tuning trains it; pre-training freezes it (freeze_fixed). In the default dtype:
        # loading builds the model in the dtype asked for, and a float32 table would stay float32
        table = class_token_table(config.num_tokens, width)
        self.position_embeddings = nn.Parameter(table.to(torch.get_default_dtype()))

    def forward(self, values: Tensor, rows: Tensor | None = None, ids_keep: Tensor | None = None) -> Tensor:
        """Tokens of the visible raw values.

        Args:
            values: `(B, n, token_dim)`.
            rows: positions of the tokens, `(n,)` or `(B, n)`, counted from 0; None for 0 … n - 1.
            ids_keep: `(B, m)` visible tokens; None keeps all.

        Returns:
            `(B, m + 1, D)`, class token first.
        """
        count, table = values.shape[1], self.position_embeddings[0]
        if count > len(table) - 1:
            raise ValueError(f"The input has {count} tokens, the model was built for {len(table) - 1}.")
        positions = table[1 : count + 1] if rows is None else table[1 + rows]  # (n, D) or (B, n, D)
        if ids_keep is not None:
            values = gather_tokens(values, ids_keep)
            positions = positions[ids_keep] if positions.ndim == 2 else gather_tokens(positions, ids_keep)
        tokens = self.patch_embeddings(values) + positions  # (B, m, D)
        cls_token = (self.cls_token + table[0]).to(tokens.dtype).expand(tokens.shape[0], 1, -1)
        return torch.cat([cls_token, tokens], dim=1)


class ClassTokenPreTrainedModel(ECGPreTrainedModel):
    """Initialisation, and how a signal becomes raw tokens (windows of time over all leads, unless overridden)."""

    config: ClassTokenConfig
    _no_split_modules = ["ClassTokenEmbeddings", "ECGLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        config = self.config
        init_transformer(module, config)
        if isinstance(module, ClassTokenEmbeddings):
            std = {"mae": config.initializer_range, "torch_default": 1.0, "xavier_per_projection": 1e-6}
            init.normal_(module.cls_token, std=std[config.initializer])
            if config.initializer == "torch_default":
                init.normal_(module.position_embeddings)
            else:
                init.copy_(module.position_embeddings, class_token_table(config.num_tokens, config.hidden_size))
        elif isinstance(module, MaskedDecoder):
            table = class_token_table(config.num_tokens, module.position_embeddings.shape[2])
            init.copy_(module.position_embeddings, table)

    def freeze_fixed(self) -> None:
        table = self.base_model.embeddings.position_embeddings
        table.requires_grad_(self.config.train_position_embeddings is not False)

    def raw_tokens(self, input_values: Tensor, lead_indices: LeadIndices | None) -> tuple[Tensor, Tensor | None]:
        """Raw values `(B, n, token_dim)` of the tokens and their positions (see `ClassTokenEmbeddings.forward`)."""
        signal = to_lead_table(lead_indices, input_values, self.config.num_leads)
        return time_major_patches(signal, self.config.patch_size), None


class ClassTokenModel(ClassTokenPreTrainedModel):
    """The encoder; a method's class adds its name and its tokens."""

    def __init__(self, config: ClassTokenConfig) -> None:
        super().__init__(config)
        self.embeddings = ClassTokenEmbeddings(config)
        self.dropout = nn.Dropout(config.input_dropout_prob)
        self.encoder = build_encoder(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def pool(self, last_hidden_state: Tensor) -> Tensor:
        """`(B, D)` of the normed tokens `(B, m + 1, D)`: the class token."""
        return last_hidden_state[:, 0]

    @capture_outputs
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        ids_keep: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> ECGModelOutput:
        """Tokens and features of records.

        Args:
            input_values: `(B, L, T)`, standardised.
            lead_indices: rows of the lead table, one list for the batch or one a record.
            ids_keep: `(B, m)` visible tokens (pre-training); None sees all.

        Returns:
            `last_hidden_state (B, m + 1, D)` after the final norm, class token first, and `pooler_output (B, D)`: the
            normed class token, the published downstream feature.
        """
        check_input(input_values)
        values, rows = self.raw_tokens(input_values, lead_indices)
        hidden = self.embeddings(values, rows, ids_keep)  # (B, m+1, D)
        if ids_keep is None:
            hidden = self.dropout(hidden)
        tokens = self.layernorm(self.encoder(hidden))
        return ECGModelOutput(last_hidden_state=tokens, pooler_output=self.pool(tokens))


class ClassTokenForPreTraining(MaskedReconstruction, ClassTokenPreTrainedModel):
    """Masked reconstruction with a class token; a method's class names its encoder in `base_class`."""

    config: MaskedClassTokenConfig
    base_class: type[ClassTokenModel]

    def __init__(self, config: MaskedClassTokenConfig) -> None:
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.base_class(config))
        self.decoder = MaskedDecoder(
            config.hidden_size,
            config.decoder_hidden_size,
            config.token_dim,
            class_token_table(config.num_tokens, config.decoder_hidden_size),
            build_decoder_layers(config),
            num_prefix=1,
            norm_eps=config.decoder_norm_eps,
        )
        self.post_init()

    def draw_sample_noise(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {"noise": torch.rand(self.config.num_tokens, generator=generator)}

    def reconstruct(
        self,
        input_values: Tensor,
        lead_indices: LeadIndices | None,
        target_values: Tensor,
        ranking: NoiseRanking,
        rows: Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedReconstructionOutput:
        """Encode what is visible, decode everything, compare with `target_values (B, n, token_dim)`."""
        outputs = self.base_model(input_values, lead_indices=lead_indices, ids_keep=ranking.ids_keep, **kwargs)
        predicted = self.decoder(outputs.last_hidden_state, ranking.ids_restore, rows=rows)  # (B, n, token_dim)
        return self.compared(predicted, target_values, ranking, outputs)
