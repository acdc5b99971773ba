"""ST-MEM (Na et al., "Guiding Masked Representation Learning to Capture Spatio-Temporal Relationship of
Electrocardiogram", ICLR 2024, arXiv 2402.09450): encoder, pre-training with the lead-wise decoder, classification."""

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from ecg_transformers.layers.masked_autoencoder import MaskedDecoder
from ecg_transformers.layers.masking import gather_tokens
from ecg_transformers.layers.patching import PatchEmbedding, patchify
from ecg_transformers.layers.positions import sincos_1d
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.models.leads import LeadIndices, check_input, resolve_lead_indices
from ecg_transformers.models.outputs import ECGModelOutput, MaskedReconstructionOutput
from ecg_transformers.models.shared.masked import (
    MaskedReconstruction,
    build_decoder_layers,
    build_encoder,
    init_transformer,
)
from ecg_transformers.models.shared.token_classification import ECGForTokenClassification
from ecg_transformers.models.st_mem.configuration_st_mem import STMEMConfig


def separator_table(num_tokens: int, hidden_size: int) -> Tensor:
    """`(1, num_tokens + 2, hidden_size)`: a zero row, the sine-cosine rows, a zero row (left and right separator)."""
    return nn.functional.pad(sincos_1d(num_tokens, hidden_size), (0, 0, 1, 1))[None]


class STMEMEmbeddings(nn.Module):
    """Signal to encoder tokens: patches, positions, masking, separators, lead embeddings."""

    def __init__(self, config: STMEMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.patch_embeddings = PatchEmbedding(config.patch_size, width, config.layer_norm_eps, config.patch_norm)
        # a parameter, because fine-tuning trains it; pre-training freezes it (STMEMForPreTraining.freeze_fixed)
        # (in the default dtype: loading builds the model in the dtype asked for, and an explicit one would stay float32)
        table = separator_table(config.num_patches, width)
        self.position_embeddings = nn.Parameter(table.to(torch.get_default_dtype()))
        if config.use_sep_embedding:
            self.sep_token = nn.Parameter(torch.zeros(width))
        if config.use_lead_embedding:
            self.lead_embeddings = nn.Embedding(config.num_leads, width)

    def check_length(self, num_patches: int) -> None:
        """Raise a ValueError for an input the position table cannot serve."""
        limit = self.config.num_patches + (0 if self.config.strict_length else 1)
        if num_patches > limit:
            raise ValueError(
                f"The input has {num_patches} patches of {self.config.patch_size} samples a lead, "
                f"the model was built for {self.config.num_patches} (seq_len={self.config.seq_len})."
            )

    def forward(self, patches: Tensor, lead_indices: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Tokens of the visible patches.

        Args:
            patches: `(B, L, n, p)` raw samples.
            lead_indices: `(L,)` or `(B, L)` rows of the lead table.
            ids_keep: `(B, L, m)` visible patches; None keeps all.

        Returns:
            `(B, L, m + 2, D)`, separators included (`m` without them).
        """
        self.check_length(patches.shape[2])
        positions = self.position_embeddings[:, 1 : patches.shape[2] + 1]  # (1, n, D)
        if ids_keep is not None:  # cut the raw samples first: less memory, the same numbers
            patches = gather_tokens(patches, ids_keep)
            positions = positions[0][ids_keep]  # (B, L, m, D)
        tokens = self.patch_embeddings(patches) + positions  # (B, L, m, D)
        if self.config.use_sep_embedding:
            ends = self.sep_token + self.position_embeddings[0, [0, -1]]  # (2, D)
            left, right = ends.to(tokens.dtype).expand(*tokens.shape[:2], 2, -1).split(1, dim=2)
            tokens = torch.cat([left, tokens, right], dim=2)
        if self.config.use_lead_embedding:
            tokens = tokens + self.lead_embeddings(lead_indices).unsqueeze(-2)  # separators included
        return tokens


class STMEMPreTrainedModel(ECGPreTrainedModel):
    """Initialisation and token layout of ST-MEM."""

    config: STMEMConfig
    base_model_prefix = "st_mem"
    _no_split_modules = ["STMEMEmbeddings", "ECGLayer"]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        config = self.config
        init_transformer(module, config)
        if isinstance(module, STMEMEmbeddings):
            if config.initializer == "mae":
                init.copy_(module.position_embeddings, separator_table(config.num_patches, config.hidden_size))
            else:
                init.normal_(module.position_embeddings)
            if config.use_sep_embedding:
                init.normal_(module.sep_token, std=config.initializer_range if config.initializer == "mae" else 1.0)
        elif isinstance(module, MaskedDecoder):
            init.copy_(module.position_embeddings, separator_table(config.num_patches, config.decoder_hidden_size))

    @property
    def num_separators(self) -> int:
        """Separator tokens of one lead."""
        return 2 if self.config.use_sep_embedding else 0

    def tokens_by_lead(self, last_hidden_state: Tensor, num_leads: int) -> Tensor:
        """`(B, L·(n + 2), D)` to `(B, L, n, D)`, separators dropped."""
        tokens = last_hidden_state.unflatten(1, (num_leads, -1))
        return tokens[:, :, 1:-1] if self.config.use_sep_embedding else tokens


class STMEMModel(STMEMPreTrainedModel):
    """The ST-MEM encoder.

    Example:
        >>> model = STMEMModel(STMEMConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=2))
        >>> model(torch.randn(1, 12, 2250)).pooler_output.shape
        torch.Size([1, 64])
    """

    def __init__(self, config: STMEMConfig) -> None:
        super().__init__(config)
        self.embeddings = STMEMEmbeddings(config)
        self.dropout = nn.Dropout(config.input_dropout_prob)
        self.encoder = build_encoder(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def freeze_fixed(self) -> None:
        self.embeddings.position_embeddings.requires_grad_(self.config.train_position_embeddings is not False)

    def encode(self, patches: Tensor, lead_indices: Tensor, ids_keep: Tensor | None, dropout: bool) -> Tensor:
        """All blocks over the joint sequence of all leads: `(B, L·(m + 2), D)`, before the final norm."""
        tokens = self.embeddings(patches, lead_indices, ids_keep)  # (B, L, m+2, D)
        num_leads = tokens.shape[1]
        hidden = tokens.flatten(1, 2)  # lead-major: all tokens of the first lead, then of the second, …
        if dropout:
            hidden = self.dropout(hidden)
        return self.encoder(hidden, num_leads=num_leads)

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
            input_values: `(B, L, T)`, standardised; T a multiple of the patch size.
            lead_indices: rows of the lead table, one list for the batch or one a record.
            ids_keep: `(B, L, m)` visible patches (pre-training); None sees all.

        Returns:
            `last_hidden_state (B, L·(m + 2), D)` after the final norm, separators included, and
            `pooler_output (B, D)`: the norm of the mean of all patch tokens, the published downstream feature.
        """
        check_input(input_values)
        downstream = ids_keep is None and lead_indices is None
        if self.config.lead_mode == "official_broadcast" and input_values.shape[1] == 1 and downstream:
            return self._forward_broadcast(input_values)
        indices = resolve_lead_indices(lead_indices, input_values, self.config.num_leads)
        patches = patchify(input_values, self.config.patch_size)
        hidden = self.encode(patches, indices, ids_keep, dropout=ids_keep is None)
        pooled = self.tokens_by_lead(hidden, input_values.shape[1]).mean(dim=(1, 2))  # mean first, norm after
        return ECGModelOutput(last_hidden_state=self.layernorm(hidden), pooler_output=self.layernorm(pooled))

    def _forward_broadcast(self, input_values: Tensor) -> ECGModelOutput:
        """The released code's single lead on a 12-lead encoder: copied onto every embedding, and only the very first and
        very last token left out of the mean."""
        repeated = input_values.expand(-1, self.config.num_leads, -1)
        indices = torch.arange(self.config.num_leads, device=input_values.device)
        hidden = self.encode(patchify(repeated, self.config.patch_size), indices, None, dropout=True)
        inner = hidden[:, 1:-1] if self.config.use_sep_embedding else hidden
        return ECGModelOutput(last_hidden_state=self.layernorm(hidden), pooler_output=self.layernorm(inner.mean(dim=1)))


class STMEMForPreTraining(MaskedReconstruction, STMEMPreTrainedModel):
    """ST-MEM with its decoder: reconstructs the masked patches of every lead."""

    def __init__(self, config: STMEMConfig) -> None:
        super().__init__(config)
        self.st_mem = STMEMModel(config)
        self.decoder = MaskedDecoder(
            config.hidden_size,
            config.decoder_hidden_size,
            config.patch_size,
            separator_table(config.num_patches, config.decoder_hidden_size),
            build_decoder_layers(config),
            num_prefix=self.num_separators // 2,
            num_suffix=self.num_separators // 2,
            norm_eps=config.decoder_norm_eps,
            first_row=0 if config.use_sep_embedding else 1,
        )
        self.post_init()

    def draw_sample_noise(self, generator: torch.Generator) -> dict[str, Tensor]:
        shape = (self.config.num_leads, self.config.num_patches)
        return {"noise": torch.rand(shape, generator=generator)}

    def decode(self, latent: Tensor, ids_restore: Tensor) -> Tensor:
        """Predicted patches `(B, L, n, p)`; the leads are one batch of `B·L` sequences for the shared decoder."""
        batch, num_leads, _ = ids_restore.shape
        sequences = latent.unflatten(1, (num_leads, -1)).flatten(0, 1)  # (B·L, m+2, D)
        together = num_leads if self.config.decoder_mode == "joint" else 1
        predicted = self.decoder(sequences, ids_restore.flatten(0, 1), sequences_together=together)
        return predicted.unflatten(0, (batch, num_leads))

    @can_return_tuple
    def forward(
        self,
        input_values: torch.Tensor,
        lead_indices: LeadIndices | None = None,
        noise: torch.Tensor | None = None,
        mask_ratio: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> MaskedReconstructionOutput:
        """Reconstruction and loss.

        Args:
            input_values: `(B, L, T)`, standardised.
            lead_indices: rows of the lead table, one list for the batch or one a record.
            noise: `(B, L, n)`; the patches of lowest noise stay visible. Drawn from the global generator when not given.
            mask_ratio: in place of the config's.

        Returns:
            `loss`, `reconstruction (B, L, n, p)`, `mask (B, L, n)` with 1 = masked, `ids_restore (B, L, n)`,
            `last_hidden_state (B, L·(m + 2), D)` with the visible tokens of a lead in the order of their noise.
        """
        check_input(input_values)
        patches = patchify(input_values, self.config.patch_size)  # (B, L, n, p)
        ranking = self.rank(patches, noise, mask_ratio)
        outputs = self.st_mem(input_values, lead_indices=lead_indices, ids_keep=ranking.ids_keep, **kwargs)
        predicted = self.decode(outputs.last_hidden_state, ranking.ids_restore)  # (B, L, n, p)
        return self.compared(predicted, patches, ranking, outputs)


class STMEMForSequenceClassification(ECGForSequenceClassification, STMEMPreTrainedModel):
    """ST-MEM with a linear head on the published feature (or on the tokens: `config.head_pooling`)."""

    config: STMEMConfig
    base_class = STMEMModel


class STMEMForTokenClassification(ECGForTokenClassification, STMEMPreTrainedModel):
    """ST-MEM with a head that labels every sample (or patch) of every lead: where the waves are."""

    config: STMEMConfig
    base_class = STMEMModel
