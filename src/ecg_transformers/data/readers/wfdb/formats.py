"""The sample formats of WFDB signal files, bytes to integers (signal(5) of the WFDB documentation)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

# Bytes for a number of values; FLAC (508, 516, 524) has no fixed size.
_BITS = {"8": 8, "16": 16, "24": 24, "32": 32, "61": 16, "80": 8, "160": 16, "212": 12, "310": 32 / 3, "311": 32 / 3}
FLAC_BITS = {"508": 8, "516": 16, "524": 24}
IN_PARTS_TOO = {"16", "24", "32", "61", "80", "160", *FLAC_BITS}
"""Formats of which a part can be read without the samples before it."""
INVALID_VALUE = {
    "16": -(2**15),
    "24": -(2**23),
    "32": -(2**31),
    "61": -(2**15),
    "80": -(2**7),
    "160": -(2**15),
    "212": -(2**11),
    "310": -(2**9),
    "311": -(2**9),
    "508": -(2**7),
    "516": -(2**15),
    "524": -(2**23),
}
"""What stands for "no value"; format 8, of differences, has no such value."""


def values_in(fmt: str, size: int) -> int:
    """How many whole values some bytes hold."""
    return int(size * 8 / _BITS[fmt] + 1e-9)


def bytes_of(fmt: str, count: int) -> int:
    """How many bytes some values need."""
    return math.ceil(count * _BITS[fmt] / 8 - 1e-9)


def decode(fmt: str, content: bytes, count: int) -> np.ndarray:
    """The first `count` values, int64 (format 8: the differences as stored)."""
    if fmt in ("8", "16", "32", "61"):
        values = np.frombuffer(content, {"8": "i1", "16": "<i2", "32": "<i4", "61": ">i2"}[fmt])
    elif fmt == "80":
        values = np.frombuffer(content, "u1").astype(np.int64) - 128
    elif fmt == "160":
        values = np.frombuffer(content, "<u2").astype(np.int64) - 32768
    elif fmt == "24":
        triples = np.frombuffer(content, "u1")[: len(content) // 3 * 3].reshape(-1, 3).astype(np.int64)
        values = _signed(triples @ np.array([1, 256, 65536]), 24)
    elif fmt == "212":
        low, middle, high = _groups(content, "u1", 3).T
        values = _signed(np.stack([low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4], 1).reshape(-1), 12)
    elif fmt == "310":
        first, second = _groups(content, "<u2", 2).T
        third = first >> 11 | (second >> 11) << 5
        values = _signed(np.stack([first >> 1, second >> 1, third], 1).reshape(-1), 10)
    else:
        words = _groups(content, "<u4", 1)[:, 0]
        values = _signed(np.stack([words, words >> 10, words >> 20], 1).reshape(-1), 10)
    return values[:count].astype(np.int64, copy=False)


def _groups(content: bytes, dtype: str, width: int) -> np.ndarray:
    """Words by `width`, the last group filled up with zeros."""
    size = np.dtype(dtype).itemsize * width
    padded = content + b"\0" * (-len(content) % size)
    return np.frombuffer(padded, dtype).reshape(-1, width).astype(np.int64)


def _signed(values: np.ndarray, bits: int) -> np.ndarray:
    """The lowest `bits` of integers as two's complement."""
    return ((values & (1 << bits) - 1) ^ 1 << bits - 1) - (1 << bits - 1)


# a damaged FLAC file is read in steps of so many samples, of which the last is lost
_FLAC_STEP = 64


def decode_flac(path: Path, fmt: str, num_channels: int, start: int, count: int, *, may_be_cut: bool) -> np.ndarray:
    """`count` values of each channel of a FLAC file from the value `start` on, int64 `(T, channels)`.

    With `may_be_cut` a file that ends early gives fewer, those of its whole blocks.

    Raises:
        ValueError: no FLAC file, or another number of channels.
    """
    import soundfile

    try:
        with soundfile.SoundFile(str(path)) as stream:
            if stream.format != "FLAC" or stream.channels != num_channels:
                raise ValueError(f"a {stream.format} file of {stream.channels} channels instead of {num_channels}")
            try:
                stream.seek(min(start, stream.frames))
                values = stream.read(count, dtype="int32", always_2d=True)
            except RuntimeError:
                if not may_be_cut:
                    raise
                values = _whole_blocks(path, start + count)[start:]
    except RuntimeError as error:  # what the library raises for damaged files
        raise ValueError(str(error)) from error
    return values.astype(np.int64) >> 32 - FLAC_BITS[fmt]


def _whole_blocks(path: Path, stop: int) -> np.ndarray:
    """What can be read of a damaged FLAC file up to the damage, `(T, channels)`; nothing may be left."""
    import soundfile

    with soundfile.SoundFile(str(path)) as stream:
        blocks = [np.zeros((0, stream.channels), np.int32)]
        try:
            for block in stream.blocks(_FLAC_STEP, frames=stop, dtype="int32", always_2d=True):
                blocks.append(block)
        except RuntimeError:  # here it ends; the caller compares with what the header promises
            pass
    return np.concatenate(blocks)
