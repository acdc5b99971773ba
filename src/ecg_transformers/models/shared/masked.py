"""What masked autoencoders share besides their tokens: blocks from a config, the ranking of noise, target and loss."""

import torch
from torch import Tensor, nn
from transformers import initialization as init

from ecg_transformers.layers.attention import SelfAttention
from ecg_transformers.layers.masked_autoencoder import MaskedDecoder
from ecg_transformers.layers.masking import NoiseRanking, masked_mean, no_mask, num_visible, rank_noise
from ecg_transformers.layers.patching import normalize_patches
from ecg_transformers.layers.transformer import xavier_qkv_
from ecg_transformers.models.base import ECGEncoder, ECGPreTrainedModel, build_layers
from ecg_transformers.models.outputs import ECGModelOutput, MaskedReconstructionOutput
from ecg_transformers.models.shared.class_token_config import ClassTokenConfig, MaskedClassTokenConfig


def build_encoder(config: ClassTokenConfig) -> ECGEncoder:
    """The encoder's blocks, by the fields that ST-MEM, MTAE, MLAE and the ViT have in common."""
    layers = build_layers(
        config,
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        head_dim=config.attention_head_size,
        layer_norm_eps=config.layer_norm_eps,
        qkv_bias=config.qkv_bias,
        output_projection=config.attention_output_projection,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        drop_path=config.drop_path_rate,
    )
    return ECGEncoder(layers)


def build_decoder_layers(config: MaskedClassTokenConfig) -> nn.ModuleList:
    """The decoder's blocks, by the `decoder_…` fields."""
    return build_layers(
        config,
        config.decoder_num_hidden_layers,
        config.decoder_hidden_size,
        config.decoder_num_attention_heads,
        config.decoder_intermediate_size,
        head_dim=config.decoder_attention_head_size,
        layer_norm_eps=config.layer_norm_eps,
        qkv_bias=config.qkv_bias,
        output_projection=config.attention_output_projection,
    )


@torch.no_grad()
def init_transformer(module: nn.Module, config: ClassTokenConfig) -> None:
    """Linear layers, norms, vectors and mask token as `config.initializer` says; tables and special tokens are a method's."""
    torch_default = config.initializer == "torch_default"
    std = 1.0 if torch_default else config.initializer_range
    if isinstance(module, nn.Linear) and torch_default:
        module.reset_parameters()
    elif isinstance(module, nn.Linear):
        init.xavier_uniform_(module.weight)
        if module.bias is not None:
            init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        init.ones_(module.weight)
        init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        init.normal_(module.weight, std=std)
    elif isinstance(module, SelfAttention) and config.initializer == "mae":
        xavier_qkv_(module)
    elif isinstance(module, MaskedDecoder):
        init.normal_(module.mask_token, std=std)


class MaskedReconstruction:
    """Mixed into a pre-training class: which tokens stay visible, what is to be predicted, and the loss."""

    config: MaskedClassTokenConfig
    base_model: ECGPreTrainedModel

    def freeze_fixed(self) -> None:
        table: nn.Parameter = self.base_model.embeddings.position_embeddings
        table.requires_grad_(self.config.train_position_embeddings is True)

    def rank(self, values: Tensor, noise: Tensor | None, mask_ratio: float | None) -> NoiseRanking:
        """Which tokens of `values (…, n, values of a token)` stay visible; every sequence is ranked alone."""
        ratio = self.config.mask_ratio if mask_ratio is None else mask_ratio
        if not 0 <= ratio < 1:
            raise ValueError(f"mask_ratio must lie in [0, 1), got {ratio}.")
        shape = values.shape[:-1]
        if ratio == 0:
            return no_mask(shape, values.device)
        if noise is None:
            noise = torch.rand(shape, device=values.device)
        if noise.shape != shape:
            axes = "batch, leads, patches" if len(shape) == 3 else "batch, tokens"
            raise ValueError(f"noise must have shape {tuple(shape)} ({axes}), got {tuple(noise.shape)}.")
        return rank_noise(noise, num_visible(shape[-1], ratio))

    def target(self, values: Tensor) -> Tensor:
        """What is to be predicted: raw tokens, or tokens normalised one by one."""
        if not self.config.norm_pix_loss:
            return values
        return normalize_patches(values, self.config.norm_target_eps, self.config.norm_target_unbiased)

    def reconstruction_loss(self, predicted: Tensor, values: Tensor, mask: Tensor) -> Tensor | None:
        """Squared error, mean over the values of a token, then over all masked tokens of the batch."""
        if self.config.loss_without_mask == "none" and not bool(mask.any()):
            return None
        errors = (predicted.float() - self.target(values.float())) ** 2
        return masked_mean(errors.mean(dim=-1), mask)

    def compared(
        self, predicted: Tensor, values: Tensor, ranking: NoiseRanking, encoded: ECGModelOutput
    ) -> MaskedReconstructionOutput:
        """The output of a forward pass: `predicted` compared with `values`, and what the encoder gave."""
        return MaskedReconstructionOutput(
            loss=self.reconstruction_loss(predicted, values, ranking.mask),
            reconstruction=predicted,
            mask=ranking.mask,
            ids_restore=ranking.ids_restore,
            last_hidden_state=encoded.last_hidden_state,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )
