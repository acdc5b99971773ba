"""What of a record a delineating model sees: a crop, and the wave classes of every place of every lead in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ecg_transformers.data.record import ECGRecord
from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.features.inputs import Signal
from ecg_transformers.features.protocol import Extractor
from ecg_transformers.features.wave_labels import marked_waves, sample_map, wave_labels, window_places, window_stride
from ecg_transformers.signal.waves import IGNORED, Wave, patch_classes
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.samples.views import Augmentation, Sample, View


@dataclass
class PreparedWaves:
    """A record before its crop: the prepared signal, and its classes `(L, N)` at the extractor's own rate.

    The marks stay with it for crops that do not lie on these places.
    """

    signal: np.ndarray
    labels: np.ndarray
    waves: Mapping[str, Sequence[Wave]]
    num_samples: int
    sampling_rate: float


class WavesView(View):
    """A random crop `(L, T)` with `labels (L, T')`; in evaluation overlapping windows `(k, L, T)` that cover the record.

    Args:
        extractor: cuts crops of `seq_len` samples.
        augmentation: one that leaves time as it is.
        patch_size: samples that share a label; 1 labels samples.
    """

    def __init__(self, extractor: Extractor, augmentation: Augmentation | None = None, patch_size: int = 1) -> None:
        super().__init__(extractor, augmentation)
        self.crops = cast("ECGFeatureExtractor", extractor)
        self.patch_size = patch_size

    def prepare(self, record: Signal) -> PreparedWaves:
        record = cast("ECGRecord", record)
        rate = float(record.sampling_rate)
        places = sample_map(self.crops, record.num_samples, rate)
        waves = marked_waves(record.annotations, rate)
        labels = wave_labels(waves, self.crops.lead_names or [], places, rate)
        signal = self.extractor.prepare(record)
        return PreparedWaves(signal, labels.astype(np.int16), waves, record.num_samples, rate)

    def sample(self, prepared: PreparedWaves, patch_key: int, generator: np.random.Generator) -> Sample:
        starts = self._teaching_starts(prepared)
        start = int(starts[int(generator.integers(len(starts)))])
        crop = np.asarray(self.extractor.finish(prepared.signal, crop_start=start))
        labels = self.crop_labels(prepared, start)[:, : crop.shape[-1] // self.patch_size]  # a short record stays short
        return {"input_values": self.augment(crop, generator), "labels": labels}

    def _teaching_starts(self, prepared: PreparedWaves) -> np.ndarray:
        """Starts of the crops that hold a judged place: of minutes with sparse marks most crops hold none."""
        starts = np.asarray(self.crops.sliding_crop_starts(prepared.signal, stride=1))
        judged = np.append(0, (prepared.labels != IGNORED).any(axis=0).cumsum())
        width, last = self.crops.seq_len or len(judged), len(judged) - 1
        some = judged[np.minimum(starts + width, last)] > judged[np.minimum(starts, last)]
        return starts[some] if some.any() else starts

    def crop_labels(self, prepared: PreparedWaves, start: int) -> np.ndarray:
        """Classes `(L, T')` int64 of the crop that starts at `start`, at the extractor's own rate."""
        width = self.crops.seq_len or prepared.labels.shape[1]
        (place,), stretch = window_places(self.crops, prepared.num_samples, prepared.sampling_rate, [start])
        if stretch == 1 and place == int(place):
            first = int(place)
            labels = prepared.labels[:, first : first + width].astype(np.int64)
        else:  # cut between two places of the record, or stretched alone: the marks are placed anew
            rate = prepared.sampling_rate
            own = sample_map(self.crops, prepared.num_samples, rate, start)
            labels = wave_labels(prepared.waves, self.crops.lead_names or [], own, rate)[:, :width]
        short = width - labels.shape[1]  # a rounded rate may miss the last sample
        labels = np.pad(labels, ((0, 0), (0, max(0, short))), constant_values=IGNORED)
        return patch_classes(labels, self.patch_size) if self.patch_size > 1 else labels

    def evaluation_sample(self, prepared: PreparedWaves, num_crops: int) -> Sample:
        starts = self.starts(prepared)
        return {"input_values": np.asarray(self.crops.finish(prepared.signal, crop_start=starts))}

    def starts(self, prepared: PreparedWaves) -> list[int]:
        """Starts of the windows that vote, at the extractor's own rate."""
        return self.crops.sliding_crop_starts(prepared.signal, stride=window_stride(self.crops))

    def check(self, prepared: PreparedWaves) -> None:
        super().check(prepared)
        if (prepared.labels == IGNORED).all():
            raise UsageError("no lead that the model sees has wave marks.")
