"""Does a self-supervised encoder still tell records apart? Figures of a fixed validation batch, and an alarm.

The loss does not say: a joint-embedding loss that falls because all embeddings become equal looks like progress. Nor
does the plain SD of tokens, when only positions differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def embedding_health(embeddings: ArrayLike) -> dict[str, float]:
    """Figures of record embeddings ``(records, D)``.

    Returns:
        ``sd``: mean SD of a dimension over L2-normalised embeddings, about ``1/sqrt(D)`` when healthy;
        ``sd_ratio``: the same times ``sqrt(D)``; ``rank_me``: exponential of the entropy of the singular values
        (Garrido et al., 2023); ``rank_share``: the same over D; ``mean_cosine`` between different records;
        ``uniformity`` (Wang and Isola, 2020; lower is more uniform).
    """
    values = np.asarray(embeddings, dtype=np.float64)
    if values.ndim != 2 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(
            f"Embeddings must be finite, (records, D) with two records at least; got shape {values.shape}."
        )
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    cosine = (unit @ unit.T)[np.triu_indices(len(unit), k=1)]
    width = values.shape[1]
    deviation = float(unit.std(axis=0).mean())
    rank = effective_rank(values, centre=False, power=1)
    return {
        "sd": deviation,
        "sd_ratio": deviation * float(np.sqrt(width)),
        "rank_me": rank,
        "rank_share": rank / width,
        "mean_cosine": float(cosine.mean()),
        "uniformity": float(np.log(np.exp(-2.0 * (2.0 - 2.0 * cosine)).mean())),
    }


def token_health(tokens: ArrayLike) -> dict[str, float]:
    """Figures of tokens ``(records, N, D)`` at the same positions.

    Returns:
        ``content``: share of the tokens' variance that is left after taking away the mean token of each position over
        records, 0 when the encoder only knows where it is; ``effective_rank``: exponential of the entropy of the
        normalised squared singular values of the centred tokens.
    """
    values = np.asarray(tokens, dtype=np.float64)
    if values.ndim != 3 or len(values) < 2:
        raise ValueError(f"Tokens must be (records, N, D) with two records at least; got shape {values.shape}.")
    total = float(((values - values.mean(axis=(0, 1))) ** 2).mean())
    left = float(((values - values.mean(axis=0)) ** 2).mean())
    flat = values.reshape(-1, values.shape[-1])
    return {"content": left / total if total > 0 else 0.0, "effective_rank": effective_rank(flat)}


def effective_rank(values: ArrayLike, centre: bool = True, power: int = 2) -> float:
    """Exponential of the entropy of the singular values to ``power``, normalised to sum 1: from 1 to the width."""
    matrix = np.asarray(values, dtype=np.float64)
    if centre:
        matrix = matrix - matrix.mean(axis=0)
    if len(matrix) > matrix.shape[1]:  # the small Gram matrix has the same singular values
        singular = np.sqrt(np.maximum(np.linalg.eigvalsh(matrix.T @ matrix), 0.0))
    else:
        singular = np.linalg.svd(matrix, compute_uv=False)
    weight = singular**power
    if weight.sum() <= 0:
        return 0.0
    share = weight / weight.sum()
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


@dataclass
class CollapseAlarm:
    """Rings when the embeddings stay collapsed for ``patience`` looks in a row.

    A look is bad when the SD of a dimension is below ``min_sd_ratio / sqrt(D)``, or RankMe is below
    ``min_rank_share · D``.

    >>> alarm = CollapseAlarm(patience=2)
    >>> [alarm.look({"sd_ratio": 0.01, "rank_share": 0.5}) for _ in range(2)]
    [False, True]
    """

    min_sd_ratio: float = 0.1
    min_rank_share: float = 0.05
    patience: int = 3
    bad_looks: int = field(default=0, init=False)

    def look(self, health: dict[str, float]) -> bool:
        """Take the result of :func:`embedding_health`; True when training should stop with a saved state."""
        bad = health["sd_ratio"] < self.min_sd_ratio or health["rank_share"] < self.min_rank_share
        self.bad_looks = self.bad_looks + 1 if bad else 0
        return self.bad_looks >= self.patience
