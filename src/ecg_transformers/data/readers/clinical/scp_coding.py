"""How SCP-ECG packs samples: Huffman codes (the standard's own table or a file's), then differences."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import HeaderError, UnsupportedFormatError

DEFAULT_TABLE = 19999
_MOST_CODES = 4096


@dataclass(frozen=True)
class Code:
    """One code: `prefix` bits of `total` tell it; the rest is a number in two's complement, or `value` stands."""

    prefix: int
    total: int
    is_value: bool
    value: int


Table = dict[tuple[int, int], Code]
"""Codes by (prefix bits, pattern)."""


def read_tables(body: bytes, path: Path) -> list[Table] | None:
    """The tables of section 2; None for the default one.

    Raises:
        HeaderError: tables that end early, or codes that cannot be.
    """
    if len(body) < 2:
        raise HeaderError("section 2 (Huffman tables) is empty.", path=path)
    (count,) = struct.unpack("<H", body[:2])
    if count == DEFAULT_TABLE:
        return None
    tables: list[Table] = []
    at = 2
    for _ in range(count):
        (number,) = struct.unpack("<H", body[at : at + 2].ljust(2, b"\0"))
        at += 2
        if number == 0 or number > _MOST_CODES or at + 9 * number > len(body):
            raise HeaderError(f"section 2 declares a Huffman table of {number} codes, beyond its end.", path=path)
        table: Table = {}
        for _ in range(number):
            prefix, total, mode, value, pattern = struct.unpack("<BBBhI", body[at : at + 9])
            at += 9
            if not 1 <= prefix <= total or prefix > 32 or total - prefix > 16 or mode not in (0, 1):
                raise HeaderError("section 2 holds a Huffman code that cannot be.", path=path)
            key = int(f"{pattern & (1 << prefix) - 1:0{prefix}b}"[::-1], 2)  # stored first bit lowest
            table[prefix, key] = Code(prefix, total, mode == 1, value)
        tables.append(table)
    if not tables:
        raise UnsupportedFormatError("section 2 declares no Huffman table.", path=path)
    return tables


def decode(content: bytes, count: int, tables: list[Table] | None, path: Path) -> np.ndarray:
    """At most `count` numbers of one lead, fewer where its bytes end."""
    return _decode_default(content, count) if tables is None else _decode_with(content, count, tables, path)


def _ones_in_front() -> np.ndarray:
    words = np.arange(1024)
    return np.array([10 - int(1023 - word).bit_length() for word in words])


_ONES = _ones_in_front()
_TOTAL = np.where(_ONES == 0, 1, _ONES + 2)
_TOTAL[_ONES == 9], _TOTAL[_ONES == 10] = 18, 26
_SIGN = np.array([(word >> (8 - ones)) & 1 if 0 < ones <= 8 else 0 for word, ones in enumerate(_ONES.tolist())])
_SHORT = np.where(_ONES <= 8, np.where(_SIGN == 1, -_ONES, _ONES), 0)


def _decode_default(content: bytes, count: int) -> np.ndarray:
    """The default table: 0 is `0`; k = 1 to 8 is k ones, `0` and a sign; ten bits announce 8 or 16 bits.

    What would begin at each bit is looked up for all bits at once; only the walk from code to code is a loop.
    """
    bits = np.unpackbits(np.frombuffer(content, np.uint8)).astype(np.int64)
    length = len(bits)
    padded = np.concatenate([bits, np.zeros(32, np.int64)])
    words = np.zeros(length, dtype=np.int64)
    for place in range(10):
        words = words << 1 | padded[place : place + length]
    behind = (np.arange(length) + _TOTAL[words]).tolist()
    starts: list[int] = []
    at = 0
    while len(starts) < count and at < length:
        starts.append(at)
        at = behind[at]
    if starts and at > length:  # the last code is cut
        starts.pop()
    places = np.array(starts, dtype=np.int64)
    found = words[places]
    values = _SHORT[found]
    for ones, width in ((9, 8), (10, 16)):
        long = np.flatnonzero(_ONES[found] == ones)
        patterns = padded[places[long][:, None] + 10 + np.arange(width)] @ (1 << np.arange(width - 1, -1, -1))
        values[long] = patterns - (patterns >> (width - 1) << width)
    return values


def _decode_with(content: bytes, count: int, tables: list[Table], path: Path) -> np.ndarray:
    """Tables of the file's own: code by code, shortest prefix first."""
    text = int.from_bytes(content, "big")
    length = 8 * len(content)
    sizes = [sorted({prefix for prefix, _ in table}) for table in tables]
    bits = f"{text:0{length}b}" if length else ""
    values: list[int] = []
    at, number, switches = 0, 0, 0
    while len(values) < count and at < length:
        table = tables[number]
        code = _code_at(bits, at, table, sizes[number])
        if code is None:
            if length - at < 8:  # the rest of the last byte
                break
            raise HeaderError("the samples hold a code that is in no Huffman table.", path=path)
        if at + code.total > length:
            break
        if not code.is_value:
            if not 1 <= code.value <= len(tables) or switches > length:
                raise HeaderError(f"a Huffman code switches to table {code.value}, which is not there.", path=path)
            number, switches = code.value - 1, switches + 1
        elif code.total == code.prefix:
            values.append(code.value)
        else:
            width = code.total - code.prefix
            pattern = int(bits[at + code.prefix : at + code.total], 2)
            values.append(pattern - (pattern >> (width - 1) << width))
        at += code.total
    return np.array(values, dtype=np.int64)


def _code_at(bits: str, at: int, table: Table, sizes: list[int]) -> Code | None:
    """The code that begins at a bit, None where no prefix of the table fits."""
    for size in sizes:
        if at + size > len(bits):
            return None
        code = table.get((size, int(bits[at : at + size], 2)))
        if code is not None:
            return code
    return None


def undo_differences(values: np.ndarray, coding: int, path: Path) -> np.ndarray:
    """Samples from amplitudes (0), first (1) or second differences (2), in 16 bits that wrap around."""
    values = values.astype(np.int64)
    if coding == 1:
        values = np.cumsum(values)
    elif coding == 2 and values.size > 2:
        # x[n] = d[n] + 2 x[n-1] - x[n-2]: the slope is a sum of d, the samples are a sum of the slope
        slope = values[1] - values[0] + np.concatenate([[0], np.cumsum(values[2:])])
        values = values[0] + np.concatenate([[0], np.cumsum(slope)])
    elif coding not in (0, 1, 2):
        raise UnsupportedFormatError(
            f"the coding {coding} is none of amplitudes, first and second differences.", path=path
        )
    return ((values + 32768) & 0xFFFF) - 32768
