"""EDF, EDF+, BDF and BDF+ records: 16 and 24 bits, read in parts and in bounded memory.

The gaps of a discontinuous file (EDF+D, BDF+D) are "no value"; `read_edf_parts` gives what lies between them instead.
Read here and not by edfio, which holds all of a BDF file in memory and closes the gaps.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import ECGDataError, HeaderError, LimitError, SignalError, UnitError
from ecg_transformers.data.millivolts import INVALID
from ecg_transformers.data.readers.arrays import Hints, agreed_rate, pick
from ecg_transformers.data.readers.clinical.identity import Patient, iso_date, iso_time, sex_of
from ecg_transformers.data.readers.clinical.kinds import name_of
from ecg_transformers.data.readers.clinical.leads import distinct_names
from ecg_transformers.data.readers.clinical.record import Sheet, metadata_of, names_without_identity, window
from ecg_transformers.data.readers.edf_format import (
    Header,
    Identity,
    Signal,
    number,
    onsets,
    placed,
    read_header,
    read_identity,
    read_records,
    times_with_gaps,
)
from ecg_transformers.data.readers.limits import IN_PARTS, Limits, open_file
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.record import DigitalRecord, standard_lead_names

_NO_DATE = "01.01.85"  # what EDF asks for where the date is not to be told
_SCATTERED = 2**16
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def read_edf(path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> DigitalRecord:
    """The ordinary signals of a file; annotations and the trigger channel `Status` are left out.

    The samples come as the file's own integers with their scale: int16, or int32 for BDF and where -32768 is a value.
    All signals read must share one rate and be voltages; `lead_names` chooses among them.

    Raises:
        ECGDataError: several rates, a unit that is no voltage, sizes that do not fit the file.
    """
    descriptor, size = open_file(path, hints.root, follow_links=hints.follow_links)
    try:
        return _Reading(descriptor, size, path, hints, limits, sheet).record()
    except OSError as error:
        raise ECGDataError(f"the file cannot be read ({type(error).__name__}).", path=path) from error
    finally:
        os.close(descriptor)


read_bdf = read_edf


def read_edf_parts(
    path: Path, hints: Hints, limits: Limits, sheet: Sheet, most: int | None = None
) -> Iterator[DigitalRecord]:
    """The contiguous parts of a file one by one, each a record of its own; a continuous file is one part.

    `metadata["start_seconds"]` says when a part begins. With `most` they are the successive parts of so many samples
    instead, gaps and all. `start` and `stop` have no meaning here.
    """
    descriptor, size = open_file(path, hints.root, follow_links=hints.follow_links)
    try:
        hints = replace(hints, start=None if most is None else 0, stop=None)
        reading = _Reading(descriptor, size, path, hints, limits, sheet)
        yield from reading.parts() if most is None else reading.parts_of(most)
    except OSError as error:
        raise ECGDataError(f"the file cannot be read ({type(error).__name__}).", path=path) from error
    finally:
        os.close(descriptor)


class _Reading:
    """One open file: its header, the chosen signals and their scale."""

    def __init__(self, descriptor: int, size: int, path: Path, hints: Hints, limits: Limits, sheet: Sheet) -> None:
        self.descriptor, self.path, self.hints, self.limits, self.sheet = descriptor, path, hints, limits, sheet
        flags = sheet.flags
        sheet.patient, sheet.acquired = identity_of(read_identity(descriptor))
        of_all = limits if hints.start is None and hints.stop is None else limits.for_parts()
        self.header = read_header(descriptor, size, path, of_all, allow_truncated=hints.allow_truncated, flags=flags)
        if not self.header.seconds:
            raise HeaderError("a data record lasts 0 s: the file holds annotations, no signals.", path=path)
        self.hidden = None if self.header.is_discontinuous else times_with_gaps(descriptor, self.header, path, flags)
        self.has_gaps = self.header.is_discontinuous or self.hidden is not None
        self.signals, self.names = choose_signals(self.header, self.sheet.patient, hints, path, flags)
        if len(self.signals) > limits.max_leads:  # a cap has 64 electrodes and more, and the ECG beside them
            raise LimitError(
                f"the file has {len(self.signals)} signals, and {limits.max_leads} are read at once; pass lead_names=[…].",
                path=path,
            )
        self.rate = self.signals[0].samples / self.header.seconds
        if not 1 <= self.rate <= 100_000:
            raise HeaderError(f"the sampling rate {self.rate:g} Hz lies outside 1 to 100,000 Hz.", path=path)
        self.gain, self.offset = scale_of(self.signals, hints.units, path)
        if (self.gain < 0).any():
            flags.append("inverted_gain")

    def record(self) -> DigitalRecord:
        """The whole file, or the samples that are asked for; gaps are "no value"."""
        return self._between(*window(self.hints, self.length, self.path))

    def parts_of(self, most: int) -> Iterator[DigitalRecord]:
        """Successive parts of `most` samples; the times of all data records are looked up once."""
        for start in range(0, self.length, most):
            yield self._between(start, min(start + most, self.length))

    @property
    def length(self) -> int:
        """Samples a lead, those of gaps too."""
        samples = self.signals[0].samples
        return int(self._starts[-1]) + samples if self.has_gaps else self.header.records * samples

    def _between(self, start: int, stop: int) -> DigitalRecord:
        samples = self.signals[0].samples
        if not self.has_gaps:
            self.limits.check_shape(stop - start, len(self.signals), path=self.path, way_out=IN_PARTS)
            first, last = start // samples, -(-stop // samples)
            digital = read_records(self.descriptor, self.header, self.signals, first, last)
            return self._made(digital[start - first * samples : stop - first * samples])
        stored = self.header.records * samples * len(self.signals) * self.header.width
        way_out = (
            ": its gaps are too long; read its parts (gaps='split' in folders and tables), or give start= and stop="
        )
        self.limits.check_growth(stop - start, len(self.signals), stored, path=self.path, way_out=way_out)
        self.limits.check_shape(stop - start, len(self.signals), path=self.path, way_out=IN_PARTS)
        return self._with_gaps(start, stop)

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first sample of each data record on the time axis of the recording."""
        times = onsets(self.descriptor, self.header, self.path) if self.hidden is None else self.hidden
        if (times[-1] - times[0]) * self.rate > 2**53:
            raise LimitError("the data records lie too far apart in time.", path=self.path)
        return placed(times - times[0], self.header.seconds, self.signals[0].samples, self.path)

    def _with_gaps(self, start: int, stop: int) -> DigitalRecord:
        starts, samples = self._starts, self.signals[0].samples
        here = np.flatnonzero((starts < stop) & (starts + samples > start))
        dtype = np.int16 if self.header.width == 2 else np.int32
        digital = np.zeros((stop - start, len(self.signals)), dtype=dtype)
        missing = np.ones(stop - start, dtype=bool)
        step = max(1, _SCATTERED // samples)
        for first in range(0, len(here), step):  # not run by run: a day may have a gap behind each second
            block = here[first : first + step]
            part = read_records(self.descriptor, self.header, self.signals, int(block[0]), int(block[-1]) + 1)
            rows = (starts[block, None] - start + np.arange(samples)).reshape(-1)
            inside = (rows >= 0) & (rows < stop - start)
            digital[rows[inside]], missing[rows[inside]] = part[inside], False
        edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
        if not edges.size:
            return self._made(digital)
        record = self._made(digital, missing)
        record.metadata["flags"] = [*record.metadata.get("flags", []), "gaps"]
        record.metadata["gaps"] = edges.reshape(-1, 2).tolist()
        return record

    def parts(self) -> Iterator[DigitalRecord]:
        if not self.has_gaps:
            yield self.record()
            return
        starts = self._starts
        for first, last in runs_of(starts, self.signals[0].samples):
            record = self._made(read_records(self.descriptor, self.header, self.signals, first, last))
            record.metadata["start_seconds"] = round(float(starts[first]) / self.rate, 6)
            yield record

    @cached_property
    def _said(self) -> tuple[dict[str, Any], str | None]:
        """Metadata and patient of all parts: to hide who it is takes longer than to read a second."""
        keep = self.hints.keep_identity
        return metadata_of(self.sheet, keep), self.sheet.patient.patient_id(keep)

    def _made(self, digital: np.ndarray, missing: np.ndarray | None = None) -> DigitalRecord:
        said, patient_id = self._said
        metadata = {key: copy.copy(value) for key, value in said.items()}
        rate = agreed_rate(self.hints, self.rate, self.path) or self.rate
        if digital.dtype == np.int16 and digital.min() == INVALID:  # a value here, "no value" in 16 bits of ours
            digital = digital.astype(np.int32)
        if missing is not None:
            digital[missing] = np.iinfo(digital.dtype).min
        return DigitalRecord(
            digital, self.gain, self.offset, rate, list(self.names), name_of(self.path), patient_id,
            source=str(self.path), metadata=metadata,
        )  # fmt: skip


def runs_of(starts: np.ndarray, samples: int) -> Iterator[tuple[int, int]]:
    """Groups of data records that follow each other without a gap, as positions in `starts`."""
    breaks = np.flatnonzero(np.diff(starts) > samples) + 1
    edges = [0, *breaks.tolist(), len(starts)]
    yield from ((first, last) for first, last in pairwise(edges) if first < last)


def choose_signals(
    header: Header, patient: Patient, hints: Hints, path: Path, flags: list[str]
) -> tuple[list[Signal], list[str]]:
    """The signals to read, all of one rate, and their names; a label that tells who the patient is, hides that."""
    ordinary = [signal for signal in header.signals if not signal.is_annotation]
    signals = [signal for signal in ordinary if not _is_trigger(signal, header)]
    if len(signals) < len(ordinary):
        flags.append("status_channel_left_out")
    if not signals:
        raise SignalError("the file holds no signals.", path=path)
    labels = standard_lead_names([signal.label or f"signal {place}" for place, signal in enumerate(signals, 1)])
    names = distinct_names(names_without_identity(labels, patient, hints.keep_identity), flags)
    if hints.lead_names:
        chosen = pick(names, hints.lead_names, path, name_of(path))
        signals, names = [signals[index] for index in chosen], [names[index] for index in chosen]
    by_rate: dict[int, list[str]] = {}
    for signal, name in zip(signals, names):
        by_rate.setdefault(signal.samples, []).append(name)
    if len(by_rate) > 1:
        groups = (f"{', '.join(leads)[:200]} at {count / header.seconds:g} Hz" for count, leads in by_rate.items())
        told = "; ".join(groups)
        told = f"{told[:600]} …" if len(told) > 600 else told
        raise SignalError(f"the signals have several rates ({told}); pass lead_names=[…] of one rate.", path=path)
    return signals, names


def _is_trigger(signal: Signal, header: Header) -> bool:
    """The `Status` of BDF, which some writers give a unit, and of EDF where its unit is no voltage."""
    is_voltage = units_per_millivolt(signal.unit) is not None
    return signal.label.lower() == "status" and not (is_voltage and header.width == 2)


def scale_of(signals: list[Signal], units: str | None, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Gain in counts per millivolt and the count of 0 mV, by lead."""
    gains, offsets = [], []
    for signal in signals:
        per_millivolt = units_per_millivolt(units or signal.unit)
        if per_millivolt is None:
            what = f"the unit {signal.unit!r} is not a voltage" if signal.unit else "the signal states no unit"
            raise UnitError(
                f"{what}; pass units='uV' (or 'mV', …) if it is known, or lead_names=[…] to read only the ECG leads.",
                path=path,
                lead=signal.label,
            )
        low, high = (number(text, "the physical range", path, signal.label) for text in signal.physical)
        digital_low, digital_high = (number(text, "the digital range", path, signal.label) for text in signal.digital)
        if high == low or digital_high <= digital_low:
            raise HeaderError("the physical or digital range is empty.", path=path, lead=signal.label)
        gain = (digital_high - digital_low) / (high - low)
        if not 1e-12 < abs(gain * per_millivolt) < 1e15:
            raise HeaderError("the physical range is absurd.", path=path, lead=signal.label)
        gains.append(gain * per_millivolt)
        offsets.append(digital_low - low * gain)
    return np.array(gains), np.array(offsets)


def identity_of(header: Identity) -> tuple[Patient, str]:
    """Patient and time. EDF+ has id, sex, birth date and name in one text; of another text all may be the id."""
    parts = header.patient.split()
    patient = Patient(id=header.patient, names=[header.patient])
    if len(parts) >= 3 and parts[1] in ("M", "F", "X") and (parts[2] == "X" or _day_month_year(parts[2])):
        names = [name for name in "_".join(parts[3:4]).split("_") if name and name != "X"]
        patient = Patient(parts[0], names, _day_month_year(parts[2]), sex=sex_of(parts[1]))
    if header.recording:
        patient.places = {"recording": header.recording}
    recording = header.recording.split()
    day = _day_month_year(recording[1]) if recording[:1] == ["Startdate"] and len(recording) > 1 else ""
    two_digits = re.match(r"(\d\d)\.(\d\d)\.(\d\d)$", header.date)
    if not day and two_digits and header.date != _NO_DATE:
        date, month, year = map(int, two_digits.groups())
        day = iso_date(1900 + year if year >= 85 else 2000 + year, month, date)
    clock = re.match(r"(\d\d)[.:](\d\d)[.:](\d\d)$", header.time)
    return patient, iso_time(day, *map(int, clock.groups())) if clock else day


def _day_month_year(text: str) -> str:
    """`03-FEB-1951` as `1951-02-03`, "" for anything else."""
    match = re.match(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})$", text)
    if match is None or match.group(2).upper() not in _MONTHS:
        return ""
    return iso_date(int(match.group(3)), _MONTHS.index(match.group(2).upper()) + 1, int(match.group(1)))
