"""How the columns of a table become labels, and the typing errors that are caught on the way."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ecg_transformers.data.errors import LabelError, TableError
from ecg_transformers.words import did_you_mean

_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"", "0", "0.0", "false", "no"}


@dataclass(frozen=True)
class LabelRule:
    """Label names, and the columns they come from: one column of names, or one 0/1 column per label."""

    names: tuple[str, ...] = ()
    kind: str = "unlabelled"
    column: str | None = None
    columns: tuple[str, ...] = ()
    separator: str = ";"

    def labels_of(self, row: dict[str, str], position: int, table: Path) -> tuple[str, ...]:
        """Labels of a row, checked against the label names."""
        if self.kind == "unlabelled":
            return ()
        found = self.raw_labels(row, position, table)
        for label in found:
            if label not in self.names:
                raise LabelError(
                    f"row {position + 2} has the label {label!r}, which is none of the label names"
                    f"{did_you_mean(label, self.names)}",
                    path=table,
                )
        return found

    def raw_labels(self, row: dict[str, str], position: int, table: Path) -> tuple[str, ...]:
        """Labels of a row as written."""
        if self.column is not None:
            cell = row[self.column]
            if self.kind == "multiclass":
                return (cell,) if cell else ()
            return tuple(dict.fromkeys(part.strip() for part in cell.split(self.separator) if part.strip()))
        labels = []
        for name in self.columns:
            value = row[name].lower()
            if value in _TRUE:
                labels.append(name)
            elif value not in _FALSE:
                raise LabelError(
                    f"row {position + 2}, column {name!r} holds {row[name][:40]!r}, not 0 or 1.", path=table
                )
        return tuple(labels)


def label_rule(rows: list[dict[str, str]], options: Any, taken: set[str], table: Path) -> LabelRule:
    """The rule that the options and the columns of a table ask for."""
    header = list(rows[0])
    columns = options.label_columns
    column = options.label_column or (None if columns else next((c for c in ("labels", "label") if c in header), None))
    for name in [*(columns or ()), *([column] if column else [])]:
        if name not in header:
            raise TableError(f"the label column {name!r} is missing{did_you_mean(name, header)}", path=table)
    if column is None and columns is None:
        columns = tuple(name for name in header if name and name.lower() not in taken and _is_binary(rows, name))
        if not columns:
            raise TableError(
                "no labels: a column 'label' or 'labels', or 0/1 columns are needed (or task=None)"
                f"{_resembling(header)}.",
                path=table,
            )
    if column is not None:
        kind = "multilabel" if column == "labels" else "multiclass"
        rule = LabelRule((), kind, column, (), options.separator)
        if kind == "multiclass" and any(options.separator in row[column] for row in rows):
            raise LabelError(
                f"the column {column!r} holds several labels in one cell; call the column 'labels' for that.",
                path=table,
            )
        counts = Counter(label for n, row in enumerate(rows) for label in rule.raw_labels(row, n, table))
        names = tuple(options.label_names or sorted(counts))
        if not names:
            raise LabelError(f"the column {column!r} is empty in every row.", path=table)
        if options.label_names is None:
            check_spelling(counts, table)
        return LabelRule(names, kind, column, (), options.separator)
    assert columns is not None
    names = tuple(options.label_names or columns)
    unknown = [name for name in columns if name not in names]
    if unknown:
        raise LabelError(
            f"the columns {unknown} are none of the label names{did_you_mean(unknown[0], names)}", path=table
        )
    return LabelRule(names, "multilabel", None, tuple(columns))


def _resembling(header: list[str]) -> str:
    """The end of the sentence about a missing label column."""
    alike = difflib.get_close_matches("label", header, n=1, cutoff=0.6) or difflib.get_close_matches(
        "labels", header, n=1
    )
    return f"; is it {alike[0]!r}? (label_column={alike[0]!r})" if alike else f"; the table has {header}"


def _is_binary(rows: list[dict[str, str]], name: str) -> bool:
    values = {row[name].lower() for row in rows}
    return values <= _TRUE | _FALSE and bool(values - {""})


def check_spelling(counts: Counter[str], table: Path) -> None:
    """Labels that differ in case only, or occur once and look like a common one, are taken for typing errors."""
    by_case: dict[str, str] = {}
    for label in counts:
        other = by_case.setdefault(label.casefold(), label)
        if other != label:
            raise LabelError(f"the labels {other!r} and {label!r} differ in case only; write them alike.", path=table)
    bar = min(10, max(2, counts.total() // 4))  # a common label of this folder, however small it is
    common = [label for label, count in counts.items() if count >= bar]
    for label, count in counts.items():
        alike = _like(label, common) if count == 1 and len(label) >= 4 else []
        if alike and _letters(alike[0]) != _letters(label):
            raise LabelError(
                f"the label {label!r} occurs once and looks like {alike[0]!r} ({counts[alike[0]]} records); correct "
                "it, or pass label_names=[…] with every label that is meant.",
                path=table,
            )


def _like(label: str, common: list[str]) -> list[str]:
    """A common label that this one may have been meant to be: nearly the same, or the same letters in disorder."""
    letters = sorted(label.casefold())
    disorder = [name for name in common if name != label and sorted(name.casefold()) == letters]
    return disorder[:1] or difflib.get_close_matches(label, common, n=1, cutoff=0.8)


def _letters(label: str) -> str:
    """A label without digits: `grade1` and `grade2` are two labels, not a typing error."""
    return "".join(letter for letter in label if not letter.isdigit())
