"""The samples of a WFDB signal file: two formats read directly, checksums, choice of leads, scale."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from glob import escape
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ecg_transformers.data.errors import ChecksumError, HeaderError, RecordNotFoundError, SignalError, UnitError
from ecg_transformers.data.millivolts import INVALID
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.leads import distinct_names
from ecg_transformers.data.readers.limits import open_file, read_array
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.data.readers.wfdb.header import Header, PathLike, Signal
from ecg_transformers.data.record import standard_lead_names

ChecksumPolicy = Literal["error", "warn", "ignore"]
INVALID_212 = -2048  # "no value" in 12 bits


class Request(NamedTuple):
    """What the caller wants of a record, handed on to the slow path."""

    lead_names: list[str] | None
    units: str | None
    checksum: ChecksumPolicy
    strict: bool
    follow_links: bool
    allow_truncated: bool = False
    part: Hints | None = None


def read_format_16(descriptor: int, count: int, byte_offset: int = 0, first: int = 0) -> np.ndarray:
    """`count` samples, from the sample `first` on, of an open file of 16-bit little-endian integers."""
    return read_array(descriptor, "<i2", count, byte_offset + 2 * first).astype(np.int16, copy=False)


def read_format_212(descriptor: int, count: int, byte_offset: int = 0, first: int = 0) -> np.ndarray:
    """`count` samples, from the sample `first` on, of an open file of 12-bit integers, two in three bytes; -2048 (no
    value) as -32768.

    Bytes b0 b1 b2 hold the samples `b1[3:0] b0` and `b1[7:4] b2`, each with its sign in bit 11. Both are moved to the
    top of an int16 and shifted back, which spreads the sign.
    """
    before = first % 2
    pairs = (before + count + 1) // 2
    packed = read_array(descriptor, "u1", pairs * 3, byte_offset + first // 2 * 3)
    if packed.size < pairs * 3:  # an odd count may end after two bytes
        packed = np.concatenate([packed, np.zeros(pairs * 3 - packed.size, dtype=np.uint8)])
    packed = packed.reshape(pairs, 3)
    middle = packed[:, 1].astype(np.uint16)
    samples = np.empty((pairs, 2), dtype=np.uint16)
    np.left_shift(middle, 12, out=samples[:, 0])
    samples[:, 0] |= packed[:, 0].astype(np.uint16) << 4
    np.left_shift(middle & 0xF0, 8, out=samples[:, 1])
    samples[:, 1] |= packed[:, 2].astype(np.uint16) << 4
    values = samples.view(np.int16).reshape(-1)[before : before + count]
    values >>= 4
    if values.size and values.min() == INVALID_212:
        values[values == INVALID_212] = INVALID
    return values


def verify_checksums(
    samples: np.ndarray,
    signals: tuple[Signal, ...],
    path: PathLike,
    record: str,
    policy: ChecksumPolicy,
    flags: list[str],
) -> None:
    """Compare the 16-bit sum of each signal with its header; a header whose sums are all 0 states none.

    Args:
        samples: `(T, L)` as stored; int16 samples of format 212 have their invalid values as -32768.
    """
    sums = sums_16_bit(samples) if samples.dtype == np.int16 else samples.sum(axis=0, dtype=np.int64)
    if samples.dtype == np.int16 and signals[0].fmt == "212" and samples.min() == INVALID:
        sums += (samples == INVALID).sum(axis=0) * (INVALID_212 - INVALID)
    compare_checksums(sums, signals, path, record, policy, flags)


def compare_checksums(
    sums: np.ndarray,
    signals: tuple[Signal, ...],
    path: PathLike,
    record: str,
    policy: ChecksumPolicy,
    flags: list[str],
) -> None:
    """The sums of the samples `(L,)` against those of the header, modulo 65536."""
    stated = [signal.checksum for signal in signals]
    if not any(stated):
        flags.append("checksum_absent")
        return
    pairs = zip(stated, sums.tolist())
    wrong = [(n, of, total) for n, (of, total) in enumerate(pairs) if of is not None and (total - of) % 65536]
    if wrong and policy == "warn":
        flags.append("checksum_mismatch")
    elif wrong:
        index, of, total = wrong[0]
        raise ChecksumError(
            f"the samples have the checksum {total % 65536}, the header states {of % 65536}: the "
            "signal file is damaged or belongs to another header (checksum='ignore' reads it all the same).",
            path=path,
            record=record,
            lead=signals[index].name,
        )


def sums_16_bit(samples: np.ndarray) -> np.ndarray:
    """Sum of each lead of int16 samples `(T, L)`, right modulo 65536; int64 `(L,)`."""
    words = np.ascontiguousarray(samples).view(np.uint16)  # sums modulo 65536 need no wider numbers
    length, leads = words.shape
    block = math.gcd(length, 960) if length % 20 == 0 else 64 if length > 2000 else 16  # long inner loops
    total = np.zeros(block * leads, np.uint16)
    whole = length // block * block
    np.add.reduce(words[:whole].reshape(-1, block * leads), axis=0, dtype=np.uint16, out=total)
    if whole < length:
        rest = words[whole:].reshape(-1)
        total[: rest.size] += rest
    return np.add.reduce(total.reshape(block, leads), 0, np.uint16).astype(np.int64)


def lead_names_of(signals: tuple[Signal, ...], flags: list[str]) -> list[str]:
    """The names of the signals in their usual spelling; later ones of a kind are numbered (`ECG`, `ECG 2`)."""
    names, numbered = _names_of(tuple([signal.name for signal in signals]))
    flags += numbered
    return list(names)


@lru_cache(maxsize=1024)
def _names_of(texts: tuple[str, ...]) -> tuple[list[str], list[str]]:
    flags: list[str] = []
    return distinct_names(standard_lead_names(texts), flags), flags


def beside(header_path: PathLike, name: str) -> str:
    """The file of some name, which holds no slash, in the folder of a header."""
    return os.path.join(os.path.dirname(os.fspath(header_path)), name)


def open_signal_file(
    header_path: PathLike, name: str, root: PathLike | None, record: str, follow_links: bool
) -> tuple[int, int]:
    """Descriptor and size of a signal file, which lies beside its header.

    Raises:
        RecordNotFoundError: it is not there; the sentence names the header, and a file that may be meant.
    """
    path = beside(header_path, name)
    try:
        return open_file(path, root, follow_links=follow_links, folder_is_safe=True)
    except RecordNotFoundError as error:
        likely = [name + ending for ending in (".dat", ".mat", ".dat.gz", ".gz") if os.path.exists(path + ending)]
        meant = ""
        if likely:
            packed = likely[0].endswith(".gz")
            meant = f"; there is {likely[0]}, {'which has to be unpacked' if packed else 'is it that?'}"
        elif alike := [own for own in os.listdir(os.path.dirname(path) or ".") if own.lower() == name.lower()]:
            meant = f"; there is {alike[0]}: letter case matters"
        elif below := sorted(Path(path).parent.glob(f"*/{escape(name)}")):
            meant = f"; there is {below[0].parent.name}/{name} in a folder: put it beside its header"
        raise RecordNotFoundError(
            f"the header {os.path.basename(header_path)} names the signal file {name!r}, which is not there{meant}; "
            "lead_names=[…] reads leads of other files alone.",
            path=header_path,
            record=record,
        ) from error


def matlab_samples(value: np.ndarray, header: Header, path: PathLike) -> np.ndarray:
    """The array `val` `(leads, samples)` of a MATLAB file with a header as int16 `(T, L)`.

    Raises:
        SignalError: it is not what the header promises.
    """
    if value.shape[0] != len(header.signals) or (header.num_samples or value.shape[1]) != value.shape[1]:
        raise SignalError(
            f"'val' is {value.shape[0]} x {value.shape[1]}, the header promises {len(header.signals)} leads of "
            f"{header.num_samples} samples.",
            path=path,
            record=header.record_name,
        )
    if value.size and (value.min() < -32768 or value.max() > 32767 or not np.all(value == np.rint(value))):
        raise SignalError(
            "'val' holds values that are no 16-bit integers, but has a WFDB header.",
            path=path,
            record=header.record_name,
        )
    return np.ascontiguousarray(value.T).astype(np.int16)


def rest_is_read(found: int) -> str:
    """The end of a sentence about a file that ends early: the way out, where something is left to read."""
    return "; pass allow_truncated=True to read what is there." if found else "."


def scale_of(
    chosen: list[int],
    signals: tuple[Signal, ...],
    units: str | None,
    path: PathLike,
    record: str,
    strict: bool,
    flags: list[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Gain (units per millivolt) and offset of the chosen signals."""
    stated = tuple([signals[index][5:10] for index in chosen])  # gain, baseline, units, gain_defaulted, name
    try:
        gains, offsets, assumed = _scale_of(stated, units, strict)
    except (HeaderError, UnitError) as error:
        raise type(error)(error.reason, path=path, record=record, lead=error.lead) from None
    flags += assumed
    return np.array(gains), np.array(offsets)


@lru_cache(maxsize=1024)
def _scale_of(
    stated: tuple[tuple[float, int, str, bool, str], ...], units: str | None, strict: bool
) -> tuple[list[float], list[float], list[str]]:
    gains, offsets, flags = [], [], []
    for stated_gain, baseline, unit, defaulted, lead in stated:
        if defaulted:
            if strict:
                raise HeaderError("the header gives no gain (strict=True).", lead=lead)
            flags.append("gain_defaulted")
        if stated_gain < 0:
            flags.append("inverted_gain")
        per_millivolt = units_per_millivolt(units or unit)
        if per_millivolt is None:
            raise UnitError(
                f"the unit {unit!r} is not a voltage (V, mV, uV or nV); pass lead_names=[…] to read only the "
                "ECG leads, or units='mV' if the header is wrong.",
                lead=lead,
            )
        gain = stated_gain * per_millivolt
        if not 1e-9 <= abs(gain) <= 1e12:
            raise HeaderError(f"the gain {stated_gain} is absurd.", lead=lead)
        gains.append(gain)
        offsets.append(float(baseline))
    return gains, offsets, flags
