"""From the records of a split to batches on the device: preparing once, one view of each, collation, data workers."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from torch.utils.data import DataLoader

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.evaluation.readouts import Records
from ecg_transformers.features.protocol import Prepared
from ecg_transformers.features.uncut import UncutCrops
from ecg_transformers.training.arguments import RunArguments
from ecg_transformers.training.errors import UsageError, one_sentence
from ecg_transformers.training.plan.batches import BatchPlan, StepSampler
from ecg_transformers.training.plan.randomness import numpy_generator
from ecg_transformers.training.process.signals import ignore_stop_signals_in_worker
from ecg_transformers.training.samples.splits import Split, StoredRecords
from ecg_transformers.training.samples.views import Sample, View

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class BadSample:
    """A record that could not become a sample; the main process raises it as one sentence, without the worker's trace."""

    message: str


class PreparedRecords:
    """Prepared records of a split, kept in memory up to a bound.

    Args:
        records: index -> record.
        prepare: the deterministic part of the preprocessing.
        cache_mb: memory for prepared records; when it is full, further records are prepared each time.
    """

    def __init__(self, records: Records, prepare: Callable[[Any], Prepared], cache_mb: float) -> None:
        self._records, self._prepare = records, prepare
        self._free = cache_mb * 2**20
        self._cache: dict[int, Prepared] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Prepared:
        if index in self._cache:
            return self._cache[index]
        prepared = self._prepare(self._records[index])
        size = _size_in_bytes(prepared)
        if size <= self._free:
            self._free -= size
            self._cache[index] = prepared
        return prepared


class TrainingSamples:
    """The training set as a `DataLoader` wants it: `(epoch, index)` -> sample, a pure function of the seed.

    Args:
        split: the records; those with labels give samples with `labels`.
        view: makes the sample.
        seed: key of all draws.
        cache_mb: memory for prepared records.
    """

    def __init__(self, split: Split, view: View, seed: int, cache_mb: float) -> None:
        self.record_ids, self.patient_keys = split.record_ids, split.patient_keys()
        self._prepared = PreparedRecords(split.records, view.prepare, cache_mb)
        self._view, self._seed, self._labels = view, seed, split.labels
        self._records, self._cache_mb = split.records, cache_mb

    def uncut(self) -> TrainingSamples:
        """The same with crops that are cut on a device; these samples themselves where only the host can make them."""
        view, records = uncut(self._view, self._records)
        if view is self._view:
            return self
        other = copy.copy(self)
        other._view, other._prepared = view, PreparedRecords(records, view.prepare, self._cache_mb)
        return other

    def __len__(self) -> int:
        return len(self._prepared)

    def check(self, indices: Sequence[int]) -> None:
        """Raise `UsageError` when one of the records cannot become a sample."""
        for index in indices:
            sample = self[0, index]
            if isinstance(sample, BadSample):
                raise UsageError(sample.message)

    def __getitem__(self, key: tuple[int, int]) -> Sample | BadSample:
        epoch, index = key
        try:
            generator = numpy_generator(self._seed, "view", epoch, index)
            sample = self._view.sample(self._prepared[index], self.patient_keys[index], generator)
        except (ECGDataError, UsageError, ValueError) as error:
            return BadSample(one_sentence(error))
        if self._labels is not None:
            sample["labels"] = self._labels[index]
        return sample


@dataclass(frozen=True)
class TrainingData:
    """The training set, and which of its records a step sees."""

    samples: TrainingSamples
    plan: BatchPlan
    num_workers: int = 0

    @classmethod
    def of(cls, args: RunArguments, split: Split, view: View, plan: BatchPlan) -> TrainingData:
        """With the arguments' workers, who share out the memory for prepared records."""
        cache_mb = args.cache_mb / max(args.num_workers, 1)
        return cls(TrainingSamples(split, view, plan.seed, cache_mb), plan, args.num_workers)

    def batches(self, accelerator: Accelerator, first_step: int, last_step: int) -> Iterator[Batch | BadSample]:
        """The batches of this process from one step to another, on the CPU but for what an accelerator makes itself."""
        is_cpu = accelerator.device.type == "cpu"
        loader: DataLoader[Any] = DataLoader(
            self.samples if is_cpu else self.samples.uncut(),  # type: ignore[arg-type]  # map-style access is all it needs
            batch_sampler=StepSampler(self.plan, accelerator.process_index, first_step, last_step),
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=ignore_stop_signals_in_worker,
            pin_memory=accelerator.device.type == "cuda",
            generator=torch.Generator(),  # its own: creating an iterator must not draw from the global generator
            multiprocessing_context="fork" if self.num_workers and is_cpu else None,
        )
        return (_cut(batch, accelerator.device) for batch in loader)


def uncut(view: View, records: Records) -> tuple[View, Records]:
    """View and records of a run on an accelerator: with the signal work left to it, where it can do that."""
    late = view.uncut()
    return (view, records) if late is None else (late, StoredRecords(records))


def _cut(batch: Any, device: torch.device) -> Batch | BadSample:
    if isinstance(batch, BadSample):
        return batch
    return {key: value.to(device, True) if isinstance(value, UncutCrops) else value for key, value in batch.items()}


def collate(samples: Sequence[Sample | BadSample]) -> dict[str, Tensor | UncutCrops] | BadSample:
    """Stack samples to a batch; arrays whose first axis differs (beats) are padded with zeros at the end."""
    for sample in samples:
        if isinstance(sample, BadSample):
            return sample
    good = [sample for sample in samples if not isinstance(sample, BadSample)]
    stacked = {key: _stack([np.asarray(sample[key]) for sample in good]) for key in good[0]}
    return {
        key: UncutCrops.of(values) if values.dtype == object else torch.from_numpy(values)
        for key, values in stacked.items()
    }


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    longest = max(array.shape[0] for array in arrays)
    return np.stack([np.pad(array, [(0, longest - array.shape[0])] + [(0, 0)] * (array.ndim - 1)) for array in arrays])


def _size_in_bytes(prepared: Any) -> int:
    if isinstance(prepared, np.ndarray):
        return int(prepared.nbytes)
    if isinstance(prepared, Mapping):
        return sum(map(_size_in_bytes, prepared.values()))
    if isinstance(prepared, (list, tuple)):
        return sum(map(_size_in_bytes, prepared))
    return (
        sum(map(_size_in_bytes, vars(prepared).values())) if hasattr(prepared, "__dict__") else sys.getsizeof(prepared)
    )
