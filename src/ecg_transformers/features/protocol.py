"""`Extractor`: what the rest of the package asks of a feature extractor, whatever its class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from transformers.feature_extraction_utils import BatchFeature

from ecg_transformers.features.inputs import Signal

Prepared = Any
"""What `prepare` gives and `finish` takes: an array `(L, T)` for crops, all beats of a record for beat models."""


class Extractor(Protocol):
    """Records in, model inputs out; `prepare` and `finish` are the two halves of a call, cut where chance begins.

    Attributes:
        lead_names: leads of the result and their order; None for a series without names.
        lead_table: the model's own leads, into which `lead_indices` point.
        takes_crops: the model sees crops of a record, cut by `sliding_crop_starts`; else the record as one sequence.
    """

    takes_crops: ClassVar[bool]

    lead_names: list[str] | None
    lead_table: list[str] | None

    def __call__(self, signal: Signal, *args: Any, **kwargs: Any) -> BatchFeature:
        """Model inputs of one record (array `(T, L)`, `ECGRecord`, row, path) or of a list of them, batch axis first."""
        ...

    def prepare(self, record: Signal, /) -> Prepared:
        """The deterministic part of one record: what a training loop may cache."""
        ...

    def finish(
        self,
        prepared: Prepared,
        crop_start: int | None = None,
        *,
        num_crops: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> np.ndarray | Mapping[str, np.ndarray]:
        """Crop and all after it: model inputs of one record without the batch axis."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain data."""
        ...

    def save_pretrained(self, save_directory: str | Path, /) -> list[str]:
        """Write `preprocessor_config.json` and what lies beside it."""
        ...
