"""The SNOMED CT codes of the Challenges of 2020 and 2021, their abbreviations, and which of them were scored.

In 2021 four pairs of codes counted as one class (CLBBB|LBBB, CRBBB|RBBB, PAC|SVPB, PVC|VPB: 26 classes), in 2020 three
(not CLBBB|LBBB: 24 classes). Specification: corpora, 2.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from ecg_transformers.data.corpora.shared.packaged import packaged_table

TASKS = ("all", "scored", "superclass")
_SUPERCLASSES = {"MI": "MI", "STTC": "STTC", "CD": "CD", "HYP": "HYP", "sinus_rhythm": "sinus_rhythm"}
_SUPERCLASSES |= {"sinus_variant": "sinus_variant", "other": "other"}
_PAIRED_IN_2021_ONLY = "733534002"  # CLBBB was not scored in 2020, so LBBB stood alone


@lru_cache(maxsize=1)
def snomed_rows() -> dict[str, dict[str, str]]:
    """The table `cinc_snomed` by code."""
    return {row["snomed"]: row for row in packaged_table("cinc_snomed")}


@lru_cache(maxsize=8)
def label_of_code(task: str, edition: int = 2021) -> dict[str, str]:
    """The label of every code that has one in a task."""
    rows = snomed_rows()
    if task == "all":
        return {code: row["abbreviation"] for code, row in rows.items()}
    if task == "superclass":
        return {code: _SUPERCLASSES[row["group"]] for code, row in rows.items()}
    scored = [code for code, row in rows.items() if row[f"scored_{edition}"] == "1"]
    members: dict[str, list[str]] = {}
    for code in scored:
        head = rows[code]["scored_as"]
        alone = edition == 2020 and head == _PAIRED_IN_2021_ONLY
        members.setdefault(code if alone else head, []).append(code)
    names = {}
    for codes in members.values():
        name = "|".join(sorted(rows[code]["abbreviation"] for code in codes))
        names.update(dict.fromkeys(codes, name))
    return names


def label_names_of(task: str | None, edition: int = 2021) -> list[str]:
    """Sorted names of the labels of a task."""
    return [] if task is None else sorted(set(label_of_code(task, edition).values()))


def labels_of_codes(codes: Iterable[str], task: str | None, edition: int = 2021) -> tuple[str, ...]:
    """The labels of a record in a task, sorted; codes without a label in it give none."""
    if task is None:
        return ()
    table = label_of_code(task, edition)
    return tuple(sorted({table[code] for code in codes if code in table}))


def unknown_codes(codes: Iterable[str]) -> list[str]:
    """Codes that the table does not hold."""
    return [code for code in codes if code not in snomed_rows()]
