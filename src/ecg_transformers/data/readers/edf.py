"""EDF and EDF+ records, through edfio (`pip install ecg_transformers[edf]`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import (
    ECGDataError,
    HeaderError,
    LimitError,
    MissingDependencyError,
    SignalError,
    TruncatedError,
    UnitError,
    UnsupportedFormatError,
    brief,
)
from ecg_transformers.data.readers.arrays import Hints, agreed_rate, pick
from ecg_transformers.data.readers.limits import Limits, read_bytes, safe_file
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.record import DigitalRecord, standard_lead_name


def read_edf(path: Path, hints: Hints, limits: Limits) -> DigitalRecord:
    """The ordinary signals of an EDF file as 16-bit integers with their scale; annotations are left out.

    All signals read must share one rate and be voltages; `lead_names` chooses among them.
    """
    resolved = safe_file(path, hints.root, follow_links=hints.follow_links)
    check_edf_header(resolved, limits)
    try:
        import edfio
    except ImportError as error:
        raise MissingDependencyError("EDF files need edfio: pip install 'ecg_transformers[edf]'.", path=path) from error
    try:
        file = edfio.read_edf(resolved)
        signals = [_Signal(signal) for signal in file.signals]
    except ECGDataError:
        raise
    except Exception as error:  # edfio raises whatever its parsing trips over
        raise UnsupportedFormatError(f"edfio cannot read this file ({brief(error)}).", path=path) from error
    if not signals:
        raise SignalError("the file holds no signals.", path=path)
    names = [standard_lead_name(signal.label) for signal in signals]
    chosen = pick(names, hints.lead_names, path, path.stem) if hints.lead_names else list(range(len(signals)))
    kept = [signals[index] for index in chosen]
    rates = sorted({signal.rate for signal in kept})
    if len(rates) > 1 or len({signal.samples.size for signal in kept}) > 1:
        raise SignalError(f"the signals have the rates {rates} Hz; pass lead_names=[…] of one rate.", path=path)
    gain, offset = _scale(kept, hints.units, path)
    return DigitalRecord(
        samples=np.stack([np.maximum(signal.samples, -32767) for signal in kept], axis=1).astype(np.int16),
        gain=gain,
        offset=offset,
        sampling_rate=agreed_rate(hints, rates[0], path) or rates[0],
        lead_names=[names[index] for index in chosen],
        record_id=path.stem,
        source=str(path),
    )


class _Signal:
    """What is needed of an edfio signal, taken out at once so that its errors surface in one place."""

    def __init__(self, signal: Any) -> None:
        self.label = str(signal.label)
        self.rate = float(signal.sampling_frequency)
        self.unit = str(signal.physical_dimension)
        self.samples = np.asarray(signal.digital)
        self.physical = (float(signal.physical_min), float(signal.physical_max))
        self.digital = (int(signal.digital_min), int(signal.digital_max))


def _scale(signals: list[_Signal], units: str | None, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Gain in units per millivolt and digital value of 0 mV."""
    gains, offsets = [], []
    for signal in signals:
        per_millivolt = units_per_millivolt(units or signal.unit)
        if per_millivolt is None:
            raise UnitError(
                f"the unit {signal.unit!r} is not a voltage; pass lead_names=[…] to read only the ECG leads.",
                path=path,
                lead=signal.label,
            )
        (low, high), (digital_low, digital_high) = signal.physical, signal.digital
        if high == low or digital_high <= digital_low:
            raise HeaderError("the physical or digital range is empty.", path=path, lead=signal.label)
        gain = (digital_high - digital_low) / (high - low)
        gains.append(gain * per_millivolt)
        offsets.append(digital_low - low * gain)
    return np.array(gains), np.array(offsets)


def check_edf_header(path: Path, limits: Limits) -> None:
    """Sizes that the header declares fit the file, before a library allocates them."""
    with path.open("rb") as stream:
        head = stream.read(256)
    if len(head) < 256 or head[:8].strip() not in (b"0",):
        raise UnsupportedFormatError("this is no EDF file.", path=path)
    try:
        header_bytes, records, num_signals = int(head[184:192]), int(head[236:244]), int(head[252:256])
        duration = float(head[244:252])
    except ValueError as error:
        raise HeaderError(f"a number of the EDF header cannot be read ({error}).", path=path) from error
    limits.check_shape(0, num_signals, path=path)
    if num_signals < 1 or header_bytes != 256 * (num_signals + 1) or records < 1 or not 0 < duration < 1e6:
        raise HeaderError(
            f"the EDF header declares {num_signals} signals, {records} data records of {duration} s in {header_bytes} "
            "bytes; a recording that was not closed has -1 records.",
            path=path,
        )
    content = read_bytes(path, limits.max_file_bytes, follow_links=True)  # whether a link may be followed is decided
    start = 256 + num_signals * 216
    try:
        samples = [int(content[start + 8 * i : start + 8 * i + 8]) for i in range(num_signals)]
    except ValueError as error:
        raise HeaderError(f"the number of samples of a signal cannot be read ({error}).", path=path) from error
    if min(samples) < 1:
        raise HeaderError("a signal has no samples per data record.", path=path)
    if max(samples) * records > limits.max_samples:
        raise LimitError(f"{max(samples) * records} samples are declared, beyond the limit.", path=path)
    if header_bytes + 2 * sum(samples) * records > len(content):
        raise TruncatedError(
            f"the header promises {2 * sum(samples) * records} bytes of samples, {len(content) - header_bytes} follow.",
            path=path,
        )
