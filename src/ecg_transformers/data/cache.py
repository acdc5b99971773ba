"""Where the package keeps what it makes for a user: builds, official files, conversions, the key of stand-ins."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


def cache_folders() -> list[Path]:
    """The folders that may be used, the first choice first: `ECG_CACHE_DIR` alone, else the user's cache folders."""
    if os.environ.get("ECG_CACHE_DIR"):
        return [Path(os.environ["ECG_CACHE_DIR"])]
    folders = [Path(os.environ["XDG_CACHE_HOME"]) / "ecg_transformers"] if os.environ.get("XDG_CACHE_HOME") else []
    with contextlib.suppress(RuntimeError):
        folders.append(Path.home() / ".cache" / "ecg_transformers")
    return folders


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """Where builds are kept: the argument, `ECG_CACHE_DIR`, the home cache, or a temporary folder without a home."""
    if cache_dir is not None:
        return Path(cache_dir)
    for folder in cache_folders():
        if writable(folder) or os.environ.get("ECG_CACHE_DIR"):
            return folder
    return Path(tempfile.gettempdir()) / f"ecg_transformers-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def root_of_streams(root: Path) -> Path:
    """A folder for the lock files of `datasets`, which writes nothing else when it streams."""
    return root if writable(root) else Path(tempfile.gettempdir())


def writable(folder: Path) -> bool:
    """Whether a folder is, or could be made, writable."""
    existing = next((p for p in (folder, *folder.parents) if p.exists()), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
