"""What every reader obeys: sizes within limits, regular files only, nothing outside the record's folder."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import (
    LimitError,
    PointerError,
    RecordNotFoundError,
    UnsafePathError,
    UnsupportedFormatError,
    brief,
)

_POINTERS = {  # what a file that was not fetched begins with, by who left it there and how it is fetched
    b"version https://git-lfs": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get"),
}
_LARGEST_POINTER = 1024  # by the specification of Git LFS
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # without waiting for the other end of a pipe


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
        max_ratio: bytes that a compressed table or array expands to, for each of its bytes (an NPZ archive to 256 MiB
            always: that is a day, however empty).
        max_growth: samples of a record, all leads together, for each byte of its file: what is compressed grows, and so
            do gaps, which cost nothing in a header and fill memory. See `room`.
        max_table_bytes: size of a table of labels.
    """

    max_leads: int = 64
    max_samples: int = 50_000_000
    max_file_bytes: int = 2**31
    max_header_bytes: int = 2**20
    max_annotation_bytes: int = 2**26
    max_segments: int = 10_000
    max_ratio: int = 200
    max_growth: int = 16
    max_table_bytes: int = 2**29

    def check_shape(
        self, num_samples: int, num_leads: int, *, path: object = None, record: str | None = None, way_out: str = ""
    ) -> None:
        """Refuse a declared size before anything of that size is allocated."""
        if num_leads > self.max_leads:
            raise LimitError(
                f"{num_leads} leads are declared, more than the {self.max_leads} allowed.", path=path, record=record
            )
        if num_samples > self.max_samples:
            raise LimitError(
                f"{num_samples} samples per lead are declared, more than the {self.max_samples} allowed{way_out}.",
                path=path,
                record=record,
            )

    def room(self, stored: int) -> int:
        """Samples, all leads together, that a file of `stored` bytes may grow to: 16 a byte (twelve leads one after the
        other are 6), and some 67 million more than it stores at most; eight million do no harm in any file.
        """
        return max(ALWAYS_ALLOWED, min(self.max_growth * stored, stored + MOST_EMPTY))

    def check_growth(
        self,
        num_samples: int,
        num_leads: int,
        stored: int,
        *,
        path: object = None,
        record: str | None = None,
        way_out: str = "",
    ) -> None:
        """Refuse a record that is out of all proportion to its file, before anything of its size is allocated."""
        room = self.room(stored)
        if num_samples * num_leads > room:
            raise LimitError(
                f"{num_samples} samples of {num_leads} leads would be made of {stored} bytes, more than the {room} "
                f"samples allowed for so few{way_out}.",
                path=path,
                record=record,
            )

    def for_parts(self) -> Limits:
        """For the head of a file of which a part is read: what is refused is a long part, not a long file."""
        return replace(self, max_samples=sys.maxsize)


IN_PARTS = "; start=… and stop=… read a part"
"""What `check_shape` adds for files that are read in parts."""
ALWAYS_ALLOWED = 2**23
MOST_EMPTY = 2**26
DEFAULT_LIMITS = Limits()


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
        PointerError: a link of git-annex whose content was not fetched.
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
                    f"the path leads to {resolved}, outside its folder {base}, and links are not followed: copy the file there "
                    "(only read_record takes follow_links=True).",
                    path=path,
                )
    except (FileNotFoundError, NotADirectoryError) as error:
        if os.path.islink(text) and ".git/annex/objects" in os.readlink(text):
            raise _pointer_error(*_POINTERS[b"/annex/objects/"], path) from error
        raise RecordNotFoundError("there is no such file.", path=path) from error
    except OSError as error:  # links in a circle, a name too long, no permission
        raise UnsafePathError(f"the path cannot be opened ({brief(error)}).", path=path) from error
    if not stat.S_ISREG(mode):
        raise UnsafePathError("this is not a regular file.", path=path)
    return path if isinstance(path, Path) else Path(text)


def open_file(
    path: str | os.PathLike,
    root: str | os.PathLike | None = None,
    *,
    follow_links: bool = False,
    folder_is_safe: bool = False,
) -> tuple[int, int]:
    """Descriptor and size in bytes of a file that `safe_file` accepts; the caller closes it.

    What was opened is looked at, so nobody can exchange the file between check and use; and a file in its own folder,
    the usual case, costs two system calls.

    Raises:
        PointerError: the content was not fetched from Git LFS or git-annex.
        ECGDataError: as `safe_file`; also when the file may not be read.
    """
    text = os.fspath(path)
    descriptor = -1
    if folder_is_safe or root is None or os.fspath(root) == (os.path.dirname(text) or "."):
        with contextlib.suppress(OSError, ValueError):  # no such file, a link, a NUL: safe_file says or permits it
            descriptor = os.open(text, _OPEN | os.O_NOFOLLOW)
    if descriptor < 0:
        safe_file(path, root, follow_links=follow_links, folder_is_safe=folder_is_safe)
        try:
            descriptor = os.open(text, _OPEN)
        except OSError as error:
            raise UnsafePathError(f"the file cannot be read ({brief(error)}).", path=path) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnsafePathError("this is not a regular file.", path=path)
    if status.st_size < _LARGEST_POINTER:
        head = os.pread(descriptor, 32, 0)
        for mark, (whose, command) in _POINTERS.items():
            if head.startswith(mark):
                os.close(descriptor)
                raise _pointer_error(whose, command, path)
    return descriptor, status.st_size


def _pointer_error(whose: str, command: str, path: str | os.PathLike) -> PointerError:
    """The error of a file whose content was not fetched."""
    return PointerError(f"this is a {whose} pointer, not the file: run `{command}` where it was cloned.", path=path)


def refuse_foreign_text(head: bytes, path: str | os.PathLike) -> None:
    """For tables and headers: raise where a web page or an archive lies in place of the text, by its first bytes.

    Raises:
        UnsupportedFormatError: with what it is and what to do.
    """
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        raise UnsupportedFormatError(
            "this is a web page, not the file: the address that was fetched leads to a page, or asks for a login.",
            path=path,
        )
    if head.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise UnsupportedFormatError(
            "this is a packed file (gzip or ZIP), whatever its name says: unpack it.", path=path
        )


def checked_file(path: str | os.PathLike, root: str | os.PathLike | None = None, *, follow_links: bool = False) -> Path:
    """The path of a file that `open_file` accepts, for a library that opens it itself."""
    os.close(open_file(path, root, follow_links=follow_links)[0])
    return path if isinstance(path, Path) else Path(path)


def read_bytes(
    path: str | os.PathLike, max_bytes: int, root: str | os.PathLike | None = None, *, follow_links: bool = False
) -> bytes:
    """The whole of a file that `safe_file` accepts, or a `LimitError`."""
    descriptor, size = open_file(path, root, follow_links=follow_links)
    try:
        if size > max_bytes:
            raise LimitError(f"the file has {size} bytes, more than the {max_bytes} allowed here.", path=path)
        content = os.read(descriptor, size)
        while len(content) < size and (more := os.read(descriptor, size - len(content))):  # beyond 2 GiB, or a signal
            content += more
        return content
    except OSError as error:
        raise UnsafePathError(f"the file cannot be read ({brief(error)}).", path=path) from error
    finally:
        os.close(descriptor)


def read_array(descriptor: int, dtype: str, count: int, byte_offset: int = 0) -> np.ndarray:
    """`count` values of an open file from `byte_offset` on, fewer where it ends (numpy's `fromfile` starts slowly)."""
    array = np.empty(count, dtype=dtype)
    filled = os.preadv(descriptor, [array.data], byte_offset) if count else 0
    if filled < array.nbytes:  # beyond 2 GiB, a signal, or the end
        view = memoryview(array.view(np.uint8).data)
        while filled < len(view) and (got := os.preadv(descriptor, [view[filled:]], byte_offset + filled)):
            filled += got
    return array[: filled // array.itemsize]
