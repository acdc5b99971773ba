"""A fingerprint of content: the same for a recording at another rate, in another unit, with its leads in another order.

The same recording is met under many names (PTB-XL and CPSC 2018 live inside the Challenge of 2021). The fingerprint of
a lead is made of what copies leave alone: the shape of its first eight seconds between 0.5 and 16 Hz, as the signs of
256 fixed random projections. Copies differ in a few of these bits, different recordings in about half.
`data.overlap` searches for equal ones. Specification: corpora, 1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import ECGDataError, brief
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.data.rows import RecordTable
from ecg_transformers.signal.leads import canonical_lead

WINDOW_S = 8.0
BAND_HZ = (0.5, 16.0)
NUM_BITS = 256
_SHORTEST_S = 2.0
_POINTS = 256
_LEADS = ("I", "II", "V2")  # far apart in the heart's field, and in nearly every record
SLOTS = 3


@dataclass
class ContentFingerprints:
    """Fingerprints of a set of records.

    Attributes:
        record_ids, sources, splits: one a record.
        leads: names of the fingerprinted leads, `(N, 3)`; '' where a record has fewer.
        codes: their bits, uint8 `(N, 3, 32)`.
        without: records that are too short or flat to have a fingerprint.
        unreadable: records that could not be read.
    """

    record_ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    leads: np.ndarray = field(default_factory=lambda: np.zeros((0, SLOTS), dtype="<U16"))
    codes: np.ndarray = field(default_factory=lambda: np.zeros((0, SLOTS, NUM_BITS // 8), dtype=np.uint8))
    without: int = 0
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.record_ids)

    def select(self, split: str) -> ContentFingerprints:
        """The records of one split."""
        chosen = [index for index, name in enumerate(self.splits) if name == split]
        ids, sources, splits = (
            [column[index] for index in chosen] for column in (self.record_ids, self.sources, self.splits)
        )
        return ContentFingerprints(ids, sources, splits, self.leads[chosen], self.codes[chosen])

    def save(self, path: str | Path) -> None:
        """Write an NPZ file; 100 bytes a record."""
        np.savez_compressed(
            path,
            record_ids=np.array(self.record_ids, dtype=np.str_),
            sources=np.array(self.sources, dtype=np.str_),
            splits=np.array(self.splits, dtype=np.str_),
            leads=self.leads,
            codes=self.codes,
            counts=np.array([self.without, self.unreadable]),
        )

    @classmethod
    def load(cls, path: str | Path) -> ContentFingerprints:
        """Read what `save` wrote; nothing is unpickled."""
        try:
            with np.load(path, allow_pickle=False) as file:
                ids, sources, splits = (file[name].tolist() for name in ("record_ids", "sources", "splits"))
                codes, leads, counts = file["codes"], file["leads"], file["counts"].astype(int).tolist()
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise ECGDataError(f"this is no file of content fingerprints ({brief(error)}).", path=path) from error
        shape = (len(ids), SLOTS, NUM_BITS // 8)
        if codes.shape != shape or codes.dtype != np.uint8 or leads.shape != shape[:2]:
            raise ECGDataError(f"the fingerprints have the shape {codes.shape}, not {shape}.", path=path)
        return cls(ids, sources, splits, leads, codes, counts[0], counts[1])


def lead_fingerprint(lead: np.ndarray, sampling_rate: float) -> np.ndarray | None:
    """32 bytes for one lead `(T,)`, whatever its rate, gain and offset; None where it is too short or flat."""
    lead = np.asarray(lead[: round(WINDOW_S * sampling_rate)], dtype=np.float64)
    if len(lead) < _SHORTEST_S * sampling_rate:
        return None
    valid = np.isfinite(lead)
    if valid.sum() < 0.5 * len(lead):
        return None
    lead = np.where(valid, lead - lead[valid].mean(), 0.0)
    rise = max(int(0.25 * sampling_rate), 1)  # soft ends, which resampling leaves alone
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(rise) + 0.5) / rise)
    lead[:rise] *= ramp
    lead[-rise:] *= ramp[::-1]
    full = round(WINDOW_S * sampling_rate)
    spectrum = np.fft.rfft(lead, full) / full
    frequency = np.arange(len(spectrum)) / WINDOW_S
    kept = np.zeros(_POINTS // 2 + 1, dtype=np.complex128)
    inside = (frequency >= BAND_HZ[0]) & (frequency < BAND_HZ[1])
    inside[len(kept) :] = False
    kept[np.flatnonzero(inside)] = spectrum[inside]
    shape = np.fft.irfft(kept, _POINTS)
    norm = np.linalg.norm(shape)
    if not norm > 1e-12 * np.sqrt(_POINTS):
        return None
    return np.packbits(_projections() @ (shape / norm) > 0)


@lru_cache(maxsize=1)
def _projections() -> np.ndarray:
    """The random directions `(256 bits, 256 points)`; `RandomState` keeps its stream for ever."""
    return np.random.RandomState(20180).standard_normal((NUM_BITS, _POINTS))


def record_fingerprint(
    signal: np.ndarray, sampling_rate: float, lead_names: Sequence[str]
) -> tuple[list[str], np.ndarray] | None:
    """Names and codes of up to three leads of a record `(T, L)`: I, II and V2, or others where these are not there.

    Rows at both ends in which all leads are zero or missing are no part of the recording. None where no lead has a
    fingerprint.
    """
    recorded = np.flatnonzero((np.nan_to_num(signal) != 0).any(axis=1))
    if not recorded.size:
        return None
    signal = signal[recorded[0] : recorded[-1] + 1]
    names = [canonical_lead(name) for name in lead_names]
    order = sorted(range(len(names)), key=lambda k: (_LEADS.index(names[k]) if names[k] in _LEADS else 9, names[k]))
    found: list[str] = []
    codes = np.zeros((SLOTS, NUM_BITS // 8), dtype=np.uint8)
    for column in order:
        code = lead_fingerprint(signal[:, column], sampling_rate)
        if code is not None:
            codes[len(found)] = code
            found.append(names[column])
        if len(found) == SLOTS:
            break
    return (found, codes) if found else None


def content_fingerprints(rows: Mapping[str, Any] | Iterable[Any], split: str = "") -> ContentFingerprints:
    """Fingerprints of a dataset in the schema of `data.record`, of a dictionary of datasets, or of rows or records."""
    if isinstance(rows, Mapping):
        return joined([content_fingerprints(part, name) for name, part in rows.items()])
    result = ContentFingerprints()
    names: list[list[str]] = []
    codes: list[np.ndarray] = []
    for record_id, source, signal, rate, lead_names in _records(rows):
        found = record_fingerprint(signal, rate, lead_names)
        if found is None:
            result.without += 1
            continue
        names.append([*found[0], *[""] * (SLOTS - len(found[0]))])
        codes.append(found[1])
        result.record_ids.append(record_id)
        result.sources.append(source)
        result.splits.append(split)
    if codes:
        result.leads, result.codes = np.array(names), np.stack(codes)
    return result


def _records(rows: Any) -> Iterable[tuple[str, str, np.ndarray, float, Sequence[str]]]:
    if hasattr(rows, "with_format") and hasattr(rows, "data"):
        table = RecordTable(rows)
        columns = (table.column(name) for name in ("record_id", "source", "sampling_rate", "lead_names"))
        for index, (record_id, source, rate, names) in enumerate(zip(*columns)):
            yield record_id, source, table.signal(index), rate, names
        return
    for row in rows:
        record = row if isinstance(row, ECGRecord) else DigitalRecord.from_row(row).to_record()
        yield record.record_id, record.source, record.signal, record.sampling_rate, record.lead_names


def joined(parts: Sequence[ContentFingerprints]) -> ContentFingerprints:
    """Several sets as one."""
    return ContentFingerprints(
        [name for part in parts for name in part.record_ids],
        [name for part in parts for name in part.sources],
        [name for part in parts for name in part.splits],
        np.concatenate([ContentFingerprints().leads, *(part.leads for part in parts)]),
        np.concatenate([ContentFingerprints().codes, *(part.codes for part in parts)]),
        sum(part.without for part in parts),
        sum(part.unreadable for part in parts),
    )
