"""From tokens to one vector a record, where zeros mean something."""

from torch import Tensor


def mean_of_nonzero(tokens: Tensor) -> Tensor:
    """Sum of `(B, N, D)` over tokens, divided feature by feature by the number of values that are not exactly zero.

    The mean over valid tokens where padded ones were set to zero (fairseq's classifiers pool so); zero where all are.
    """
    return tokens.sum(dim=1) / (tokens != 0).sum(dim=1).clamp(min=1)
