"""Large corpora: tables read line by line, items made when they are asked for, folds for whole columns.

An item of a plan takes about a kilobyte; a million of them, and the texts of their tables, do not belong in memory.
Here a corpus keeps numpy columns, and `LazyItems` makes the item of a position.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from ecg_transformers.data.corpora.base import Item
from ecg_transformers.data.corpora.shared.folds import DEALT
from ecg_transformers.data.errors import LimitError, RecordNotFoundError, TableError, brief
from ecg_transformers.data.readers.limits import Limits, checked_file, refuse_foreign_text
from ecg_transformers.data.tables import MAX_FIELD, cut_off, separator_of

MAX_ROWS = 10_000_000


class LazyItems(Sequence[Item]):
    """Items by position, each made by `make(row)` when it is asked for."""

    def __init__(self, make: Callable[[int], Item], rows: np.ndarray) -> None:
        self.make = make
        self.row_numbers = np.asarray(rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.row_numbers)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> LazyItems: ...
    def __getitem__(self, index: int | slice) -> Item | LazyItems:
        if isinstance(index, slice):
            return LazyItems(self.make, self.row_numbers[index])
        return self.make(int(self.row_numbers[index]))

    def __iter__(self) -> Iterator[Item]:
        return (self.make(row) for row in self.row_numbers.tolist())


def iterate_table(path: Path, required: Sequence[str], root: Path, limits: Limits) -> Iterator[dict[str, str]]:
    """The rows of a CSV file one by one, cells stripped; memory does not grow with the table.

    Raises:
        TableError: missing columns, too many cells, a last row that was cut off.
    """
    if not path.exists():
        raise RecordNotFoundError("there is no such table.", path=path)
    names, separator = _checked_head(path, required, root, limits)
    csv.field_size_limit(MAX_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator)
            next(reader, None)
            row: list[str] = names
            for number, row in enumerate(reader, start=2):
                if len(row) > len(names):
                    raise TableError(f"row {number} has {len(row)} cells for {len(names)} columns.", path=path)
                if number > MAX_ROWS:
                    raise LimitError(f"the table has more than {MAX_ROWS} rows.", path=path)
                if any(row):
                    yield dict(zip(names, [cell.strip() for cell in row] + [""] * (len(names) - len(row))))
            if 0 < len(row) < len(names) and not _ends_with_a_line(path):
                raise cut_off(path, len(row), len(names))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"the table cannot be read ({brief(error)}).", path=path) from error


def iterate_with_offsets(
    path: Path, required: Sequence[str], root: Path, limits: Limits
) -> Iterator[tuple[int, dict[str, str]]]:
    """As `iterate_table`, with the byte at which each row starts: `row_at` finds it again."""
    head = _checked_head(path, required, root, limits)
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file):
            start, offset = offset, offset + len(line)
            while line.count(b'"') % 2 and (more := file.readline(MAX_FIELD)):  # a line break inside a cell
                line += more
                offset += len(more)
            if number and line.strip() and any((cells := _cells(line, *head, path)).values()):
                yield start, cells


def row_at(path: Path, offset: int) -> dict[str, str]:
    """The row of a table that starts at a byte."""
    with path.open("rb") as file:
        head = _head_of(file.readline(MAX_FIELD))
        file.seek(offset)
        line = file.readline(MAX_FIELD)
        while line.count(b'"') % 2 and (more := file.readline(MAX_FIELD)):
            line += more
    return _cells(line, *head, path)


def _checked_head(path: Path, required: Sequence[str], root: Path, limits: Limits) -> tuple[list[str], str]:
    """The names of the columns, and what separates them."""
    checked_file(path, root)
    if path.stat().st_size > 8 * limits.max_table_bytes:
        raise LimitError(f"the table has {path.stat().st_size} bytes, beyond the limit.", path=path)
    with path.open("rb") as file:
        first = file.readline(MAX_FIELD)
    refuse_foreign_text(first[:64], path)
    if b"\0" in first or b"\r" in first.rstrip(b"\r\n"):
        what = (
            "the table is not UTF-8 text" if b"\0" in first else "the lines of the table end in a carriage return alone"
        )
        raise TableError(f"{what}; save it as UTF-8 (a spreadsheet calls that 'CSV UTF-8').", path=path)
    names, separator = _head_of(first)
    missing = [name for name in required if name not in names]
    if missing:
        raise TableError(f"the columns {missing} are missing; the table has {names}.", path=path)
    if repeated := sorted({name for name in names if name and names.count(name) > 1}):
        raise TableError(f"the columns {repeated} occur more than once.", path=path)
    return names, separator


def _head_of(line: bytes) -> tuple[list[str], str]:
    text = line.decode("utf-8-sig", errors="replace")
    separator = separator_of(text)
    return [name.strip() for name in next(csv.reader([text], delimiter=separator), [])], separator


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) in b"\r\n"


def _cells(line: bytes, names: list[str], separator: str, path: Path) -> dict[str, str]:
    try:
        row = next(csv.reader([line.decode("utf-8", errors="replace")], strict=False, delimiter=separator), [])
    except csv.Error as error:
        raise TableError(f"a row cannot be split into cells ({error}).", path=path) from error
    if len(row) > len(names):
        raise TableError(f"a row has {len(row)} cells for {len(names)} columns.", path=path)
    if len(row) < len(names) and not line.endswith((b"\n", b"\r")):
        raise cut_off(path, len(row), len(names))
    return dict(zip(names, [cell.strip() for cell in row] + [""] * (len(names) - len(row))))


def fold_column(groups: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Folds 1 to 10 as int8 `(N,)`: one a group (patient), spread over label sets.

    Args:
        groups: the patient of each record, integers `(N,)`.
        labels: the labels of each record as bits of an integer `(N,)`.
        seed: another seed deals other folds.
    """
    people, position = np.unique(groups, return_inverse=True)
    union = np.zeros(len(people), dtype=np.int64)
    np.bitwise_or.at(union, position, labels.astype(np.int64))
    order = np.lexsort((_scrambled(people, seed), union))
    dealt = np.array(DEALT if len(people) >= 3 else (1,), dtype=np.int8)
    fold_of = np.empty(len(people), dtype=np.int8)
    fold_of[order] = dealt[np.arange(len(people)) % len(dealt)]
    return fold_of[position]


def split_rows(folds: np.ndarray, make: Callable[[int], Item]) -> dict[str, Any]:
    """Items by part: fold 10 test, fold 9 validation, in the order of the rows."""
    parts = {"train": folds <= 8, "validation": folds == 9, "test": folds == 10}
    return {part: LazyItems(make, np.flatnonzero(chosen)) for part, chosen in parts.items()}


def _scrambled(numbers: np.ndarray, seed: int) -> np.ndarray:
    """A hash of each integer and the seed (the finaliser of SplitMix64), the same on every machine."""
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15) * np.uint64(2 * seed + 1)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
