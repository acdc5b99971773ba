"""A recording written as WFDB: header, signals in as many bits as its counts need, beats as `.atr`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import ECGDataError, brief
from ecg_transformers.data.readers.converted import comment_lines, wfdb_names
from ecg_transformers.data.readers.csv_text import column_title
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.data.recording import Recording

_MOST_TIMES = 100


def write_wfdb(recording: Recording, folder: Path, name: str) -> Path:
    """Write header, signals and beats of a recording; the header's path."""
    gain, baseline, times, width = _scale(recording)
    first, sums = _write_signals(recording, folder / f"{name}.dat", (gain, baseline, times), width)
    lines = {"adc_gain": gain.tolist(), "baseline": baseline.tolist(), "init_value": first, "checksum": sums}
    _write_header(recording, folder, name, width, lines)
    _write_beats(recording.record, folder, name)
    return folder / f"{name}.hea"


def _write_signals(
    recording: Recording, path: Path, scale: tuple[np.ndarray, np.ndarray, np.ndarray], width: int
) -> tuple[list[int], list[int]]:
    """Write the samples; the first of each lead, and their sums as a header has them."""
    leads = len(recording.record.lead_names)
    sums, first = np.zeros(leads, dtype=np.int64), np.zeros(leads, dtype=np.int64)
    with path.open("wb") as stream:
        at = 0
        for counts in _counts(recording, *scale):
            counts[counts == _MISSING] = -(2 ** (8 * width - 1))
            first = first if at else counts[0]
            at += len(counts)
            sums = (sums + counts.sum(axis=0)) % 65536
            stream.write(np.ascontiguousarray(counts.astype("<i4").view("u1").reshape(-1, 4)[:, :width]).tobytes())
    return first.tolist(), sums.tolist()


def _write_header(recording: Recording, folder: Path, name: str, width: int, lines: dict[str, list[Any]]) -> None:
    import wfdb

    record = recording.record
    leads, acquired = len(record.lead_names), _acquired(record)
    each: dict[str, Any] = {"file_name": f"{name}.dat", "fmt": str(8 * width), "units": "mV"}
    each |= {"adc_res": 8 * width, "adc_zero": 0, "block_size": 0}
    names, facts = wfdb_names(record.lead_names), _for_a_header(recording.facts)
    if names != record.lead_names:
        facts["lead_names"] = record.lead_names
    head = wfdb.Record(
        record_name=name,
        n_sig=leads,
        fs=record.sampling_rate,
        sig_len=recording.length,
        base_date=acquired.date() if acquired else None,
        base_time=acquired.time() if acquired else None,
        **{key: [value] * leads for key, value in each.items()},
        **lines,
        sig_name=names,
        comments=[*map(column_title, record.metadata.get("comments", ())), *comment_lines(facts)],
    )
    try:
        head.wrheader(str(folder))
    except ValueError as error:
        raise ECGDataError(f"WFDB cannot hold its header ({brief(error)}).", path=record.source) from error


def _write_beats(record: DigitalRecord | ECGRecord, folder: Path, name: str) -> None:
    import wfdb

    beats = record.annotations or {}
    if len(beats.get("beat_samples", ())):
        own = [str(symbol) for symbol in beats["beat_symbols"]]
        symbols = [_WFDB_BEATS.get(symbol, "Q") for symbol in own]
        notes = [symbol if symbol != usual else "" for symbol, usual in zip(own, symbols)]
        notes = [note.encode().decode("latin-1") for note in notes]  # wfdb writes a byte a character: those of UTF-8
        places = np.asarray(beats["beat_samples"])
        wfdb.wrann(name, "atr", places, symbol=symbols, aux_note=notes, fs=record.sampling_rate, write_dir=str(folder))


_MOST_GAPS = 2**14


def _for_a_header(facts: dict[str, Any]) -> dict[str, Any]:
    """Facts that fit a header: where there are so many gaps, the samples alone tell of them (a day may have 86,400)."""
    if len(facts.get("gaps", ())) <= _MOST_GAPS:
        return facts
    others = {key: value for key, value in facts.items() if key != "gaps"}
    return {**others, "flags": [*facts.get("flags", []), "gaps_not_listed"]}


_WFDB_BEATS = {"N": "N", "V": "V", "S": "S", "P": "/", "B": "B", "X": "|", "U": "Q"}
"""Beat labels of ISHNE in WFDB's letters; calibration pulses and others become Q (unclassifiable). Notes keep their own."""
_MISSING = -(2**62)


def _scale(recording: Recording) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Counts a millivolt, whole baselines, times the file's own counts, and bytes of the narrowest WFDB format.

    WFDB's baseline is whole, that of EDF often a half: such a lead is stored as a small multiple of its counts.
    """
    low, high, record = np.nan_to_num(recording.low), np.nan_to_num(recording.high), recording.record
    if recording.is_digital and isinstance(record, DigitalRecord):
        gain, offset = (np.broadcast_to(np.asarray(v, float), low.shape) for v in (record.gain, record.offset))
    else:
        gain, offset = _over_the_range(recording.low, recording.high)
        low, high = np.rint(low * gain + offset), np.rint(high * gain + offset)
    reach = np.maximum(np.maximum(np.abs(low), np.abs(high)), np.abs(offset))
    times = np.array([_whole_after(start, most) for start, most in zip(offset, (2**31 - 1) / np.maximum(reach, 1))])
    widest = (np.maximum(np.abs(low), np.abs(high)) * times).max()
    width = next((width for width in (2, 3) if widest < 2 ** (8 * width - 1)), 4)
    return gain * times, np.rint(offset * times).astype(np.int64), times, width


def _counts(recording: Recording, gain: np.ndarray, baseline: np.ndarray, times: np.ndarray) -> Iterator[np.ndarray]:
    """Whole numbers `(block, L)` as they are to be stored."""
    for block, missing in recording.blocks():
        if recording.is_digital:
            counts = block.astype(np.int64) * times
        else:
            counts = np.rint(np.where(missing, 0.0, block.astype(np.float64)) * gain + baseline).astype(np.int64)
        counts[missing] = _MISSING
        yield counts


def _whole_after(offset: float, most: float) -> int:
    """The small number by which an offset is to be multiplied to be whole, to a hundredth of a count at worst."""
    return Fraction(offset).limit_denominator(max(1, int(min(most, _MOST_TIMES)))).denominator


def _over_the_range(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset of 24 bits over the range of each lead in millivolts."""
    low, high = low.astype(np.float64), high.astype(np.float64)
    middle = np.where(np.isfinite(low), (low + high) / 2, 0.0)
    reach = np.where(np.isfinite(low), (high - low) / 2, 0.0)
    reach = np.maximum(reach, np.abs(middle) / 200)  # the baseline has 31 bits
    with np.errstate(divide="ignore"):
        gain = np.exp2(np.clip(np.floor(np.log2((2**23 - 2) / reach)), -40, 24))
    return gain, -np.rint(middle * gain)


def _acquired(record: DigitalRecord | ECGRecord) -> datetime | None:
    """When the first sample was recorded, which of a part is later than what the file says."""
    try:
        begin = datetime.strptime(str(record.metadata.get("acquired")), "%Y-%m-%dT%H:%M:%S")
        for key, per_second in (("start_sample", record.sampling_rate), ("start_seconds", 1.0)):
            late = record.metadata.get(key)
            begin += timedelta(seconds=late / per_second if isinstance(late, int | float) else 0)
        return begin
    except (ValueError, OverflowError):
        return None
