"""SPH, Shandong Provincial Hospital: float16 millivolts in HDF5, diagnoses as AHA statements with modifiers.

A cell such as `60+310;147` holds statements by `;`, each a primary code (1 to 166) with modifiers (300 and up) by `+`.
Isolated spikes reach 1,590 mV, which would take the 16 bits of a lead for themselves: values are clipped, and flagged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, leave_out_absent, note_of_count
from ecg_transformers.data.corpora.shared.folds import assign_folds, split_by_folds
from ecg_transformers.data.corpora.shared.headers import age_in_years, sex_of
from ecg_transformers.data.corpora.shared.packaged import packaged_column
from ecg_transformers.data.corpora.shared.search import need_file, some_of, walk_files
from ecg_transformers.data.errors import DuplicateRecordError, LabelError, OptionError, RecordNotFoundError, SignalError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers.hdf5 import hdf5_dataset, read_hdf5
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.data.tables import integer, read_table
from ecg_transformers.signal.leads import STANDARD_LEADS

RECORDS, PATIENTS = 25_770, 24_666
FIRST_MODIFIER = 200
_FILE = re.compile(r"(?:A|SPH)(\d{5})\Z", re.IGNORECASE)


@dataclass(frozen=True)
class SPHOptions:
    """Options of `sph`.

    Attributes:
        task: "all" (44 primary statements by their description), "superclass" (NORM, MI, STTC, CD, HYP), or None.
        protocol: "paper" (test: everyone with several records, then others to 20 %; the rest in nine folds, 9
            validation) or "folds" (ten folds by patient).
        clip_mv: values beyond this many millivolts are clipped, with the flag `clipped`; None keeps them.
        seed: of the drawing.
    """

    task: str | None = "all"
    protocol: str = "paper"
    clip_mv: float | None = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("sph: the task", self.task, ("all", "superclass"))
        check_choice("sph: protocol", self.protocol, ("paper", "folds"))
        if self.clip_mv is not None and not self.clip_mv > 0:
            raise OptionError(f"sph: clip_mv {self.clip_mv} is no positive number of millivolts.")


@dataclass(frozen=True)
class Statement:
    """One AHA statement: a primary code with its modifiers."""

    primary: int
    modifiers: tuple[int, ...] = ()


class SPHCorpus(Corpus):
    """25,770 records of 24,666 people."""

    facts = CorpusFacts(
        name="sph",
        title="SPH (Shandong Provincial Hospital)",
        summary="12-lead ECGs with diagnoses as AHA statements",
        records="25,770 of 24,666 patients",
        leads="12",
        sampling_rates="500 Hz",
        duration="10 to 56 s",
        labels="44 AHA statements with modifiers; tasks all, superclass",
        split="recipe of the paper: everyone with several records and others to 20 % are the test part",
        licence="CC BY 4.0",
        citation="Liu et al., A large-scale multi-label 12-lead electrocardiogram database with standardized diagnostic "
        "statements, Scientific Data 9 (2022) 272",
        homepage="https://figshare.com/collections/_/5779802",
        download="metadata.csv and records.tar.gz (a plain tar), unpacked",
        needs=("h5py",),
        layout="metadata.csv and records/A00001.h5 … (unpack records.tar.gz, which is a plain tar)",
        notes=(
            "Isolated spikes reach 1,590 mV: clipped to 20 mV (clip_mv=None keeps them).",
            "193 recordings were uploaded twice under two ids, not public by id.",
        ),
    )
    options_class = SPHOptions

    def plan(self) -> CorpusPlan:
        columns = ["ECG_ID", "AHA_Code", "Patient_ID", "N"]
        table = need_file(self.data_dir, ["metadata.csv"], self.facts.layout, columns)
        rows = read_table(table, columns, root=self.data_dir, limits=self.limits)
        paths = self._paths()
        items, absent, unknown = [], [], Counter[str]()
        for row in rows:
            name = row["ECG_ID"]
            path = paths.pop(name, None)
            if path is None:
                absent.append(name)
                continue
            items.append(self._item(row, path, table, unknown))
        seen = Counter(row["ECG_ID"] for row in rows)
        twice = [name for name, count in seen.items() if count > 1]
        if twice:
            raise DuplicateRecordError("metadata.csv names this record twice.", path=table, record=twice[0])
        if not items:
            raise RecordNotFoundError(f"none of its {len(rows):,} records has a file here.", path=table)
        skipped = [(name, "not in metadata.csv") for name in paths]
        items = self._folded(items)
        notes = [note_of_count(len(items), RECORDS, "sph"), f"{len({i.patient_id for i in items})} patients"]
        if self.options.protocol == "paper":
            notes.append("test part by the paper's recipe, drawn anew: not the very records of the paper")
        if unknown:
            notes.append(f"codes outside the table, without a label: {dict(unknown)}")
        names = self.label_names()
        kind = "multilabel" if names else "unlabelled"
        plan = CorpusPlan(split_by_folds(items), names, kind, [table], skipped, {}, notes)
        leave_out_absent(plan, absent, table)
        if len(items) == RECORDS:
            found = Counter(
                primary for item in items for primary in {s["primary"] for s in item.metadata["statements"]}
            )
            codes = packaged_column("sph_aha_primary", "code", "records")
            published = {f"code {code}": int(count) for code, count in codes.items()}
            counted = {f"code {code}": count for code, count in found.items()}
            counted["patients"] = len({item.patient_id for item in items})
            compare_counts(plan, counted, {**published, "patients": PATIENTS}, "sph")
        return plan

    def _paths(self) -> dict[str, Path]:
        """Files by ECG_ID; a mirror calls A00001.h5 SPH00001.h5."""
        paths: dict[str, Path] = {}
        for path in walk_files(self.data_dir, ".h5"):
            match = _FILE.match(path.stem)
            if match is None:
                continue
            if paths.setdefault(f"A{match[1]}", path) != path:
                raise DuplicateRecordError(f"the record lies here and in {paths['A' + match[1]]}.", path=path)
        if not paths:
            archives = [p.name for suffix in (".tar", ".tar.gz") for p in walk_files(self.data_dir, suffix)]
            unpack = f"; unpack {some_of(archives)} (it is a plain tar)" if archives else ""
            raise RecordNotFoundError(f"no record A00001.h5 … here{unpack}.", path=self.data_dir)
        return paths

    def label_names(self) -> list[str]:
        if self.options.task is None:
            return []
        column = "description" if self.options.task == "all" else "superclass"
        return sorted(set(filter(None, packaged_column("sph_aha_primary", "code", column).values())))

    def _item(self, row: dict[str, str], path: Path, table: Path, unknown: Counter[str]) -> Item:
        name = row["ECG_ID"]
        statements = parse_statements(row["AHA_Code"], table, name)
        column = "superclass" if self.options.task == "superclass" else "description"
        label_of = packaged_column("sph_aha_primary", "code", column)
        codes = packaged_column("sph_aha_primary", "code", "snomed")
        unknown.update(str(s.primary) for s in statements if str(s.primary) not in codes)
        labels = {label_of.get(str(statement.primary), "") for statement in statements} - {""}
        modifiers = packaged_column("sph_aha_modifiers", "code", "description")
        metadata: dict[str, Any] = {
            "age": age_in_years(row.get("Age", "")),
            "sex": sex_of(row.get("Sex", "")),
            "aha": row["AHA_Code"],
            "statements": [
                {"primary": s.primary, "modifiers": [modifiers.get(str(m), str(m)) for m in s.modifiers]}
                for s in statements
            ],
            "snomed": sorted({codes[str(s.primary)] for s in statements if codes.get(str(s.primary))}),
        }
        if any(s.primary == 1 for s in statements) and len(statements) > 1:
            metadata["flags"] = ["normal_with_others"]
        length = integer(row["N"], "N", table, record=name)
        chosen = tuple(sorted(labels)) if self.options.task is not None else ()
        hints = {"num_samples": length}
        return Item(name, path, row["Patient_ID"] or None, chosen, None, metadata, hints, (f"SPH{name[1:]}",))

    def _folded(self, items: list[Item]) -> list[Item]:
        if self.options.protocol == "folds":
            return assign_folds(items, self.options.seed)
        several = {patient for patient, n in Counter(item.patient_id for item in items).items() if patient and n > 1}
        test = {item.record_id for item in items if item.patient_id in several}
        ordered = assign_folds([item for item in items if item.record_id not in test], self.options.seed)
        drawn = sorted(ordered, key=lambda item: (-(item.fold or 0), item.record_id)) if len(items) >= 3 else []
        wanted = round(0.2 * len(items))
        test |= {item.record_id for item in drawn[: max(wanted - len(test), 0)]}
        rest = assign_folds([item for item in items if item.record_id not in test], self.options.seed)
        fold_of = {item.record_id: 8 if item.fold == 10 else item.fold for item in rest}
        return [replace(item, fold=fold_of.get(item.record_id, 10)) for item in items]

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        dataset = hdf5_dataset(item.path, self.data_dir, "ecg", 2)
        leads, length = dataset.shape
        if leads != len(STANDARD_LEADS) or item.hints["num_samples"] not in (None, length):
            raise SignalError(
                f"'ecg' has the shape {dataset.shape}; (12, {item.hints['num_samples']}) is expected.",
                path=item.path,
                record=item.record_id,
            )
        self.limits.check_shape(length, leads, path=item.path, record=item.record_id)
        signal = read_hdf5(dataset, slice(None), item.path).T.astype(np.float32)
        signal, flags = clip_spikes(signal, self.options.clip_mv)
        record = ECGRecord(signal, 500.0, list(STANDARD_LEADS), item.record_id, metadata={"flags": flags})
        yield finished_row(DigitalRecord.from_record(record), item, plan, "sph")


def parse_statements(text: str, path: Path, record: str) -> list[Statement]:
    """The statements of a cell, each once; the part below 200 is the primary, in whatever order it stands.

    Raises:
        LabelError: a statement without exactly one primary, or a part that is no number.
    """
    statements: list[Statement] = []
    for part in text.split(";"):
        codes = [code.strip() for code in part.split("+")]
        if not all(code.isdigit() for code in codes):
            raise LabelError(f"the AHA code {text[:60]!r} is not of the form 60+310;147.", path=path, record=record)
        numbers = [int(code) for code in codes]
        primaries = [number for number in numbers if number < FIRST_MODIFIER]
        if len(primaries) != 1:
            raise LabelError(f"the statement {part!r} has {len(primaries)} primary codes.", path=path, record=record)
        modifiers = tuple(number for number in numbers if number >= FIRST_MODIFIER)
        statements.append(Statement(primaries[0], modifiers))
    return list(dict.fromkeys(statements))


def clip_spikes(signal: np.ndarray, limit: float | None) -> tuple[np.ndarray, Sequence[str]]:
    """A record `(T, L)` in millivolts within `limit`, and the flag `clipped` where something was beyond."""
    if limit is None or not (np.abs(np.nan_to_num(signal, posinf=np.inf, neginf=-np.inf)) > limit).any():
        return signal, []
    return np.clip(signal, -limit, limit), ["clipped"]
