"""CSV records: one column per lead, one row per sample."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import SignalError, UnsupportedFormatError
from ecg_transformers.data.readers.arrays import Hints, record_from_array
from ecg_transformers.data.readers.limits import Limits, read_bytes
from ecg_transformers.data.record import ECGRecord

_TIME_COLUMNS = {"", "time", "time_s", "time_ms", "t", "sample", "index", "n"}


def read_csv_record(path: Path, hints: Hints, limits: Limits) -> ECGRecord:
    """Columns separated by comma, semicolon or tab; a first line of names is used when there is one.

    Empty cells are NaN. A first column called time, sample or index is left out (the rate is a hint all the same: a
    column of times does not say its unit). Without a line of names `lead_names` must name the columns.
    """
    content = read_bytes(path, limits.max_table_bytes, hints.root, follow_links=hints.follow_links)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnsupportedFormatError("the file is not UTF-8 text.", path=path) from error
    if "\0" in text or not text.strip():
        raise SignalError("the file is empty or no text.", path=path)
    first = next(line for line in text.splitlines() if line.strip())
    separator = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if any(row)]
    except csv.Error as error:
        raise UnsupportedFormatError(f"the file cannot be split into cells ({error}).", path=path) from error
    names = None if _is_numeric(rows[0]) else [cell.strip() for cell in rows.pop(0)]
    if not rows:
        raise SignalError("the file has a line of names but no samples.", path=path)
    width = len(names) if names else len(rows[0])
    limits.check_shape(len(rows), width, path=path)
    signal = _numbers(rows, width, path, 2 if names else 1)
    metadata: dict = {}
    if names and width > 1 and names[0].lower() in _TIME_COLUMNS:
        metadata["flags"] = ["time_column_left_out"]
        names, signal = names[1:], signal[:, 1:]
    return record_from_array(signal, path, hints, limits, own_names=names, metadata=metadata)


def _is_numeric(row: list[str]) -> bool:
    try:
        _ = [float(cell) for cell in row if cell.strip()]
    except ValueError:
        return False
    return True


def _numbers(rows: list[list[str]], width: int, path: Path, first_line: int) -> np.ndarray:
    signal = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        if len(row) != width:
            raise SignalError(f"line {number + first_line} has {len(row)} cells instead of {width}.", path=path)
        try:
            signal[number] = [float(cell) if cell.strip() else np.nan for cell in row]
        except ValueError as error:
            raise SignalError(
                f"line {number + first_line} holds a cell that is no number ({error}).", path=path
            ) from error
    return signal
