"""Which crops a call asks for, of each record."""

import operator
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ecg_transformers.features.execution import CropRequest


def crop_requests(
    crop_start: int | Sequence[int] | None,
    num_crops: int | None,
    generator: np.random.Generator | None,
    count: int,
) -> list[CropRequest]:
    """One request for each record."""
    if num_crops is not None and (isinstance(num_crops, bool) or num_crops != int(num_crops) or num_crops < 1):
        raise ValueError(f"num_crops must be a positive whole number, got {num_crops!r}.")
    if generator is not None and not isinstance(generator, np.random.Generator):
        raise ValueError(f"generator must be a numpy.random.Generator, got {type(generator).__name__}.")
    if crop_start is None or isinstance(crop_start, str) or np.ndim(crop_start) == 0:
        start = None if crop_start is None else _whole(crop_start)
        return [CropRequest(start, num_crops, generator)] * count
    starts = [_whole(start) for start in cast("Sequence[int]", crop_start)]
    if len(starts) != count:
        raise ValueError(
            f"{len(starts)} crop starts were given for {count} records: give one for all, or one for each."
        )
    return [CropRequest(start, num_crops, generator) for start in starts]


def _whole(start: Any) -> int:
    try:
        return operator.index(start)
    except TypeError:
        raise ValueError(f"crop_start is a sample, a whole number; got {start!r}.") from None
