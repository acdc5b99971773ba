"""Tables of records and labels (CSV), read with every limit and never evaluated."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from ecg_transformers.data.errors import ECGDataError, LimitError, RecordNotFoundError, TableError
from ecg_transformers.data.readers.limits import Limits, open_file, read_bytes, refuse_foreign_text

MAX_FIELD = 2**20


def read_table(
    path: str | Path,
    required: Sequence[str] = (),
    *,
    root: str | Path | None = None,
    limits: Limits | None = None,
) -> list[dict[str, str]]:
    """The rows of a CSV file as dictionaries of text.

    UTF-8 with or without byte-order mark; quoted commas and line breaks are kept; cells are stripped. Separators other
    than the comma (semicolon, tab) are recognised from the header line.

    Raises:
        TableError: no rows, missing columns, rows with too many cells, not UTF-8, a cell beyond 1 MiB, cut off in a row.
    """
    path = Path(path)
    if not path.exists():
        raise RecordNotFoundError("there is no such table.", path=path)
    content = read_bytes(path, (limits or Limits()).max_table_bytes, root)
    refuse_foreign_text(content[:64], path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"the table is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8 (a spreadsheet calls "
            "that 'CSV UTF-8').",
            path=path,
        ) from error
    return parse_table(text, path, required)


def parse_table(text: str, path: Path, required: Sequence[str] = ()) -> list[dict[str, str]]:
    """The rows in a text; `path` is only named in errors."""
    if not text.strip():
        raise TableError("the table is empty.", path=path)
    if "\0" in text:
        raise TableError("the table holds NUL characters, so it is not a text file.", path=path)
    separator = separator_of(next(line for line in text.splitlines() if line.strip()))
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        rows = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise LimitError(f"the table cannot be split into cells ({error}).", path=path) from error
    if not rows:
        raise TableError("the table is empty.", path=path)
    names = [name.strip() for name in rows[0]]
    missing = [name for name in required if name not in names]
    if missing:
        raise TableError(f"the columns {missing} are missing; the table has {names}.", path=path)
    repeated = sorted({name for name in names if name and names.count(name) > 1})
    if repeated:
        raise TableError(f"the columns {repeated} occur more than once.", path=path)
    if len(rows) == 1:
        raise TableError("the table has a header line but no rows.", path=path)
    for number, row in enumerate(rows[1:], start=2):
        if len(row) > len(names):
            raise TableError(f"row {number} has {len(row)} cells, the header names {len(names)} columns.", path=path)
    if len(rows[-1]) < len(names) and not text.endswith(("\n", "\r")):
        raise cut_off(path, len(rows[-1]), len(names))
    return [dict(zip(names, [cell.strip() for cell in row] + [""] * (len(names) - len(row)))) for row in rows[1:]]


def cut_off(path: Path, cells: int, columns: int) -> TableError:
    """The error of a table that ends within a row: its last cell may be half of one, and the rest is unknown."""
    return TableError(
        f"the last row has {cells} cells for {columns} columns and no line end: the table was cut off (fetch it again), or "
        "this row is to be completed.",
        path=path,
    )


def first_bytes(path: Path, root: Path | None = None, size: int = 2**16) -> bytes:
    """How a file below a folder (default: its own) begins; nothing of one that cannot be read or lies elsewhere."""
    try:
        descriptor, _ = open_file(path, root)
    except ECGDataError:
        return b""
    with open(descriptor, "rb") as file:
        return file.read(size)


def first_cells(path: Path, root: Path) -> list[str]:
    """The cells of a table's first line, the headings where it has some; none where it cannot be read."""
    line = first_bytes(path, root).split(b"\n", 1)[0].decode("utf-8-sig", errors="replace")
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=separator_of(line)), [])]
    except csv.Error:
        return []


def separator_of(line: str) -> str:
    """The comma, semicolon or tab of which a header line has most."""
    return max(",;\t", key=line.count)


def integer(text: str, column: str, path: Path, *, record: str | None = None) -> int | None:
    """An integer cell, also when written as `15709.0`; None where empty."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if value != value or value != int(value if abs(value) < 1e15 else 0):
        raise TableError(f"column {column!r} holds {text[:40]!r}, which is not an integer.", path=path, record=record)
    return int(value)


def number(text: str, column: str, path: Path, *, record: str | None = None) -> float | None:
    """A number cell; None where empty."""
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise TableError(f"column {column!r} holds {text[:40]!r}, not a number.", path=path, record=record) from error
