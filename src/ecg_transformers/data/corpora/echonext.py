"""EchoNext: ECGs with structural heart disease told by an echocardiogram, published as z-scores.

The arrays hold *z-scores* of each lead, not millivolts: rows carry them as they are, with the flag `z_scores` and
`metadata["units"]`. Row k of a part's array is the k-th row of that part in the table. Specification: corpora, 15.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.corpora.shared.columns import LazyItems, iterate_with_offsets, row_at
from ecg_transformers.data.corpora.shared.finishing import compare_counts, finished_row, note_of_count
from ecg_transformers.data.corpora.shared.headers import age_in_years, sex_of
from ecg_transformers.data.corpora.shared.packaged import packaged_table
from ecg_transformers.data.corpora.shared.search import find_file, need_file
from ecg_transformers.data.errors import EmptyRecordError, RecordNotFoundError, SignalError, TableError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers.npz import map_npy
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.signal.leads import STANDARD_LEADS

RECORDS = {"train": 72_475, "val": 4_626, "test": 5_442, "no_split": 17_457}
PATIENTS = 36_286
TABLE = "echonext_metadata_100k.csv"
MILLIVOLTS_PER_DEVICE_UNIT = 0.00488
_SPLIT_OF_PART = {"train": "train", "val": "validation", "test": "test"}
FLAGS = (
    "lvef_lte_45_flag",
    "lvwt_gte_13_flag",
    "aortic_stenosis_moderate_or_greater_flag",
    "aortic_regurgitation_moderate_or_greater_flag",
    "mitral_regurgitation_moderate_or_greater_flag",
    "tricuspid_regurgitation_moderate_or_greater_flag",
    "pulmonary_regurgitation_moderate_or_greater_flag",
    "rv_systolic_dysfunction_moderate_or_greater_flag",
    "pericardial_effusion_moderate_large_flag",
    "pasp_gte_45_flag",
    "tr_max_gte_32_flag",
    "shd_moderate_or_greater_flag",
)


@dataclass(frozen=True)
class EchoNextOptions:
    """Options of `echonext`.

    Attributes:
        task: "all" (12 flags), one flag by name (records in which it was not measured are left out, counted), or None.
        units: "z" (as published), or "mV": taken back with the constants of the authors' published model and 4.88 uV
            a device unit, which is an assumption that nobody has confirmed.
    """

    task: str | None = "all"
    units: str = "z"

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("echonext: the task", self.task, ("all", *FLAGS))
        check_choice("echonext: units", self.units, ("z", "mV"))


class EchoNextCorpus(Corpus):
    """100,000 ECGs of 36,286 people, official parts."""

    facts = CorpusFacts(
        name="echonext",
        title="EchoNext",
        summary="12-lead ECGs with twelve flags of structural heart disease from an echocardiogram",
        records="100,000 of 36,286 patients (82,543 in the three parts)",
        leads="12",
        sampling_rates="250 Hz",
        duration="10 s",
        labels="12 flags; a flag is 0 also where it was not measured (metadata['unmeasured'])",
        split="official: train, val, test; no_split (earlier records of people in val and test) is never read",
        licence="PhysioNet Restricted 1.5.0",
        citation="Hughes et al., NEJM AI (2026) AIdbp2500516; Poterucha et al., Nature (2025) 10.1038/s41586-025-09227-0",
        homepage="https://physionet.org/content/echonext/",
        download="the table and the waveform arrays of 1.1.0 (restricted access)",
        layout=f"{TABLE} and EchoNext_train_waveforms.npy, EchoNext_val_…, EchoNext_test_…",
        notes=(
            "The signals are z-scores of each lead, not millivolts (units='mV' is an assumption).",
            "629 records carry only 2.5 to 5 s of signal, the rest constant (flag constant_part).",
        ),
    )
    options_class = EchoNextOptions

    @classmethod
    def units_of(cls, options: object) -> str:
        return "z-score" if getattr(options, "units", "z") == "z" else "mV"

    def plan(self) -> CorpusPlan:
        self._table = need_file(self.data_dir, [TABLE], self.facts.layout)
        arrays = {
            part: find_file(self.data_dir, [f"EchoNext_{part}_waveforms.npy"]) for part in ("train", "val", "test")
        }
        self._arrays = {part: path for part, path in arrays.items() if path is not None}
        if not self._arrays:
            raise RecordNotFoundError("no EchoNext_train_waveforms.npy, _val_ or _test_ here.", path=self.data_dir)
        counts, unmeasured = self._index()
        excluded: dict[str, int] = {}
        if counts["no_split"]:
            excluded["no_split: earlier records of people in val and test"] = counts["no_split"]
        self._check_shapes(counts)
        absent = sum(counts[part] for part in _SPLIT_OF_PART if part not in self._arrays)
        if absent:
            excluded["records of a part whose array is not here"] = absent
        if unmeasured:
            excluded[f"{self.options.task} not measured"] = unmeasured
        splits = {
            split: LazyItems(self._item, np.array(self._rows_of[part], dtype=np.int64))
            for part, split in _SPLIT_OF_PART.items()
            if part in self._arrays
        }
        notes = [note_of_count(counts[part], RECORDS[part], f"echonext, {part}") for part in RECORDS]
        notes.append(self._unit_note())
        names = [] if self.options.task is None else [self.options.task] if self.options.task != "all" else list(FLAGS)
        kind = "multilabel" if names else "unlabelled"
        plan = CorpusPlan(splits, names, kind, [self._table, *self._arrays.values()], [], excluded, notes)
        if dict(counts) == RECORDS:
            flags = packaged_table("echonext_flags")
            published = {
                f"{r['flag']} unmeasured": int(r["unmeasured_records"]) for r in flags if r["unmeasured_records"]
            }
            found = {f"{flag} unmeasured": count for flag, count in self._unmeasured.items()}
            found["patients"] = len(self._people)
            compare_counts(plan, found, {**published, "patients": PATIENTS}, "echonext")
        return plan

    def _check_shapes(self, counts: Counter[str]) -> None:
        for part, path in self._arrays.items():
            shape = map_npy(path, self.data_dir).shape
            if len(shape) != 4 or shape[0] != counts[part] or shape[1] != 1 or shape[3] != len(STANDARD_LEADS):
                raise SignalError(
                    f"the array has the shape {shape}; the table has {counts[part]} rows of {part!r}, so "
                    f"({counts[part]}, 1, 2500, 12) is expected.",
                    path=path,
                )

    def _index(self) -> tuple[Counter[str], int]:
        """Where each row stands in table and array. Rows in which the flag of the task was not measured stay out."""
        counts: Counter[str] = Counter()
        unmeasured = 0
        self._unmeasured: Counter[str] = Counter()
        self._people: set[str] = set()
        self._rows_of: dict[str, list[int]] = {part: [] for part in _SPLIT_OF_PART}
        offsets: list[int] = []
        positions: list[int] = []
        parts: list[str] = []
        wanted = [] if self.options.task in (None, "all") else [self.options.task]
        needed = ["ecg_key", "patient_key", "split", *(FLAGS if self.options.task == "all" else wanted)]
        for offset, line in iterate_with_offsets(self._table, needed, self.data_dir, self.limits):
            part = line["split"]
            if part not in RECORDS:
                raise TableError(
                    f"the split {part!r} is none of {list(RECORDS)}.", path=self._table, record=line["ecg_key"]
                )
            self._unmeasured.update(unmeasured_flags(line))
            self._people.add(line["patient_key"])
            position = counts[part]
            counts[part] += 1
            if part not in self._arrays:
                continue
            if wanted and wanted[0] in unmeasured_flags(line):
                unmeasured += 1
                continue
            self._rows_of[part].append(len(offsets))
            offsets.append(offset)
            positions.append(position)
            parts.append(part)
        self._offsets, self._positions = np.array(offsets, dtype=np.int64), np.array(positions, dtype=np.int64)
        self._parts = parts
        return counts, unmeasured

    def _unit_note(self) -> str:
        if self.options.units == "z":
            return "signals are z-scores of each lead, NOT millivolts: flag z_scores, metadata['units']"
        return (
            f"signals taken back to mV as (z * SD + mean) * {MILLIVOLTS_PER_DEVICE_UNIT}, with the constants of the "
            "authors' model: an assumption that was not confirmed"
        )

    def _item(self, index: int) -> Item:
        line = row_at(self._table, int(self._offsets[index]))
        flags = () if self.options.task is None else FLAGS if self.options.task == "all" else (self.options.task,)
        labels = tuple(sorted(flag for flag in flags if line.get(flag, "").lower() in ("1", "1.0", "true")))
        part = self._parts[index]
        metadata: dict[str, Any] = {
            "age": age_in_years(line.get("age_at_ecg", "")),
            "sex": sex_of(line.get("sex", "")),
            "unmeasured": unmeasured_flags(line),
            "acquisition_year": line.get("acquisition_year") or None,
            "location_setting": line.get("location_setting") or None,
        }
        hints = {"row": int(self._positions[index])}
        return Item(line["ecg_key"], self._arrays[part], line["patient_key"] or None, labels, None, metadata, hints)

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        signal = np.array(map_npy(item.path, self.data_dir)[item.hints["row"], 0], dtype=np.float64)
        still = (np.diff(signal, axis=0) == 0).all(axis=1)
        if still.all():
            raise EmptyRecordError("every lead is constant.", path=item.path, record=item.record_id)
        flags = ["constant_part"] if still.mean() > 0.4 else []
        if self.options.units == "z":
            units, flags = "z-score", [*flags, "z_scores"]
        else:
            rows = packaged_table("echonext_normalisation")
            signal = signal * [float(row["sd"]) for row in rows] + [float(row["mean"]) for row in rows]
            signal *= MILLIVOLTS_PER_DEVICE_UNIT
            units, flags = "mV (assumed scale)", [*flags, "unit_assumed"]
        metadata = {"flags": flags, "units": units}
        record = ECGRecord(signal.astype(np.float32), 250.0, list(STANDARD_LEADS), item.record_id, metadata=metadata)
        yield finished_row(DigitalRecord.from_record(record), item, plan, "echonext")


def unmeasured_flags(line: dict[str, str]) -> list[str]:
    """Flags whose echo value is missing in all columns it is told from: a flag of 0 says nothing there."""
    missing = []
    for row in packaged_table("echonext_flags"):
        columns = [name for name in row["measured_from"].split(";") if name in line]
        if columns and all(line[name].lower() in ("", "nan") for name in columns):
            missing.append(row["flag"])
    return missing
