"""A DICOM waveform file without its samples: what is left is small, and pydicom can parse it in bounded time.

The samples stay where they are: a recording of a day would otherwise be held several times over, by its bytes and by
what pydicom makes of them. pydicom needs some 10 microseconds an element and 50 an item, in a file of a megabyte eight
seconds, so what no reader looks at is left out, and what remains is counted.
"""

from __future__ import annotations

import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from ecg_transformers.data.errors import HeaderError, LimitError, UnsafePathError
from ecg_transformers.data.readers.arrays import Hints
from ecg_transformers.data.readers.clinical.record import MAX_TEXTS
from ecg_transformers.data.readers.limits import Limits, open_file, read_bytes

_BIG_ENDIAN = b"1.2.840.10008.1.2.2"
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_UNDEFINED = 0xFFFFFFFF
_SYNTAX, _WAVEFORMS, _SAMPLES, _ANNOTATIONS = (0x0002, 0x0010), (0x5400, 0x0100), (0x5400, 0x1010), (0x0040, 0xB020)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_MAX_DEPTH = 8
_MAX_SEQUENCES = 2**16
"""Bytes of all sequences but those of waveforms and annotations."""
_MAX_VALUE = 2**16
"""Bytes of a single element, of those that are no sequence: beyond it are pictures and private data."""
_MAX_ELEMENTS, _MAX_OF_ANNOTATIONS, _ITEM_COST = 50_000, 30_000, 6
"""Elements that are parsed, and those of annotations among them; an item costs as much as several."""


class _Damaged(ValueError):
    """What stands at a place cannot be there."""


@dataclass
class Split:
    """`rest` is the file without its samples, `samples` those of each multiplex group, `missing` the bytes that the
    waveform sequence promises beyond the end of the file (1 where it does not say, and has no end).
    """

    rest: bytes
    samples: list[memoryview] = field(default_factory=list)
    missing: int = 0
    little_endian: bool = True
    flags: list[str] = field(default_factory=list)


def content_of(path: Path, hints: Hints, limits: Limits) -> bytes | mmap.mmap:
    """The bytes of a file, or of one of which a part is asked for its bytes as they are looked at.

    Raises:
        ECGDataError: no regular file below the root, or a larger one than the limits allow.
    """
    if hints.start is None and hints.stop is None:
        return read_bytes(path, limits.max_file_bytes, hints.root, follow_links=hints.follow_links)
    descriptor, size = open_file(path, hints.root, follow_links=hints.follow_links)
    try:
        if size > limits.max_file_bytes:
            raise LimitError(
                f"the file has {size} bytes, more than the {limits.max_file_bytes} allowed here.", path=path
            )
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) if size else b""
    except OSError as error:
        raise UnsafePathError(f"the file cannot be read ({error.strerror or error}).", path=path) from error
    finally:
        os.close(descriptor)


def without_samples(content: bytes | mmap.mmap, path: Path) -> Split:
    """The parts of a file that is not deflated; of one that ends early what is there.

    Raises:
        HeaderError: it is not laid out as DICOM is.
        LimitError: more elements than are parsed.
    """
    try:
        return _Walk(content, path).split()
    except (_Damaged, struct.error) as error:
        raise HeaderError("the DICOM data set is damaged: its elements do not follow each other.", path=path) from error


class _Walk:
    """One pass over the elements of a file; a place is where an element begins."""

    def __init__(self, content: bytes | mmap.mmap, path: Path) -> None:
        self.mapped, self.content, self.path = content, memoryview(content), path
        self.left, self.room = _MAX_ELEMENTS, _MAX_SEQUENCES
        self.order, self.explicit, start = "<", True, 132 if content[128:132] == b"DICM" else 0
        syntax = b""
        while content[start : start + 2] == b"\2\0":
            tag, header, size = self._head(start)
            if tag == _SYNTAX:
                syntax = content[start + header : start + header + size].rstrip(b"\0 ")
            start += header + size
        if syntax == _BIG_ENDIAN or (not syntax and content[start : start + 1] == b"\0"):
            self.order = ">"
        letters = content[start + 4 : start + 6]
        self.explicit = len(letters) == 2 and all(65 <= letter <= 90 for letter in letters)
        self.start = start

    def split(self) -> Split:
        result, end = Split(b"", little_endian=self.order == "<"), len(self.content)
        rest, place = [bytes(self.content[: self.start])], self.start
        while place + 8 <= end:
            tag, header, size = self._head(place)
            if tag == _WAVEFORMS:
                self._waveforms(place, header, size, rest, result)
                break  # what stands behind is of no use
            if tag == _ANNOTATIONS:
                place = self._annotations(place, header, size, rest, result)
                continue
            stop = self._behind(place, end, 0) if size == _UNDEFINED else place + header + size
            if self._is_sequence(place, header, size):  # small ones may name persons, whom texts must not name
                self.room -= stop - place
                is_kept = stop <= end and self.room >= 0
            else:
                is_kept = stop <= end and size <= _MAX_VALUE
            if is_kept:
                rest.append(bytes(self.content[place:stop]))
            place = stop
        result.rest = b"".join(rest)
        return result

    def _waveforms(self, place: int, header: int, size: int, rest: list[bytes], result: Split) -> None:
        stop = len(self.content) if size == _UNDEFINED else place + header + size
        result.missing, stop = max(0, stop - len(self.content)), min(stop, len(self.content))
        rest += [bytes(self.content[place : place + header - 4]), self._number(_UNDEFINED)]
        place += header
        while place + 8 <= stop:
            tag, _, length = self._head(place)
            place += 8
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM:
                raise _Damaged
            place = self._group(place, stop if length == _UNDEFINED else min(stop, place + length), rest, result)
        else:
            if size == _UNDEFINED:
                result.missing = 1
        rest += [self._tag(_SEQUENCE_END), self._number(0)]

    def _group(self, place: int, stop: int, rest: list[bytes], result: Split) -> int:
        """Behind the item, of which everything but its samples is put to `rest`."""
        samples = self.content[:0]
        rest += [self._tag(_ITEM), self._number(_UNDEFINED)]
        while place + 8 <= stop:
            tag, header, size = self._head(place)
            if tag == _ITEM_END:
                place += 8
                break
            if tag == _SAMPLES:
                if size == _UNDEFINED:
                    raise _Damaged
                samples = self.content[place + header : min(stop, place + header + size)]
                rest += [bytes(self.content[place : place + header - 4]), self._number(0)]
                place += header + size
                continue
            behind = self._behind(place, stop, 0)
            if behind <= stop:
                rest.append(bytes(self.content[place:behind]))
            place = behind
        rest += [self._tag(_ITEM_END), self._number(0)]
        result.samples.append(samples)
        return min(place, stop)

    def _annotations(self, place: int, header: int, size: int, rest: list[bytes], result: Split) -> int:
        """Behind the annotations, of which the first ones are put to `rest`: a day may have one for each beat."""
        begin, end = place, len(self.content)
        stop = end if size == _UNDEFINED else place + header + size
        least = self.left - _MAX_OF_ANNOTATIONS
        place += header
        number = 0
        while place + 8 <= min(stop, end):
            if number == MAX_TEXTS or self.left <= least:
                result.flags.append("annotations_left_out")
                break
            tag, _, _ = self._head(place)
            if tag == _SEQUENCE_END:
                stop = place + 8
                break
            if tag != _ITEM:
                raise _Damaged
            behind = self._behind(place, min(stop, end), 0)
            if behind > end:
                break
            place, number = behind, number + 1
        if number:
            rest += [bytes(self.content[begin : begin + header - 4]), self._number(_UNDEFINED)]
            rest += [bytes(self.content[begin + header : place]), self._tag(_SEQUENCE_END), self._number(0)]
        if size == _UNDEFINED and stop == end:  # not walked to its end
            mark = self._tag(_WAVEFORMS) + (b"SQ\0\0" if self.explicit else b"")
            found = self.mapped.find(mark, place)
            return found if found >= 0 else end
        return stop

    def _behind(self, place: int, stop: int, depth: int) -> int:
        """Where an element or item ends, all that it holds counted; beyond `stop` where it does not end before."""
        tag, header, size = self._head(place)
        end = stop if size == _UNDEFINED else place + header + size
        if end > stop or not (tag == _ITEM or self._is_sequence(place, header, size)):
            return end
        if depth > _MAX_DEPTH:
            raise _Damaged
        place += header
        closing = _ITEM_END if tag == _ITEM else _SEQUENCE_END
        while place + 8 <= end:
            inner, _, _ = self._head(place)
            if inner == closing:
                return place + 8 if size == _UNDEFINED else end
            if (inner == _ITEM) == (tag == _ITEM):
                raise _Damaged
            place = self._behind(place, end, depth + 1)
        return end + 1 if size == _UNDEFINED else end

    def _is_sequence(self, place: int, header: int, size: int) -> bool:
        if self.explicit and bytes(self.content[place + 4 : place + 6]) == b"SQ":
            return True
        within = bytes(self.content[place + header : place + header + 4])
        return size == _UNDEFINED or (size >= 8 and within == self._tag(_ITEM))

    def _head(self, place: int) -> tuple[tuple[int, int], int, int]:
        """Tag, length of the header and length of the value of the element at `place`."""
        tag = struct.unpack_from(self.order + "HH", self.content, place)
        self.left -= _ITEM_COST if tag == _ITEM else 1
        if self.left < 0:
            raise LimitError(
                f"the file has more than {_MAX_ELEMENTS} elements beside its samples; so many are not read.",
                path=self.path,
            )
        if not self.explicit or tag[0] == 0xFFFE:
            return tag, 8, struct.unpack_from(self.order + "I", self.content, place + 4)[0]
        if bytes(self.content[place + 4 : place + 6]) in _LONG:
            return tag, 12, struct.unpack_from(self.order + "I", self.content, place + 8)[0]
        return tag, 8, struct.unpack_from(self.order + "H", self.content, place + 6)[0]

    def _tag(self, tag: tuple[int, int]) -> bytes:
        return struct.pack(self.order + "HH", *tag)

    def _number(self, value: int) -> bytes:
        return struct.pack(self.order + "I", value)
