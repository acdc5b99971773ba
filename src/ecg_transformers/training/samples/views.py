"""What of a record the training objective sees. A method names its view in the registry; new needs are new views.

A view turns one prepared record into one sample: a dict of numpy arrays that are stacked along a new first axis to the
    batch.
All its randomness comes from the generator it is handed.

| view | sample |
|---|---|
| `crop` | `input_values (L, T)`: one random crop |
| `two_crops` | `input_values (2, L, T)`: two random crops, augmented independently |
| `adjacent_segments` | `input_values (2, L, T)`: two segments that touch, and `patient_ids ()` |
| `beats` | `beats`, `beat_mask`, `rr` of a crop, as the beat extractor gives them |
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.models.registry import StageRecipe
from ecg_transformers.training.errors import UsageError, one_sentence
from ecg_transformers.training.plan.randomness import numpy_generator, stream_key
from ecg_transformers.words import did_you_mean

if TYPE_CHECKING:
    import torch

Sample = dict[str, np.ndarray]
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class Records(Protocol):
    """Map-style access to the records of a split."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


class View:
    """Base of the views.

    Args:
        extractor: gives `prepare(record)` (everything that is the same each time) and `finish(prepared, …)`.
        augmentation: applied to each crop `(L, T)`.
    """

    def __init__(self, extractor: Any, augmentation: Augmentation | None = None) -> None:
        self.extractor = extractor
        self.augmentation = augmentation

    def prepare(self, record: Any) -> Any:
        """The part of the work that does not depend on chance; it may be cached."""
        return self.extractor.prepare(record)

    def sample(self, prepared: Any, patient_key: int, generator: np.random.Generator) -> Sample:
        """One sample of a prepared record."""
        raise NotImplementedError

    def evaluation_sample(self, prepared: Any, num_crops: int) -> Sample:
        """The same record without chance: `num_crops` evenly spaced crops `(k, L, T)`, or one in the middle `(L,
        T)`."""
        if num_crops == 1:
            return {"input_values": self.extractor.finish(prepared)}
        return {"input_values": self.extractor.finish(prepared, num_crops=num_crops)}

    def crop(self, prepared: Any, generator: np.random.Generator) -> np.ndarray:
        """One random, augmented crop `(L, T)`."""
        return self.augment(self.extractor.finish(prepared, generator=generator), generator)

    def augment(self, crop: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The crop after the augmentation, float32."""
        if self.augmentation is None:
            return crop
        return np.asarray(self.augmentation(crop, generator), dtype=np.float32)


class CropView(View):
    """One random crop."""

    def sample(self, prepared: Any, patient_key: int, generator: np.random.Generator) -> Sample:
        return {"input_values": self.crop(prepared, generator)}


class TwoCropsView(View):
    """Two random crops of the same record, for contrastive objectives."""

    def sample(self, prepared: Any, patient_key: int, generator: np.random.Generator) -> Sample:
        return {"input_values": np.stack([self.crop(prepared, generator) for _ in range(2)])}


class AdjacentSegmentsView(View):
    """Two neighbouring segments without overlap, and a number that is equal for records of one patient."""

    def sample(self, prepared: Any, patient_key: int, generator: np.random.Generator) -> Sample:
        length = self.extractor.seq_len
        rate = self.extractor.sampling_rate
        available = int(prepared.shape[-1] * rate / (self.extractor.crop_sampling_rate or rate))
        spare = available - 2 * length
        if spare < 0:
            raise UsageError(
                f"Two adjacent segments of {length} samples need a record of {2 * length} samples at {rate} Hz, but "
                f"one has "
                f"{available}: use a shorter seq_len."
            )
        start = int(generator.integers(spare + 1))
        segments = [self.extractor.finish(prepared, crop_start=start + offset) for offset in (0, length)]
        return {
            "input_values": np.stack([self.augment(segment, generator) for segment in segments]),
            "patient_ids": np.asarray(patient_key, dtype=np.int64),
        }


class BeatsView(View):
    """The beats of a random crop."""

    def sample(self, prepared: Any, patient_key: int, generator: np.random.Generator) -> Sample:
        return dict(self.extractor.finish(prepared, generator=generator))

    def evaluation_sample(self, prepared: Any, num_crops: int) -> Sample:
        """The beats of the whole record, as many as the extractor takes."""
        return dict(self.extractor.finish(prepared))


VIEWS: dict[str, type[View]] = {
    "crop": CropView,
    "two_crops": TwoCropsView,
    "adjacent_segments": AdjacentSegmentsView,
    "beats": BeatsView,
}


def build_view(name: str, extractor: Any, augmentation: Augmentation | None = None) -> View:
    """A view by its name in the registry."""
    if name not in VIEWS:
        raise UsageError(f"There is no view {name!r}{did_you_mean(name, list(VIEWS))}")
    return VIEWS[name](extractor, augmentation)


def build_augmentation(settings: StageRecipe) -> Augmentation | None:
    """The augmentation that a recipe's stage names, with its options bound."""
    if settings.augmentation is None:
        return None
    from ecg_transformers.signal import augmentation as augmentations

    options = dict(settings.augmentation_options)
    if settings.augmentation == "randaugment":
        augment: Augmentation = augmentations.RandAugment(**options)
        return augment
    function = getattr(augmentations, settings.augmentation, None)
    if function is None or settings.augmentation.startswith("_"):
        raise UsageError(f"There is no augmentation {settings.augmentation!r}.")
    return _KeywordAugmentation(functools.partial(function, **options))


@dataclass(frozen=True)
class _KeywordAugmentation:
    """Hands the generator over by keyword, as the augmentation functions want it (a class, so that workers can be
    spawned)."""

    function: Callable[..., np.ndarray]

    def __call__(self, crop: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self.function(crop, generator=generator)


@dataclass(frozen=True)
class BadSample:
    """A record that could not become a sample; raised again in the main process as one sentence, without a worker's
    traceback."""

    message: str


class PreparedRecords:
    """Prepared records of a split, kept in memory up to a bound.

    Args:
        records: index -> record.
        prepare: the deterministic part of the preprocessing.
        cache_mb: memory for prepared records; when it is full, further records are prepared each time.
    """

    def __init__(self, records: Records, prepare: Callable[[Any], Any], cache_mb: float) -> None:
        self._records, self._prepare = records, prepare
        self._free = cache_mb * 2**20
        self._cache: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Any:
        if index in self._cache:
            return self._cache[index]
        prepared = self._prepare(self._records[index])
        size = _size_in_bytes(prepared)
        if size <= self._free:
            self._free -= size
            self._cache[index] = prepared
        return prepared


class TrainingSamples:
    """The training set as `torch.utils.data.DataLoader` wants it: `(epoch, index)` -> sample, a pure function of the
    seed.

    Args:
        prepared: the prepared records.
        view: makes the sample.
        seed: key of all draws.
        patient_keys: one number a record, equal for records of one patient.
        labels: one row or number a record, added to the sample as `labels`.
    """

    def __init__(
        self,
        prepared: PreparedRecords,
        view: View,
        seed: int,
        patient_keys: Sequence[int],
        labels: np.ndarray | None = None,
    ) -> None:
        self._prepared, self._view, self._seed = prepared, view, seed
        self._patient_keys, self._labels = patient_keys, labels

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
            sample = self._view.sample(self._prepared[index], self._patient_keys[index], generator)
        except (ECGDataError, UsageError, ValueError) as error:
            return BadSample(one_sentence(error))
        if self._labels is not None:
            sample["labels"] = self._labels[index]
        return sample


def collate(samples: Sequence[Sample | BadSample]) -> dict[str, torch.Tensor] | BadSample:
    """Stack samples to a batch; arrays whose first axis differs (beats) are padded with zeros at the end."""
    import torch

    for sample in samples:
        if isinstance(sample, BadSample):
            return sample
    good = [sample for sample in samples if not isinstance(sample, BadSample)]
    return {key: torch.from_numpy(_stack([np.asarray(sample[key]) for sample in good])) for key in good[0]}


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    if len({array.shape for array in arrays}) == 1:
        return np.stack(arrays)
    longest = max(array.shape[0] for array in arrays)
    return np.stack([np.pad(array, [(0, longest - array.shape[0])] + [(0, 0)] * (array.ndim - 1)) for array in arrays])


def patient_keys(patient_ids: Sequence[str | None], record_ids: Sequence[str], sources: Sequence[str]) -> list[int]:
    """A positive 63-bit number a record, equal for records of one patient; a record without patient is its own patient.

    Many corpora number their patients from 1, so a number names a person only together with the corpus.
    """
    return [
        stream_key(*(("record", source, record) if patient is None else ("patient", source, str(patient)))) >> 1
        for patient, record, source in zip(patient_ids, record_ids, sources, strict=True)
    ]


def _size_in_bytes(prepared: Any) -> int:
    if isinstance(prepared, np.ndarray):
        return int(prepared.nbytes)
    if isinstance(prepared, Mapping):
        return sum(_size_in_bytes(value) for value in prepared.values())
    if isinstance(prepared, (list, tuple)):
        return sum(_size_in_bytes(value) for value in prepared)
    return (
        sum(_size_in_bytes(value) for value in vars(prepared).values())
        if hasattr(prepared, "__dict__")
        else sys.getsizeof(prepared)
    )
