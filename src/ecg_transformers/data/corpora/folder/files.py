"""Which files of a folder are records, and which file a name in a table means."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PureWindowsPath

from ecg_transformers.data.errors import (
    ECGDataError,
    LimitError,
    PointerError,
    RecordNotFoundError,
    TableError,
    UnsafePathError,
)
from ecg_transformers.data.readers.clinical.kinds import (
    CLINICAL_SUFFIXES,
    EMPTY,
    FORMAT_SUFFIXES,
    ISHNE_ANNOTATIONS,
    name_of,
)
from ecg_transformers.data.readers.recognition import clinical_kind
from ecg_transformers.data.readers.wfdb.header import read_header
from ecg_transformers.data.tables import first_bytes

logger = logging.getLogger(__name__)

# In the order of preference when files share a name: a header describes the others.
_SUFFIXES = (".hea", ".mat", ".npy", ".npz")
_TEXT_SUFFIXES = (".csv", ".tsv")
_DOCUMENTS = (".md", ".yaml", ".yml", ".html", ".py", ".log", ".rst", ".toml", ".png", ".svg")
_HEAD_BYTES = 512
_NO_HEADER = re.compile(rb"(?:\xef\xbb\xbf)?\s*<|0 {7}|[^\0]*\0")
_MASTER = re.compile(rb"\S+/\d+\s")
TABLE_NAMES = ("labels.csv", "labels.tsv", "labels.xlsx")
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
    unread: list[Path] = field(default_factory=list)
    """Files of readable formats that another one of the folder stands before; among `others` too."""

    @classmethod
    def scan(cls, folder: Path, table: Path | None = None) -> FileIndex:
        """Walk a folder without following links. Text tables count as records only where no other format is there.

        Hospital formats are known by their content, whatever their names.
        """
        index = cls(folder)
        found, clinical = index._walk(table)
        has_others = bool(clinical) or any(set(kinds) & set(_SUFFIXES) for kinds in found.values())
        wanted = _SUFFIXES if has_others else _TEXT_SUFFIXES
        bare = {path.relative_to(folder).as_posix() for path in clinical}
        for key, kinds in found.items():
            chosen = next((kinds[suffix] for suffix in wanted if suffix in kinds), None)
            if chosen is not None:
                index.add(chosen.relative_to(folder).as_posix() if key in bare else key, chosen)
            index.unread += [
                path
                for suffix, path in kinds.items()
                if path != chosen and not (chosen and suffix == ".mat" and chosen.suffix.lower() == ".hea")
            ]
        index.others += index.unread
        stems = Counter(record_name(path.relative_to(folder)) for path in clinical)
        for path in clinical:  # of files that differ in their suffix only each is a record, under its full name
            key = record_name(path.relative_to(folder))
            index.add(path.relative_to(folder).as_posix() if stems[key] > 1 or key in index.paths else key, path)
        return index

    def _walk(self, table: Path | None) -> tuple[dict[str, dict[str, Path]], list[Path]]:
        """Paths by name and suffix, and those of hospital formats; all others are noted."""
        folder, others = self.folder, self.others
        found: dict[str, dict[str, Path]] = {}
        masters: list[Path] = []
        clinical: list[Path] = []
        for root, folders, files in os.walk(folder, followlinks=False):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(files):
                path = Path(root) / name
                if path == table:
                    continue
                suffix = "" if name.startswith(".") else path.suffix.lower()
                if suffix in _SUFFIXES + _TEXT_SUFFIXES:
                    kinds = found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), {})
                    if is_called_otherwise(path, folder, masters):
                        clinical.append(path)
                    else:
                        kinds[suffix] = path
                elif not name.startswith(".") and is_clinical_record(path, folder, self.foreign):
                    clinical.append(path)
                else:
                    others.append(path)
            if len(found) + len(clinical) + len(others) > _MAX_FILES:
                raise LimitError(f"the folder holds more than {_MAX_FILES} files.", path=folder)
        for key in segment_keys(found, masters, folder):
            others.append(found.pop(key)[".hea"])
        return found, clinical

    def add(self, key: str, path: Path) -> None:
        """Note a record under its name below the folder."""
        self.paths[key] = path
        self.names[path] = key
        self.by_stem.setdefault(Path(key).name, []).append(key)

    @cached_property
    def composed(self) -> dict[str, Path]:
        """The records by the composed form of their names: file systems and spreadsheets write an umlaut in two ways."""
        return {unicodedata.normalize("NFC", key): path for key, path in self.paths.items()}

    def name_of(self, path: Path) -> str:
        """The name of a record below the folder, without the suffix where that is not needed."""
        return self.names.get(path) or record_name(path.relative_to(self.folder))

    def left_alone(self, used: set[Path] | None = None) -> list[str]:
        """A sentence for each kind of file that is not read, or that a table does not list (`used` are those it does)."""
        known = {path for names in self.foreign.values() for path in names}
        by_kind = {title: list(names) for title, names in self.foreign.items()}
        for path in (path for path in self.unread if path not in (used or ())):  # a table may list them
            by_kind.setdefault("tables or copies beside records of other formats", []).append(self._below(path))
        stems = {path.with_suffix("") for path in self.names}
        for path in self.others:
            name, is_table = self._below(path), path.stem.lower() == "labels"
            if name in known or path in self.unread or (_is_companion(path, stems) and not is_table):
                continue
            kind = (
                "signals without a header .hea of their name"
                if path.suffix.lower() == ".dat"
                else f"no record: {path.suffix or 'no suffix'}"
            )
            if path.suffix.lower() in (".xlsx", ".xls", ".ods") or is_table:
                kind = "a table of another format; labels=… names the table, which is CSV or .xlsx"
            by_kind.setdefault(kind, []).append(name)
        sentences = [
            _left_alone(names, f"of a kind that is not read ({title})") for title, names in sorted(by_kind.items())
        ]
        unlisted = [self._below(path) for path in self.names if used is not None and path not in used]
        return sentences + ([_left_alone(unlisted, "not in the table")] if unlisted else [])

    def _below(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def find(self, name: str, table: Path, row: int | None = None) -> Path | None:
        """The file that a cell of a table means: a path below the folder, with or without suffix, or a bare name.

        Raises:
            UnsafePathError: the path leads out of the folder; TableError: several files carry the name.
        """
        if not name:
            return None
        given = Path(name.replace("\\", "/"))
        where = "" if row is None else f"row {row}: "
        if given.is_absolute() or PureWindowsPath(name).drive or ".." in given.parts or "\0" in name:
            raise UnsafePathError(
                f"{where}a table names a file outside the folder; names are relative to it.", path=table, record=name
            )
        key = given.as_posix()
        exact = self.folder / given
        if exact in self.names:
            return exact
        if given.suffix.lower() in FORMAT_SUFFIXES:
            key = record_name(given)
            if given.suffix.lower() != ".dat" and exact.is_file():
                return exact
        if key in self.paths:
            return self.paths[key]
        candidates = self.by_stem.get(key, [])
        if len(candidates) > 1:
            raise TableError(
                f"{where}several files carry this name: {sorted(candidates)[:3]}; give the path.",
                path=table,
                record=name,
            )
        if candidates:
            return self.paths[candidates[0]]
        composed = None if key.isascii() else self.composed.get(unicodedata.normalize("NFC", key))
        if composed is not None:
            return composed
        return exact if exact.is_file() else None  # of a kind that is not read: the reader says which

    def why_not(self, name: str) -> str:
        """The sentence about a name that is no file, with the file that may be meant."""
        if not name:
            return "no file is named"
        given = Path(name.replace("\\", "/"))
        key = record_name(given)
        alike = [own for own in self.paths if own.lower() == key.lower()]
        alike += [self.by_stem[stem][0] for stem in self.by_stem if stem.lower() == key.lower()]
        elsewhere = self.by_stem.get(Path(key).name, [])
        for path in self.others:
            if path.relative_to(self.folder).with_suffix("").as_posix() == key:
                what = (
                    "a segment of a record" if path.suffix.lower() == ".hea" else "of a kind that is not read by itself"
                )
                return f"there is no record of the name {name!r}; {self._below(path)!r} is {what}"
        sentence = f"there is no such file {name!r}"
        if alike:
            return f"{sentence}; there is {self._below(self.paths[alike[0]])!r}: letter case matters"
        if elsewhere:
            return f"{sentence}; there is {self._below(self.paths[elsewhere[0]])!r} in another folder"
        zeros = [own for own in self.paths if own.lstrip("0") == key.lstrip("0")]
        if zeros:  # a spreadsheet takes `00007` for a number
            return f"{sentence}; there is {self._below(self.paths[zeros[0]])!r}: were its zeros lost?"
        return sentence


def records_of(folder: str | os.PathLike[str]) -> list[Path]:
    """The records of a folder, by name; what else lies there is named in a warning.

    Raises:
        RecordNotFoundError: it holds none.
    """
    index = FileIndex.scan(Path(folder))
    for sentence in index.left_alone():
        logger.warning("%s: %s.", os.fspath(folder), sentence)
    if not index.paths:
        raise RecordNotFoundError("the folder holds no records.", path=folder)
    return [path for _, path in sorted(index.paths.items())]


def _left_alone(names: list[str], why: str) -> str:
    some = ", ".join(sorted(names)[:3]) + (" …" if len(names) > 3 else "")
    return f"{'1 file was' if len(names) == 1 else f'{len(names)} files were'} left alone, {why}: {some}"


def _is_companion(path: Path, stems: set[Path]) -> bool:
    """Whether a file belongs to a record beside it (signals, annotations), or to the folder (a licence, a list)."""
    name, suffix = path.name, path.suffix.lower()
    if name.startswith(".") or suffix in _DOCUMENTS or (not suffix and name.upper() == name and _is_text(path)):
        return True
    bare = path.with_suffix("")  # `r.json` or `r.npz.json` of the record `r`
    return bare in stems or bare.with_suffix("") in stems or suffix == ".hea" or path.with_suffix(".hea").exists()


def _is_text(path: Path) -> bool:
    """Whether a file may be a licence or a list, as archives put them beside records under names in capitals."""
    return b"\0" not in first_bytes(path, size=_HEAD_BYTES)


def is_called_otherwise(path: Path, folder: Path, masters: list[Path]) -> bool:
    """Whether a file with the suffix of an array, a table or a header is a record of a hospital format.

    Of headers, which may be many, one look at the beginning tells; those that name segments go to `masters`.
    """
    if path.suffix.lower() == ".hea":
        head = first_bytes(path, size=_HEAD_BYTES)
        if not head:  # what cannot be read is said when the record itself is
            return False
        line = next((line for line in head.splitlines() if line.strip() and not line.startswith(b"#")), b"")
        if _MASTER.match(line.strip()):
            masters.append(path)
        if not _NO_HEADER.match(head):
            return False
    try:
        kind = clinical_kind(path, folder)
    except ECGDataError:
        return False
    return kind is not None and kind.key is not None and kind != ISHNE_ANNOTATIONS


def segment_keys(found: dict[str, dict[str, Path]], masters: list[Path], folder: Path) -> list[str]:
    """The headers that another header of the folder names as its segments: they are no records of their own."""
    keys: set[str] = set()
    for path in masters:
        with contextlib.suppress(OSError, ECGDataError):  # said when the record itself is read
            for name, _ in read_header(path, root=folder).segments:
                keys.add(path.with_name(name).relative_to(folder).as_posix())
    return sorted(key for key in keys if ".hea" in found.get(key, {}))


def record_name(relative: Path) -> str:
    """The name of a record: its path without a suffix of a format (`1.2.840.5` keeps its last number)."""
    return relative.with_name(name_of(relative)).as_posix()


def is_clinical_record(path: Path, folder: Path, foreign: dict[str, list[str]]) -> bool:
    """Whether a file is a record of a hospital format; a kind that is known and not read is noted in `foreign`."""
    try:
        kind = clinical_kind(path, folder)
    except PointerError as error:
        foreign.setdefault(error.reason.rstrip("."), []).append(path.relative_to(folder).as_posix())
        return False
    except ECGDataError:
        title = "a link out of the folder" if path.is_symlink() else "a file that cannot be opened"
        foreign.setdefault(title, []).append(path.relative_to(folder).as_posix())
        return False
    if kind is not None and kind.key is not None:
        return kind != ISHNE_ANNOTATIONS
    is_called_so = path.suffix.lower() in (*CLINICAL_SUFFIXES, ".edf")
    if is_called_so or (kind is not None and kind != EMPTY):
        title = kind.title if kind is not None else f"{path.suffix.lower()} file of unknown content"
        foreign.setdefault(title, []).append(path.relative_to(folder).as_posix())
    return False
