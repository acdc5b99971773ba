"""MATLAB files of version 4 and 5, as far as ECG corpora use them: numbers, text and one struct.

Only data: cells, objects, functions and sparse arrays are refused, declared sizes are checked before anything of that
size is made, and a compressed element is expanded up to a limit only. Version 7.3 is HDF5 and not covered here.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import LimitError, SignalError, TruncatedError, UnsupportedFormatError
from ecg_transformers.data.readers.limits import Limits

_STORED = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
    16: "u1",
    17: "u2",
}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_REFUSED = {1: "a cell array", 3: "an object", 5: "a sparse array", 16: "a function", 17: "an opaque object"}
_MATRIX, _COMPRESSED, _STRUCT, _CHAR = 14, 15, 2, 4
_V4_TYPES = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
_MAX_VARIABLES = 64
_MAX_FIELDS = 64


@dataclass(frozen=True)
class Unread:
    """A variable that is no plain numbers: it stands in the way only of who asks for it."""

    what: str


def load_mat(content: bytes, path: Path, limits: Limits) -> dict[str, Any]:
    """Variables by name: arrays `(rows, columns)`, text, a dictionary for a struct, or `Unread`."""
    if content[:8] == b"\x89HDF\r\n\x1a\n" or b"MATLAB 7.3" in content[:32]:
        raise UnsupportedFormatError("this MATLAB file is of version 7.3; save it with -v7.", path=path)
    if content[:6] == b"MATLAB" and len(content) >= 128:
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise UnsupportedFormatError("the MATLAB header names no byte order.", path=path)
        return _Version5(content, order, path, limits).variables()
    return _version4(content, path, limits)


def _version4(content: bytes, path: Path, limits: Limits) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    position = 0
    while position + 20 <= len(content) and len(variables) < _MAX_VARIABLES:
        kind, rows, columns, imaginary, name_length = struct.unpack_from("<5i", content, position)
        dtype = _V4_TYPES.get(kind // 10)
        if not 0 <= kind < 60 or kind % 10 or dtype is None or imaginary or not 1 <= name_length <= 256:
            raise UnsupportedFormatError("this is no MATLAB file of version 4 or 5 with plain numbers.", path=path)
        position += 20
        name = content[position : position + name_length].split(b"\0")[0].decode("latin-1")
        position += name_length
        size = _checked_size(rows, columns, np.dtype(dtype).itemsize, path, limits)
        if position + size > len(content):
            raise TruncatedError(
                f"the array {name[:32]!r} of {rows} x {columns} does not fit into the file.", path=path
            )
        values = np.frombuffer(content, dtype="<" + dtype, count=rows * columns, offset=position)
        variables[name] = values.reshape((rows, columns), order="F")
        position += size
    if not variables:
        raise SignalError("the file holds no array.", path=path)
    return variables


def _checked_size(rows: int, columns: int, itemsize: int, path: Path, limits: Limits) -> int:
    if rows < 0 or columns < 0:
        raise UnsupportedFormatError(f"an array of {rows} x {columns} is declared.", path=path)
    if rows * columns * itemsize > limits.max_file_bytes:
        raise LimitError(f"an array of {rows} x {columns} is declared, beyond the limit.", path=path)
    return rows * columns * itemsize


class _Version5:
    """The elements of a version 5 file."""

    def __init__(self, content: bytes, order: str, path: Path, limits: Limits) -> None:
        self.content, self.order, self.path, self.limits = content, order, path, limits
        self.room = limits.room(len(content))
        """Numbers that may still be made of the file, by compression or because they are stored in fewer bytes."""

    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        position, view = 128, self.content
        while position + 8 <= len(view) and len(found) < _MAX_VARIABLES:
            kind, data, position = self._element(view, position)
            if kind == _COMPRESSED:
                inner = self._expand(data)
                kind, data, _ = self._element(inner, 0)
            if kind != _MATRIX:
                raise UnsupportedFormatError("an element of the file is no array.", path=self.path)
            name, value = self._matrix(data, 0)
            found[name] = value
        if not found:
            raise SignalError("the file holds no array.", path=self.path)
        return found

    def _expand(self, data: bytes) -> bytes:
        most = min(8 * self.room + 8, self.limits.max_file_bytes, max(len(data) * self.limits.max_ratio, 2**24))
        machine = zlib.decompressobj()
        try:
            out = machine.decompress(data, most)
        except zlib.error as error:
            raise TruncatedError(f"a compressed array is damaged ({error}).", path=self.path) from error
        if machine.unconsumed_tail:
            raise LimitError(f"a compressed array expands to more than {most} bytes.", path=self.path)
        return out

    def _element(self, view: bytes, position: int) -> tuple[int, bytes, int]:
        """Type, content and the place of the next element."""
        if position + 8 > len(view):
            raise TruncatedError("the file ends in the middle of an element.", path=self.path)
        kind, size = struct.unpack_from(self.order + "II", view, position)
        if kind >> 16:  # a small element keeps its content in its own tag
            size, kind = kind >> 16, kind & 0xFFFF
            if size > 4:
                raise UnsupportedFormatError("a small element is larger than 4 bytes.", path=self.path)
            return kind, view[position + 4 : position + 4 + size], position + 8
        start = position + 8
        if start + size > len(view):
            raise TruncatedError(f"an element of {size} bytes does not fit into the file.", path=self.path)
        padding = 0 if kind == _COMPRESSED else -size % 8
        return kind, view[start : start + size], start + size + padding

    def _numbers(self, view: bytes, position: int) -> tuple[np.ndarray, int]:
        kind, data, after = self._element(view, position)
        stored = _STORED.get(kind)
        if stored is None:
            raise UnsupportedFormatError(f"an element of type {kind} stands where numbers belong.", path=self.path)
        dtype = np.dtype(self.order + stored)
        return np.frombuffer(data[: len(data) // dtype.itemsize * dtype.itemsize], dtype=dtype), after

    def _matrix(self, view: bytes, depth: int) -> tuple[str, Any]:
        flags, position = self._numbers(view, 0)
        dims, position = self._numbers(view, position)
        name_values, position = self._numbers(view, position)
        name = name_values.astype(np.uint8).tobytes().decode("latin-1")
        if flags.size < 1 or not 2 <= dims.size <= 3 or dims.min() < 0:
            raise UnsupportedFormatError("an array has a malformed header.", path=self.path)
        kind, complex_ = int(flags[0]) & 0xFF, int(flags[0]) >> 8 & 0x08
        shape = [int(d) for d in dims]
        if kind == _STRUCT and depth == 0 and int(np.prod(shape, dtype=object)) == 1:
            return name, self._struct(view, position)
        if kind == _CHAR:
            letters, _ = self._numbers(view, position)
            return name, "".join(map(chr, letters[:1024].tolist()))
        if kind not in _CLASSES:
            return name, Unread(_REFUSED.get(kind, "a struct of a kind that ECG files do not use"))
        if complex_ or len(shape) != 2:
            several = f"an array of {' x '.join(map(str, shape))}, not one record"
            return name, Unread("an array of complex numbers" if complex_ else several)
        _checked_size(shape[0], shape[1], np.dtype(_CLASSES[kind]).itemsize, self.path, self.limits)
        values, _ = self._numbers(view, position)
        self.room -= values.size
        if self.room < 0:
            raise LimitError(
                f"the arrays hold more than {self.limits.room(len(self.content))} numbers, too many for a file of "
                f"{len(self.content)} bytes.",
                path=self.path,
            )
        if values.size != shape[0] * shape[1]:
            raise TruncatedError(
                f"the array {name[:32]!r} has {values.size} values instead of {shape[0]} x {shape[1]}.", path=self.path
            )
        with np.errstate(invalid="ignore", over="ignore"):
            return name, values.astype(_CLASSES[kind]).reshape(shape, order="F")

    def _struct(self, view: bytes, position: int) -> dict[str, Any]:
        length, position = self._numbers(view, position)
        kind, names, position = self._element(view, position)
        width = int(length[0]) if length.size else 0
        if not 1 <= width <= 256 or len(names) // width > _MAX_FIELDS:
            raise UnsupportedFormatError("a struct has malformed field names.", path=self.path)
        fields: dict[str, Any] = {}
        for index in range(len(names) // width):
            key = names[index * width : (index + 1) * width].split(b"\0")[0].decode("latin-1")
            kind, data, position = self._element(view, position)
            if kind != _MATRIX:
                raise UnsupportedFormatError("a field of a struct is no array.", path=self.path)
            fields[key] = self._matrix(data, 1)[1] if data else np.zeros((0, 0))
        return fields
