"""Accuracy and speed of R-peak detectors, the package's own and installed libraries', on annotated records.

    python benchmarks/beat_detection.py --data_dir DIR [--detectors zero_phase,sleepecg,neurokit] [--tables A,B,C]

`DIR` holds `mitdb/` (MIT-BIH Arrhythmia) and `ludb/` (LUDB) in their publishers' layout. Beats are matched one to one,
at 150 ms and at 75 ms: a detector with a constant delay passes the first and fails the second.

A  whole MIT-BIH records, first channel, 360 Hz
B  every sixth ten-second piece of them, each on its own, resampled to 100 and to 250 Hz, beats at the edges included
C  LUDB, each lead on its own, between its first and last annotated QRS complex
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import wfdb
from scipy.signal import resample_poly

from ecg_transformers.signal.beat_matching import BeatScore, match_beats, score_beats
from ecg_transformers.signal.beats import METHODS, detect_r_peaks

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
TOLERANCES_S = (0.150, 0.075)
PIECE_S, PIECE_STEP = 10, 6
RESAMPLING = {100: (5, 18), 250: (25, 36)}  # from 360 Hz

Detector = Callable[[np.ndarray, float], np.ndarray]


@dataclass
class Case:
    """One signal `(T,)` with its reference beats; detections in the ignored parts do not count."""

    name: str
    signal: np.ndarray
    sampling_rate: float
    beats: np.ndarray
    ignored: list[tuple[int, int]] = field(default_factory=list)

    def counted(self, samples: np.ndarray) -> np.ndarray:
        keep = np.ones(len(samples), dtype=bool)
        for first, last in self.ignored:
            keep &= (samples < first) | (samples > last)
        return samples[keep]


def mitdb_cases(folder: Path) -> list[Case]:
    """Whole records; ventricular flutter, marked from "[" to "]", is ignored."""
    cases = []
    for header in sorted(folder.glob("*.hea")):
        record = wfdb.rdrecord(str(header.with_suffix("")), channels=[0])
        marks = wfdb.rdann(str(header.with_suffix("")), "atr")
        beats = [sample for sample, symbol in zip(marks.sample, marks.symbol) if symbol in BEAT_SYMBOLS]
        starts = [sample for sample, symbol in zip(marks.sample, marks.symbol) if symbol == "["]
        ends = [sample for sample, symbol in zip(marks.sample, marks.symbol) if symbol == "]"]
        case = Case(header.stem, record.p_signal[:, 0], record.fs, np.asarray(beats), list(zip(starts, ends)))
        case.beats = case.counted(case.beats)
        cases.append(case)
    return cases


def piece_cases(records: list[Case], rate: int) -> Iterator[Case]:
    """Ten-second pieces of whole records at another rate."""
    up, down = RESAMPLING[rate]
    for record in records:
        length = int(PIECE_S * record.sampling_rate)
        for piece in range(0, len(record.signal) // length, PIECE_STEP):
            first, last = piece * length, (piece + 1) * length
            scale = rate / record.sampling_rate
            beats = record.beats[(record.beats >= first) & (record.beats < last)] - first
            ignored = [(int((a - first) * scale), int((b - first) * scale)) for a, b in record.ignored]
            signal = resample_poly(record.signal[first:last], up, down)
            yield Case(record.name, signal, rate, np.round(beats * scale).astype(np.int64), ignored)


def ludb_cases(folder: Path) -> Iterator[Case]:
    """Every lead of every subject."""
    for header in sorted((folder / "data").glob("*.hea")):
        record = wfdb.rdrecord(str(header.with_suffix("")))
        for column, lead in enumerate(record.sig_name):
            marks = wfdb.rdann(str(header.with_suffix("")), lead.lower())
            beats = np.asarray([s for s, symbol in zip(marks.sample, marks.symbol) if symbol == "N"], dtype=np.int64)
            reach = int(TOLERANCES_S[0] * record.fs)
            outside = [(-1, int(beats[0]) - reach - 1), (int(beats[-1]) + reach + 1, len(record.p_signal))]
            yield Case(f"{header.stem} {lead}", record.p_signal[:, column], record.fs, beats, outside)


@dataclass
class Result:
    """Pooled scores at both tolerances, errors of matched beats, and speed."""

    scores: list[BeatScore] = field(default_factory=lambda: [BeatScore(0, 0, 0) for _ in TOLERANCES_S])
    errors_ms: list[np.ndarray] = field(default_factory=list)
    by_name: dict[str, BeatScore] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, case: Case, detect: Detector) -> None:
        start = time.process_time()
        peaks = detect(case.signal, case.sampling_rate)
        self.cpu_seconds += time.process_time() - start
        self.seconds += len(case.signal) / case.sampling_rate
        peaks = case.counted(peaks)
        one = [score_beats(case.beats, peaks, tolerance * case.sampling_rate) for tolerance in TOLERANCES_S]
        self.scores = [total + score for total, score in zip(self.scores, one)]
        self.by_name[case.name] = self.by_name.get(case.name, BeatScore(0, 0, 0)) + one[0]
        reference, detected = match_beats(case.beats, peaks, TOLERANCES_S[0] * case.sampling_rate)
        self.errors_ms.append((peaks[detected] - case.beats[reference]) / case.sampling_rate * 1000)

    def row(self, name: str) -> str:
        wide, narrow = self.scores
        errors = np.concatenate(self.errors_ms) if self.errors_ms else np.zeros(0)
        worst = sorted(self.by_name.items(), key=lambda item: item[1].f1)[:3]
        cells = [
            name,
            f"{wide.sensitivity:.4f}",
            f"{wide.positive_predictivity:.4f}",
            f"{wide.f1:.4f}",
            f"{narrow.f1:.4f}",
            f"{np.median(errors) if errors.size else 0:+.0f}",
            f"{np.abs(errors).mean() if errors.size else 0:.1f}",
            f"{self.seconds / max(self.cpu_seconds, 1e-9):,.0f}",
            ", ".join(f"{record} {score.f1:.3f}" for record, score in worst),
        ]
        return "| " + " | ".join(cells) + " |"


def print_table(title: str, cases: list[Case], detectors: list[str]) -> None:
    beats = sum(len(case.beats) for case in cases)
    print(f"\n{title} ({beats:,} beats)\n")
    print("| detector | Se | PPV | F1 150 ms | F1 75 ms | median error ms | mean abs. error ms | speed | lowest F1 |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in detectors:
        result = Result()
        for case in cases:
            result.add(case, lambda signal, rate, name=name: detect_r_peaks(signal, rate, method=name))
        print(result.row(name), flush=True)


def installed(names: list[str]) -> list[str]:
    """The detectors that can run here; says which cannot."""
    usable = []
    for name in names:
        try:
            detect_r_peaks(np.zeros(1000), 250, method=name)
            usable.append(name)
        except ImportError as error:
            print(f"left out: {error}")
    return usable


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--detectors", default=",".join(METHODS))
    parser.add_argument("--tables", default="A,B,C")
    options = parser.parse_args()
    detectors, tables = installed(options.detectors.split(",")), options.tables.split(",")
    print("speed: seconds of signal per CPU second; libraries' peaks are refined within 100 ms")
    records = mitdb_cases(options.data_dir / "mitdb") if {"A", "B"} & set(tables) else []
    if "A" in tables:
        print_table(f"A. Whole MIT-BIH records ({len(records)})", records, detectors)
    if "B" in tables:
        for rate in RESAMPLING:
            print_table(f"B. Ten-second pieces at {rate} Hz", list(piece_cases(records, rate)), detectors)
    if "C" in tables:
        print_table("C. LUDB, every lead", list(ludb_cases(options.data_dir / "ludb")), detectors)


if __name__ == "__main__":
    main()
