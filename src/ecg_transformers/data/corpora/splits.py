"""Parts of a corpus that has no official ones, always by patient."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from ecg_transformers.data.corpora.base import Item
from ecg_transformers.data.errors import OptionError, TableError

_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
FOLD_COLUMNS = ("fold", "strat_fold", "folds", "cv_fold", "kfold", "k_fold")
_GOLDEN = 0.6180339887498949


def split_called(text: str) -> str | None:
    """`val` to `validation`, and so on; None for any other word."""
    return next((part for part, spellings in _NAMES.items() if text.strip().lower() in spellings), None)


def split_of_name(text: str, record: str, table: Path) -> str:
    """The part that a cell of a table means."""
    part = split_called(text)
    if part is None:
        raise TableError(f"the split {text!r} is none of train, validation and test.", path=table, record=record)
    return part


def roles_of_folds(present: set[int], validation: Sequence[int] | None, test: Sequence[int] | None) -> dict[int, str]:
    """The part of every fold: the highest is the test part and the second highest validation, unless named.

    Raises:
        OptionError: a fold is both.
    """
    ordered = sorted(present)
    test = list(test) if test is not None else ordered[-1:] if len(ordered) > 1 else []
    rest = [fold for fold in ordered if fold not in test]
    validation = list(validation) if validation is not None else rest[-1:] if len(rest) > 1 else []
    if set(test) & set(validation):
        raise OptionError(f"the folds {sorted(set(test) & set(validation))} are both validation and test.")
    return {f: "test" if f in test else "validation" if f in validation else "train" for f in ordered}


def said_of_folds(role_of: dict[int, str]) -> str:
    """`train 1, 2; validation 3; test 4`."""
    parts = {part: [str(f) for f, role in role_of.items() if role == part] for part in ("train", "validation", "test")}
    return "; ".join(f"{part} {', '.join(folds)}" for part, folds in parts.items() if folds)


def split_of_fold(items: Sequence[Item], role_of: dict[int, str], column: str, table: Path) -> list[str]:
    """Parts by fold."""
    for item in items:
        if item.fold is None:
            raise TableError(f"the column {column!r} is empty.", path=table, record=item.record_id)
    return [role_of[item.fold] for item in items if item.fold is not None]


def split_patients(items: Sequence[Item], validation_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """Parts drawn by patient: a function of the seed, the patients and their labels, spread evenly over label sets.

    Records without a patient are patients of their own. With at least three patients no part that was asked for is
    empty.
    """
    labels: dict[str, set[str]] = {}
    patients = [item.patient_id or f"record {item.record_id}" for item in items]
    for item, patient in zip(items, patients):
        labels.setdefault(patient, set()).update(item.labels)
    drawn = {p: hashlib.sha256(f"{seed}|{p}".encode(errors="surrogateescape")).hexdigest() for p in labels}
    ordered = sorted(labels, key=lambda patient: (sorted(labels[patient]), drawn[patient]))
    start = int(hashlib.sha256(f"start {seed}".encode()).hexdigest()[:8], 16) / 2**32
    place = {patient: (start + k * _GOLDEN) % 1.0 for k, patient in enumerate(ordered)}
    ranked = sorted(ordered, key=lambda patient: place[patient])
    num_test, num_validation = (_share(fraction, len(ranked)) for fraction in (test_fraction, validation_fraction))
    test, validation = set(ranked[:num_test]), set(ranked[num_test : num_test + num_validation])
    return ["test" if p in test else "validation" if p in validation else "train" for p in patients]


def _share(fraction: float, total: int) -> int:
    return max(round(fraction * total), 1 if fraction > 0 and total >= 3 else 0)


def check_patients(splits: dict[str, list[Item]], table: Path | None) -> None:
    """No patient in two parts."""
    part_of: dict[str, str] = {}
    for part, items in splits.items():
        for item in items:
            if item.patient_id is not None and part_of.setdefault(item.patient_id, part) != part:
                raise TableError(
                    f"the patient {item.patient_id!r} is in {part_of[item.patient_id]!r} and in {part!r}: results "
                    "would be too good (patients_may_repeat=True accepts it).",
                    path=table,
                    record=item.record_id,
                )
