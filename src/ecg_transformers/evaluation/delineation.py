"""Judging a delineation: onsets and offsets that lie within a tolerance of an expert's, and how far they are off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecg_transformers.signal.beat_matching import match_beats
from ecg_transformers.signal.wave_intervals import UNITS, wave_intervals
from ecg_transformers.signal.waves import SPARSE_GAP_S, WAVES, Wave

TOLERANCE_S = 0.15
EDGES = ("onset", "offset")
_TICKS = 10_000  # places a second in which times are compared


@dataclass
class EdgeScore:
    """The onsets (or offsets) of one kind of wave: errors of those found, in ms, and how many there are.

    An error is the time found less the expert's: below 0 is too early.
    """

    errors_ms: list[float] = field(default_factory=list)
    num_reference: int = 0
    num_detected: int = 0

    def __add__(self, other: EdgeScore) -> EdgeScore:
        return EdgeScore(
            self.errors_ms + other.errors_ms,
            self.num_reference + other.num_reference,
            self.num_detected + other.num_detected,
        )

    @property
    def f1(self) -> float | None:
        """None where neither the expert nor the method has any."""
        total = self.num_reference + self.num_detected
        return 2 * len(self.errors_ms) / total if total else None

    def figures(self) -> dict[str, Any]:
        """F1, sensitivity, positive predictive value, mean and SD of the error in ms, and the counts."""
        found, errors = len(self.errors_ms), np.asarray(self.errors_ms)
        return {
            "f1": self.f1,
            "sensitivity": found / self.num_reference if self.num_reference else None,
            "ppv": found / self.num_detected if self.num_detected else None,
            "mean_ms": float(errors.mean()) if found else None,
            "sd_ms": float(errors.std(ddof=1)) if found > 1 else None,
            "reference": self.num_reference,
            "detected": self.num_detected,
        }


LeadScore = dict[tuple[str, str], EdgeScore]
"""(wave, "onset" or "offset") -> its score."""


def score_lead(reference: Sequence[Wave], detected: Sequence[Wave], tolerance_s: float = TOLERANCE_S) -> LeadScore:
    """The waves of one lead against an expert's.

    Every onset and offset of the expert may be met by one of the same wave at most `tolerance_s` away. What was found
    where the expert judged nothing (before the first and after the last mark, in stretches without marks) does not count.
    """
    stretches = judged_stretches(reference)
    scores = {}
    for wave in WAVES:
        for edge in EDGES:
            expert, found = (_ticks(waves, wave, edge) for waves in (reference, detected))
            in_expert, in_found = match_beats(expert, found, tolerance_s * _TICKS)
            matched = np.isin(np.arange(len(found)), in_found)
            inside = np.array([any(a <= tick / _TICKS <= b for a, b in stretches) for tick in found], dtype=bool)
            errors = (found[in_found] - expert[in_expert]) * 1000.0 / _TICKS
            scores[wave, edge] = EdgeScore(errors.tolist(), len(expert), int((matched | inside).sum()))
    return scores


def judged_stretches(reference: Sequence[Wave]) -> list[tuple[float, float]]:
    """Start and end, in seconds, of what an expert has judged: from mark to mark, without long stretches of none."""
    stretches: list[tuple[float, float]] = []
    for wave in reference:
        first, last = wave.times[0], wave.times[-1]
        if stretches and first - stretches[-1][1] <= SPARSE_GAP_S:
            stretches[-1] = (stretches[-1][0], max(last, stretches[-1][1]))
        else:
            stretches.append((first, last))
    return stretches


def _ticks(waves: Sequence[Wave], wave: str, edge: str) -> np.ndarray:
    times = [getattr(one, f"{edge}_s") for one in waves if one.wave == wave]
    return np.array(sorted(round(time * _TICKS) for time in times if time is not None), dtype=np.int64)


def pool(scores: Iterable[LeadScore]) -> LeadScore:
    """The scores of several leads or records together."""
    total: LeadScore = {(wave, edge): EdgeScore() for wave in WAVES for edge in EDGES}
    for score in scores:
        total = {key: value + score[key] for key, value in total.items()}
    return total


def wave_f1(score: LeadScore) -> dict[str, float | None]:
    """F1 of each wave, its onsets and offsets together."""
    return {wave: (score[wave, "onset"] + score[wave, "offset"]).f1 for wave in WAVES}


def macro_f1(score: LeadScore) -> float | None:
    """Mean F1 of the waves that the expert marked; None where there is none."""
    f1 = wave_f1(score)
    marked = [f1[wave] or 0.0 for wave in WAVES if any(score[wave, edge].num_reference for edge in EDGES)]
    return float(np.mean(marked)) if marked else None


def report(score: LeadScore) -> dict[str, dict[str, dict[str, Any]]]:
    """wave -> edge -> figures."""
    return {wave: {edge: score[wave, edge].figures() for edge in EDGES} for wave in WAVES}


def score_record(
    reference: Mapping[str, Sequence[Wave]], detected: Mapping[str, Sequence[Wave]]
) -> dict[str, LeadScore]:
    """Lead -> score, for the leads that were delineated and that the expert marked."""
    return {lead: score_lead(reference[lead], waves) for lead, waves in detected.items() if reference.get(lead)}


def interval_report(
    pairs: Iterable[tuple[Mapping[str, Sequence[Wave]], Mapping[str, Sequence[Wave]]]],
) -> dict[str, dict[str, Any]]:
    """Rate, PR, QRS, QT and QTc of records against those of an expert's marks in the same leads.

    Args:
        pairs: of each record the expert's waves and those found, by lead.

    Returns:
        name -> `mean` and `sd` of the differences (found less the expert's; ms, the rate in beats a minute) over the
        records for which both are known, how many these are (`both`), and for how many records the expert's marks
        (`reference`) and the waves found (`detected`) give the interval.
    """
    known = []
    for reference, detected in pairs:
        marked = wave_intervals({lead: reference[lead] for lead in detected if reference.get(lead)})
        known.append((marked.values, wave_intervals(detected).values))
    report = {}
    for name in UNITS:
        errors = [theirs[name].median - its[name].median for its, theirs in known if name in its and name in theirs]
        report[name] = {
            "mean": float(np.mean(errors)) if errors else None,
            "sd": float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
            "both": len(errors),
            "reference": sum(name in its for its, _ in known),
            "detected": sum(name in theirs for _, theirs in known),
        }
    return report
