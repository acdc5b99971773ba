"""Multiplex groups of a DICOM waveform: which of them are the rhythm, and their samples in millivolts."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_transformers.data.errors import (
    HeaderError,
    SignalError,
    TruncatedError,
    UnitError,
    UnsupportedFormatError,
    brief,
)
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.dicom_padding import padded
from ecg_transformers.data.readers.clinical.leads import is_ecg_lead, lead_of_code, lead_of_text
from ecg_transformers.data.readers.clinical.record import Samples, window
from ecg_transformers.data.readers.limits import IN_PARTS, Limits
from ecg_transformers.data.readers.units import units_per_millivolt

if TYPE_CHECKING:
    import pydicom

_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}
_BEATS = ("MEDIAN", "REPRESENTATIVE", "AVERAGE", "TEMPLATE", "BEAT", "MEAN", "AVG", "SUMMARY", "MITTEL")
_LONGEST_BEAT_S, _BEAT_SHARE = 2.0, 1 / 3
"""A group shorter than both (the share is of the longest group) is a beat, whatever its label."""


@dataclass
class Channel:
    """One channel: `step` and `baseline` in `unit`, as the file has them; `step` None where it has no sensitivity.

    `skew` is by how many samples it begins later than its group.
    """

    lead: str
    step: float | None
    baseline: float
    unit: str
    bits: int
    skew: float


@dataclass
class Group:
    """One multiplex group: channels of one rate, and its samples, which may still lie in the file."""

    number: int
    label: str
    rate: float
    offset_ms: float
    num_samples: int
    channels: list[Channel]
    kind: str
    bits: int | None
    data: memoryview
    padding: bytes | int | None

    @property
    def seconds(self) -> float:
        return self.num_samples / self.rate

    @property
    def leads(self) -> set[str]:
        return {channel.lead.lower() for channel in self.channels}

    @property
    def is_beat(self) -> bool:
        label = self.label.upper()
        return "RHYTHM" not in label and any(word in label for word in _BEATS)

    @classmethod
    def read(cls, item: pydicom.Dataset, data: memoryview, number: int, path: Path, limits: Limits) -> Group:
        """The head of a group, with its samples; sizes are checked against the limits, nothing is allocated."""
        name = f"multiplex group {number}"
        count, length = _whole(item, "NumberOfWaveformChannels"), _whole(item, "NumberOfWaveformSamples")
        rate = _decimal(item, "SamplingFrequency", path)
        if count is None or length is None or rate is None or rate <= 0 or count < 1 or length < 1:
            raise HeaderError(f"{name} does not state its channels, samples and rate.", path=path)
        limits.check_shape(length, count, path=path, way_out=IN_PARTS)
        kind = _plain(item, "WaveformSampleInterpretation").strip().upper()
        definitions = list(_value(item, "ChannelDefinitionSequence") or [])
        if len(definitions) != count:
            raise HeaderError(f"{name} declares {count} channels and describes {len(definitions)}.", path=path)
        padding = _value(item, "WaveformPaddingValue")
        return cls(
            number=number,
            label=_plain(item, "MultiplexGroupLabel").strip(),
            rate=rate,
            offset_ms=_decimal(item, "MultiplexGroupTimeOffset", path) or 0.0,
            num_samples=length,
            channels=[_channel(definition, place, rate, path) for place, definition in enumerate(definitions, 1)],
            kind=kind,
            bits=_whole(item, "WaveformBitsAllocated"),
            data=data,
            padding=padding if isinstance(padding, (bytes, int)) else None,
        )


def choose_groups(groups: list[Group], lead_names: list[str] | None, path: Path, flags: list[str]) -> list[Group]:
    """The groups of the rhythm: all that have a label and are no beats, by label or length; where nothing is labelled, the
    longest in seconds. Others of that rate belong to them where they hold a lead that these do not.

    Raises:
        ECGDataError: no group with an ECG, only beats, or groups of several rates.
    """
    with_ecg = [group for group in groups if any(is_voltage(channel) for channel in group.channels)]
    if not with_ecg:
        raise SignalError("no channel of this DICOM file is a voltage: it holds no ECG.", path=path)
    rhythm = [group for group in with_ecg if not group.is_beat]
    if not rhythm:
        raise SignalError("the file holds only median or representative beats, no ECG of some length.", path=path)
    longest = max(group.seconds for group in rhythm)
    least = min(_LONGEST_BEAT_S, _BEAT_SHARE * longest)
    rhythm = [group for group in rhythm if group.seconds >= least or "RHYTHM" in group.label.upper()]
    labelled = [group for group in rhythm if group.label]
    rhythm = _with_further_leads(labelled or [group for group in rhythm if group.seconds > 0.999 * longest], rhythm)
    if lead_names:
        wanted = {lead_of_text(name).lower() for name in lead_names}
        rhythm = [group for group in rhythm if wanted & group.leads] or rhythm
        whole = {group.rate for group in rhythm if wanted <= group.leads}
        rhythm = [group for group in rhythm if group.rate in whole] if len(whole) == 1 else rhythm
    rates = sorted({group.rate for group in rhythm})
    if len(rates) > 1:
        raise SignalError(
            f"the rhythm groups have the rates {', '.join(f'{rate:g}' for rate in rates)} Hz; pass lead_names=[…] of "
            "one rate.",
            path=path,
        )
    if len(rhythm) < len(groups):
        flags.append("other_groups_left_out")
    return rhythm


def _with_further_leads(chosen: list[Group], groups: list[Group]) -> list[Group]:
    numbers, rates = {group.number for group in chosen}, {group.rate for group in chosen}
    leads = set().union(*(group.leads for group in chosen))
    for group in sorted(groups, key=lambda group: -group.seconds):
        if group.rate in rates and not group.leads <= leads:
            numbers.add(group.number)
            leads |= group.leads
    return [group for group in groups if group.number in numbers]


def assemble(
    groups: list[Group],
    hints: Hints,
    little_endian: bool,
    path: Path,
    limits: Limits,
    flags: list[str],
) -> Samples:
    """All groups in one record: each lead at its own time, "no value" where it has none; the part that is asked for."""
    pieces = [piece for group in groups for piece in _pieces(group, hints, little_endian, path, flags)]
    if not pieces:
        raise SignalError("no channel of the rhythm is a voltage: it holds no ECG.", path=path)
    first = min(piece.start for piece in pieces)
    length = max(piece.start + len(piece.counts) for piece in pieces) - first
    begin, end = window(hints, length, path)
    names = list(dict.fromkeys(piece.key for piece in pieces))
    way_out = ": the multiplex groups lie too far apart in time; read a part with start= and stop="
    stored = sum(len(group.data) for group in groups)
    limits.check_growth(end - begin, len(names), stored, path=path, way_out=way_out)
    limits.check_shape(end - begin, len(names), path=path)
    counts, missing, scale = _laid_out(pieces, names, first, (begin, end), path, flags)
    if len({(piece.start, len(piece.counts)) for piece in pieces}) > 1:
        flags.append("leads_at_different_times")
    leads = {piece.key: piece.lead for piece in pieces}
    return Samples(
        counts=counts,
        step=np.array([scale[name][0] for name in names]),
        baseline=np.array([scale[name][1] for name in names]),
        names=[leads[name] for name in names],
        rate=groups[0].rate,
        missing=missing if missing.any() else None,
    )


def _laid_out(
    pieces: list[_Piece], names: list[str], first: int, part: tuple[int, int], path: Path, flags: list[str]
) -> tuple[np.ndarray, np.ndarray, dict[str, tuple[float, float]]]:
    """Counts `(T, L)` of a part, what is missing, and step and baseline of each lead; `first` is the time of sample 0."""
    begin, end = part
    counts = np.zeros((end - begin, len(names)), dtype=np.result_type(*(piece.counts.dtype for piece in pieces)))
    missing = np.ones(counts.shape, dtype=bool)
    scale: dict[str, tuple[float, float]] = {}
    done: list[_Piece] = []
    for piece in sorted(pieces, key=lambda piece: len(piece.counts)):  # of two that overlap, the longer one counts
        column, start = names.index(piece.key), piece.start - first
        low, high = max(start, begin), min(start + len(piece.counts), end)
        own = (piece.step, piece.baseline)
        if scale.setdefault(piece.key, own) != own:
            if not all(piece.covers(other) for other in done if other.key == piece.key):
                raise UnsupportedFormatError(
                    "two groups hold this lead in different scales.", path=path, lead=piece.lead
                )
            scale[piece.key] = own
        done.append(piece)
        if low >= high:
            continue
        place = slice(low - begin, high - begin)
        if not missing[place, column].all():
            flags.append("lead_in_several_groups")
        counts[place, column] = piece.counts[low - start : high - start]
        missing[place, column] = piece.missing(low - start, high - start)
    return counts, missing, scale


@dataclass
class _Piece:
    key: str
    lead: str
    start: int
    counts: np.ndarray
    padding: int | None
    bits: int
    step: float
    baseline: float

    def covers(self, other: _Piece) -> bool:
        """Whether all samples of another piece lie within the time of this one."""
        return self.start <= other.start and other.start + len(other.counts) <= self.start + len(self.counts)

    def missing(self, start: int, stop: int) -> np.ndarray | bool:
        return False if self.padding is None else padded(self.counts, self.padding, self.bits, start, stop)


def _pieces(group: Group, hints: Hints, little_endian: bool, path: Path, flags: list[str]) -> list[_Piece]:
    """The ECG channels of one group; steps and baselines in millivolts."""
    samples = _samples(group, hints, little_endian, path, flags)
    padding = _padding(group, little_endian)
    start = round(group.offset_ms / 1000 * group.rate)
    pieces: list[_Piece] = []
    for number, channel in enumerate(group.channels):
        unit = channel.unit or hints.units
        if unit is not None and units_per_millivolt(unit) is None:
            flags.append("channel_without_voltage_left_out")
            continue
        if unit is None or (channel.step is None and hints.units is None):
            raise UnitError(
                "the channel states no sensitivity or no unit; pass units='uV' (or 'mV', …) if it is known.",
                path=path,
                lead=channel.lead,
            )
        per_millivolt = units_per_millivolt(unit)
        assert per_millivolt is not None
        if abs(channel.skew) >= 1:
            flags.append("channel_skew_not_applied")
        counts = samples[:, number]
        taken = [piece.key for piece in pieces]
        key = channel.lead.lower() if channel.lead.lower() not in taken else f"{channel.lead.lower()} #{number}"
        pieces.append(
            _Piece(
                key=key,
                lead=channel.lead,
                start=start,
                counts=counts,
                padding=padding,
                bits=channel.bits,
                step=(1.0 if channel.step is None else channel.step) / per_millivolt,
                baseline=channel.baseline / per_millivolt,
            )
        )
    return pieces


def _samples(group: Group, hints: Hints, little_endian: bool, path: Path, flags: list[str]) -> np.ndarray:
    """The numbers of a group `(T, channels)`, as many as the file holds."""
    if group.kind not in _TYPES:
        what = "G.711 companded samples" if group.kind in ("MB", "AB") else f"samples of the kind {group.kind[:8]!r}"
        raise UnsupportedFormatError(f"{what} are not read; SB, UB, SS, US, SL and UL are.", path=path)
    dtype = np.dtype(("<" if little_endian else ">") + _TYPES[group.kind])
    width = dtype.itemsize * len(group.channels)
    available = len(group.data) // width
    if group.bits not in (None, 8 * dtype.itemsize):
        raise HeaderError(
            f"multiplex group {group.number} allocates {group.bits} bits a sample, but its samples of the kind "
            f"{group.kind} have {8 * dtype.itemsize}.",
            path=path,
        )
    if len(group.data) > width * group.num_samples + 1:  # one byte may stand there to make the number even
        flags.append("bytes_behind_the_samples")
    if available < group.num_samples:
        if not hints.allow_truncated or available < 1:
            raise TruncatedError(
                f"multiplex group {group.number} declares {group.num_samples} samples of {len(group.channels)} "
                f"channels, its data hold {max(available, 0)}; pass allow_truncated=True to read what is there.",
                path=path,
            )
        flags.append("truncated")
    length = min(available, group.num_samples)
    return np.frombuffer(group.data, dtype, length * len(group.channels)).reshape(length, -1)


def _padding(group: Group, little_endian: bool) -> int | None:
    """The number that stands for "no sample"; the standard writes it as bytes, some writers as SS or US."""
    dtype = np.dtype(("<" if little_endian else ">") + _TYPES[group.kind])
    if isinstance(group.padding, int):  # the bits count, whichever sign they were written with
        numbers = 2 ** (8 * dtype.itemsize)
        if not -numbers // 2 <= group.padding < numbers:
            return None
        bits = np.array(group.padding % numbers, f"u{dtype.itemsize}")
        return int(bits.view(f"{dtype.kind}{dtype.itemsize}"))
    if group.padding is None or len(group.padding) < dtype.itemsize:
        return None
    return int(np.frombuffer(group.padding, dtype, 1)[0])


def _channel(definition: Any, place: int, rate: float, path: Path) -> Channel:
    """Lead, scale and unit of a channel definition."""
    step = _decimal(definition, "ChannelSensitivity", path)
    correction = _decimal(definition, "ChannelSensitivityCorrectionFactor", path)
    unit = next((_unit(code) for code in _value(definition, "ChannelSensitivityUnitsSequence") or []), "")
    if step is not None and correction is not None:
        step *= correction
    return Channel(
        lead=_lead(definition, place),
        step=step,
        baseline=_decimal(definition, "ChannelBaseline", path) or 0.0,
        unit=unit,
        bits=_whole(definition, "WaveformBitsStored") or 0,
        skew=_skew(definition, rate),
    )


def _lead(definition: Any, place: int) -> str:
    """From the code, else the words of the source, else the label; a channel without any is numbered."""
    texts = []
    for source in _value(definition, "ChannelSourceSequence") or []:
        lead = lead_of_code(_plain(source, "CodeValue"))
        if lead:
            return lead
        texts.append(_plain(source, "CodeMeaning").strip())
        break
    texts.append(_plain(definition, "ChannelLabel").strip())
    names = [lead_of_text(text)[:40] for text in texts if text]
    return next((name for name in names if is_ecg_lead(name)), names[0] if names else f"channel {place}")


def _unit(code: Any) -> str:
    """The unit of a code, or its words where they name a voltage and the code is not UCUM's."""
    value = _plain(code, "CodeValue").strip()
    if value and units_per_millivolt(value) is not None:  # nearly always; each text costs pydicom microseconds
        return value
    meaning = _plain(code, "CodeMeaning").strip()
    is_ucum = _plain(code, "CodingSchemeDesignator").strip().upper() == "UCUM"
    in_words = bool(meaning) and units_per_millivolt(meaning) is not None
    return meaning if in_words and not (value and is_ucum) else value


def _skew(definition: Any, rate: float) -> float:
    """Samples, as a channel states them or its seconds; a text that is no number is none, since nothing is made of it."""
    for keyword, factor in (("ChannelSampleSkew", 1.0), ("ChannelTimeSkew", rate)):
        with contextlib.suppress(ValueError):
            return factor * float(_plain(definition, keyword))
    return 0.0


def is_voltage(channel: Channel) -> bool:
    return not channel.unit or units_per_millivolt(channel.unit) is not None


def _value(item: Any, keyword: str) -> Any:
    try:
        return item.get(keyword)
    except Exception:  # pydicom converts a value when it is first asked for
        return None


def _plain(item: Any, keyword: str) -> str:
    value = _value(item, keyword)
    return "" if value is None or isinstance(value, bytes) else str(value)


def _decimal(item: Any, keyword: str, path: Path) -> float | None:
    """A decimal; None where it is absent or empty.

    Raises:
        HeaderError: there is something else than a number: to take it for absent would be another scale or time.
    """
    if keyword not in item:
        return None
    try:
        value = item.get(keyword)
        number = None if value is None or value == "" else float(value)
    except Exception as error:  # pydicom converts a value when it is first asked for, and raises errors of many kinds
        raise HeaderError(f"{keyword} is no number ({brief(error)}).", path=path) from error
    if number is not None and not math.isfinite(number):
        raise HeaderError(f"{keyword} is {number}, no finite number.", path=path)
    return number


def _whole(item: Any, keyword: str) -> int | None:
    value = _value(item, keyword)
    return int(value) if isinstance(value, int) else None
