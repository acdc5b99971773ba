"""Crops that a device cuts: the host checks records and draws where crops start, the device gets int16 and does the rest."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ecg_transformers.features.execution import CropRequest, Device, Group, Item, group_items, in_order
from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.features.inputs import Signal

if TYPE_CHECKING:
    import torch


@dataclass
class UncutCrop:
    """A crop that is known by its record and its start in the prepared signal."""

    item: Item
    start: int


class UncutExtractor:
    """The two halves of an extractor, `prepare` and `finish`, without their signal work.

    What `finish` gives stands for crops: `UncutCrop` objects in an array without axes, or one of `(k,)`. Views stack
    them as they stack crops, and `UncutCrops` makes the same values of them on a device.

    Args:
        extractor: one that `has_device_form`.
    """

    def __init__(self, extractor: ECGFeatureExtractor) -> None:
        self.extractor = extractor
        self.seq_len, self.sampling_rate = extractor.seq_len, extractor.sampling_rate
        self.crop_sampling_rate = extractor.crop_sampling_rate

    def prepare(self, record: Signal) -> Item:
        """The record, checked as `ECGFeatureExtractor.prepare` checks it."""
        return self.extractor.checked(record)

    def finish(
        self,
        prepared: Item,
        crop_start: int | None = None,
        num_crops: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Where the crops of `ECGFeatureExtractor.finish` start, by the same draws."""
        request = CropRequest(crop_start, num_crops, generator)
        starts = prepared.starts(request)
        crops = np.empty(len(starts), dtype=object)
        crops[:] = [UncutCrop(prepared, start) for start in starts]
        return crops.reshape(()) if prepared.chain.one_crop(request) else crops


@dataclass
class UncutCrops:
    """A batch of crops on its way to a device.

    Attributes:
        groups: the samples, as torch tensors.
        starts: of the crops of each record.
        is_single: one crop a record, without an axis of crops.
    """

    groups: list[Group]
    starts: list[list[int]]
    is_single: bool

    @classmethod
    def of(cls, crops: np.ndarray) -> "UncutCrops":
        """Of an array of `UncutCrop`, `(B,)` or `(B, k)`; the crops of a row are of one record."""
        import torch

        rows = crops.reshape(len(crops), -1)
        groups = [
            replace(
                group,
                signals=torch.as_tensor(group.signals),
                scale=None if group.scale is None else torch.as_tensor(group.scale),
            )
            for group in group_items([row[0].item for row in rows])
        ]
        return cls(groups, [[crop.start for crop in row] for row in rows], crops.ndim == 1)

    def __len__(self) -> int:
        return len(self.starts)

    def pin_memory(self) -> "UncutCrops":
        """The same in page-locked memory, as torch's loaders ask for it."""
        pinned = [replace(group, signals=_pinned(group.signals), scale=_pinned(group.scale)) for group in self.groups]
        return replace(self, groups=pinned)

    def to(self, device: Device, non_blocking: bool = False) -> "torch.Tensor":
        """Float32 `(B, L, seq_len)` or `(B, k, L, seq_len)`, made on the device."""
        results = [
            group.run([self.starts[index] for index in group.members], self.is_single, device, non_blocking)
            for group in self.groups
        ]
        return cast("torch.Tensor", in_order(self.groups, results))


def _pinned(tensor: Any) -> Any:
    return None if tensor is None else tensor.pin_memory()
