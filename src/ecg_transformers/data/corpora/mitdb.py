"""MIT-BIH Arrhythmia Database: beats in the five AAMI classes, the inter-patient split of de Chazal et al. (2004)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item, every_fifth
from ecg_transformers.data.corpora.shared.beats import marks_of, windows_with_beats
from ecg_transformers.data.corpora.shared.finishing import note_of_count
from ecg_transformers.data.errors import LeadNotFoundError, OptionError, RecordNotFoundError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.readers import read_digital
from ecg_transformers.data.record import DigitalRecord

DS1 = tuple(
    map(
        str,
        [101, 106, 108, 109, 112, 114, 115, 116, 118, 119, 122, 124, 201, 203, 205, 207, 208, 209, 215, 220, 223, 230],
    )
)
DS2 = tuple(
    map(
        str,
        [100, 103, 105, 111, 113, 117, 121, 123, 200, 202, 210, 212, 213, 214, 219, 221, 222, 228, 231, 232, 233, 234],
    )
)
PACED = ("102", "104", "107", "217")
WITHOUT_MLII = ("102", "104")
RECORDS = 48
AAMI_CLASSES = ("F", "N", "Q", "S", "V")
AAMI_OF_SYMBOL = {
    **dict.fromkeys("NLRej", "N"),
    **dict.fromkeys("AaJS", "S"),
    **dict.fromkeys("VE", "V"),
    "F": "F",
    **dict.fromkeys("/fQ", "Q"),
}


@dataclass(frozen=True)
class MITDBOptions:
    """Options of `mitdb`.

    Attributes:
        task: "beats" (AAMI class of each beat), or None for no labels.
        lead: the lead to read, by name (in record 114 the MLII is the second signal); None keeps both.
        window_s: cut the half-hour records into consecutive windows of this many seconds; None keeps them whole.
        strict: leave out record 202, which is the same person as 201 on the other side of the split.
        include_paced: add the four paced records to the test part. Two of them, 102 and 104, have no MLII: where that is
            the lead, their first one (V5) is read, with the flag `lead_instead_of_mlii`.
        validation_records: records of DS1 held out; default every fifth that is there. Always whole records.
    """

    task: str | None = "beats"
    lead: str | None = "MLII"
    window_s: float | None = None
    strict: bool = False
    include_paced: bool = False
    validation_records: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.task is not None:
            check_choice("mitdb: the task", self.task, ("beats",))
        if self.window_s is not None and not 1 <= self.window_s <= 1800:
            raise OptionError(f"mitdb: window_s {self.window_s} lies outside 1 to 1800 seconds.")
        if self.validation_records is not None:
            given = [str(r) for r in self.validation_records]
            wrong = [record for record in given if record not in DS1]
            if wrong:
                raise OptionError(f"mitdb: the validation records {wrong} are not in DS1.")
            object.__setattr__(self, "validation_records", tuple(given))


class MITDBCorpus(Corpus):
    """48 half-hour records of 47 people with every beat annotated."""

    facts = CorpusFacts(
        name="mitdb",
        title="MIT-BIH Arrhythmia Database",
        summary="Half-hour ambulatory records with a label for every beat",
        records="48 of 47 people",
        leads="2 (mostly MLII and V1 or V5)",
        sampling_rates="360 Hz",
        duration="30 min",
        labels="beat classes N S V F Q (AAMI)",
        split="inter-patient: DS1 train (every fifth record validation), DS2 test; paced records out",
        licence="ODC-By 1.0",
        citation="Moody & Mark, The impact of the MIT-BIH Arrhythmia Database, IEEE Eng. Med. Biol. 20(3) (2001); "
        "split: de Chazal et al., IEEE Trans. Biomed. Eng. 51(7) (2004)",
        homepage="https://physionet.org/content/mitdb/",
        download="mitdb 1.0.0",
        layout="100.hea, 100.dat, 100.atr, …",
        notes=("201 (DS1) and 202 (DS2) are the same person; strict=True leaves 202 out.",),
    )
    options_class = MITDBOptions
    marker = tuple(f"{record}.atr" for record in (*DS1, *DS2))  # LUDB has headers of these names, too

    def plan(self) -> CorpusPlan:
        options: MITDBOptions = self.options
        present = {path.stem for path in self.data_dir.glob("*.hea")}
        training = [record for record in DS1 if record in present]
        test = [record for record in DS2 if record in present and not (options.strict and record == "202")]
        if not training and not test:
            raise RecordNotFoundError("the folder holds no record of MIT-BIH (100.hea, …).", path=self.data_dir)
        held_out = options.validation_records or every_fifth(training)
        excluded = {"paced": len(present & set(PACED))} if not options.include_paced and present & set(PACED) else {}
        if options.strict and "202" in present:
            excluded["same person as 201"] = 1
        if options.include_paced:
            test += [record for record in PACED if record in present]
        splits = {
            "train": [self._item(record) for record in training if record not in held_out],
            "validation": [self._item(record) for record in training if record in held_out],
            "test": [self._item(record) for record in test],
        }
        notes = []
        if {"201", "202"} <= present and not options.strict:
            notes.append("201 (train) and 202 (test) are the same person, as in the usual split; strict=True drops 202")
        substituted = [record for record in WITHOUT_MLII if record in test]
        if substituted and (options.lead or "").upper() == "MLII":
            notes.append(f"{' and '.join(substituted)} have no MLII: their first lead is read")
        notes.append(note_of_count(len(present & {*DS1, *DS2, *PACED}), RECORDS, "mitdb"))
        names = list(AAMI_CLASSES) if options.task else []
        files = [item.path.with_suffix(".atr") for items in splits.values() for item in items if item.path]
        return CorpusPlan(splits, names, "beats" if names else "unlabelled", files, [], excluded, notes)

    def _item(self, record: str) -> Item:
        patient = "201" if record == "202" else record
        return Item(record, self.data_dir / f"{record}.hea", patient_id=patient)

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        assert item.path is not None
        digital = read_digital(item.path, root=self.data_dir, limits=self.limits)
        lead = self.options.lead
        is_there = lead is None or lead.lower() in [name.lower() for name in digital.lead_names]
        if lead is not None and not is_there and lead.upper() == "MLII" and item.record_id in WITHOUT_MLII:
            lead = digital.lead_names[0]
            digital.metadata["flags"] = [*digital.metadata.get("flags", []), "lead_instead_of_mlii"]
        digital = choose_lead(digital, lead, item.path)
        marks = marks_of(item, self.data_dir, needed=bool(plan.label_names))
        for cut in windows_with_beats(digital, marks, AAMI_OF_SYMBOL, item, self.options.window_s):
            labels = cut.labels if plan.label_names else []
            yield cut.with_(labels=labels, source="mitdb").to_row(plan.label_names, plan.task_kind)


def choose_lead(record: DigitalRecord, lead: str | None, path: Path) -> DigitalRecord:
    """One lead of a record by its name, wherever it stands; None keeps all."""
    if lead is None:
        return record
    names = [name.lower() for name in record.lead_names]
    if lead.lower() not in names:
        raise LeadNotFoundError(
            f"the record has the leads {record.lead_names}; lead=None keeps them.",
            path=path,
            record=record.record_id,
            lead=lead,
        )
    index = names.index(lead.lower())
    return record.with_(
        samples=np.ascontiguousarray(record.samples[:, index : index + 1]),
        gain=record.gain[index : index + 1],
        offset=record.offset[index : index + 1],
        lead_names=[record.lead_names[index]],
    )
