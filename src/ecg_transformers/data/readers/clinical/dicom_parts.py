"""A DICOM waveform file whose samples stay on the disk: all else of it as a small file, and where the samples lie.

A recording of a day would otherwise be held several times over, by its bytes and by what pydicom makes of them.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from ecg_transformers.data.errors import LimitError, UnsafePathError
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.limits import Limits, open_file

_SYNTAXES = {
    b"1.2.840.10008.1.2": ("<", False),
    b"1.2.840.10008.1.2.1": ("<", True),
    b"1.2.840.10008.1.2.2": (">", True),
}
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFFFFFF
_SEQUENCE, _SAMPLES = (0x5400, 0x0100), (0x5400, 0x1010)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_MAX_DEPTH = 8
_MAX_REST = 2**24
"""Bytes of a file without its samples."""


class _NotUnderstood(ValueError):
    """The file is not laid out as expected here; it is read whole instead, which also says what is wrong with it."""


def without_samples(path: Path, hints: Hints, limits: Limits) -> tuple[bytes, list[memoryview]] | None:
    """The file without its samples, and the samples of each multiplex group, which are read when they are looked at.

    None for a file that has to be read whole: deflated, cut short, without a preamble, or laid out in another way.

    Raises:
        ECGDataError: no regular file below the root, or a larger one than the limits allow.
    """
    descriptor, size = open_file(path, hints.root, follow_links=hints.follow_links)
    try:
        if size > limits.max_file_bytes:
            raise LimitError(
                f"the file has {size} bytes, more than the {limits.max_file_bytes} allowed here.", path=path
            )
        if size < 256:
            return None
        content = memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise UnsafePathError(f"the file cannot be read ({error.strerror or error}).", path=path) from error
    finally:
        os.close(descriptor)
    try:
        return _Walk(content, *_syntax(content)).split()
    except (_NotUnderstood, struct.error):
        return None


def _syntax(content: memoryview) -> tuple[str, bool]:
    """Byte order, and whether elements state their value representation."""
    head = bytes(content[:4096])
    at = head.find(b"\x02\0\x10\0UI", 132)
    if head[128:132] != b"DICM" or at < 0:
        raise _NotUnderstood
    length = int.from_bytes(head[at + 6 : at + 8], "little")
    name = head[at + 8 : at + 8 + length].rstrip(b"\0 ")
    if name not in _SYNTAXES:
        raise _NotUnderstood
    return _SYNTAXES[name]


@dataclass
class _Walk:
    """One pass over the waveform sequence."""

    content: memoryview
    order: str
    explicit: bool

    def split(self) -> tuple[bytes, list[memoryview]]:
        mark = struct.pack(self.order + "HH", *_SEQUENCE) + (b"SQ\0\0" if self.explicit else b"")
        mapped = self.content.obj
        assert isinstance(mapped, mmap.mmap)
        at = mapped.find(mark)
        if not 132 < at < _MAX_REST:
            raise _NotUnderstood
        start = at + len(mark) + 4
        (length,) = struct.unpack_from(self.order + "I", self.content, start - 4)
        rest, samples, place = [bytes(self.content[:at]), mark, self._number(_UNDEFINED)], [], start
        while place < len(self.content) if length == _UNDEFINED else place < start + length:
            tag, _, size = self._head(place)
            place += 8
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM:
                raise _NotUnderstood
            end = None if size == _UNDEFINED else place + size
            place, found = self._item(place, end, rest)
            samples.append(found)
        rest += [self._tag(_SEQUENCE_END), self._number(0)]
        if len(self.content) - place + sum(map(len, rest)) > _MAX_REST or place > len(self.content):
            raise _NotUnderstood
        return b"".join([*rest, bytes(self.content[place:])]), samples

    def _item(self, place: int, end: int | None, rest: list[bytes]) -> tuple[int, memoryview]:
        """Behind the item, and its samples; everything else of it is put to `rest`."""
        samples = self.content[:0]
        rest += [self._tag(_ITEM), self._number(_UNDEFINED)]
        while end is None or place < end:
            tag, header, size = self._head(place)
            if tag == _ITEM_END and end is None:
                place += 8
                break
            if tag == _SAMPLES:
                if size == _UNDEFINED or place + header + size > len(self.content):
                    raise _NotUnderstood
                samples = self.content[place + header : place + header + size]
                rest += [bytes(self.content[place : place + header - 4]), self._number(0)]
                place += header + size
                continue
            behind = self._behind(place, 0)
            rest.append(bytes(self.content[place:behind]))
            place = behind
        if end is not None and place != end:
            raise _NotUnderstood
        rest += [self._tag(_ITEM_END), self._number(0)]
        return place, samples

    def _behind(self, place: int, depth: int) -> int:
        """Where an element ends, its nested sequences included."""
        _, header, size = self._head(place)
        if size != _UNDEFINED:
            if size > _MAX_REST or place + header + size > len(self.content):
                raise _NotUnderstood
            return place + header + size
        if depth > _MAX_DEPTH:
            raise _NotUnderstood
        place += header
        while True:
            tag, _, size = self._head(place)
            if tag == _SEQUENCE_END:
                return place + 8
            if tag != _ITEM:
                raise _NotUnderstood
            place += 8
            if size != _UNDEFINED:
                place += size
                continue
            while self._head(place)[0] != _ITEM_END:
                place = self._behind(place, depth + 1)
            place += 8

    def _head(self, place: int) -> tuple[tuple[int, int], int, int]:
        """Tag, length of the header and length of the value of the element at `place`."""
        tag = struct.unpack_from(self.order + "HH", self.content, place)
        if not self.explicit or tag[0] == 0xFFFE:
            return tag, 8, struct.unpack_from(self.order + "I", self.content, place + 4)[0]
        if bytes(self.content[place + 4 : place + 6]) in _LONG:
            return tag, 12, struct.unpack_from(self.order + "I", self.content, place + 8)[0]
        return tag, 8, struct.unpack_from(self.order + "H", self.content, place + 6)[0]

    def _tag(self, tag: tuple[int, int]) -> bytes:
        return struct.pack(self.order + "HH", *tag)

    def _number(self, value: int) -> bytes:
        return struct.pack(self.order + "I", value)
