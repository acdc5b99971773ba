"""Judging a beat detector: one-to-one matching of detected and reference beats within a tolerance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Int = NDArray[np.int64]


@dataclass(frozen=True)
class BeatScore:
    """Counts of one or more records, and the rates that follow from them (0 where nothing is defined)."""

    true_positives: int
    num_reference: int
    num_detected: int

    @property
    def sensitivity(self) -> float:
        return self.true_positives / self.num_reference if self.num_reference else 0.0

    @property
    def positive_predictivity(self) -> float:
        return self.true_positives / self.num_detected if self.num_detected else 0.0

    @property
    def f1(self) -> float:
        total = self.num_reference + self.num_detected
        return 2 * self.true_positives / total if total else 0.0

    def __add__(self, other: BeatScore) -> BeatScore:
        return BeatScore(
            self.true_positives + other.true_positives,
            self.num_reference + other.num_reference,
            self.num_detected + other.num_detected,
        )


def match_beats(reference: ArrayLike, detected: ArrayLike, tolerance: float) -> tuple[Int, Int]:
    """One-to-one pairs of reference and detected beats at most `tolerance` samples apart.

    Args:
        reference, detected: increasing sample indices.
        tolerance: in samples (a float is allowed; the bound is inclusive).

    Returns:
        `(reference_index, detected_index)`, both increasing. Pairs are made in time order; when two beats compete
        for one partner, the nearer gets it.
    """
    ref, det = np.asarray(reference, dtype=np.int64), np.asarray(detected, dtype=np.int64)
    pairs: list[tuple[int, int]] = []
    i = j = 0
    while i < ref.size and j < det.size:
        gap = abs(int(det[j] - ref[i]))
        if gap > tolerance:
            i, j = (i, j + 1) if det[j] < ref[i] else (i + 1, j)
        elif j + 1 < det.size and abs(int(det[j + 1] - ref[i])) < gap:
            j += 1
        elif i + 1 < ref.size and abs(int(det[j] - ref[i + 1])) < gap:
            i += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    table = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def score_beats(reference: ArrayLike, detected: ArrayLike, tolerance: float) -> BeatScore:
    """Counts of one record; add the scores of several records to pool them."""
    matched, _ = match_beats(reference, detected, tolerance)
    return BeatScore(matched.size, np.asarray(reference).size, np.asarray(detected).size)
