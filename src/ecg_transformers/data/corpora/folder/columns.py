"""Which columns of a table say what: the record, the patient, the part; by their usual names, whatever their letter case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ecg_transformers.data.corpora.splits import FOLD_COLUMNS, split_called
from ecg_transformers.data.errors import TableError
from ecg_transformers.words import did_you_mean

RECORD_COLUMNS = ("file", "record", "filename", "file_name", "path", "record_id", "id")
PATIENT_COLUMNS = (
    *("patient_id", "subject_id", "patient", "subject", "PatientID", "pid", "pat_id", "patient_no", "patient_nr"),
    *("patient_number", "subject_no", "participant_id", "participant", "person_id", "mrn"),
)
# and what is made of such words: `id_patient`, `PATIENT_NUM`, `Patientennummer`, `subj_id`, but not `patient_age`
_NUMBER = "(id|uid|guid|no|nr|num|number|nummer|identifier|key|code|hash)"
_PATIENT = re.compile(
    f"(id|anon|deidentified)?(patient|patienten|paciente|subject|participant|proband|probanden){_NUMBER}?"
    f"|(pat|pt|subj|sub|person|anon){_NUMBER}|medicalrecord(no|number)|empi|nhs(no|number)"
)
# what a patient's cell holds where nobody is known: not one patient, of whom all these records are
_NOBODY = {"", "nan", "na", "n/a", "<na>", "null", "none", "nil", "unknown", "anonymous", "anonymized", "?", "-", "--"}
SPLIT_COLUMNS = ("split",)  # or a column of another name that holds nothing but names of parts
DESCRIPTION_COLUMNS = ("sampling_rate", "age", "sex", "site", "device", "source", "label", "labels")


@dataclass
class Columns:
    """The columns of a table by their meaning; None where there is none.

    Attributes:
        record, patient, split, fold: names as the table has them.
        descriptions: what else is known by name, `age` to the name that the table has.
        others: columns that mean nothing yet: labels are looked for among them.
        notes: which columns were taken where several could be meant.
    """

    record: str
    patient: str | None
    split: str | None
    fold: str | None
    descriptions: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def cell(self, row: dict[str, str], name: str) -> str:
        """What a row says in a column known by name, "" where the table has none."""
        return row[self.descriptions[name]] if name in self.descriptions else ""

    def patient_of(self, row: dict[str, str]) -> str | None:
        """Who a row is of; None where it does not say."""
        cell = row[self.patient] if self.patient else ""
        return None if cell.casefold() in _NOBODY else cell


def find_columns(
    rows: Sequence[dict[str, str]], record_column: str | None, patient_column: str | None, table: Path
) -> Columns:
    """The columns of a table with these rows.

    Raises:
        TableError: no column names the records, or a column that was asked for is missing.
    """
    header = list(rows[0])
    for asked in (record_column, patient_column):
        if asked is not None and asked not in header:
            raise TableError(f"the column {asked!r} is missing; the table has {header}.", path=table)
    notes: list[str] = []
    record = record_column or _first(header, RECORD_COLUMNS)
    if record is None:
        raise TableError(
            f"no column names the records: one of {list(RECORD_COLUMNS)} is needed (or record_column=…); the table "
            f"has {header}.",
            path=table,
        )
    filled = [name for name in header if any(row[name] for row in rows)]  # an empty column says nothing
    names = (*PATIENT_COLUMNS, *filter(_is_of_patients, header))
    patient = patient_column or _first(filled, names, notes) or _first(header, names)
    split = _first(header, SPLIT_COLUMNS) or next((name for name in header if _says_parts(rows, name, table)), None)
    fold = _first(header, FOLD_COLUMNS, notes)
    fold = None if fold == split else fold  # it holds names of parts
    if split and fold:
        notes.append(f"the column {split!r} says the parts; the column {fold!r} is kept and decides nothing")
    descriptions = {name: found for name in DESCRIPTION_COLUMNS if (found := _first(header, (name,))) is not None}
    known = {record, patient, split, fold, *descriptions.values()}
    others = [name for name in header if name and name not in known and not _is_known(name)]
    return Columns(record, patient, split, fold, descriptions, others, notes)


def _says_parts(rows: Sequence[dict[str, str]], name: str, table: Path) -> bool:
    """Whether a column holds names of parts in every row, and of several.

    Raises:
        TableError: it says "train" and another part, and besides a word that is none.
    """
    cells = {row[name] for row in rows}
    parts = {split_called(cell) for cell in cells}
    if None in parts and {"train", *parts} == parts and len(parts) > 2:
        odd = min(cell for cell in cells if split_called(cell) is None)
        raise TableError(
            f"the column {name!r} seems to say the parts, but {odd!r} is none of train, validation and test.",
            path=table,
        )
    return len(parts) > 1 and None not in parts


def spelt_in_two_ways(patients: Iterable[str]) -> tuple[str, str] | None:
    """Two patients that are one number, or differ in case only."""
    spelt: dict[str, str] = {}
    for patient in patients:
        plain = re.sub(r"^0+(?=\d)|\.0+$", "", patient.casefold())
        if (other := spelt.setdefault(plain, patient)) != patient:
            return other, patient
    return None


def check_label_columns(names: Iterable[str], header: Sequence[str], table: Path) -> None:
    """Raise a TableError for a label column that is not there."""
    for name in names:
        if name not in header:
            raise TableError(f"the label column {name!r} is missing{did_you_mean(name, header)}", path=table)


def _first(header: Sequence[str], wanted: Sequence[str], notes: list[str] | None = None) -> str | None:
    """The first column of one of these names; further ones are named in a note."""
    by_key = {_plain(name): name for name in reversed(header) if name}
    found = list(dict.fromkeys(by_key[_plain(name)] for name in wanted if _plain(name) in by_key))
    if len(found) > 1 and notes is not None:
        rest = ", ".join(repr(name) for name in found[1:])
        notes.append(f"the column {found[0]!r} is taken, {rest} of the same meaning is not")
    return found[0] if found else None


def _is_known(name: str) -> bool:
    known = {_plain(known) for known in (*RECORD_COLUMNS, *PATIENT_COLUMNS, *FOLD_COLUMNS)}
    return _plain(name) in known or _is_of_patients(name)


def _is_of_patients(name: str) -> bool:
    return _PATIENT.fullmatch(_plain(name)) is not None


def _plain(name: str) -> str:
    return re.sub(r"[\s_.\-]", "", name).lower()
