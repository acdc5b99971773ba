"""Published folds in place of a corpus's own parts: a table of records and folds, checked against leaks by patient.

Roles as everywhere: the highest fold is the test part and the next one validation, unless named otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np

from ecg_transformers.data.corpora.base import CorpusPlan, Item
from ecg_transformers.data.corpora.shared.search import some_of
from ecg_transformers.data.corpora.splits import FOLD_COLUMNS
from ecg_transformers.data.errors import OptionError, TableError
from ecg_transformers.data.readers.clinical.kinds import name_of
from ecg_transformers.data.tables import integer, read_table

RECORD_COLUMNS = (
    *("record_id", "record", "file", "filename", "file_name", "path", "id", "ecg_id", "filename_lr", "filename_hr"),
    *("exam_id", "study_id", "recording", "record_name", "ecg_key", "name"),
)
_SUFFIXES = (".hea", ".dat", ".mat", ".npy", ".npz", ".csv", ".edf", ".h5")


FoldNumbers = int | str | Sequence[int]


@dataclass(frozen=True)
class Folds:
    """Folds for any corpus.

    Attributes:
        table: a CSV file with a column that names the records (of `RECORD_COLUMNS` the first whose names are those of the
            corpus, or else the first of all) and a column `fold`; letter case and blanks of the headings do not matter.
            None takes the corpus's own folds.
        test, validation: folds of these parts; None: the highest, and the next one.
        patients_may_repeat: accept one patient in two parts.
    """

    table: str | Path | None = None
    test: tuple[int, ...] | None = None
    validation: tuple[int, ...] | None = None
    patients_may_repeat: bool = False

    @classmethod
    def of(
        cls,
        table: str | Path | Folds | None = None,
        test: FoldNumbers | None = None,
        validation: FoldNumbers | None = None,
    ) -> Folds | None:
        """From what a user gives: numbers alone or in lists; None where nothing is given."""
        if isinstance(table, Folds):
            return table
        if table is None and test is None and validation is None:
            return None
        return cls(table, _numbers("test_folds", test), _numbers("validation_folds", validation))


def take_folds(options: dict[str, Any], known: Sequence[str]) -> Folds | None:
    """The folds among the options of a corpus, taken out of them: `folds=FILE.csv`, `test_folds`, `validation_folds`.

    Options of these names that the corpus knows itself stay with it, unless a table of folds is given.
    """
    table = options.get("folds")
    table = options.pop("folds") if isinstance(table, str | PathLike | Folds) else None
    taken = {
        name: options.pop(name)
        for name in ("test_folds", "validation_folds")
        if name in options and (table is not None or name not in known)
    }
    return Folds.of(table, taken.get("test_folds"), taken.get("validation_folds"))


class Refolded(Sequence[Item]):
    """Items of a plan in another order, with another fold each; made when they are asked for."""

    def __init__(self, sources: Sequence[Sequence[Item]], places: np.ndarray) -> None:
        self.sources = sources
        self.places = places  # (N, 3): source, position in it, fold

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> Refolded: ...
    def __getitem__(self, index: int | slice) -> Item | Refolded:
        if isinstance(index, slice):
            return Refolded(self.sources, self.places[index])
        source, position, fold = (int(value) for value in self.places[index])
        return replace(self.sources[source][position], fold=fold)

    def __iter__(self) -> Iterator[Item]:
        return (self[index] for index in range(len(self)))


def apply_folds(plan: CorpusPlan, folds: Folds) -> CorpusPlan:
    """The plan with its records in the parts that the folds say; records without a fold are left out and counted.

    Raises:
        TableError: no record is named, a record has two folds, or one patient is in two parts.
        OptionError: a fold is both test and validation, or does not exist.
    """
    table = None if folds.table is None else Path(folds.table)
    sources = list(plan.splits.values())
    fold_of = None if table is None else read_folds(table, lambda names: _names_one_of(plan, names))
    places: list[tuple[int, int, int]] = []
    patients: dict[str, set[int]] = defaultdict(set)
    without: list[str] = []
    unknown_patients = 0
    used: set[str] = set()
    for number, items in enumerate(sources):
        for position, item in enumerate(items):
            fold = item.fold if fold_of is None else _fold_of(item, fold_of, used)
            if fold is None:
                without.append(item.record_id)
                continue
            places.append((number, position, fold))
            if item.patient_id is None:
                unknown_patients += 1
            else:
                patients[item.patient_id].add(fold)
    if not places:
        raise _nothing(plan, table, fold_of, without)
    role_of = roles({fold for _, _, fold in places}, folds)
    if not folds.patients_may_repeat:
        _check_patients(patients, role_of, table)
    array = np.array(places, dtype=np.int64)
    parts = {
        part: Refolded(sources, array[np.isin(array[:, 2], [fold for fold, role in role_of.items() if role == part])])
        for part in ("train", "validation", "test")
    }
    notes = [_said(role_of, table), *plan.notes]
    if fold_of is not None and len(fold_of) > len(used):
        notes.append(f"{len(fold_of) - len(used)} rows of {table.name if table else ''} name no record that is here")
    if unknown_patients:
        notes.append(f"{unknown_patients} records state no patient: the folds could not be checked for them")
    excluded = {**plan.excluded, **({"without a fold": len(without)} if without else {})}
    files = [*plan.files, *([table] if table is not None else [])]
    return replace(plan, splits=parts, excluded=excluded, files=files, notes=notes)


def read_folds(path: Path, fits: Callable[[set[str]], bool] = bool) -> dict[str, int]:
    """Folds by what the table calls a record, written without suffix.

    Of several columns that may name the records the first is taken whose names `fits` accepts.
    """
    rows = read_table(path)
    names = list(rows[0])
    headings = {name.lower().replace(" ", "_"): name for name in reversed(names)}
    fold_column = next((headings[name] for name in FOLD_COLUMNS if name in headings), None)
    if fold_column is None:
        raise TableError(f"no column {' or '.join(FOLD_COLUMNS)}; the table has {names}.", path=path)
    others = [name for name in names if name != fold_column]
    record_columns = [headings[name] for name in RECORD_COLUMNS if name in headings] or others[:1]
    if not record_columns:
        raise TableError("no column names the records.", path=path)
    record_column = record_columns[0]
    if len(record_columns) > 1:
        fitting = (name for name in record_columns if fits({_plain(row[name]) for row in rows}))
        record_column = next(fitting, record_column)
    folds: dict[str, int] = {}
    for row in rows:
        name = _plain(row[record_column])
        fold = integer(row[fold_column], fold_column, path, record=name)
        if fold is None:
            raise TableError("the fold is empty.", path=path, record=name)
        if folds.setdefault(name, fold) != fold:
            raise TableError(f"the record has the folds {folds[name]} and {fold}.", path=path, record=name)
    return folds


def _names_one_of(plan: CorpusPlan, names: set[str]) -> bool:
    return any(name in names for item in plan.each_item() for name in _names_of(item))


def roles(present: set[int], folds: Folds) -> dict[int, str]:
    """The part of every fold."""
    for what, given in (("test_folds", folds.test), ("validation_folds", folds.validation)):
        absent = sorted(set(given or ()) - present)
        if absent:
            raise OptionError(f"{what} names the folds {absent}; there are {sorted(present)}.")
    ordered = sorted(present)
    test = set(folds.test) if folds.test is not None else set(ordered[-1:] if len(ordered) > 1 else [])
    rest = [fold for fold in ordered if fold not in test]
    validation = set(folds.validation) if folds.validation is not None else set(rest[-1:] if len(rest) > 1 else [])
    if test & validation:
        raise OptionError(f"the folds {sorted(test & validation)} are both test and validation.")
    return {f: "test" if f in test else "validation" if f in validation else "train" for f in ordered}


def _fold_of(item: Item, folds: dict[str, int], used: set[str]) -> int | None:
    for name in _names_of(item):
        if name in folds:
            used.add(name)
            return folds[name]
    return None


def _names_of(item: Item) -> Iterator[str]:
    """What a table may call a record: its id, another name of it, its path below any of its folders, its file."""
    yield item.record_id
    yield from item.names
    if item.path is not None and "row" not in item.hints:  # a container of many records is no name of one
        bare = item.path.with_suffix("") if item.path.suffix.lower() in _SUFFIXES else item.path
        for path in dict.fromkeys((bare, bare.with_name(name_of(bare)))):  # hospital files by both: `a.dcm`, `a`
            for level in range(path.is_absolute(), len(path.parts)):
                yield "/".join(path.parts[level:])


def _plain(text: str) -> str:
    """A name without suffix, and a number without `.0`."""
    name = next((text[: -len(suffix)] for suffix in _SUFFIXES if text.lower().endswith(suffix)), text)
    whole = name.removesuffix(".0")
    return (whole if whole.isdigit() else name).removeprefix("./")


def _check_patients(patients: dict[str, set[int]], role_of: dict[int, str], table: Path | None) -> None:
    leaks = {patient: {role_of[fold] for fold in folds} for patient, folds in patients.items() if len(folds) > 1}
    leaking = sorted(patient for patient, parts in leaks.items() if len(parts) > 1)
    if leaking:
        raise TableError(
            f"{len(leaking)} patients are in more than one part, for example {leaking[0]!r} in "
            f"{' and '.join(sorted(leaks[leaking[0]]))}: results would be too good. Folds must keep a patient together.",
            path=table,
        )


def _said(role_of: dict[int, str], table: Path | None) -> str:
    by_role = {
        part: [fold for fold, role in role_of.items() if role == part] for part in ("train", "validation", "test")
    }
    parts = ", ".join(f"{part} {folds}" for part, folds in by_role.items())
    return f"parts by the folds of {table.name if table else 'the corpus'}: {parts}"


def _nothing(
    plan: CorpusPlan, table: Path | None, fold_of: dict[str, int] | None, without: Sequence[str]
) -> TableError | OptionError:
    if fold_of is None:
        return OptionError("the corpus has no folds of its own; give a table of folds.")
    return TableError(
        f"none of its {len(fold_of)} records ({some_of(fold_of, 2)}) is one of the {plan.num_items} records of the "
        f"corpus ({some_of(without, 2)}).",
        path=table,
    )


def _numbers(what: str, value: Any) -> tuple[int, ...] | None:
    """`9`, `"9,10"` or `[9, 10]` as numbers."""
    if value is None:
        return None
    listed = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else list(value)
    try:
        return tuple(int(str(fold).strip()) for fold in listed)
    except ValueError as error:
        raise OptionError(f"{what} takes whole numbers such as 9 or 9,10, not {value!r}.") from error
