"""The decoder of masked autoencoders: visible tokens and mask tokens back in time order, blocks, norm, linear head."""

from typing import Any

import torch
from torch import Tensor, nn

from ecg_transformers.layers.masking import gather_tokens


class MaskedDecoder(nn.Module):
    """Reconstructs all patches of a sequence from its visible tokens.

    A sequence is `[num_prefix special tokens, visible tokens, num_suffix special tokens]`: a class token in front
    (MTAE, MLAE) or a separator on both sides (ST-MEM, one sequence a lead).

    Args:
        encoder_size: width of the encoder's tokens.
        hidden_size: width of the decoder.
        patch_dim: values to predict for one patch.
        positions: `(1, num_prefix + n + num_suffix, hidden_size)`, special tokens included; fixed.
        blocks: transformer blocks of width `hidden_size`.
        num_prefix, num_suffix: special tokens around the patches.
        norm_eps: of the final norm.
        first_row: row of the table where a sequence starts (1 skips the row of a special token that is switched off).
    """

    def __init__(
        self,
        encoder_size: int,
        hidden_size: int,
        patch_dim: int,
        positions: Tensor,
        blocks: nn.ModuleList,
        num_prefix: int,
        num_suffix: int = 0,
        norm_eps: float = 1e-6,
        first_row: int = 0,
    ) -> None:
        super().__init__()
        self.num_prefix, self.num_suffix, self.first_row = num_prefix, num_suffix, first_row
        self.decoder_embed = nn.Linear(encoder_size, hidden_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        # a buffer, not a parameter: loading thaws frozen parameters, and this table never trains
        self.register_buffer("position_embeddings", positions.to(torch.get_default_dtype()))
        self.position_embeddings: Tensor
        self.layer = blocks
        self.norm = nn.LayerNorm(hidden_size, eps=norm_eps)
        self.pred = nn.Linear(hidden_size, patch_dim)

    def embed(self, latent: Tensor, ids_restore: Tensor, rows: Tensor | None = None) -> Tensor:
        """Decoder input `(N, prefix + n + suffix, hidden_size)` with mask tokens and positions in place."""
        hidden = self.decoder_embed(latent)  # (N, prefix + m + suffix, e)
        end = hidden.shape[1] - self.num_suffix
        prefix, visible, suffix = hidden[:, : self.num_prefix], hidden[:, self.num_prefix : end], hidden[:, end:]
        num_masked = ids_restore.shape[1] - visible.shape[1]
        masked = self.mask_token.to(hidden.dtype).expand(hidden.shape[0], num_masked, -1)
        patches = gather_tokens(torch.cat([visible, masked], dim=1), ids_restore)  # (N, n, e), time order
        return torch.cat([prefix, patches, suffix], dim=1) + self.positions_for(patches.shape[1], rows).to(hidden.dtype)

    def positions_for(self, num_patches: int, rows: Tensor | None = None) -> Tensor:
        """Rows for a possibly shorter record: prefix, the first `num_patches`, and the table's last rows as suffix.

        `rows (n,)` or `(N, n)`, counted from the first patch, take the place of 0 … n - 1 where tokens have an identity.
        """
        table = self.position_embeddings
        if rows is None:
            parts = [table[:, self.first_row : self.first_row + self.num_prefix + num_patches]]
        else:
            patches = table[0][self.first_row + self.num_prefix + rows.reshape(-1, num_patches)]  # (1 or N, n, e)
            prefix = table[:, self.first_row : self.first_row + self.num_prefix].expand(len(patches), -1, -1)
            parts = [prefix, patches]
        if self.num_suffix:
            parts.append(table[:, -self.num_suffix :].expand(len(parts[-1]), -1, -1))
        return torch.cat(parts, dim=1)

    def forward(
        self,
        latent: Tensor,
        ids_restore: Tensor,
        sequences_together: int = 1,
        rows: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """`latent (N, prefix + m + suffix, D)`, `ids_restore (N, n)` to predictions `(N, n, patch_dim)`.

        `sequences_together = k` lets each k neighbouring sequences attend to one another (1: every sequence alone);
        `rows`: see `positions_for`.
        """
        hidden = self.embed(latent, ids_restore, rows)
        length = hidden.shape[1]
        hidden = hidden.reshape(-1, sequences_together * length, hidden.shape[2])
        for block in self.layer:
            hidden = block(hidden, **kwargs)
        hidden = self.pred(self.norm(hidden)).reshape(-1, length, self.pred.out_features)
        return hidden[:, self.num_prefix : hidden.shape[1] - self.num_suffix]
