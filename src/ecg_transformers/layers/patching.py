"""Signals into patches along time and back, and the patch embedding that ST-MEM, MTAE and MLAE share."""

import torch
from torch import Tensor, nn


def patchify(signal: Tensor, patch_size: int) -> Tensor:
    """Cut `(…, seq_len)` into `(…, num_patches, patch_size)` non-overlapping patches along time.

    Raises:
        ValueError: when the length is not a multiple of the patch size.
    """
    seq_len = signal.shape[-1]
    if seq_len % patch_size or seq_len == 0:
        raise ValueError(
            f"A signal of {seq_len} samples cannot be cut into patches of {patch_size} samples: "
            f"its length must be a positive multiple of {patch_size}."
        )
    return signal.unflatten(-1, (seq_len // patch_size, patch_size))


def time_major_patches(signal: Tensor, patch_size: int) -> Tensor:
    """Patches over all leads: `(B, L, T)` to `(B, n, patch_size · L)`, inside a patch time-major and lead-minor."""
    return patchify(signal, patch_size).permute(0, 2, 3, 1).flatten(2)


class PatchEmbedding(nn.Module):
    """LayerNorm over the raw samples of a patch, linear projection, LayerNorm over the width.

    The first norm takes amplitude and offset of every patch away (ST-MEM, appendix of the paper and released code).

    Args:
        patch_dim: values in one patch.
        hidden_size: width of the tokens.
        eps: of both norms.
        norm: without it the projection alone is applied.
    """

    def __init__(self, patch_dim: int, hidden_size: int, eps: float = 1e-5, norm: bool = True) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(patch_dim, eps=eps) if norm else nn.Identity()
        self.projection = nn.Linear(patch_dim, hidden_size)
        self.norm_out = nn.LayerNorm(hidden_size, eps=eps) if norm else nn.Identity()

    def forward(self, patches: Tensor) -> Tensor:
        return self.norm_out(self.projection(self.norm_in(patches)))


def normalize_patches(patches: Tensor, eps: float = 1e-6, unbiased: bool = True) -> Tensor:
    """Each patch minus its mean, over the root of its variance plus `eps`: the target of masked autoencoders.

    A flat patch becomes zeros; the published codes use the unbiased variance (division by p - 1).
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True, correction=1 if unbiased else 0)
    return (patches - mean) / torch.sqrt(variance + eps)
