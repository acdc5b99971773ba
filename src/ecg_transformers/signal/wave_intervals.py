"""What people read off a delineation: rate, PR, QRS, QT and its corrections, with their spread over beats."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from ecg_transformers.signal.waves import Wave

SAME_BEAT_S = 0.1
"""QRS onsets of different leads that follow each other this closely belong to one beat."""
SHORTEST_RR_S = 0.2
"""No ventricle beats again so soon (300 a minute): what is found within it is one beat."""
LONGEST_PR_S, LONGEST_QT_S = 0.4, 0.7
LEAST_SHARE = 0.5
UNITS = {"rate": "/min", "PR": "ms", "QRS": "ms", "QT": "ms", "QTcB": "ms", "QTcF": "ms"}


_NEEDED = {
    "PR": f"a P wave that begins up to {1000 * LONGEST_PR_S:.0f} ms before the QRS complex",
    "QRS": "a QRS complex with both its borders",
    "QT": f"a T wave that ends up to {1000 * LONGEST_QT_S:.0f} ms after the QRS complex began",
}


@dataclass(frozen=True)
class Interval:
    """Median and standard deviation over the beats that have it, in ms (the rate: beats a minute)."""

    median: float
    sd: float | None
    beats: int


@dataclass
class WaveIntervals:
    """The intervals of a record by name (`rate`, `PR`, `QRS`, `QT`, `QTcB` Bazett, `QTcF` Fridericia).

    `refused` says in sentences which are not given, and why.
    """

    values: dict[str, Interval] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """As plain data."""
        return {"intervals": {name: dict(vars(value)) for name, value in self.values.items()}, "refused": self.refused}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> WaveIntervals:
        """The intervals that `to_dict` describes; what else stands beside them is left."""
        return cls({name: Interval(**value) for name, value in data["intervals"].items()}, list(data["refused"]))


def in_words(intervals: WaveIntervals) -> str:
    """The intervals in one line, each with its SD over beats, `–` where it is refused; a sentence where there is none."""
    known = intervals.values
    parts = [f"{name} {shown(known[name], name) if name in known else '–'}" for name in UNITS]
    return "   ".join(parts) if known else " ".join(intervals.refused)


def shown(value: Interval, name: str) -> str:
    """An interval as people read it, `160 ± 4 ms`."""
    spread = "" if value.sd is None else f" ± {value.sd:.0f}"
    return f"{value.median:.0f}{spread} {UNITS[name]}"


@dataclass
class _Beat:
    """One beat in the leads that show it: QRS onset, and intervals in seconds where they are known."""

    leads: tuple[str, ...]
    onset: float
    qrs: float | None
    pr: float | None
    qt: float | None


def wave_intervals(waves: Mapping[str, Sequence[Wave]], doubt: str | None = None) -> WaveIntervals:
    """Rate, PR, QRS and QT of a record from its waves by lead.

    A beat is a QRS that at least half of the leads show; its intervals are medians over these leads. PR runs from the
    onset of the P to that of the QRS, QT from the onset of the QRS to the offset of the T, both within one lead. QTc takes
    the RR interval before the beat: Bazett `QT / √RR`, Fridericia `QT / ∛RR`, RR in seconds. An interval is refused
    where less than half of the beats show its waves, as PR is in atrial fibrillation; all are where most QRS complexes
    belong to no beat, as in noise. Leads without any QRS have no say; what lies within `SHORTEST_RR_S` is one beat.

    Args:
        waves: of the leads, each in the order of time.
        doubt: why what was found are no heartbeats (`signal.qrs_witness`): then nothing is given.
    """
    beats = _beats(waves)
    result = WaveIntervals()
    found = sum(wave.wave == "QRS" and wave.onset_s is not None for lead in waves.values() for wave in lead)
    shared = sum(len(beat.leads) for beat in beats)
    if not found or doubt is not None:
        result.refused.append(doubt or "No QRS complex was found, so there is no interval to give.")
        return result
    if shared < LEAST_SHARE * found:
        result.refused.append(
            f"The leads do not agree where the beats are (of {found} QRS complexes {shared} belong to one that half of the "
            "leads show), so there is no interval to give."
        )
        return result
    onsets = np.array([beat.onset for beat in beats])
    rr = [None, *np.diff(onsets).tolist()]
    seconds = {
        "PR": [beat.pr for beat in beats],
        "QRS": [beat.qrs for beat in beats],
        "QT": [beat.qt for beat in beats],
        "QTcB": [_corrected(beat.qt, before, 1 / 2) for beat, before in zip(beats, rr, strict=True)],
        "QTcF": [_corrected(beat.qt, before, 1 / 3) for beat, before in zip(beats, rr, strict=True)],
    }
    if len(beats) > 1:
        result.values["rate"] = _interval([60.0 / before for before in rr if before])
    else:
        result.refused.append("Only one beat was found: the rate and QTc need two.")
    for name, wave in _NEEDED.items():
        known = [1000 * value for value in seconds[name] if value is not None]
        if len(known) < LEAST_SHARE * len(beats):
            result.refused.append(f"{name} is not given: {wave} was found in {len(known)} of {len(beats)} beats.")
            continue
        result.values[name] = _interval(known)
        for corrected in ("QTcB", "QTcF") if name == "QT" else ():
            values = [1000 * value for value in seconds[corrected] if value is not None]
            if values:
                result.values[corrected] = _interval(values)
    return result


def _interval(values: Sequence[float]) -> Interval:
    return Interval(float(np.median(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None, len(values))


def _corrected(qt: float | None, rr: float | None, power: float) -> float | None:
    return None if qt is None or rr is None else qt / rr**power


def _beats(waves: Mapping[str, Sequence[Wave]]) -> list[_Beat]:
    """The beats that at least half of the leads with a QRS show, in the order of time."""
    found = sorted((beat for lead in waves for beat in _beats_of_lead(lead, waves[lead])), key=lambda beat: beat.onset)
    leads = len({name for beat in found for name in beat.leads})
    groups: list[list[_Beat]] = []
    for beat in found:
        # From the last onset, not from the first: one lead that is early must not cut the beat of the others in two.
        if groups and beat.onset - groups[-1][-1].onset <= SAME_BEAT_S:
            groups[-1].append(beat)
        else:
            groups.append([beat])
    shown: list[list[_Beat]] = []
    for group in groups:
        if len(group) < LEAST_SHARE * leads:
            continue
        if (
            shown and group[0].onset - shown[-1][0].onset < SHORTEST_RR_S
        ):  # half of the leads are late, or a QRS was cut
            known = {name for beat in shown[-1] for name in beat.leads}
            shown[-1] += [beat for beat in group if known.isdisjoint(beat.leads)]
        else:
            shown.append(group)
    return [_over_leads(group, leads) for group in shown]


def _over_leads(group: Sequence[_Beat], leads: int) -> _Beat:
    qrs, pr, qt = (_median([getattr(beat, name) for beat in group], leads) for name in ("qrs", "pr", "qt"))
    names = tuple(name for beat in group for name in beat.leads)
    return _Beat(names, median(beat.onset for beat in group), qrs, pr, qt)


def _median(values: Sequence[float | None], leads: int) -> float | None:
    """None where less than half of the leads show the interval."""
    known = [value for value in values if value is not None]
    return median(known) if known and len(known) >= LEAST_SHARE * leads else None


def _beats_of_lead(lead: str, waves: Sequence[Wave]) -> list[_Beat]:
    complexes = [wave for wave in waves if wave.wave == "QRS" and wave.onset_s is not None]
    p = sorted(wave.onset_s for wave in waves if wave.wave == "P" and wave.onset_s is not None)
    t = sorted(wave.offset_s for wave in waves if wave.wave == "T" and wave.offset_s is not None)
    beats = []
    for place, qrs in enumerate(complexes):
        onset = qrs.times[0]
        before = complexes[place - 1].times[-1] if place else -np.inf
        after = complexes[place + 1].times[0] if place + 1 < len(complexes) else np.inf
        p_onset = p[number - 1] if (number := bisect_left(p, onset)) else -np.inf
        t_offset = t[number] if (number := bisect_right(t, onset)) < len(t) else np.inf
        beats.append(
            _Beat(
                (lead,),
                onset,
                None if qrs.offset_s is None else qrs.offset_s - onset,
                onset - p_onset if p_onset > max(before, onset - LONGEST_PR_S) else None,
                t_offset - onset if t_offset <= min(after, onset + LONGEST_QT_S) else None,
            )
        )
    return beats
