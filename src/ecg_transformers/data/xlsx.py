"""Tables in Excel files, read as text with every limit; needs openpyxl, which comes with the extra `[corpora]`."""

from __future__ import annotations

import zipfile
from itertools import zip_longest
from pathlib import Path

from ecg_transformers.data.errors import LimitError, MissingDependencyError, TableError, brief
from ecg_transformers.data.readers.limits import Limits, checked_file


def read_xlsx_table(path: Path, required: list[str], root: Path, limits: Limits) -> list[dict[str, str]]:
    """The rows of the first sheet as dictionaries of text, empty cells as ''. Formulas are not evaluated.

    Raises:
        MissingDependencyError: openpyxl is not installed.
        TableError: no Excel file, missing columns, no rows.
    """
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise MissingDependencyError(
            "reading an Excel table needs openpyxl: pip install 'ecg_transformers[corpora]'.", path=path
        ) from error
    checked_file(path, root)
    _check_size(path, limits)
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
        try:
            sheet = workbook.worksheets[0]
            sheet.reset_dimensions()  # some programs state one cell, whatever the sheet holds
            lines = [
                ["" if cell is None else str(cell).strip() for cell in row] for row in sheet.iter_rows(values_only=True)
            ]
        finally:
            workbook.close()
    except Exception as error:  # openpyxl raises whatever its parsing trips over
        raise TableError(f"this is no readable Excel table ({brief(error)}).", path=path) from error
    lines = [line for line in lines if any(line)]
    missing = [name for name in required if not lines or name not in lines[0]]
    if missing:
        raise TableError(f"the columns {missing} are missing; the table has {lines[0] if lines else []}.", path=path)
    if len(lines) == 1:
        raise TableError("the table has a header line but no rows.", path=path)
    return [dict(zip_longest(lines[0], line[: len(lines[0])], fillvalue="")) for line in lines[1:]]


def _check_size(path: Path, limits: Limits) -> None:
    """An Excel file is an archive: what it expands to is looked at before it is expanded."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError) as error:
        raise TableError(f"this is no Excel file ({brief(error)}).", path=path) from error
    if total > limits.max_table_bytes or total > max(path.stat().st_size * limits.max_ratio, 2**24):
        raise LimitError(f"the table expands to {total} bytes, beyond the limit.", path=path)
