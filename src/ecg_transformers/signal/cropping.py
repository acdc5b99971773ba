"""Where crops start: centre, random, k evenly spaced (exactly k, or by the published rule), sliding."""

import numpy as np


def check_length(length: int, crop: int) -> int:
    """Room for a crop's start, `length - crop`.

    Raises:
        ValueError: the record is shorter than the crop.
    """
    if crop < 1:
        raise ValueError(f"a crop has at least one sample, got {crop}.")
    if length < crop:
        raise ValueError(
            f"the record has {length} samples, the crop needs {crop}: give a longer record, a shorter seq_len, "
            'or pad="zero" / "edge".'
        )
    return length - crop


def center_start(length: int, crop: int) -> int:
    """Start of the centre crop, `(length - crop) // 2`."""
    return check_length(length, crop) // 2


def random_start(length: int, crop: int, generator: np.random.Generator) -> int:
    """A start drawn uniformly from 0 … length - crop, both ends included; one draw `generator.integers`."""
    return int(generator.integers(0, check_length(length, crop) + 1))


def evenly_spaced_starts(length: int, crop: int, num_crops: int, policy: str = "exact") -> list[int]:
    """Starts of `num_crops` crops spread over the record.

    "official" is the published rule of ST-MEM: 0, s, 2s, … with `s = (length - crop) // (num_crops - 1)` while a crop
    fits. It may give more crops than asked for (3 samples of room, 3 crops: 4). "exact" equals it where it gives
    exactly `num_crops`, and otherwise takes `i · room // (num_crops - 1)`; one crop is the centre crop.

    Raises:
        ValueError: the record is too short, or the published rule is undefined (one crop, or less room than crops).

    >>> evenly_spaced_starts(2500, 2250, 3)
    [0, 125, 250]
    """
    room = check_length(length, crop)
    if num_crops < 1:
        raise ValueError(f"num_crops must be at least 1, got {num_crops}.")
    if policy not in ("exact", "official"):
        raise ValueError(f'crop_policy must be "exact" or "official", got {policy!r}.')
    step = room // (num_crops - 1) if num_crops > 1 else 0
    if policy == "official":
        if step == 0:
            raise ValueError(
                f"the published rule has no {num_crops} crops of {crop} samples in {length}: it divides by a step of "
                'zero. Use crop_policy="exact".'
            )
        return list(range(0, room + 1, step))
    if num_crops == 1:
        return [room // 2]
    if step and room // step + 1 == num_crops:
        return [i * step for i in range(num_crops)]
    return [i * room // (num_crops - 1) for i in range(num_crops)]


def sliding_starts(length: int, crop: int, stride: int, keep_end: bool = False) -> list[int]:
    """Starts 0, stride, 2·stride, … while a crop fits; `keep_end` adds the last possible start, so that nothing is
    lost.

    Raises:
        ValueError: the record is too short, or the stride is not positive.
    """
    room = check_length(length, crop)
    if stride < 1:
        raise ValueError(f"the stride must be at least 1 sample, got {stride}.")
    starts = list(range(0, room + 1, stride))
    if keep_end and starts[-1] != room:
        starts.append(room)
    return starts


def pad_to(signal: np.ndarray, length: int, mode: str, axis: int = 0) -> np.ndarray:
    """`signal` lengthened to `length` samples: at its end with zeros ("zero") or its last sample ("edge"), or with
    zeros on both sides ("both": `short // 2` of them in front)."""
    short = length - signal.shape[axis]
    if short <= 0:
        return signal
    if mode not in ("zero", "edge", "both"):
        raise ValueError(f'pad must be "zero", "edge" or "both", got {mode!r}.')
    widths = [(0, 0)] * signal.ndim
    widths[axis] = (short // 2, short - short // 2) if mode == "both" else (0, short)
    return np.pad(signal, widths, mode="edge") if mode == "edge" else np.pad(signal, widths)


def take_crops(signal: np.ndarray, starts: list[int], crop: int) -> np.ndarray:
    """Crops `(…, k, L, crop)` of signals `(…, L, T)` at the given starts, time on the last axis."""
    return np.stack([signal[..., start : start + crop] for start in starts], axis=-3)
