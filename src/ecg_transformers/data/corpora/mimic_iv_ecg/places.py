"""Where the records of MIMIC-IV-ECG lie: the full corpus, the demo, parts and copies of either."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ecg_transformers.data.corpora.shared.search import MAX_DEPTH, subfolders
from ecg_transformers.data.errors import DuplicateRecordError

FULL, DEMO, OTHER = 0, 1, 2
"""Kinds of places: below `files/` in the full corpus, in the demo, anywhere else."""

_GROUP, _PATIENT = re.compile(r"p\d{4}\Z"), re.compile(r"p\d{8}\Z")


class Presence:
    """Whether the folder of a patient is here, from one listing for a thousand of them: partial copies are the rule,
    and asking for each of 800,000 files would take longer than all the rest.
    """

    def __init__(self, base: Path) -> None:
        self.base = os.fspath(base)
        self.listed: dict[str, set[str]] = {}
        self.asked: dict[str, set[str]] = {}

    def __call__(self, usual: str) -> bool:
        folder, _, name = usual.rsplit("/", 2)[0].rpartition("/")
        self.asked.setdefault(folder, set()).add(name)
        return name in self._names_in(folder)

    def _names_in(self, folder: str) -> set[str]:
        if folder not in self.listed:
            try:
                self.listed[folder] = set(os.listdir(f"{self.base}/{folder}"))
            except OSError:
                self.listed[folder] = set()
        return self.listed[folder]

    def strangers(self) -> int:
        """Patients whose folders are here and were not asked for."""
        groups = ["", *(name for name in self._names_in("") if _GROUP.match(name))]
        unasked = (self._names_in(group) - self.asked.get(group, set()) for group in groups)
        return sum(1 for names in unasked for name in names if _PATIENT.match(name))


def folder_of_patients(root: Path, beside: Path | None) -> Path | None:
    """The folder in which p1000 … (or p10000032 … of the demo) lie: `files` beside the list, or one of any name."""
    if beside is not None and _holds_patients(beside / "files"):
        return beside / "files"
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        found = [folder for folder in level if _holds_patients(folder)]
        if len(found) > 1:
            raise DuplicateRecordError(
                f"patients' folders lie in {' and in '.join(map(str, found[:2]))}: give one of them as data_dir.",
                path=root,
            )
        if found:
            return found[0]
        level = [below for folder in level for below in subfolders(folder)]
    return None


def path_below(path: Path, base: Path) -> str:
    """Where a header lies below the folder of the patients, without its suffix."""
    return Path(os.path.relpath(path, base)).with_suffix("").as_posix()


def usual_path(subject: int, study: int, kind: int) -> str:
    """Where a record lies below `files/` in the full corpus, or in the demo, which lacks a level."""
    level = f"p{str(subject)[:4]}/" if kind == FULL else ""
    return f"{level}p{subject}/s{study}/{study}"


def _holds_patients(folder: Path) -> bool:
    return any(_GROUP.match(below.name) or _PATIENT.match(below.name) for below in subfolders(folder))
