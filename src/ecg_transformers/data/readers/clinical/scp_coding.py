"""How SCP-ECG packs samples: Huffman codes (the standard's own table or a file's), then differences."""

from __future__ import annotations

import struct
from bisect import bisect_right
from functools import lru_cache
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import HeaderError, LimitError, UnsupportedFormatError

DEFAULT_TABLE = 19999
_MOST_TABLES, _MOST_CODES = 64, 4096
_BITS = 32  # of the longest prefix
_SHORT = 12
_LONG = -2

_Code = tuple[int, int, bool, int, int]
"""Prefix bits, total bits, whether it is a value (or a switch), value, and the prefix itself."""


class Tables:
    """Huffman tables; codes are counted over all of them.

    Every number of 32 bits belongs to the code that it begins with, so each code is a range of numbers, found by
    bisection, or at once where its first bits tell: how many codes there are, and how long, costs nothing.

    Attributes:
        prefix, total: bits that tell a code, and all its bits; those between are a number in two's complement.
        is_value: False for a code that switches to the table `value`, counted from 1.
        value: what a code without bits behind its prefix stands for.
        lookup: for each table the code of each `_SHORT` first bits (`_LONG` where they do not decide), the first number
            of each range, and its code; -1 for none.
    """

    def __init__(self, tables: list[list[_Code]]) -> None:
        codes = np.array([code for table in tables for code in table], dtype=np.int64)
        self.prefix, self.total, self.is_value, self.value, _ = codes.T
        self.lookup: list[tuple[list[int], list[int], list[int]]] = []
        first = 0
        for table in tables:
            low = np.array([pattern << _BITS - prefix for prefix, *_, pattern in table])
            high = np.array([(pattern + 1) << _BITS - prefix for prefix, *_, pattern in table])
            edges = np.unique([0, *low, *high])
            owner = np.full(len(edges), -1)
            ranges = np.searchsorted(edges, np.stack([low, high], axis=1)).tolist()
            for place in sorted(range(len(table)), key=lambda place: -table[place][0]):  # the shortest prefix counts
                owner[slice(*ranges[place])] = first + place
            begins = np.arange(2**_SHORT) << _BITS - _SHORT
            lowest = np.searchsorted(edges, begins, side="right")
            highest = np.searchsorted(edges, begins + (1 << _BITS - _SHORT) - 1, side="right")
            short = np.where(lowest == highest, owner[lowest - 1], _LONG)
            self.lookup.append((short.tolist(), edges.tolist(), owner.tolist()))
            first += len(table)


def read_tables(body: bytes, path: Path) -> Tables:
    """The tables of section 2, or the default one that it names.

    Raises:
        HeaderError: tables that end early, or codes that cannot be.
    """
    if len(body) < 2:
        raise HeaderError("section 2 (Huffman tables) is empty.", path=path)
    (count,) = struct.unpack("<H", body[:2])
    if count == DEFAULT_TABLE:
        return default_tables()
    tables: list[list[_Code]] = []
    at, most = 2, _MOST_CODES
    for _ in range(count):
        (number,) = struct.unpack("<H", body[at : at + 2].ljust(2, b"\0"))
        at += 2
        if number == 0 or at + 9 * number > len(body):
            raise HeaderError(f"section 2 declares a Huffman table of {number} codes, beyond its end.", path=path)
        most -= number
        if most < 0 or len(tables) == _MOST_TABLES:
            raise LimitError(
                f"section 2 declares more than {_MOST_TABLES} Huffman tables or {_MOST_CODES} codes.", path=path
            )
        table = []
        for prefix, total, mode, value, pattern in struct.iter_unpack("<BBBhI", body[at : at + 9 * number]):
            if not 1 <= prefix <= total or prefix > _BITS or total - prefix > 16 or mode not in (0, 1):
                raise HeaderError("section 2 holds a Huffman code that cannot be.", path=path)
            key = int(f"{pattern & (1 << prefix) - 1:0{prefix}b}"[::-1], 2)  # stored first bit lowest
            table.append((prefix, total, mode == 1, value, key))
        at += 9 * number
        tables.append(table)
    if not tables:
        raise UnsupportedFormatError("section 2 declares no Huffman table.", path=path)
    return Tables(tables)


@lru_cache(maxsize=1)
def default_tables() -> Tables:
    """The standard's own table: 0 is `0`; k = 1 to 8 is k ones, `0` and a sign; ten bits announce 8 or 16 bits."""
    table: list[_Code] = [(1, 1, True, 0, 0), (10, 18, True, 0, 1022), (10, 26, True, 0, 1023)]
    for size in range(1, 9):
        ones = (1 << size) - 1 << 2
        table += [(size + 2, size + 2, True, size, ones), (size + 2, size + 2, True, -size, ones | 1)]
    return Tables([table])


def decode(content: bytes, count: int, tables: Tables, path: Path) -> np.ndarray:
    """At most `count` numbers of one lead, fewer where its bytes end.

    Raises:
        HeaderError: bits that are no code, or a switch to a table that is not there.
    """
    length = 8 * len(content)
    padded = np.frombuffer(content + bytes(8), np.uint8).astype(np.int64)
    words = np.zeros(len(content) + 1, dtype=np.int64)
    for place in range(5):  # 40 bits from each byte on
        words = words << 8 | padded[place : place + len(words)]
    starts, codes = _walk(words.tolist(), length, count, tables, path)
    found, places = np.array(codes, dtype=np.int64), np.array(starts, dtype=np.int64)
    values, width = tables.value[found], (tables.total - tables.prefix)[found]
    long = np.flatnonzero(width)
    behind, width = (places + tables.prefix[found])[long], width[long]
    patterns = words[behind >> 3] >> 40 - (behind & 7) - width & (1 << width) - 1
    values[long] = patterns - (patterns >> width - 1 << width)
    return values


def _walk(words: list[int], length: int, count: int, tables: Tables, path: Path) -> tuple[list[int], list[int]]:
    """The first bits of the first `count` codes that are values, and which codes they are."""
    starts: list[int] = []
    codes: list[int] = []
    total, is_value, value = tables.total.tolist(), tables.is_value.tolist(), tables.value.tolist()
    at, switches = 0, 0
    begins, edges, owner = tables.lookup[0]
    while len(starts) < count and at < length:
        word = words[at >> 3] >> 8 - (at & 7) & 0xFFFFFFFF
        code = begins[word >> _BITS - _SHORT]
        if code == _LONG:
            code = owner[bisect_right(edges, word) - 1]
        if code < 0:
            if length - at < 8:  # the rest of the last byte
                break
            raise HeaderError("the samples hold a code that is in no Huffman table.", path=path)
        behind = at + total[code]
        if behind > length:
            break
        if is_value[code]:
            starts.append(at)
            codes.append(code)
        else:
            switches += 1
            if not 1 <= value[code] <= len(tables.lookup) or switches > count:
                raise HeaderError(
                    f"a Huffman code switches to table {value[code]}, which is not there, or more often than there are "
                    "samples.",
                    path=path,
                )
            begins, edges, owner = tables.lookup[value[code] - 1]
        at = behind
    return starts, codes


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
