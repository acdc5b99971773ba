"""Classical delineation by neurokit2, in the form of this package: what a learned one is measured against."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ecg_transformers.signal.waves import Wave
from ecg_transformers.words import check_choice

METHODS = ("dwt", "peak")
_NAMES = {"P": ("P_Onsets", "P_Peaks", "P_Offsets"), "T": ("T_Onsets", "T_Peaks", "T_Offsets")}


def neurokit_waves(
    signal: ArrayLike, sampling_rate: float, method: str = "dwt", r_peaks: ArrayLike | None = None
) -> list[Wave]:
    """The waves of one lead `(T,)` by `neurokit2.ecg_delineate`, after its `ecg_clean` and (without `r_peaks`) `ecg_peaks`.

    `"dwt"` gives onset and offset of all waves; `"peak"` gives the onset of P, the offset of T, and of QRS the peaks of
    Q and S, which are taken as its borders. Times that it does not find are None; a lead in which it finds no beat, or
    fails, has no waves.

    Raises:
        ImportError: neurokit2 is not installed (extra `[bench]`).
    """
    check_choice("method", method, METHODS)
    try:
        library = importlib.import_module("neurokit2")
    except ImportError as error:
        raise ImportError('Classical delineation needs neurokit2: pip install "ecg_transformers[bench]".') from error
    rate = round(sampling_rate)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            cleaned = library.ecg_clean(np.asarray(signal, dtype=np.float64), sampling_rate=rate)
            peaks = library.ecg_peaks(cleaned, sampling_rate=rate)[1]["ECG_R_Peaks"] if r_peaks is None else r_peaks
            peaks = np.asarray(peaks)
            found = library.ecg_delineate(cleaned, peaks, sampling_rate=rate, method=method)[1]
        except (IndexError, ValueError, ZeroDivisionError, TypeError, KeyError):
            return []  # too few beats for it, or none
    q_and_s = ("Q_Peaks", "S_Peaks") if method == "peak" else ("R_Onsets", "R_Offsets")
    waves = _waves("QRS", _column(found, q_and_s[0], len(peaks)), peaks, _column(found, q_and_s[1], len(peaks)), rate)
    for wave, names in _NAMES.items():
        onsets, tops, offsets = (_column(found, name, len(peaks)) for name in names)
        waves += _waves(wave, onsets, tops, offsets, rate)
    return sorted(waves, key=lambda wave: wave.times[0])


def _column(found: dict[str, Any], name: str, count: int) -> np.ndarray:
    values = found.get(f"ECG_{name}")
    return np.full(count, np.nan) if values is None else np.asarray(values, dtype=np.float64)


def _waves(wave: str, onsets: np.ndarray, peaks: np.ndarray, offsets: np.ndarray, rate: int) -> list[Wave]:
    rows = [
        [None if not np.isfinite(time) else float(time) / rate for time in times]
        for times in zip(onsets, peaks, offsets, strict=False)
    ]
    return [Wave(wave, *times) for times in rows if any(time is not None for time in times)]
