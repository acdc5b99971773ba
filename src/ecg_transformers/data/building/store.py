"""The folder of a build, on this machine or at any address that fsspec knows; a file in it is whole or not there."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from ecg_transformers.data.errors import OptionError
from ecg_transformers.files import file_sha256, replacing


class Store:
    """A folder of shards.

    Args:
        address: a path, or a URL such as `s3://bucket/folder` (what fsspec can open).

    Attributes:
        local: the folder as a path, None where it is not on this machine's own file system.

    Raises:
        OptionError: a folder whose name is taken for a chain of addresses.
    """

    def __init__(self, address: str | os.PathLike[str]) -> None:
        text = os.fspath(address)
        here = "://" not in text or text.startswith("file://")
        if here and "::" in text:
            raise OptionError(f"{text!r}: shards cannot lie in a folder with '::' in its name, which chains addresses.")
        self.local = Path(text.removeprefix("file://")).absolute() if here else None
        self.address = str(self.local) if self.local is not None else text.rstrip("/")

    def __getstate__(self) -> dict[str, Any]:
        return {"local": self.local, "address": self.address}

    @cached_property
    def _fs(self) -> Any:
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.address)[0]
        except (ValueError, ImportError) as error:  # no such protocol, or the package that speaks it is not there
            raise OptionError(f"{self.address!r} is no address that can be opened here: {error}.") from error

    def url(self, name: str) -> str:
        """The full name of a file, as fsspec and pyarrow open it."""
        return f"{self.address}/{name}"

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Names and bytes of the files of the folder, or of one below it; nothing where there is none."""
        where = f"{self.address}/{folder}".rstrip("/")
        if self.local is not None:
            if not Path(where).is_dir():
                return {}
            return {entry.name: entry.stat().st_size for entry in os.scandir(where) if entry.is_file()}
        try:
            entries = self._fs.ls(where, detail=True, refresh=True)
        except FileNotFoundError:
            return {}
        return {entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in entries if entry["type"] == "file"}

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A local path, whose content becomes the file `name` when the block ends without an error."""
        if self.local is not None:
            target = self.local / name
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in target.parent.glob(f".{target.stem}.*"):  # of a killed writer of this very file
                left.unlink(missing_ok=True)
            with replacing(target) as beside:
                yield beside
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            yield path
            self._fs.makedirs(self.url(name).rsplit("/", 1)[0], exist_ok=True)
            self._fs.put_file(str(path), self.url(name))

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 text file in one step."""
        with self.writing(name) as path:
            path.write_text(text, encoding="utf-8")

    def read_text(self, name: str) -> str | None:
        """The content of a text file; None where there is none."""
        try:
            if self.local is not None:
                return (self.local / name).read_text(encoding="utf-8")
            return str(self._fs.cat_file(self.url(name)).decode())
        except (FileNotFoundError, NotADirectoryError):
            return None

    def sha256(self, name: str) -> str:
        """SHA-256 of a file's content, as 64 hexadecimal digits."""
        if self.local is not None:
            return file_sha256(self.local / name)
        with self._fs.open(self.url(name), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def remove(self, name: str) -> None:
        """Remove a file or a folder below this one, if it is there."""
        if self.local is not None:
            path = self.local / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        elif self._fs.exists(self.url(name)):
            self._fs.rm(self.url(name), recursive=True)
