"""CSV records: one column per lead, one row per sample."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.errors import MissingHintError, OptionError, SignalError, UnsupportedFormatError
from ecg_transformers.data.readers.arrays import (
    Hints,
    agreed_rate,
    check_layout,
    columns_in_millivolts,
    record_from_array,
)
from ecg_transformers.data.readers.converted import TIME_COLUMN, layout_in, sidecar_facts, with_facts
from ecg_transformers.data.readers.csv_text import (
    TextTable,
    TimeColumn,
    is_whole,
    numbers,
    read_text_table,
    time_column,
)
from ecg_transformers.data.readers.limits import Limits, read_bytes
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
_RATE_TOLERANCE = 0.01
"""Times are written with few digits: 0.0028 s stands for 360 Hz."""


def read_csv_record(path: Path, hints: Hints, limits: Limits) -> DigitalRecord | ECGRecord:
    """Columns separated by comma, semicolon, tab, `|` or blanks; a first line of names is used when there is one.

    Columns of words (annotations) are left out, and a flag says so. Decimal commas are read where something else separates
    the cells, or quotation marks. Empty cells are NaN. Columns of times or of sample numbers are left out, and times give
    the sampling rate. Units in the names (`I (uV)`, `I_uV`) or in a second line are taken, lines that start with `#` or `%`
    are comments; values written as whole numbers need a unit. Without names `lead_names` must give them.

    Names, rate and unit of a table that `convert-record` wrote stand in the description beside it.

    Raises:
        ECGDataError: several lines before the numbers, cells that are no numbers, times with a gap, a rate or unit that
            contradicts the file.
    """
    content = read_bytes(path, limits.max_table_bytes, hints.root, follow_links=hints.follow_links)
    text = _text(content, path)
    if "\0" in text or not text.strip():
        raise SignalError("the file is empty or no text.", path=path)
    facts = sidecar_facts(path, hints)
    if facts is None:
        table = read_text_table(text, path)
    else:
        rate, names, unit = layout_in(facts, path)
        table = read_text_table(text, path, [TIME_COLUMN, *names])
        table.units[0] = "s"
        hints = replace(hints, sampling_rate=agreed_rate(hints, rate, path), units=hints.units or unit)
    check_layout(len(table.rows), table.width, path, limits)
    flags = ["text_columns_left_out"] if table.text_left_out else []
    if facts is None:
        table.bring_times_first()
    while (times := time_column(table, hints.lead_names, path)) is not None:  # sample numbers and times, perhaps
        table.drop_first()
        flags += [] if "time_column_left_out" in flags else ["time_column_left_out"]
        hints = replace(hints, sampling_rate=_rate(times, hints, path))
        if facts is not None:  # the description names all others as leads
            break
        table.bring_times_first()
    counts = not any(table.units) and is_whole(table)
    signal, hints = _scaled(table, hints, path)
    metadata: dict[str, Any] = {"flags": flags} if flags else {}
    record = record_from_array(signal, path, hints, limits, own_names=table.names, metadata=metadata, counts=counts)
    return record if facts is None else with_facts(record, facts, path, hints)


def _text(content: bytes, path: Path) -> str:
    """UTF-8, UTF-16 with its mark, or what spreadsheets of Windows write (their `µV` is no UTF-8)."""
    for codec in ("utf-16",) if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252"):
        try:
            text = content.decode(codec)
        except UnicodeDecodeError:
            continue
        if codec != "cp1252" or not _CONTROL.search(text):
            return text
    raise UnsupportedFormatError("the file is not UTF-8 text.", path=path)


def _rate(times: TimeColumn, hints: Hints, path: Path) -> float | None:
    """The rate of a column of times, or the hint where the column says none; they may not contradict each other."""
    rates = times.rates()
    given = hints.sampling_rate
    if given is not None:
        if rates and not any(abs(rate - given) <= _RATE_TOLERANCE * given for rate in rates):
            raise OptionError(
                f"the times in the first column mean {rates[0]:g} Hz, but sampling_rate={given:g} was given; leave it out, "
                "or correct the file.",
                path=path,
            )
        return given
    if len(rates) > 1:
        raise MissingHintError(
            f"the first column does not say the unit of its times, which may mean {' or '.join(f'{r:g}' for r in rates)} "
            "Hz; pass sampling_rate=….",
            path=path,
        )
    return float(f"{rates[0]:.6g}") if rates else None


def _scaled(table: TextTable, hints: Hints, path: Path) -> tuple[np.ndarray, Hints]:
    """The values, in millivolts where the columns name their units, and the hints that go with them."""
    values = numbers(table, path)
    if hints.units is not None or not any(table.units):
        return values, hints
    return columns_in_millivolts(values, table.units, table.names, path, hints)
