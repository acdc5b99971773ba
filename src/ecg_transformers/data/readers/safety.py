"""What every reader obeys: sizes within limits, regular files only, nothing outside the record's folder."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import LimitError, RecordNotFoundError, UnsafePathError, brief


@dataclass(frozen=True)
class Limits:
    """How much a reader believes a file. The defaults fit every public ECG corpus.

    Attributes:
        max_leads: signals in a record.
        max_samples: samples per lead.
        max_file_bytes: size of one file, and of the array it expands to.
        max_header_bytes: size of a header or annotation header.
        max_annotation_bytes: size of an annotation file.
        max_segments: segments of a multi-segment record.
        max_ratio: expansion of a compressed file.
        max_table_bytes: size of a table of labels.
    """

    max_leads: int = 64
    max_samples: int = 50_000_000
    max_file_bytes: int = 2**31
    max_header_bytes: int = 2**20
    max_annotation_bytes: int = 2**26
    max_segments: int = 10_000
    max_ratio: int = 200
    max_table_bytes: int = 2**29

    def check_shape(self, num_samples: int, num_leads: int, *, path: object = None, record: str | None = None) -> None:
        """Refuse a declared size before anything of that size is allocated."""
        if num_leads > self.max_leads:
            raise LimitError(
                f"{num_leads} leads are declared, more than the {self.max_leads} allowed.", path=path, record=record
            )
        if num_samples > self.max_samples:
            raise LimitError(
                f"{num_samples} samples per lead are declared, more than the {self.max_samples} allowed.",
                path=path,
                record=record,
            )


def safe_file(
    path: str | os.PathLike,
    root: str | os.PathLike | None = None,
    *,
    follow_links: bool = False,
    folder_is_safe: bool = False,
) -> Path:
    """The path of a regular file below `root` (default: the folder that the path itself names).

    `folder_is_safe` says that the folder was already found to lie below the root: then only a link is followed up.

    Raises:
        RecordNotFoundError: no such file.
        UnsafePathError: a link or `..` leads out of the root, or the path is a folder, device or pipe.
    """
    text = os.fspath(path)
    if "\0" in text:
        raise UnsafePathError("a path holds a NUL character.", path=text.replace("\0", "\\0"))
    folder = os.path.dirname(text) or "."
    try:
        mode = os.lstat(text).st_mode
        is_link = stat.S_ISLNK(mode)
        if is_link or not (folder_is_safe or root is None or os.fspath(root) == folder):
            resolved = os.path.realpath(text, strict=True)
            base = os.path.realpath(folder if root is None else root, strict=True)
            mode = os.stat(resolved).st_mode
            if not follow_links and os.path.commonpath([resolved, base]) != base:
                raise UnsafePathError(
                    f"the path leads to {resolved}, outside its folder {base}; copy the file there or pass "
                    "follow_links=True.",
                    path=path,
                )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecordNotFoundError("there is no such file.", path=path) from error
    except OSError as error:  # links in a circle, a name too long, no permission
        raise UnsafePathError(f"the path cannot be opened ({brief(error)}).", path=path) from error
    if not stat.S_ISREG(mode):
        raise UnsafePathError("this is not a regular file.", path=path)
    return path if isinstance(path, Path) else Path(text)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The whole of a small file, or a :class:`LimitError`."""
    try:
        with open(path, "rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > max_bytes:
                raise LimitError(f"the file has {size} bytes, more than the {max_bytes} allowed here.", path=path)
            return stream.readall()
    except OSError as error:
        raise UnsafePathError(f"the file cannot be read ({brief(error)}).", path=path) from error


def read_array(path: Path, dtype: str, count: int, byte_offset: int = 0) -> np.ndarray:
    """`count` values of a file from `byte_offset` on, fewer where it ends (numpy's own `fromfile` starts slowly)."""
    array = np.empty(count, dtype=dtype)
    view = memoryview(array.view(np.uint8).data)
    filled = 0
    with open(path, "rb", buffering=0) as stream:
        stream.seek(byte_offset)
        while filled < len(view):
            got = stream.readinto(view[filled:])
            if not got:
                break
            filled += got
    return array[: filled // array.itemsize]
