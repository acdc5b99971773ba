"""Which files of a folder are records, and which file a name in a table means."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ecg_transformers.data.errors import ECGDataError, LimitError, TableError, UnsafePathError
from ecg_transformers.data.readers.clinical.kinds import EMPTY, ISHNE_ANNOTATIONS
from ecg_transformers.data.readers.recognition import CLINICAL_SUFFIXES, clinical_kind

# In the order of preference when files share a name: a header describes the others.
_SUFFIXES = (".hea", ".mat", ".npy", ".npz")
_TEXT_SUFFIXES = (".csv", ".tsv")
_ENDINGS = (*_SUFFIXES, *_TEXT_SUFFIXES, *CLINICAL_SUFFIXES, ".edf", ".dat", ".txt")
_MAX_FILES = 10_000_000


@dataclass
class FileIndex:
    """Records of a folder: paths by name (relative, without suffix), and names by bare file name."""

    folder: Path
    paths: dict[str, Path] = field(default_factory=dict)
    by_stem: dict[str, list[str]] = field(default_factory=dict)
    names: dict[Path, str] = field(default_factory=dict)
    others: list[Path] = field(default_factory=list)
    """Files that are no record by themselves, such as signal files that a header names: a change of theirs counts."""
    foreign: dict[str, list[str]] = field(default_factory=dict)
    """Files of kinds that are known and not read, by kind; they are among `others` too."""

    @classmethod
    def scan(cls, folder: Path, table: Path | None = None) -> FileIndex:
        """Walk a folder without following links. Text tables count as records only where no other format is there.

        Hospital formats are known by their content, whatever their names.
        """
        found: dict[str, dict[str, Path]] = {}
        clinical: list[Path] = []
        others: list[Path] = []
        foreign: dict[str, list[str]] = {}
        for root, folders, files in os.walk(folder, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(root) / name
                suffix = path.suffix.lower()
                if suffix in _SUFFIXES + _TEXT_SUFFIXES and not name.startswith(".") and path != table:
                    found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), {})[suffix] = path
                elif path != table and not name.startswith(".") and is_clinical_record(path, folder, foreign):
                    clinical.append(path)
                elif path != table:
                    others.append(path)
            if len(found) + len(clinical) + len(others) > _MAX_FILES:
                raise LimitError(f"the folder holds more than {_MAX_FILES} files.", path=folder)
        has_others = bool(clinical) or any(set(kinds) & set(_SUFFIXES) for kinds in found.values())
        wanted = _SUFFIXES if has_others else _TEXT_SUFFIXES
        index = cls(folder, others=others, foreign=foreign)
        for key, kinds in found.items():
            chosen = next((kinds[suffix] for suffix in wanted if suffix in kinds), None)
            if chosen is not None:
                index.add(key, chosen)
        stems = Counter(record_name(path.relative_to(folder)) for path in clinical)
        for path in clinical:  # of files that differ in their suffix only each is a record, under its full name
            key = record_name(path.relative_to(folder))
            index.add(path.relative_to(folder).as_posix() if stems[key] > 1 or key in index.paths else key, path)
        return index

    def add(self, key: str, path: Path) -> None:
        """Note a record under its name below the folder."""
        self.paths[key] = path
        self.names[path] = key
        self.by_stem.setdefault(Path(key).name, []).append(key)

    def name_of(self, path: Path) -> str:
        """The name of a record below the folder, without the suffix where that is not needed."""
        return self.names.get(path) or record_name(path.relative_to(self.folder))

    def foreign_notes(self) -> list[str]:
        """One sentence for each kind of file that is known and not read."""
        notes = []
        for title, names in sorted(self.foreign.items()):
            some = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
            what = "1 file was" if len(names) == 1 else f"{len(names)} files were"
            notes.append(f"{what} left alone, of a kind that is not read ({title}): {some}")
        return notes

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
        if exact in self.names:
            return exact
        if given.suffix.lower() in _ENDINGS:
            key = record_name(given)
            if given.suffix.lower() != ".dat" and exact.is_file():
                return exact
        if key in self.paths:
            return self.paths[key]
        candidates = self.by_stem.get(key, [])
        if len(candidates) > 1:
            raise TableError(
                f"several files carry this name: {sorted(candidates)[:3]}; give the path.", path=table, record=name
            )
        if candidates:
            return self.paths[candidates[0]]
        return exact if exact.is_file() else None  # of a kind that is not read: the reader says which


def record_name(relative: Path) -> str:
    """The name of a record: its path without a suffix of a format (`1.2.840.5` keeps its last number)."""
    return (relative.with_suffix("") if relative.suffix.lower() in _ENDINGS else relative).as_posix()


def is_clinical_record(path: Path, folder: Path, foreign: dict[str, list[str]]) -> bool:
    """Whether a file is a record of a hospital format; a kind that is known and not read is noted in `foreign`."""
    try:
        kind = clinical_kind(path, folder)
    except ECGDataError:  # a link out of the folder, or no regular file
        return False
    if kind is not None and kind.key is not None:
        return kind != ISHNE_ANNOTATIONS
    is_called_so = path.suffix.lower() in (*CLINICAL_SUFFIXES, ".edf")
    if is_called_so or (kind is not None and kind != EMPTY):
        title = kind.title if kind is not None else f"{path.suffix.lower()} file of unknown content"
        foreign.setdefault(title, []).append(path.relative_to(folder).as_posix())
    return False
