"""Files that are whole or not there: written beside their name, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A free path in the same folder, whose content takes the name `path` when the block ends without an error.

    A reader sees the old file or the new one, never half of one, also after a power cut. The free path keeps the ending
    of `path`, as some writers choose a format by it. After an error nothing is left behind.

    Example:
        >>> with replacing("figure.png") as beside:  # doctest: +SKIP
        ...     figure.savefig(beside)

    Raises:
        OSError: the folder is missing, or cannot be written to.
    """
    target = Path(path)
    if not target.absolute().parent.is_dir():
        raise FileNotFoundError(f"{target}: there is no folder {target.absolute().parent}.")
    beside = target.with_name(f".{target.stem}.{_unique()}{target.suffix}")
    try:
        yield beside
        sync_file(beside)
        os.replace(beside, target)
        sync_folder(target.parent)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file in one step."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a value as JSON with sorted keys, in one step."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


@contextmanager
def temporary_folder(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder in `parent` (made when absent), for what is renamed into place when it is complete.

    What is still under its name at the end of the block is removed.
    """
    folder = Path(parent) / f".saving-{_unique()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def give_usual_permissions(path: str | os.PathLike[str]) -> None:
    """Let a file be read by whom a new file of this user may be read by (safetensors lets its owner alone read)."""
    probe = Path(path).with_name(f".{_unique()}")
    probe.touch()
    try:
        Path(path).chmod(probe.stat().st_mode & 0o777)
    finally:
        probe.unlink()


def sync_file(path: str | os.PathLike[str]) -> None:
    """Flush a file's content to the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flush the names in a folder to the disk (Windows has no such thing)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unique() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"
