"""What of a record the training objective sees. A method names its view in the registry; new needs are new views.

A view turns one prepared record into one sample: a dict of numpy arrays that are stacked along a new first axis to the
batch. All its randomness comes from the generator it is handed.

| view | sample |
|---|---|
| `crop` | `input_values (L, T)`: one random crop |
| `two_crops` | `input_values (2, L, T)`: two random crops, augmented independently |
| `adjacent_segments` | `input_values (2, L, T)`: two segments that touch, and `patient_ids ()` |
| `beats` | `beats`, `beat_mask`, `rr` of a crop, as the beat extractor gives them |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, cast

import numpy as np

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.features.inputs import Signal
from ecg_transformers.features.protocol import Extractor, Prepared
from ecg_transformers.features.uncut import UncutExtractor
from ecg_transformers.models.registry import StageRecipe
from ecg_transformers.signal.augmentation import bind_augmentation
from ecg_transformers.training.errors import UsageError, usage_errors
from ecg_transformers.words import did_you_mean

Sample = dict[str, np.ndarray]
Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]


class View:
    """Base of the views.

    Args:
        extractor: gives `prepare(record)` (everything that is the same each time) and `finish(prepared, …)`.
        augmentation: applied to each crop `(L, T)`.
    """

    for_classifiers: ClassVar[str] = "crop"  # name of the view of a classifier that starts from this one's method
    of_crops: ClassVar[bool] = False  # of a record it takes crops as they are, which a device may cut later

    def __init__(self, extractor: Extractor, augmentation: Augmentation | None = None) -> None:
        self.extractor = extractor
        self.augmentation = augmentation

    def prepare(self, record: Signal) -> Prepared:
        """The part of the work that does not depend on chance; it may be cached."""
        return self.extractor.prepare(record)

    def sample(self, prepared: Prepared, patient_key: int, generator: np.random.Generator) -> Sample:
        """One sample of a prepared record."""
        raise NotImplementedError

    def evaluation_sample(self, prepared: Prepared, num_crops: int) -> Sample:
        """The same record without chance: `num_crops` evenly spaced crops `(k, L, T)`, or one in the middle `(L, T)`."""
        if num_crops == 1:
            return {"input_values": np.asarray(self.extractor.finish(prepared))}
        return {"input_values": np.asarray(self.extractor.finish(prepared, num_crops=num_crops))}

    def check(self, prepared: Prepared) -> None:
        """Raise the error that training would meet, were this record drawn."""
        self.sample(prepared, 1, np.random.default_rng(0))

    def uncut(self) -> View | None:
        """The same view with its crops still to be cut (`features.uncut`); None where only the host can make them."""
        if not self.of_crops or self.augmentation is not None:
            return None
        if not isinstance(self.extractor, ECGFeatureExtractor) or not self.extractor.has_device_form:
            return None
        return type(self)(cast("Extractor", UncutExtractor(self.extractor)))

    def crop(self, prepared: Prepared, generator: np.random.Generator) -> np.ndarray:
        """One random, augmented crop `(L, T)`."""
        return self.augment(np.asarray(self.extractor.finish(prepared, generator=generator)), generator)

    def augment(self, crop: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The crop after the augmentation, float32."""
        if self.augmentation is None:
            return crop
        return np.asarray(self.augmentation(crop, generator), dtype=np.float32)


class CropView(View):
    """One random crop."""

    of_crops = True

    def sample(self, prepared: Prepared, patient_key: int, generator: np.random.Generator) -> Sample:
        return {"input_values": self.crop(prepared, generator)}


class TwoCropsView(View):
    """Two random crops of the same record, for contrastive objectives."""

    of_crops = True

    def sample(self, prepared: Prepared, patient_key: int, generator: np.random.Generator) -> Sample:
        return {"input_values": np.stack([self.crop(prepared, generator) for _ in range(2)])}


class AdjacentSegmentsView(View):
    """Two neighbouring segments without overlap, and a number that is equal for records of one patient."""

    of_crops = True

    def sample(self, prepared: Prepared, patient_key: int, generator: np.random.Generator) -> Sample:
        extractor = cast("ECGFeatureExtractor", self.extractor)
        length, rate = extractor.seq_len or 0, extractor.sampling_rate
        available = int(prepared.shape[-1] * rate / (extractor.crop_sampling_rate or rate))
        spare = available - 2 * length
        if spare < 0:
            raise UsageError(
                f"Two adjacent segments of {length} samples need a record of {2 * length} samples at {rate} Hz, but one "
                f"has {available}: use a shorter seq_len."
            )
        start = int(generator.integers(spare + 1))
        segments = [extractor.finish(prepared, crop_start=start + offset) for offset in (0, length)]
        return {
            "input_values": np.stack([self.augment(segment, generator) for segment in segments]),
            "patient_ids": np.asarray(patient_key, dtype=np.int64),
        }


class BeatsView(View):
    """The beats of a random crop."""

    for_classifiers = "beats"

    def sample(self, prepared: Prepared, patient_key: int, generator: np.random.Generator) -> Sample:
        return dict(self.extractor.finish(prepared, generator=generator))

    def evaluation_sample(self, prepared: Prepared, num_crops: int) -> Sample:
        """The beats of the whole record, as many as the extractor takes."""
        return dict(self.extractor.finish(prepared))


VIEWS: dict[str, type[View]] = {
    "crop": CropView,
    "two_crops": TwoCropsView,
    "adjacent_segments": AdjacentSegmentsView,
    "beats": BeatsView,
}


def build_view(name: str, extractor: Extractor, augmentation: Augmentation | None = None) -> View:
    """A view by its name in the registry."""
    if name not in VIEWS:
        raise UsageError(f"There is no view {name!r}{did_you_mean(name, VIEWS)}")
    return VIEWS[name](extractor, augmentation)


def classifier_view(name: str, extractor: Extractor, augmentation: Augmentation | None = None) -> View:
    """What a classifier sees of a record, by the name of the view that its method is pre-trained with."""
    return build_view(VIEWS[name].for_classifiers, extractor, augmentation)


def build_augmentation(settings: StageRecipe) -> Augmentation | None:
    """The augmentation that a recipe's stage names, with its options bound."""
    if settings.augmentation is None:
        return None
    with usage_errors(TypeError):
        return bind_augmentation(settings.augmentation, **settings.augmentation_options)
