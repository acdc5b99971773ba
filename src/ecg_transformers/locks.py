"""One writer per folder, for as long as its process lives."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"
_held_here: set[Path] = set()


class FolderInUseError(Exception):
    """Another live process, or another part of this one, holds the folder; the text says who."""


class FolderLock:
    """Exclusive use of a folder for as long as the process lives.

    A POSIX record lock on `.lock`: unlike `flock` it does not pass to forked data workers, which may outlive a killed
    run by seconds. The file names its holder (host, pid, boot id, start time). The kernel frees the lock of a dead
    process, so what a killed run left behind is taken over with a warning. Where there are no such locks (some network
    file systems, Windows) the holder named in the file decides.

    The folder is created when absent; `release` removes it again when it was created here and nothing was written to
    it.

    Args:
        folder: where the lock lies.
        name: of its file; locks of different names in one folder do not hinder each other.

    Raises:
        FolderInUseError: another live process holds the folder.
        OSError: the folder cannot be created or written.
    """

    def __init__(self, folder: Path | str, name: str = LOCK_NAME) -> None:
        self.folder = Path(folder).absolute()
        self.path = self.folder / name
        self._created: list[Path] = []
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Create the folder and take the lock, or raise."""
        if self.path in _held_here:
            raise FolderInUseError(f"another run of this process (pid {os.getpid()})")
        try:
            self._create_folder()
            self._descriptor = self._open_locked()
        except OSError:
            self._remove_created()
            raise
        _held_here.add(self.path)

    def release(self) -> None:
        """Free the lock; an empty folder that this run created disappears."""
        if self._descriptor is None:
            return
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)
        self._descriptor = None
        _held_here.discard(self.path)
        self._remove_created()

    def _create_folder(self) -> None:
        missing = [folder for folder in (self.folder, *self.folder.parents) if not folder.exists()]
        self.folder.mkdir(parents=True, exist_ok=True)
        self._created = missing

    def _remove_created(self) -> None:
        for folder in self._created:
            try:
                folder.rmdir()
            except OSError:  # not empty, or not ours to remove: it stays
                return

    def _open_locked(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._lock(descriptor)
                # The holder before us may have unlinked the file between our open and our lock: then we hold nothing.
                if not self._is_current(descriptor):
                    os.close(descriptor)
                    continue
                self._write_holder(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            return descriptor

    def _lock(self, descriptor: int) -> None:
        try:
            import fcntl

            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (OSError, ImportError) as error:
            holder = _read_holder(descriptor)
            is_held = isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EAGAIN)
            if is_held or _is_alive(holder):  # without locks the file alone decides
                raise FolderInUseError(_name_of(holder)) from error

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.fstat(descriptor).st_ino == os.stat(self.path).st_ino
        except FileNotFoundError:
            return False

    def _write_holder(self, descriptor: int) -> None:
        previous = _read_holder(descriptor)
        if previous:
            logger.warning(
                "%s was left by a run that ended without releasing it (pid %s on %s); taking it over.",
                self.path,
                previous.get("pid"),
                previous.get("host"),
            )
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "boot_id": _boot_id(), "started": _now()}
        os.ftruncate(descriptor, 0)
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.write(descriptor, json.dumps(holder).encode())


def _name_of(holder: dict[str, object]) -> str:
    return f"pid {holder['pid']} on {holder['host']} since {holder['started']}" if holder else "another process"


def _read_holder(descriptor: int) -> dict[str, object]:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        holder = json.loads(os.read(descriptor, 4096).decode())
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) and {"pid", "host", "started"} <= set(holder) else {}


def _is_alive(holder: dict[str, object]) -> bool:
    if not holder:
        return False
    if holder["host"] != socket.gethostname() or os.name != "posix":
        return True  # cannot be asked from here: believe the file
    if holder.get("boot_id") != _boot_id():
        return False
    try:
        os.kill(int(str(holder["pid"])), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
