"""Augmentations of a crop `(L, T)`, applied after normalisation: those of the published ST-MEM and ECG-JEPA
fine-tuning.

Every function takes a `numpy.random.Generator` and draws from it by the methods, and in the order, that its docstring
names, so that recorded draws can be played back. The input is never changed; floating dtypes are kept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_transformers.words import did_you_mean

Augmentation = Callable[..., np.ndarray]

RANDAUGMENT_OPS: tuple[str, ...] = (
    "shift",
    "cutout",
    "drop",
    "flip",
    "erase",
    "sine",
    "partial_sine",
    "partial_white_noise",
)
"""The eight operations of the published fine-tuning, in their order."""


class RandAugment:
    """`num_layers` distinct operations, drawn anew for each crop, each applied with probability `prob`.

    Draws: `choice(len(ops), num_layers, replace=False)`; then for each chosen operation `random()`, and, when that is
    below `prob`, the operation's own draws.

    Args:
        op_names: operations to draw from (a repeated name counts once).
        level: strength, above 0 and at most 10 in the published code; see `level_settings`.
        num_layers: operations drawn.
        prob: probability of each drawn operation.
        erase_min_leads: `erase` leaves crops with fewer leads alone (1, as published: a single lead is wiped out).

    Raises:
        ValueError: an unknown operation, level 0 or less, or more layers than operations.
    """

    def __init__(
        self,
        op_names: Sequence[str] = RANDAUGMENT_OPS,
        level: float = 10,
        num_layers: int = 2,
        prob: float = 0.5,
        erase_min_leads: int = 1,
    ) -> None:
        self.op_names = list(dict.fromkeys(op_names))
        if unknown := [name for name in self.op_names if name not in AUGMENTATIONS]:
            raise ValueError(f"unknown augmentation {unknown[0]!r}: there are {', '.join(AUGMENTATIONS)}.")
        if not 0 < num_layers <= len(self.op_names):
            raise ValueError(f"num_layers must lie between 1 and {len(self.op_names)}, got {num_layers}.")
        if not 0 <= prob <= 1:
            raise ValueError(f"prob must lie between 0 and 1, got {prob}.")
        self.settings = {name: level_settings(name, level) for name in self.op_names}
        self.level, self.num_layers, self.prob, self.erase_min_leads = level, num_layers, prob, erase_min_leads

    def __call__(self, x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """An augmented copy of `x (L, T)`."""
        chosen = np.asarray(generator.choice(len(self.op_names), self.num_layers, replace=False)).reshape(-1)
        for position in chosen:
            name = self.op_names[int(position)]
            applied = float(generator.random()) < self.prob
            if applied and not (name == "erase" and len(x) < self.erase_min_leads):
                x = AUGMENTATIONS[name](x, generator=generator, **self.settings[name])
        return x.copy() if len(chosen) else x

    def __repr__(self) -> str:
        return f"RandAugment({self.op_names}, level={self.level}, num_layers={self.num_layers}, prob={self.prob})"


def level_settings(name: str, level: float) -> dict[str, float]:
    """The arguments of operation `name` at a level; with v = level / 10.

    Masking operations: `mask_ratio` 0.3 v. Noise: `amplitude` 0.3 v and `freq` 0.5 / v; partial noise also `ratio`
    0.3 v. `freq` is a *period*, as a fraction of the crop, so a lower level has fewer cycles too. `rlm` keeps its own
    defaults.

    Raises:
        ValueError: a level that is not positive (the published code divides by zero there).
    """
    if not level > 0:
        raise ValueError(f"the level of an augmentation must be positive, got {level}.")
    value = level / 10
    if name in ("shift", "cutout", "drop"):
        return {"mask_ratio": 0.3 * value}
    noise = {"amplitude": 0.3 * value, "freq": 0.5 / value}
    if name in ("sine", "square", "white_noise"):
        return noise
    if name in ("partial_sine", "partial_square", "partial_white_noise"):
        return {**noise, "ratio": 0.3 * value}
    return {}


def erase(x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """One lead set to zero. Draws: `integers(0, L)`."""
    result = x.copy()
    result[int(generator.integers(0, len(x)))] = 0
    return result


def flip(x: np.ndarray, generator: np.random.Generator | None = None) -> np.ndarray:
    """The sign turned in all leads. No draws."""
    return -x


def drop(x: np.ndarray, generator: np.random.Generator, mask_ratio: float = 0.3) -> np.ndarray:
    """Single time points set to zero in all leads.

    Draws: `integers(0, int(T · mask_ratio))` for their number, `choice(T, number, replace=False)` for the points.

    Raises:
        ValueError: a crop so short that `int(T · mask_ratio)` is 0.
    """
    most = int(x.shape[-1] * mask_ratio)
    if most < 1:
        raise ValueError(f"drop with mask_ratio {mask_ratio:g} needs a longer crop than {x.shape[-1]} samples.")
    count = int(generator.integers(0, most))
    result = x.copy()
    result[:, np.asarray(generator.choice(x.shape[-1], count, replace=False), dtype=np.int64).reshape(-1)] = 0
    return result


def cutout(x: np.ndarray, generator: np.random.Generator, mask_ratio: float = 0.3) -> np.ndarray:
    """One stretch of time set to zero in all leads.

    Draws: `uniform(0, mask_ratio)` for its length as a fraction of the crop, `integers(0, T - length)` for its start.
    """
    start, count = _stretch(x.shape[-1], mask_ratio, generator)
    result = x.copy()
    result[:, start : start + count] = 0
    return result


def shift(x: np.ndarray, generator: np.random.Generator, mask_ratio: float = 0.3) -> np.ndarray:
    """Moved in time, zeros where nothing comes in (no wrap-around).

    Draws: `choice([-1, 1])` for the direction (1: to the right), `uniform(0, mask_ratio)` for the way as a fraction.
    """
    direction = int(np.asarray(generator.choice([-1, 1])).reshape(-1)[0])
    return shift_by(x, direction * int(float(generator.uniform(0, mask_ratio)) * x.shape[-1]))


def shift_by(x: np.ndarray, samples: int) -> np.ndarray:
    """`x (L, T)` moved by `samples` (positive: to the right), zeros where nothing comes in."""
    result = np.zeros_like(x)
    if samples >= 0:
        result[:, samples:] = x[:, : x.shape[-1] - samples]
    else:
        result[:, :samples] = x[:, -samples:]
    return result


def circular_shift(x: np.ndarray, generator: np.random.Generator, max_shift: int | None = None) -> np.ndarray:
    """Moved in time with wrap-around, by at most `max_shift` samples to either side (None: anywhere).

    Draws: `integers(-max_shift, max_shift + 1)`.
    """
    most = x.shape[-1] // 2 if max_shift is None else max_shift
    return np.roll(x, int(generator.integers(-most, most + 1)), axis=-1)


def sine(
    x: np.ndarray, generator: np.random.Generator | None = None, amplitude: float = 0.3, freq: float = 0.5
) -> np.ndarray:
    """Plus one sine, the same in all leads: `amplitude · sin(2π t / freq)`, t from 0 to 1 over the crop. No draws."""
    return _kept(x, x + _wave("sine", x.shape[-1], amplitude, freq))


def square(
    x: np.ndarray, generator: np.random.Generator | None = None, amplitude: float = 0.3, freq: float = 0.5
) -> np.ndarray:
    """Plus one square wave (up in the first half of a period), the same in all leads. No draws."""
    return _kept(x, x + _wave("square", x.shape[-1], amplitude, freq))


def white_noise(
    x: np.ndarray, generator: np.random.Generator, amplitude: float = 0.3, freq: float | None = None
) -> np.ndarray:
    """Plus white noise, independent in each lead; `freq` is not used. Draws: `standard_normal((L, T))`."""
    return _kept(x, x + amplitude * np.asarray(generator.standard_normal(x.shape)))


def partial_sine(
    x: np.ndarray, generator: np.random.Generator, amplitude: float = 0.3, freq: float = 0.5, ratio: float = 0.3
) -> np.ndarray:
    """Plus a piece of a sine: its first samples, put somewhere.

    Draws: `uniform(0, ratio)` for the length as a fraction of the crop, `integers(0, T - length)` for the start.
    """
    return _add_piece(x, _wave("sine", x.shape[-1], amplitude, freq), ratio, generator)


def partial_square(
    x: np.ndarray, generator: np.random.Generator, amplitude: float = 0.3, freq: float = 0.5, ratio: float = 0.3
) -> np.ndarray:
    """Plus a piece of a square wave; draws as `partial_sine`."""
    return _add_piece(x, _wave("square", x.shape[-1], amplitude, freq), ratio, generator)


def partial_white_noise(
    x: np.ndarray,
    generator: np.random.Generator,
    amplitude: float = 0.3,
    freq: float | None = None,
    ratio: float = 0.3,
) -> np.ndarray:
    """Plus white noise for a while. Draws: `standard_normal((L, T))`, then as `partial_sine`."""
    noise = amplitude * np.asarray(generator.standard_normal(x.shape))
    return _add_piece(x, noise, ratio, generator)


def rlm(x: np.ndarray, generator: np.random.Generator, mask_ratio: float = 0.3, rescale: bool = True) -> np.ndarray:
    """Random lead masking: leads set to zero, each with probability `mask_ratio`; the others are standardised again,
    jointly (`rescale`).

    Draws: `random()` for each lead; it is masked below `mask_ratio`. With all leads masked the result is all zeros.
    """
    masked = np.array([float(generator.random()) < mask_ratio for _ in range(len(x))], dtype=bool)
    result = x.copy()
    result[masked] = 0
    if rescale and not masked.all():
        kept = x[~masked]
        deviation = kept.std()
        result[~masked] = (kept - kept.mean()) / deviation if deviation else 0
    return result


def keep_leads(x: np.ndarray, mode: str) -> np.ndarray:
    """Twelve leads with all but some set to zero: "limb" keeps the first six, "lead1" the first, "lead2" the second.

    A single lead comes back as it is.

    Raises:
        ValueError: an unknown mode.
    """
    kept = {"limb": slice(0, 6), "lead1": slice(0, 1), "lead2": slice(1, 2)}
    if mode not in kept:
        raise ValueError(f'mode must be "limb", "lead1" or "lead2", got {mode!r}.')
    if len(x) == 1:
        return x.copy()
    result = np.zeros_like(x)
    result[kept[mode]] = x[kept[mode]]
    return result


def _stretch(length: int, ratio: float, generator: np.random.Generator) -> tuple[int, int]:
    """Start and length of a random stretch: `uniform(0, ratio)`, then `integers(0, length - count)`."""
    count = int(float(generator.uniform(0, ratio)) * length)
    return int(generator.integers(0, length - count)), count


def _add_piece(x: np.ndarray, noise: np.ndarray, ratio: float, generator: np.random.Generator) -> np.ndarray:
    start, count = _stretch(x.shape[-1], ratio, generator)
    result = x.copy()
    result[:, start : start + count] += noise[..., :count].astype(x.dtype)
    return result


def _wave(shape: str, length: int, amplitude: float, freq: float) -> np.ndarray:
    phase = 2 * np.pi * (np.arange(length) / length) / freq
    if shape == "sine":
        return np.asarray(amplitude * np.sin(phase))
    return amplitude * np.where(np.mod(phase, 2 * np.pi) < np.pi, 1.0, -1.0)


def _kept(x: np.ndarray, result: np.ndarray) -> np.ndarray:
    return result.astype(x.dtype, copy=False)


AUGMENTATIONS: dict[str, Any] = {
    "shift": shift,
    "cutout": cutout,
    "drop": drop,
    "flip": flip,
    "erase": erase,
    "sine": sine,
    "square": square,
    "white_noise": white_noise,
    "partial_sine": partial_sine,
    "partial_square": partial_square,
    "partial_white_noise": partial_white_noise,
    "rlm": rlm,
    "circular_shift": circular_shift,
}
"""Every augmentation by name: `f(x, generator=…, **settings)`."""


@dataclass(frozen=True)
class BoundAugmentation:
    """An augmentation with its settings, `f(x, generator)` (a class, so that data workers can be spawned)."""

    function: Augmentation
    settings: Mapping[str, Any]

    def __call__(self, x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return self.function(x, generator=generator, **self.settings)


def bind_augmentation(name: str, **settings: Any) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """An augmentation by name, "randaugment" included, as a function of a crop and a generator.

    Raises:
        ValueError: there is no augmentation of that name.
    """
    if name == "randaugment":
        return RandAugment(**settings)
    if name not in AUGMENTATIONS:
        raise ValueError(f"There is no augmentation {name!r}{did_you_mean(name, ['randaugment', *AUGMENTATIONS])}")
    return BoundAugmentation(AUGMENTATIONS[name], settings)
