"""What every reader obeys: sizes within limits, regular files only, nothing outside the record's folder."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..errors import LimitError, RecordNotFoundError, UnsafePathError


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


def safe_file(path: str | os.PathLike, root: str | os.PathLike | None = None, *, follow_links: bool = False) -> Path:
    """The resolved path of a regular file below `root` (default: the folder the path itself names).

    Raises:
        RecordNotFoundError: no such file.
        UnsafePathError: a link or `..` leads out of the root, or the path is a folder, device or pipe.
    """
    path = Path(path)
    if "\0" in str(path):
        raise UnsafePathError("a path holds a NUL character.", path=str(path).replace("\0", "\\0"))
    try:
        resolved = path.resolve(strict=True)
        base = Path(root if root is not None else path.parent).resolve(strict=True)
        mode = resolved.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecordNotFoundError("there is no such file.", path=path) from error
    except (OSError, RuntimeError) as error:  # links in a circle, a name too long, no permission
        raise UnsafePathError(f"the path cannot be opened ({error}).", path=path) from error
    if not follow_links and not resolved.is_relative_to(base):
        raise UnsafePathError(
            f"the path leads to {resolved}, outside its folder {base}; copy the file there or pass follow_links=True.",
            path=path,
        )
    if not stat.S_ISREG(mode):
        raise UnsafePathError("this is not a regular file.", path=path)
    return resolved


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """The whole of a small file, or a :class:`LimitError`."""
    size = path.stat().st_size
    if size > max_bytes:
        raise LimitError(f"the file has {size} bytes, more than the {max_bytes} allowed here.", path=path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnsafePathError(f"the file cannot be read ({error}).", path=path) from error
