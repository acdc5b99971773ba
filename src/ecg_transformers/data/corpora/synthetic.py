"""The synthetic corpus: the embedded default for demos, tests and first steps, nothing to download."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Corpus, CorpusFacts, CorpusPlan, Item
from ecg_transformers.data.errors import OptionError
from ecg_transformers.data.options import check_choice
from ecg_transformers.data.record import DigitalRecord
from ecg_transformers.signal.synthesis import LABELS, LEAD_NAMES, synthesize_ecg

_GAIN = 1000.0  # 1 uV a unit, as in PTB-XL
_GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class SyntheticOptions:
    """Options of `synthetic`.

    Attributes:
        num_records: records in all three parts together.
        seed: another seed is another corpus.
        sampling_rate: Hz.
        duration: seconds.
        noise: factor on all noise; 0 gives clean signals.
        records_per_patient: consecutive records of one simulated patient, always in the same part.
        validation_fraction: share of the patients in `validation`.
        test_fraction: share of the patients in `test`.
        task: "all", the eight labels; or None, no labels.
    """

    num_records: int = 1000
    seed: int = 0
    sampling_rate: float = 250.0
    duration: float = 10.0
    noise: float = 1.0
    records_per_patient: int = 1
    validation_fraction: float = 0.15
    test_fraction: float = 0.15
    task: str | None = "all"

    def __post_init__(self) -> None:
        if not 1 <= self.num_records <= 10_000_000 or int(self.num_records) != self.num_records:
            raise OptionError(f"synthetic: num_records {self.num_records} is not a whole number of 1 to 10,000,000.")
        if not 50 <= self.sampling_rate <= 10_000 or not 2 <= self.duration <= 86_400:
            raise OptionError(
                f"synthetic: {self.sampling_rate} Hz and {self.duration} s lie outside 50 to 10,000 Hz and "
                "2 to 86,400 s."
            )
        if not 0 <= self.noise <= 100 or self.records_per_patient < 1 or self.seed < 0:
            raise OptionError("synthetic: noise is 0 to 100, records_per_patient at least 1, seed not negative.")
        fractions = (self.validation_fraction, self.test_fraction)
        if min(fractions) < 0 or sum(fractions) > 1:
            raise OptionError(f"synthetic: validation_fraction and test_fraction {fractions} are no shares of 1.")
        if self.task is not None:
            check_choice("synthetic: the task", self.task, ("all",))


class SyntheticCorpus(Corpus):
    """12-lead dipole-model ECGs, made when asked for."""

    facts = CorpusFacts(
        name="synthetic",
        title="Synthetic 12-lead ECGs",
        summary="Dipole-model ECGs with labelled rhythms and morphologies and realistic noise, made on the spot",
        records="as many as asked for (default 1,000)",
        leads="12",
        sampling_rates="any (default 250 Hz)",
        duration="any (default 10 s)",
        labels=", ".join(LABELS),
        split="by simulated patient, 70 / 15 / 15 %",
        licence="Apache-2.0 (made by this package)",
        citation="dipole model after McSharry et al. (2003) and Sameni et al. (2007), "
        "lead vectors of Dower et al. (1980)",
        layout="nothing: no data_dir is needed",
        notes=("Results on it show that a pipeline works, not that a method is good at medicine.",),
    )
    options_class = SyntheticOptions
    needs_data_dir = False

    def plan(self) -> CorpusPlan:
        options: SyntheticOptions = self.options
        splits: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
        for index in range(options.num_records):
            patient = index // options.records_per_patient
            name, who = f"synthetic-{options.seed}-{index:07d}", f"synthetic-{options.seed}-p{patient:07d}"
            splits[self._split_of(patient)].append(Item(name, patient_id=who, hints={"index": index}))
        labels = list(LABELS) if options.task else []
        return CorpusPlan(splits, labels, "multilabel" if labels else "unlabelled")

    def _split_of(self, patient: int) -> str:
        """A record keeps its part when more records are asked for: the golden ratio spreads any prefix evenly."""
        place = (patient + 0.5) * _GOLDEN % 1.0
        if place < self.options.test_fraction:
            return "test"
        return "validation" if place < self.options.test_fraction + self.options.validation_fraction else "train"

    def rows(self, item: Item, plan: CorpusPlan) -> Iterator[dict[str, Any]]:
        options: SyntheticOptions = self.options
        index = item.hints["index"]
        made = synthesize_ecg(
            options.seed,
            index,
            sampling_rate=options.sampling_rate,
            duration=options.duration,
            noise=options.noise,
            records_per_patient=options.records_per_patient,
        )
        record = DigitalRecord(
            samples=np.clip(np.rint(made.signal * _GAIN), -32767, 32767).astype(np.int16),
            gain=np.full(len(LEAD_NAMES), _GAIN),
            offset=np.zeros(len(LEAD_NAMES)),
            sampling_rate=made.sampling_rate,
            lead_names=list(LEAD_NAMES),
            record_id=item.record_id,
            patient_id=item.patient_id,
            labels=list(made.labels) if plan.label_names else [],
            source="synthetic",
            annotations={"beat_samples": made.r_peaks, "beat_symbols": np.array(made.beat_symbols, dtype=object)},
            metadata={"heart_rate": round(made.heart_rate, 2), "seed": options.seed, "index": index},
        )
        yield record.to_row(plan.label_names, plan.task_kind)
