"""Files that are whole or not there: written beside their name, flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A free path in the same folder, whose content takes the name `path` when the block ends without an error.

    A reader sees the old file or the new one, never half of one, also after a power cut. The free path keeps the ending
    of `path`, as some writers choose a format by it. After an error nothing is left behind.

    Example:
        >>> with replacing("figure.png") as beside:  # doctest: +SKIP
        ...     figure.savefig(beside)

    Raises:
        OSError: the folder is missing, or cannot be written to; it names `path`, never the free path.
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
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(beside)):  # a full disk tells no name
            error.filename = str(target)
        raise
    finally:
        with suppress(OSError):  # of a folder that cannot be written to, where there is none
            beside.unlink()


class QuietFile(io.RawIOBase):
    """A new file for a writer that may not be told of a full disk: Arrow's of parquet then ends the whole process.

    After an error, what is written is dropped. The error is raised by `check`, and at the end of a `with` block.

    Example:
        >>> with replacing("table.parquet") as beside, QuietFile(beside) as file:  # doctest: +SKIP
        ...     pyarrow.parquet.write_table(table, file)
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._file = open(path, "wb")  # noqa: SIM115
        self._written = 0
        self._error: OSError | None = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise the error of what was written so far.

        Raises:
            OSError: as the file system gave it.
        """
        if self._error is not None:
            raise self._error

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: bytes | memoryview, /) -> int:  # type: ignore[override]
        size = memoryview(data).nbytes
        if self._error is None:
            with self._kept_errors():
                self._file.write(data)
        self._written += size
        return size

    def flush(self) -> None:
        if self._error is None:
            with self._kept_errors():
                self._file.flush()

    def close(self) -> None:
        if not self.closed:
            super().close()
            with self._kept_errors():
                self._file.close()

    @contextmanager
    def _kept_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._error = self._error or error


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 text file in one step."""
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a value as JSON with sorted keys, in one step."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def as_json(value: object) -> Any:
    """A value as it is read back from a JSON file, so that it can be compared with one."""
    return json.loads(json.dumps(value, default=str))


def plain(value: object) -> object:
    """What JSON has no form for (`json.dumps(…, default=plain)`): arrays and their scalars by value, else as text."""
    listing = getattr(value, "tolist", None)
    return str(value) if listing is None else listing()


@contextmanager
def temporary_folder(parent: str | os.PathLike[str]) -> Iterator[Path]:
    """A new folder in `parent` (made when absent), for what is renamed into place when it is complete.

    What is still under its name at the end of the block is removed; so is what processes left here that were killed.
    """
    for leftover in Path(parent).glob(".saving-*"):
        with _held(leftover) as is_ours:
            if is_ours:
                shutil.rmtree(leftover, ignore_errors=True)
    while True:
        folder = Path(parent) / f".saving-{_unique()}"
        folder.mkdir(parents=True)
        with _held(folder, wait=True):
            if not folder.exists():  # another process took it for a leftover before it was held
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextmanager
def _held(folder: Path, wait: bool = False) -> Iterator[bool]:
    """A folder locked against other processes, until this one ends; False where another has it, or nothing can be locked."""
    try:
        import fcntl

        descriptor = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows; a folder that has gone
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        except OSError:  # some network file systems cannot
            is_ours = False
        yield is_ours
    finally:
        os.close(descriptor)


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


def json_sha256(value: object) -> str:
    """SHA-256 of a value as JSON with sorted keys (what JSON does not know as its text), as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _unique() -> str:
    return f"{os.getpid()}-{secrets.token_hex(4)}"
