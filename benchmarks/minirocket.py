"""MiniRocket for several leads (Dempster, Schmidt and Webb, 2021, arXiv 2012.08791), written from the paper.

84 kernels of length 9 with three weights of 2 and six of -1, dilated up to the length of the series; a feature is the
proportion of positive values of a convolution less a bias. A kernel sums over a random subset of the leads.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
KERNEL_LENGTH, NUM_KERNELS = 9, 84
MAX_DILATIONS = 32


class MiniRocket:
    """Call with series `(records, leads, samples)` to get `(records, features)`.

    Args:
        num_features: rounded down to a multiple of 84.
        seed: of leads and biases.
    """

    def __init__(self, num_features: int = 10_000, seed: int = 0) -> None:
        self.per_kernel = num_features // NUM_KERNELS
        self.seed = seed

    def fit(self, series: Array) -> MiniRocket:
        """Choose leads at random, and biases as quantiles of convolutions of random training series."""
        generator = np.random.default_rng(self.seed)
        records, leads, length = series.shape
        self.dilations, counts = dilations_of(length, self.per_kernel)
        self.weights = [lead_weights(generator, leads) for _ in self.dilations]  # (84, leads · 9) each
        quantiles = golden_quantiles(self.per_kernel * NUM_KERNELS)
        self.biases, used = [], 0
        for dilation, count, weight in zip(self.dilations, counts, self.weights, strict=True):
            wanted = quantiles[used : used + NUM_KERNELS * count].reshape(NUM_KERNELS, count)
            used += NUM_KERNELS * count
            chosen = generator.integers(0, records, NUM_KERNELS)
            biases = [
                np.quantile(weight[kernel] @ windows(series[record], dilation), wanted[kernel])
                for kernel, record in enumerate(chosen)
            ]
            self.biases.append(np.asarray(biases, dtype=np.float32))
        return self

    def __call__(self, series: Array) -> Array:
        """Features `(records, 84 · per_kernel)` of series `(records, leads, samples)`, float32."""
        return np.stack([self._one(np.asarray(record, dtype=np.float32)) for record in series])

    def _one(self, record: Array) -> Array:
        length = record.shape[1]
        parts = []
        for position, (dilation, weight, bias) in enumerate(
            zip(self.dilations, self.weights, self.biases, strict=True)
        ):
            response = weight @ windows(record, dilation)  # (84, samples)
            # every second kernel looks at the part without padding only, in turn with the dilation
            inner = (
                slice(edge, length - edge) if (edge := dilation * (KERNEL_LENGTH // 2)) * 2 < length else slice(None)
            )
            for parity, span in ((0, slice(None)), (1, inner)):
                rows = slice((position + parity) % 2, None, 2)
                values = response[rows, span]
                share = [(values > limit[:, None]).mean(axis=1) for limit in bias[rows].T]
                parts.append(np.stack(share, axis=1).ravel())
        return np.concatenate(parts).astype(np.float32)


def dilations_of(length: int, per_kernel: int) -> tuple[list[int], list[int]]:
    """Dilations spread over powers of two up to the length, and how many features a kernel has at each."""
    wanted = min(per_kernel, MAX_DILATIONS)
    largest = np.log2((length - 1) / (KERNEL_LENGTH - 1))
    dilations, times = np.unique(np.logspace(0, largest, wanted, base=2).astype(int), return_counts=True)
    counts = (times * per_kernel / wanted).astype(int)
    for index in range(per_kernel - int(counts.sum())):
        counts[index % len(counts)] += 1
    return dilations.tolist(), counts.tolist()


def lead_weights(generator: np.random.Generator, leads: int) -> Array:
    """The 84 kernels over random subsets of leads, `(84, leads · 9)`; few leads as likely as many."""
    weights = np.zeros((NUM_KERNELS, leads, KERNEL_LENGTH), dtype=np.float32)
    largest = min(leads, KERNEL_LENGTH)
    for kernel, places in enumerate(combinations(range(KERNEL_LENGTH), 3)):
        number = int(2 ** generator.uniform(0, np.log2(largest + 1)))
        shape = np.full(KERNEL_LENGTH, -1.0, dtype=np.float32)
        shape[list(places)] = 2.0
        weights[kernel, generator.choice(leads, number, replace=False)] = shape
    return weights.reshape(NUM_KERNELS, leads * KERNEL_LENGTH)


def windows(record: Array, dilation: int) -> Array:
    """The nine shifted copies of every lead with zeros at the ends: `(leads · 9, samples)`."""
    leads, length = record.shape
    edge = dilation * (KERNEL_LENGTH // 2)
    padded = np.zeros((leads, length + 2 * edge), dtype=np.float32)
    padded[:, edge : edge + length] = record
    shifted = [padded[:, tap * dilation : tap * dilation + length] for tap in range(KERNEL_LENGTH)]
    return np.stack(shifted, axis=1).reshape(leads * KERNEL_LENGTH, length)


def golden_quantiles(count: int) -> Array:
    """A low-discrepancy sequence in (0, 1)."""
    return np.arange(1, count + 1) * ((np.sqrt(5) + 1) / 2) % 1.0
