"""Philips XLI: second differences, high and low bytes apart, packed by LZW with codes of ten bits."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import HeaderError, TruncatedError

_END = 1023
_MOST_CODES = 1023  # entries 256 to 1022 are made on the way


def unpack_leads(
    content: bytes, num_leads: int, num_samples: int, path: Path, *, allow_truncated: bool = False
) -> tuple[np.ndarray, int]:
    """int32 `(T, L)` of the first chunks, and how many leads are whole; files hold sixteen chunks for twelve leads.

    With `allow_truncated` the leads behind the end of the data are zeros.

    Raises:
        TruncatedError: the data ends within a lead.
        HeaderError: a chunk unpacks to more samples than declared (a small one may grow without end), or is damaged.
    """
    leads: list[np.ndarray] = []
    at = 0
    try:
        for number in range(1, num_leads + 1):
            column, at = _lead(content, at, number, num_samples, path)
            leads.append(column)
    except TruncatedError:
        if not allow_truncated or not leads:
            raise
    whole = len(leads)
    leads += [np.zeros(num_samples, dtype=np.int32)] * (num_leads - whole)
    return np.stack(leads, axis=1), whole


def _lead(content: bytes, at: int, number: int, num_samples: int, path: Path) -> tuple[np.ndarray, int]:
    """The samples of the chunk at a place, and where the next one begins."""
    if at + 8 > len(content):
        raise TruncatedError(f"the XLI data end before lead {number}.", path=path)
    size, _, first = struct.unpack("<iHh", content[at : at + 8])
    at += 8
    if size < 0 or at + size > len(content):
        raise TruncatedError(
            f"the XLI chunk of lead {number} declares {size} bytes, {len(content) - at} follow.", path=path
        )
    return integrate(lzw(content[at : at + size], 2 * num_samples, number, path), first), at + size


def lzw(packed: bytes, expected: int, number: int, path: Path) -> bytes:
    """The bytes of one chunk, `expected` of them and not one more."""
    most = (expected + 2) * 10 // 8 + 2  # every code gives a byte at least
    codes = _codes(packed[:most]).tolist()
    codes = codes[: codes.index(_END)] if _END in codes else codes
    table = [bytes([value]) for value in range(256)]
    parts: list[bytes] = []
    before, place = b"", 0
    while place < len(codes) and len(table) < _MOST_CODES:
        code = codes[place]
        if code < len(table):
            entry = table[code]
        elif code == len(table) and before:
            entry = before + before[:1]
        else:
            raise HeaderError(f"the XLI chunk of lead {number} is damaged.", path=path)
        parts.append(entry)
        if before:
            table.append(before + entry[:1])
        before, place = entry, place + 1
    parts += map(table.__getitem__, codes[place:])  # the table is full, and most of a lead still to come
    length = sum(map(len, parts))
    if length > expected:
        raise HeaderError(f"the XLI chunk of lead {number} unpacks to more than {expected} bytes.", path=path)
    if length < expected:
        raise TruncatedError(
            f"the XLI chunk of lead {number} ends early: {length} bytes of {expected} were unpacked.", path=path
        )
    return b"".join(parts)


def _codes(packed: bytes) -> np.ndarray:
    """Numbers of ten bits, high bit first: four in five bytes."""
    whole = len(packed) * 8 // 10
    a, b, c, d, e = np.frombuffer(packed + bytes(-len(packed) % 5), np.uint8).astype(np.uint16).reshape(-1, 5).T
    four = (a << 2 | b >> 6, (b & 63) << 4 | c >> 4, (c & 15) << 6 | d >> 2, (d & 3) << 8 | e)
    return np.stack(four, axis=1).reshape(-1)[:whole]


def integrate(unpacked: bytes, first: int) -> np.ndarray:
    """Samples from high bytes, then low bytes of the second differences: x[i] = 2 x[i-1] - x[i-2] - last, and last is
    `first` at i = 2 and d[i-1] - 64 behind it.
    """
    half = len(unpacked) // 2
    content = np.frombuffer(unpacked, np.uint8)
    d = ((content[:half].astype(np.int64) << 8 | content[half:]) ^ 0x8000) - 0x8000
    if half < 3:
        return d.astype(np.int32)
    last = d[1:-1] - 64
    last[0] = first
    slope = d[1] - d[0] - np.concatenate([[0], np.cumsum(last)])
    result = d[0] + np.concatenate([[0], np.cumsum(slope)])
    if np.abs(result).max() >= 2**31:
        return np.clip(result, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return result.astype(np.int32)


def restore_limb_leads(counts: np.ndarray) -> np.ndarray:
    """III, aVR, aVL and aVF from what is stored of them: what is left over after Einthoven and Goldberger.

    Halves of odd sums are rounded down, as two public readers do; others round towards zero, one count apart.
    """
    result = counts.copy()
    one, two = counts[:, 0], counts[:, 1]
    result[:, 2] = three = two - one - counts[:, 2]
    result[:, 3] = -counts[:, 3] - (one + two) // 2
    result[:, 4] = (one - three) // 2 - counts[:, 4]
    result[:, 5] = (two + three) // 2 - counts[:, 5]
    return result
