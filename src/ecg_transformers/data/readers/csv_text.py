"""The layout of a text table of samples: separators, decimal commas, lines of names, columns of time.

A layout that could mean two things is refused in a sentence; nothing is guessed in silence.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ecg_transformers.data.errors import HeaderError, SignalError, UnsupportedFormatError
from ecg_transformers.data.readers.units import units_per_millivolt
from ecg_transformers.signal.leads import STANDARD_LEADS, canonical_lead

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\Z")
_COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?\Z")
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)\Z")
_UNIT = re.compile(r"^(.*?)\s*[(\[]\s*([^()\[\]]+?)\s*[)\]]$")
_SUFFIX_UNIT = re.compile(r"^(.*[^\s_/])[\s_/]+([uµμm]V|[a-zµμ]+)$")  # I_uV, II/mV, time_ms
_COMMENT = ("#", "%")
_FEW_ROWS = 10
_MISSING = {"", "nan", "na", "n/a", "null", "none"}
_TIME_NAME = re.compile(
    r"^(?:(?:elapsed|rel(?:ative)?|unix)[\s_]*)?(?:time|timestamp|date|seconds?|millis(?:econds)?|t\Z)"
    r"|^(?:elapsed|epoch|clock|zeit|tiempo|temps|secs?|ms|ts)\Z",
    re.IGNORECASE,
)
_NUMBER_NAME = re.compile(r"^(?:\Z|samples?\b|sample[\s_]*#|index|unnamed|n\Z|nr\b|no\b|row\b|#)", re.IGNORECASE)
_LEADS = frozenset([*STANDARD_LEADS, "V7", "V8", "V9", "VX", "VY", "VZ", *(f"V{i}R" for i in range(1, 10))])
_SECONDS = {"s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "msec": 1e-3}
_SECONDS |= {
    "milliseconds": 1e-3,
    "millis": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "minutes": 60.0,
}


@dataclass
class TextTable:
    """Cells of a file as text.

    Attributes:
        rows: the lines of numbers, all of one width.
        names: the names of the columns, without quotes and units, or None.
        units: what stands behind each name in brackets, "" where nothing does.
        first_line: the line of the file in which the numbers begin, counted from 1.
        decimal_comma: cells such as `0,12`.
        text_left_out: columns of text, such as annotations, were left out.
    """

    rows: list[list[str]]
    names: list[str] | None
    units: list[str]
    first_line: int
    decimal_comma: bool = False
    text_left_out: bool = False

    @property
    def width(self) -> int:
        return len(self.rows[0])

    def bring_times_first(self) -> None:
        """Put a column that is called time or sample, and rises, before the others; one of any name but that of a lead too
        where it rises steadily.
        """
        for place, name in enumerate(self.names or ()):
            is_called_so = _TIME_NAME.match(name) or _NUMBER_NAME.match(name)
            may_count = is_called_so or (canonical_lead(name) not in _LEADS and len(self.rows) >= _FEW_ROWS)
            if place and may_count and _rises([row[place] for row in self.rows], steadily=not is_called_so):
                order = [place, *(other for other in range(self.width) if other != place)]
                self.rows = [[row[column] for column in order] for row in self.rows]
                self.names = [self.names[column] for column in order]  # type: ignore[index]
                self.units = [self.units[column] for column in order]
                return

    def drop_first(self) -> None:
        """Leave out the first column."""
        self.rows = [row[1:] for row in self.rows]
        self.names = self.names[1:] if self.names else None
        self.units = self.units[1:]


def read_text_table(text: str, path: Path, columns: list[str] | None = None) -> TextTable:
    """The cells of a text of samples.

    Args:
        columns: their names, where another file tells them: the first line is then not taken apart, but has to fit.

    Raises:
        HeaderError: the first line does not fit `columns`.
        SignalError: no numbers, text before the numbers that is more than a line of names, lines of several widths.
    """
    if columns is None:
        text = text.replace("\u2212", "-")  # the minus sign of typesetters
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    separator = _separator([line for _, line in lines], path)
    cells = list(zip([number for number, _ in lines], _split([line for _, line in lines], separator, path)))
    comma = any("," in cell and _COMMA_NUMBER.match(cell) for _, row in cells for cell in row)
    if columns is not None:
        return _known_columns(cells, columns, separator, comma, path)
    texts = _text_columns([row for _, row in cells], comma)
    if texts:
        cells = [(number, [cell for place, cell in enumerate(row) if place not in texts]) for number, row in cells]
    start = next((i for i, (_, row) in enumerate(cells) if _is_numeric(row, comma) and not _is_blank(row)), len(cells))
    if start == len(cells):
        if len(cells) == 1:
            raise SignalError("the file has a line of names but no samples.", path=path)
        if all(len(row) > 2 and _is_numeric(row[1:], comma) for _, row in cells):
            raise SignalError("every line begins with a name: save it transposed, with one column a lead.", path=path)
        raise SignalError(
            f"line {cells[1][0]} holds a cell that is no number ({_first_bad(cells[1][1], comma)!r}).", path=path
        )
    start -= _take_comments_out([line for _, line in lines[:start]], cells, len(cells[start][1]))
    if start == 0 and _numbers_columns([row for _, row in cells]):
        del cells[0]
    names, units = _names(cells[:start], len(cells[start][1]), cells[start][0], path)
    rows = [row for _, row in cells[start:]]
    table = TextTable(rows, names, units or [""] * len(rows[0]), cells[start][0], comma, bool(texts))
    _drop_trailing(table, path)
    _check_widths(cells[start:], len(names) if names else len(rows[0]), separator, path)
    table.rows = [row[: table.width] for row in table.rows]
    return table


def column_title(name: str) -> str:
    """A name as a line of text can hold it."""
    return "".join(char if char.isprintable() else " " for char in name)


def _known_columns(
    cells: list[tuple[int, list[str]]], columns: list[str], separator: str, comma: bool, path: Path
) -> TextTable:
    titles = [_bare(column_title(name)) for name in columns]
    number, head = cells[0]
    if head[: len(titles)] != titles or any(head[len(titles) :]):
        raise HeaderError(
            f"line {number} does not name the columns {titles} that the description beside the file tells; one of the two "
            f"was changed: restore it, or take {path.name}.json away.",
            path=path,
        )
    if len(cells) == 1:
        raise SignalError("the file has a line of names but no samples.", path=path)
    _check_widths(cells[1:], len(columns), separator, path)
    rows = [row[: len(columns)] for _, row in cells[1:]]
    return TextTable(rows, list(columns), [""] * len(columns), cells[1][0], comma)


def _check_widths(rows: list[tuple[int, list[str]]], wanted: int, separator: str, path: Path) -> None:
    for number, row in rows:
        if len(row) != wanted and not (len(row) == wanted + 1 and not row[-1]):
            raise SignalError(_widths(number, row, wanted, separator), path=path)


def _separator(lines: list[str], path: Path) -> str:
    """What stands between the cells, told from the last lines, which hold numbers; " " stands for any blanks."""
    if not lines:
        raise SignalError("the file is empty or no text.", path=path)
    sample = lines[-3:]
    if all(len(line.split()) > 1 and all(_COMMA_NUMBER.match(cell) for cell in line.split()) for line in sample):
        return " "  # decimal commas between blanks
    for separator in ("\t", ";", "|", ","):
        if all(separator in line for line in sample):
            return separator
    return " " if all(len(line.split()) > 1 for line in sample) else ","


def _split(lines: list[str], separator: str, path: Path) -> list[list[str]]:
    if separator == " ":
        return [line.split() for line in lines]
    try:
        rows = list(csv.reader(lines, delimiter=separator, skipinitialspace=True))
    except csv.Error as error:
        raise UnsupportedFormatError(f"the file cannot be split into cells ({error}).", path=path) from error
    if len(rows) != len(lines):
        raise UnsupportedFormatError("a quotation mark is not closed in its line.", path=path)
    return [[_bare(cell) for cell in row] for row in rows]


def _bare(cell: str) -> str:
    return cell.strip().strip("'\"").strip()


def _is_blank(row: list[str]) -> bool:
    return all(cell.lower() in _MISSING for cell in row)


def _is_numeric(row: list[str], comma: bool) -> bool:
    """Whether all cells are numbers; the first may be a time of day."""
    return all(
        cell.lower() in _MISSING
        or _NUMBER.match(cell)
        or (comma and _COMMA_NUMBER.match(cell))
        or (place == 0 and len(row) > 1 and clock_seconds(cell) is not None)
        for place, cell in enumerate(row)
    )


def _text_columns(rows: list[list[str]], comma: bool) -> set[int]:
    """Places of the columns that hold words and no number (annotations), under a name that is not a lead's."""
    names = rows[0]
    if any(_is_numeric([name], comma) for name in names if name):
        return set()
    texts = set()
    for place, name in enumerate(names):
        cells = (row[place] for row in rows[1:] if place < len(row) and row[place].lower() not in _MISSING)
        kinds = (_is_numeric([cell], comma) or clock_seconds(cell) is not None for cell in cells)
        if canonical_lead(name) not in _LEADS and next(kinds, True) is False and not any(kinds):
            texts.add(place)
    return texts if len(texts) < len(names) else set()


def _numbers_columns(rows: list[list[str]]) -> bool:
    """Whether the first line counts the columns, as pandas writes those of an array: `0,1,2`, or `,0,1,2` with an index.

    Four columns of whole numbers hold no such line by chance, nor do fewer ones whose other cells are all decimals.
    """
    first, rest = rows[0], rows[1:]
    skipped = int(bool(first) and not first[0])
    numbered = first[skipped:]
    if not rest or not numbered or numbered != [str(place) for place in range(len(numbered))]:
        return False
    return len(numbered) > 3 or not any(cell.lstrip("+-").isdigit() for row in rest for cell in row[skipped:])


def _first_bad(row: list[str], comma: bool) -> str:
    return next((cell for cell in row if not _is_numeric([cell], comma)), "")[:40]


def clock_seconds(cell: str) -> float | None:
    """`0:01.250` and `10:15:00.004` as seconds; also behind a date. None for anything else."""
    match = _CLOCK.match(cell.strip("[]").split("T")[-1].split(" ")[-1])
    if match is None:
        return None
    hours, minutes, seconds = match.groups()
    return 3600.0 * float(hours or 0) + 60.0 * float(minutes) + float(seconds.replace(",", "."))


def _take_comments_out(head: list[str], cells: list[tuple[int, list[str]]], width: int) -> int:
    """Remove the lines before the numbers that start with `#` or `%`; how many they were.

    Where no other line stands there, the last of them holds the names if it has as many cells (as NumPy writes them).
    """
    comments = [place for place, line in enumerate(head) if line.lstrip().startswith(_COMMENT)]
    if comments and len(comments) == len(head):
        number, row = cells[comments[-1]]
        names = [row[0].lstrip("".join(_COMMENT)).strip(), *row[1:]]
        names = names[1:] if len(names) == width + 1 and not names[0] else names
        if len(names) == width > 1:
            cells[comments.pop()] = (number, names)
    for place in reversed(comments):
        del cells[place]
    return len(comments)


def _names(
    head: list[tuple[int, list[str]]], width: int, first: int, path: Path
) -> tuple[list[str] | None, list[str] | None]:
    """Names and units of the columns from the lines before the numbers: one line of names, and perhaps one of units."""
    if not head:
        return None, None
    units_line = [unit.strip("()[]") for unit in head[-1][1]] if len(head) == 2 else []
    if len(head) > 2 or (len(head) == 2 and not _are_units(units_line)):
        raise SignalError(
            f"the numbers begin in line {first}, behind {len(head)} lines of text; save the samples with at most one "
            "line of names before them.",
            path=path,
        )
    names, units = [], []
    for name in head[0][1]:
        match = _UNIT.match(name)
        suffix = None if match else _SUFFIX_UNIT.match(name)
        if suffix is not None and _is_unit_of(suffix[1], suffix[2]):
            match = suffix
        is_unit = match is not None and (units_per_millivolt(match[2]) is not None or match[2].lower() in _SECONDS)
        names.append(match[1].strip() if match and (is_unit or match[1]) else name)
        units.append(match[2] if match and match[1] else "")
    if units_line:
        units = (units_line + [""] * len(names))[: len(names)]
    return names, units


def _is_unit_of(name: str, unit: str) -> bool:
    """Whether the end of a name is its unit: of a time, or a voltage with its prefix (a plain V belongs to a lead)."""
    if _TIME_NAME.match(name):
        return unit.lower() in _SECONDS
    return len(unit) == 2 and unit.endswith("V")


def _are_units(cells: list[str]) -> bool:
    rest = [cell for cell in cells[1:] if cell] or [cell for cell in cells if cell]
    return bool(rest) and all(units_per_millivolt(cell) is not None for cell in rest)


def _drop_trailing(table: TextTable, path: Path) -> None:
    """A separator at the end of every line makes no column."""
    last_is_empty = all(len(row) == table.width and not row[-1] for row in table.rows)
    named = table.names is not None and len(table.names) >= table.width and bool(table.names[table.width - 1])
    if table.width > 1 and last_is_empty and not named:
        table.rows = [row[:-1] for row in table.rows]
        table.names = table.names[: table.width] if table.names else None
        table.units = table.units[: table.width]


def _widths(number: int, row: list[str], wanted: int, separator: str) -> str:
    text = f"line {number} has {len(row)} cells instead of {wanted}"
    if separator == "," and len(row) == 2 * wanted:
        return text + ": are its commas decimal commas? Save it with decimal points, or with semicolons between cells."
    return text + "."


def numbers(table: TextTable, path: Path) -> np.ndarray:
    """The cells as float64 `(T, columns)`; empty ones are NaN."""
    signal = np.full((len(table.rows), table.width), np.nan)
    for place, row in enumerate(table.rows):
        if table.decimal_comma:
            row = [cell.replace(",", ".") if _COMMA_NUMBER.match(cell) else cell for cell in row]
        try:
            signal[place] = [float(cell) if cell.lower() not in _MISSING else np.nan for cell in row]
        except ValueError as error:
            bad = next(cell for cell in row if cell.lower() not in _MISSING and not _NUMBER.match(cell))
            raise SignalError(
                f"line {table.first_line + place} holds a cell that is no number ({bad[:40]!r}).", path=path
            ) from error
    return signal


def is_whole(table: TextTable) -> bool:
    """Whether all cells are written as whole numbers: counts of a converter, most likely."""
    return all(re.fullmatch(r"[+-]?\d+", cell) or cell.lower() in _MISSING for row in table.rows for cell in row)


@dataclass(frozen=True)
class TimeColumn:
    """What the first column is: the times of the samples in `unit` ("" where the file does not say), or numbers."""

    values: np.ndarray
    unit: str
    counts: bool

    def rates(self) -> list[float]:
        """The sampling rates that the column may mean, one where its unit is known; none for numbers of samples."""
        if self.counts or len(self.values) < 2:
            return []
        step = float(self.values[-1] - self.values[0]) / (len(self.values) - 1)
        if self.unit.lower() in _SECONDS:
            return [1.0 / (step * _SECONDS[self.unit.lower()])]
        if self.unit:  # of a kind that is not known
            return []
        return [rate for rate in (1.0 / step, 1e3 / step) if 20 <= rate <= 20_000]


def _rises(cells: list[str], steadily: bool) -> bool:
    try:
        for some in (cells[:_FEW_ROWS], cells):  # a lead falls soon
            steps = np.diff([float(cell.replace(",", ".")) for cell in some])
            if not (steps > 0).all():
                return False
        return not steadily or _are_alike(steps)
    except ValueError:
        return False


def _are_alike(steps: np.ndarray) -> bool:
    return bool(steps.max() <= 1.5 * np.median(steps) + 1e-9)


def time_column(table: TextTable, given: list[str] | None, path: Path) -> TimeColumn | None:
    """The first column where it is no lead: it is called time or sample, or rises steadily and has no name of a lead.

    `given` are the lead names of the caller, where the file has none; as many as there are columns name all of them.

    Raises:
        SignalError: a column of times that goes back, or whose steps are not equal.
    """
    if table.width < 2 or (table.names is None and given is not None and len(given) == table.width):
        return None
    name, unit = (table.names[0], table.units[0]) if table.names else ("", "")
    is_time = bool(_TIME_NAME.match(name)) or unit.lower() in _SECONDS
    is_count = not is_time and bool(table.names) and bool(_NUMBER_NAME.match(name))
    first = [row[0] for row in table.rows]
    seconds = [clock_seconds(cell) for cell in first]
    if all(value is not None for value in seconds):
        values, unit, is_time = np.array(seconds, dtype=np.float64), "s", True
        values += 86400.0 * np.cumsum(np.concatenate([[0], np.diff(values) < -43200]))  # past midnight
    else:
        try:
            values = np.array([float(cell.replace(",", ".")) for cell in first])
        except ValueError:
            return None
    steps = np.diff(values)
    rises = len(values) > 2 and bool((steps > 0).all())
    steady = rises and _are_alike(steps)
    if not is_time and not is_count:
        is_lead = canonical_lead(name) in _LEADS
        if not steady or is_lead or (table.names is None and given is None):
            return None
        is_count = True
    if is_time and len(values) > 2 and not steady:
        bad = next((i for i, (a, b) in enumerate(pairwise(values)) if not 0 < b - a <= 1.5 * np.median(steps)), 0)
        raise SignalError(
            f"the times in the first column do not rise in equal steps (line {table.first_line + bad + 1}): there is a "
            "gap or a repeated line.",
            path=path,
        )
    return TimeColumn(values, unit, is_count and not is_time)
