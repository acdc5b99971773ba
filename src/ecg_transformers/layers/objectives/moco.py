"""MoCo v3 (Chen, Xie and He, ICCV 2021): the other view's key among the keys of the whole batch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ecg_transformers.layers.distributed import gather_rows, world
from ecg_transformers.words import check_choice


def momentum_contrast(
    queries: Tensor, keys: Tensor, temperature: float, first_key: int = 0, loss_scale: str = "2tau"
) -> Tensor:
    """`2 τ · cross_entropy(q̂ k̂ᵀ / τ)`; the key of query i is key `first_key + i`.

    Args:
        queries: `(N, D)`.
        keys: `(M, D)`, M ≥ N; they get no gradient.
        temperature: τ.
        first_key: index of the first query's key (N · rank when keys of several processes are gathered).
        loss_scale: "2tau" as released; "none" leaves the factor out.
    """
    check_choice("loss_scale", loss_scale, ("2tau", "none"))
    with torch.autocast(queries.device.type, enabled=False):
        queries = F.normalize(queries.float(), dim=1)
        keys = F.normalize(keys.detach().float(), dim=1)
        labels = torch.arange(first_key, first_key + len(queries), device=queries.device)
        loss = F.cross_entropy(queries @ keys.T / temperature, labels)
    return 2.0 * temperature * loss if loss_scale == "2tau" else loss


def moco_v3_loss(
    q1: Tensor, q2: Tensor, k1: Tensor, k2: Tensor, temperature: float, loss_scale: str = "2tau"
) -> Tensor:
    """The symmetric MoCo v3 loss `ctr(q1, k2) + ctr(q2, k1)` (Chen, Xie and He, ICCV 2021).

    Keys are gathered over all processes when torch.distributed is initialised; queries stay local.

    Args:
        q1, q2: `(N, D)` predictor outputs of the two views; need no normalisation.
        k1, k2: `(N, D)` projector outputs of the momentum encoder for the same views; get no gradient.
        temperature: τ, 0.2 in the published ViT recipe.
        loss_scale: "2tau" multiplies by 2τ as released; "none" gives the plain sum of cross-entropies.

    Example:
        >>> q = torch.eye(4)
        >>> bool(moco_v3_loss(q, q, q, q, 0.2) < moco_v3_loss(q, q, q.flip(0), q.flip(0), 0.2))
        True
    """
    first_key = world()[0] * len(q1)
    return momentum_contrast(q1, gather_rows(k2), temperature, first_key, loss_scale) + momentum_contrast(
        q2, gather_rows(k1), temperature, first_key, loss_scale
    )
