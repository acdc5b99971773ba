"""Which files of a folder are records, and which file a name in a table means."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from ecg_transformers.data.errors import LimitError, TableError, UnsafePathError

# In the order of preference when files share a name: a header describes the others.
_SUFFIXES = (".hea", ".mat", ".npy", ".npz", ".edf")
_TEXT_SUFFIXES = (".csv", ".tsv")
_MAX_FILES = 10_000_000


@dataclass
class FileIndex:
    """Records of a folder: paths by name (relative, without suffix), and names by bare file name."""

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    """Files that are no record by themselves, such as signal files that a header names: a change of theirs counts."""

    @classmethod
    def scan(cls, folder: Path, table: Path | None = None) -> FileIndex:
        """Walk a folder without following links. Text tables count as records only where no other format is there."""
        found: dict[str, dict[str, Path]] = {}
        others: list[Path] = []
        for root, folders, files in os.walk(folder, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(root) / name
                suffix = path.suffix.lower()
                if suffix in _SUFFIXES + _TEXT_SUFFIXES and not name.startswith(".") and path != table:
                    found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), {})[suffix] = path
                elif path != table:
                    others.append(path)
            if len(found) + len(others) > _MAX_FILES:
                raise LimitError(f"the folder holds more than {_MAX_FILES} files.", path=folder)
        wanted = _SUFFIXES if any(set(kinds) & set(_SUFFIXES) for kinds in found.values()) else _TEXT_SUFFIXES
        index = cls(folder, others=others)
        for key, kinds in found.items():
            chosen = next((kinds[suffix] for suffix in wanted if suffix in kinds), None)
            if chosen is not None:
                index.paths[key] = chosen
                index.by_stem.setdefault(Path(key).name, []).append(key)
        return index

    def find(self, name: str, table: Path) -> Path | None:
        """The file that a cell of a table means: a path below the folder, with or without suffix, or a bare name."""
        if not name:
            return None
        given = Path(name)
        if given.is_absolute() or ".." in given.parts or "\0" in name:
            raise UnsafePathError(
                "a table names a file outside the folder; names are relative to it.", path=table, record=name
            )
        key = given.as_posix()
        exact = self.folder / given
        if given.suffix.lower() in _SUFFIXES + _TEXT_SUFFIXES + (".dat",):
            key = given.with_suffix("").as_posix()
            if given.suffix.lower() != ".dat" and exact.is_file():
                return exact
        if key in self.paths:
            return self.paths[key]
        candidates = self.by_stem.get(key, [])
        if len(candidates) > 1:
            raise TableError(
                f"several files carry this name: {sorted(candidates)[:3]}; give the path.", path=table, record=name
            )
        return self.paths[candidates[0]] if candidates else None
