"""Where the files of a corpus are: found by characteristic names, never by the name of a folder.

Mirrors flatten, nest and rename folders, and downloads with `wget -r` put `physionet.org/files/…` above and
`index.html` beside. So a corpus looks for a file that only it has, a few levels down. Links are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ecg_transformers.data.errors import DuplicateRecordError, RecordNotFoundError, UnsafePathError, brief
from ecg_transformers.data.tables import first_cells

MAX_DEPTH = 4
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_JUNK = (".", "__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN")
_BEATS = [f"{name}.csv" for name in ("ptbdb_normal", "ptbdb_abnormal", "mitbih_train", "mitbih_test")]
_BEATS += ["INCART 2-lead Arrhythmia Database.csv"]


Fits = Callable[[Path], bool]


def find_file(root: Path, names: Sequence[str], depth: int = MAX_DEPTH, fits: Fits | None = None) -> Path | None:
    """The first file of one of these names (letter case does not matter) on the highest level that has one."""
    return next(iter(find_files(root, names, depth, fits)), None)


def find_files(root: Path, names: Sequence[str], depth: int = MAX_DEPTH, fits: Fits | None = None) -> list[Path]:
    """All files of these names on the highest level that has one, in the order of `names`, then of their paths.

    Where other corpora use such a name too, `fits` says by the content whose file it is.
    """
    wanted = {name.lower(): position for position, name in enumerate(names)}
    level = [root]
    for _ in range(depth + 1):
        found: list[tuple[int, str]] = []
        below: list[Path] = []
        for folder in level:
            for entry in _entries(folder):
                if entry.is_dir(follow_symlinks=False):
                    below.append(Path(entry.path))
                elif entry.name.lower() in wanted and (fits is None or fits(Path(entry.path))):
                    found.append((wanted[entry.name.lower()], entry.path))
        if found:
            return [Path(path) for _, path in sorted(found)]
        level = sorted(below)
    return []


def find_folder(root: Path, name: str, depth: int = MAX_DEPTH) -> Path | None:
    """The first folder of a name (letter case does not matter), at most `depth` levels down."""
    level = [root]
    for _ in range(depth + 1):
        below = sorted(folder for parent in level for folder in subfolders(parent))
        for folder in below:
            if folder.name.lower() == name.lower():
                return folder
        level = below
    return None


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in a fixed order; hidden ones and links are none."""
    return sorted(Path(entry.path) for entry in _entries(folder) if entry.is_dir(follow_symlinks=False))


def walk_files(root: Path, suffix: str | tuple[str, ...]) -> Iterator[Path]:
    """Every file with a suffix, or one of several, below a folder, at any depth, in a fixed order.

    Hidden and left-over files are none.
    """
    for folder, folders, names in os.walk(root, onerror=_refuse, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith(_JUNK))
        for name in sorted(names):
            if name.lower().endswith(suffix) and not name.startswith(_JUNK):
                yield Path(folder, name)


def by_name(paths: Iterable[Path]) -> dict[str, Path]:
    """Files by their names without suffix.

    Raises:
        DuplicateRecordError: two of them have one name; it says where they lie.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if (first := found.setdefault(path.stem, path)) != path:
            raise DuplicateRecordError(
                f"this record lies here twice, also as {first}: give a folder that holds one copy as data_dir, or take the "
                "other one away.",
                path=path,
                record=path.stem,
            )
    return found


def find_table(root: Path, name: str, columns: Sequence[str]) -> Path | None:
    """The first table of a name that has these columns, or else of the name: its reader says what is missing."""
    return find_file(root, [name], fits=with_columns(root, columns)) or find_file(root, [name])


def with_columns(root: Path, columns: Sequence[str]) -> Fits:
    """Whether a table has all of some columns."""
    return lambda path: set(columns) <= set(first_cells(path, root))


def need_file(root: Path, names: Sequence[str], layout: str, columns: Sequence[str] = ()) -> Path:
    """As `find_file`, or `find_table`; a missing file is an error that says what the corpus looks like."""
    found = find_table(root, names[0], columns) if columns else find_file(root, names)
    if found is None:
        raise RecordNotFoundError(
            f"no {' or '.join(names)} here or up to {MAX_DEPTH} levels down; expected is {layout}.", path=root
        )
    return found


def without_records(error: RecordNotFoundError, root: Path) -> RecordNotFoundError:
    """The error of a folder without records, which says why where that can be seen: archives that are still packed,
    links to folders, and files that only look like a corpus.
    """
    held = _what_lies_here(root)
    if not held or (held.startswith("unpack") and "unpack " in error.reason):
        return error
    return RecordNotFoundError(f"{error.reason.rstrip('.')} ({held}).", path=error.path, record=error.record)


def _what_lies_here(root: Path) -> str:
    found = find_file(root, _BEATS)
    if found is not None:
        return (
            f"{found.name}, which lies here, holds single beats or features of them and no records: it cannot be used"
        )
    entries = [entry for folder in (root, *subfolders(root)) for entry in _entries(folder)]
    packed = sorted(entry.name for entry in entries if entry.name.lower().endswith(_ARCHIVES))
    if packed:
        return f"unpack {some_of(packed, 2)}, which lies here"
    links = sorted(entry.name for entry in entries if entry.is_symlink() and entry.is_dir())
    return f"the link {links[0]} is not followed: give the folder that it leads to" if links else ""


def some_of(names: Iterable[str], limit: int = 5) -> str:
    """A few names for a sentence: `A0001, A0002 and 8 more`."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(_JUNK)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)
        return []


def _refuse(error: OSError) -> None:
    """A folder that cannot be read holds nobody knows what: records would be missing without a word."""
    raise UnsafePathError(f"the folder cannot be read ({brief(error)}).", path=error.filename) from error
