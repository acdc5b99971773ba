"""How the columns of a table become labels, and the typing errors that are caught on the way."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecg_transformers.data.corpora.folder.columns import Columns, check_label_columns
from ecg_transformers.data.corpora.splits import split_called
from ecg_transformers.data.errors import LabelError, TableError
from ecg_transformers.words import did_you_mean

_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
_UNCERTAIN = {"-1", "-1.0", "0.5", "?", "nan", "na", "n/a", "unknown", "uncertain", "u", "none", "null", "-"}
# words that are 1 and 0 only where a column holds nothing else: `N` alone is as often a rhythm, `F` a sex
_PAIRS = (
    *(("t", "f"), ("y", "n"), ("pos", "neg"), ("positive", "negative"), ("present", "absent"), ("x", ""), ("+", "-")),
    # as spreadsheets of other languages write them
    *(("wahr", "falsch"), ("vrai", "faux"), ("verdadero", "falso"), ("vero", "falso"), ("waar", "onwaar")),
    *(("ja", "nein"), ("ja", "nee"), ("oui", "non"), ("si", "no"), ("sí", "no"), ("sì", "no"), ("sim", "não")),
)
_NO_LABEL = {"nan", "na", "n/a", "<na>", "null", "?", "-", "--"}
_OTHER_SEPARATORS = ("\n", ",", "|", "/", "+", "&", ";")
_VECTOR = re.compile(r"[\[(]?\s*[01](?:\.0*)?(?:[\s,;]+[01](?:\.0*)?)+\s*[\])]?")
_OF_A_PERSON = {"gender", "male", "female", "is_male", "is_female"}  # 0/1, and no label unless asked for
_QUOTED = re.compile(r"""'([^']*)'|"([^"]*)\"""")


@dataclass(frozen=True)
class LabelRule:
    """Label names, and the columns they come from: one column of names, or one 0/1 column per label.

    Attributes:
        names: the labels.
        kind: "multiclass", "multilabel" or "unlabelled".
        column: the column of names.
        columns: the 0/1 columns; in those of `marked` a blank cell is a 0, because they hold no 0 at all; those of `pairs`
            hold other words for 1 and 0.
        uncertain: what a cell that is neither 0 nor 1 is: "error", "negative", or "drop" for the record.
        unread: columns of the table that are no labels and mean nothing else either.
        wrong: by position the rows whose cell cannot be read, and why.
    """

    names: tuple[str, ...] = ()
    kind: str = "unlabelled"
    column: str | None = None
    columns: tuple[str, ...] = ()
    separator: str = ";"
    marked: frozenset[str] = frozenset()
    pairs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    uncertain: str = "error"
    unread: tuple[str, ...] = ()
    wrong: Mapping[int, str] = field(default_factory=dict)

    def labels_of(self, row: dict[str, str], position: int, table: Path) -> tuple[str, ...] | None:
        """Labels of a row, checked against the label names; None for one that is to be dropped."""
        if self.kind == "unlabelled":
            return ()
        if position in self.wrong:
            raise LabelError(self.wrong[position], path=table)
        found = self.raw_labels(row, position, table)
        for label in found or ():
            if label not in self.names:
                raise LabelError(
                    f"row {position + 2} has the label {label!r}, which is none of the label names"
                    f"{did_you_mean(label, self.names)}",
                    path=table,
                )
        return found

    def cell_of(self, row: dict[str, str]) -> str:
        """The cell of the column of names; a list of Python or JSON in it (`['AF', 'PVC']`), also one in other brackets
        that quotes its names, as names and separators."""
        assert self.column is not None
        cell = row[self.column]
        if cell[:1] + cell[-1:] not in ("[]", "()", "{}"):
            return cell
        quoted = [one or two for one, two in _QUOTED.findall(cell)]
        is_list = not _QUOTED.sub("", cell).strip("[](){}, ")
        if not is_list and cell[0] != "[":
            return cell
        return self.separator.join(quoted if is_list else [part.strip() for part in cell[1:-1].split(",")])

    def raw_labels(self, row: dict[str, str], position: int, table: Path) -> tuple[str, ...] | None:
        """Labels of a row as written; None for one that is to be dropped."""
        if self.column is not None:
            cell = self.cell_of(row)
            if self.kind == "multiclass":
                return (cell,) if cell else ()
            return tuple(dict.fromkeys(part.strip() for part in cell.split(self.separator) if part.strip()))
        labels = []
        for name in self.columns:
            value = row[name].lower()
            yes, no = self.pairs.get(name, (None, None))
            if value in _TRUE or value == yes:
                labels.append(name)
            elif value not in _FALSE and value != no and not (value == "" and name in self.marked):
                if self.uncertain == "drop":
                    return None
                if self.uncertain == "error":
                    shown = f"holds {row[name][:40]!r}, which is" if value else "is empty,"
                    raise LabelError(
                        f"row {position + 2}, column {name!r} {shown} neither 0 nor 1; correct it, or pass "
                        "uncertain='negative' (it counts as 0) or uncertain='drop' (the record is left out); "
                        "label_columns=[…] names the columns that are labels.",
                        path=table,
                    )
        return tuple(labels)


def label_rule(rows: list[dict[str, str]], options: Any, columns: Columns, table: Path) -> LabelRule:
    """The rule that the options and the columns of a table ask for.

    Raises:
        LabelError: a cell that cannot be read; TableError: no labels, or a column that is missing.
    """
    header = list(rows[0])
    asked = options.label_columns
    column = options.label_column
    if column is None and not asked:
        column = columns.descriptions.get("labels") or columns.descriptions.get("label")
    check_label_columns([*(asked or ()), *([column] if column else [])], header, table)
    if column is not None:
        return _rule_of_names(rows, options, column, columns, table)
    return _rule_of_columns(rows, options, asked, columns, table)


def _rule_of_names(rows: list[dict[str, str]], options: Any, column: str, columns: Columns, table: Path) -> LabelRule:
    """One column of names: a single one (`label`), or several with a separator (`labels`)."""
    kind = "multilabel" if column.lower() == "labels" else "multiclass"
    rule = LabelRule((), kind, column, (), options.separator)
    if options.label_names is None:
        _refuse_vectors(rows, column, table)
    wrong = dict(_several_in_a_cell(rows, rule, options.label_names))
    wrong |= _without_a_label(rows, rule, options.label_names)
    usable = [(n, row) for n, row in enumerate(rows) if n not in wrong]
    counts = Counter(label for n, row in usable for label in rule.raw_labels(row, n, table) or ())
    if options.label_names is None:
        check_are_classes(counts, column, table, kind)
    names = tuple(options.label_names or sorted(counts))
    if not names:
        raise LabelError(
            next(iter(wrong.values()), f"the column {column!r} is empty in every row (task=None goes without labels)."),
            path=table,
        )
    if options.label_names is None:
        misspelt = check_spelling(counts, table)
        wrong |= {
            n: why
            for n, row in usable
            for name, why in misspelt.items()
            if name in (rule.raw_labels(row, n, table) or ())
        }
        names = tuple(name for name in names if name not in misspelt)
    both = [columns.descriptions[name] for name in ("label", "labels") if name in columns.descriptions]
    unread = tuple(name for name in (*columns.others, *both) if name != column)
    return LabelRule(names, kind, column, (), options.separator, unread=unread, wrong=wrong)


def _refuse_vectors(rows: list[dict[str, str]], column: str, table: Path) -> None:
    """Raise a LabelError for a column of vectors of 0 and 1, whose places nobody names."""
    cells = [row[column] for row in rows if row[column]]
    if (
        cells
        and all(map(_VECTOR.fullmatch, cells))
        and len({len(re.findall(r"[01](?:\.0*)?", one)) for one in cells}) == 1
    ):
        raise LabelError(
            f"the column {column!r} holds vectors of 0 and 1 ({cells[0][:40]}): write the names of the labels, or a 0/1 "
            "column for each (label_names=[…] says so where they are labels).",
            path=table,
        )


def _several_in_a_cell(
    rows: list[dict[str, str]], rule: LabelRule, known: Sequence[str] | None
) -> Iterator[tuple[int, str]]:
    """Rows whose cell holds several labels with another separator than the one in force."""
    assert rule.column is not None
    cells = [rule.cell_of(row) for row in rows]
    whole = {part for cell in cells for part in (cell.split(rule.separator) if rule.kind == "multilabel" else [cell])}
    whole = {part.strip().casefold() for part in whole}
    for position, cell in enumerate(cells):
        if rule.kind == "multilabel" and cell != rows[position][rule.column]:  # a list says itself where a label ends
            continue
        for separator in _OTHER_SEPARATORS:
            parts = [part.strip(" []'\"") for part in cell.split(separator)]
            if len(parts) < 2 or cell in (known or ()) or (rule.kind == "multilabel" and separator == rule.separator):
                continue
            if separator == rule.separator:
                yield (
                    position,
                    f"row {position + 2}: the column {rule.column!r} holds several labels in one cell; call the column "
                    "'labels' for that.",
                )
                break
            is_list = rule.kind == "multilabel" and separator in ",|\n"
            if is_list or (all(parts) and any(part.casefold() in whole for part in parts)):
                way_out = (
                    f"write {rule.separator.join(parts)!r}, or pass separator={separator!r}"
                    if rule.kind == "multilabel"
                    else f"call the column 'labels' and write {rule.separator.join(parts)!r}"
                )
                yield (
                    position,
                    f"row {position + 2}, column {rule.column!r} holds {cell[:60]!r}, several labels in one cell it "
                    f"seems: {way_out} (label_names=[…] says so where it is one label).",
                )
                break


def _without_a_label(
    rows: list[dict[str, str]], rule: LabelRule, known: Sequence[str] | None
) -> Iterator[tuple[int, str]]:
    """Rows whose cell says by a word that there is no label, or holds what is none."""
    assert rule.column is not None
    for position, row in enumerate(rows):
        cell = rule.cell_of(row)
        if cell[:1] + cell[-1:] == "{}" and cell not in (known or ()):
            yield (
                position,
                f"row {position + 2}, column {rule.column!r} holds a dictionary ({cell[:40]}): write the names of the labels, "
                f"separated by {rule.separator!r} (column 'labels'), or a 0/1 column for each.",
            )
        if cell.casefold() in _NO_LABEL and cell not in (known or ()):
            yield (
                position,
                f"row {position + 2}, column {rule.column!r} holds {cell!r}, which is no label: give it one or leave the "
                "cell empty (label_names=[…] says so where it is a label).",
            )


def _rule_of_columns(
    rows: list[dict[str, str]], options: Any, asked: Sequence[str] | None, columns: Columns, table: Path
) -> LabelRule:
    """One 0/1 column a label: those that were asked for, or all that are meant to be such."""
    header = list(rows[0])
    found = [name for name in columns.others if name.lower() not in _OF_A_PERSON and _is_meant_binary(rows, name)]
    chosen = tuple(asked or found)
    if not chosen:
        raise TableError(
            "no labels: a column 'label' or 'labels', or 0/1 columns are needed (label_column=… or label_columns=[…] name "
            f"others; task=None goes without){_resembling(header)}.",
            path=table,
        )
    if not asked:
        refuse_two_spellings(chosen, "columns", table)
    parts = [name for name in chosen if split_called(name.lower().removeprefix("is_"))]
    if parts and not asked:
        raise TableError(
            f"the 0/1 column {parts[0]!r} seems to say the parts: write a column 'split' with train, validation and test "
            "(label_columns=[…] names the columns that are labels).",
            path=table,
        )
    names = tuple(options.label_names or chosen)
    unknown = [name for name in chosen if name not in names]
    if unknown:
        raise LabelError(
            f"the columns {unknown} are none of the label names{did_you_mean(unknown[0], names)}", path=table
        )
    pairs = {name: pair for name in chosen if (pair := _pair_of(rows, name)) is not None}
    marked = frozenset(
        name for name in chosen if name not in pairs and not any(row[name].lower() in _FALSE for row in rows)
    )
    unread = tuple(name for name in columns.others if name not in chosen)
    return LabelRule(
        names, "multilabel", None, chosen, marked=marked, pairs=pairs, uncertain=options.uncertain, unread=unread
    )


def _resembling(header: list[str]) -> str:
    """The end of the sentence about a missing label column."""
    alike = difflib.get_close_matches("label", header, n=1, cutoff=0.6) or difflib.get_close_matches(
        "labels", header, n=1
    )
    return f"; is it {alike[0]!r}? (label_column={alike[0]!r})" if alike else f"; the table has {header}"


def _is_meant_binary(rows: list[dict[str, str]], name: str) -> bool:
    """Whether a column is one of 0 and 1, be it with some cells that are neither: at least half of them are."""
    if _pair_of(rows, name) is not None:
        return True
    cells = [row[name].lower() for row in rows if row[name]]
    good = sum(cell in _TRUE or cell in _FALSE for cell in cells)
    if not good:
        return False
    odd = {cell for cell in cells if cell not in _TRUE and cell not in _FALSE}
    return odd <= _UNCERTAIN or 2 * good >= len(cells)


def _pair_of(rows: list[dict[str, str]], name: str) -> tuple[str, str] | None:
    """The words for 1 and 0 of a column that holds these two and nothing else; None for any other column."""
    found = {row[name].lower() for row in rows}
    return next((pair for pair in _PAIRS if found == set(pair)), None)


def check_are_classes(counts: Counter[str], column: str, table: Path, kind: str) -> None:
    """Raise a LabelError for a column of measurements or names, and for one class that is written in two ways."""
    if kind == "multiclass" and counts.total() >= 20 and 3 * len(counts) > 2 * counts.total():
        raise LabelError(
            f"the column {column!r} has {len(counts)} different labels in {counts.total()} rows: these seem to be "
            "measurements or names, not classes (label_names=[…] says so where they are classes).",
            path=table,
        )
    by_value: dict[float, str] = {}
    for label in counts:
        try:
            value = float(label)
        except ValueError:
            continue
        other = by_value.setdefault(value, label)
        if other != label:
            raise LabelError(f"the labels {other!r} and {label!r} are one number; write them alike.", path=table)


def check_spelling(counts: Counter[str], table: Path) -> dict[str, str]:
    """Labels that occur once and look like a common one, with the sentence about the typing error that they seem to be.

    Raises:
        LabelError: two labels differ in case, blanks or the form of their letters only.
    """
    refuse_two_spellings(counts, "labels", table)
    bar = min(10, max(2, counts.total() // 4))  # a common label of this folder, however small it is
    common = [label for label, count in counts.items() if count >= bar]
    misspelt = {}
    for label, count in counts.items():
        alike = _like(label, common) if count == 1 and len(label) >= 4 else []
        if alike and _letters(alike[0]) != _letters(label):
            misspelt[label] = (
                f"the label {label!r} occurs once and looks like {alike[0]!r} ({counts[alike[0]]} records); correct "
                "it, or pass label_names=[…] with every label that is meant."
            )
    return misspelt


def refuse_two_spellings(names: Iterable[str], what: str, table: Path) -> None:
    """Raise a LabelError for two labels that differ in case, blanks or the form of their letters only."""
    spelt: dict[str, str] = {}
    for name in names:
        plain = " ".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())
        other = spelt.setdefault(plain, name)
        if other != name:
            shown, where = f"{other!r} and {name!r}", "case"
            if other.lower() != name.lower():
                shown, where = f"{other!a} and {name!a}", "blanks or the form of their letters"
            way_out = "write them alike" if what == "labels" else "join them, or label_columns=[…] names the right one"
            raise LabelError(f"the {what} {shown} differ in {where} only; {way_out}.", path=table)


def _like(label: str, common: list[str]) -> list[str]:
    """A common label that this one may have been meant to be: nearly the same, or the same letters in disorder."""
    letters = sorted(label.casefold())
    disorder = [name for name in common if name != label and sorted(name.casefold()) == letters]
    return disorder[:1] or difflib.get_close_matches(label, common, n=1, cutoff=0.8)


def _letters(label: str) -> str:
    """A label without digits: `grade1` and `grade2` are two labels, not a typing error."""
    return "".join(letter for letter in label if not letter.isdigit())
