"""Runs the signal steps on groups of equal shape, in NumPy, or in torch on a device (fast form only)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ecg_transformers.features.steps import (
    Crop,
    Filter,
    Normalize,
    Pad,
    Resample,
    Scale,
    SignalStep,
    Step,
    filter_chain,
    run_signal_steps,
)
from ecg_transformers.signal import filtering
from ecg_transformers.signal.cropping import take_crops

if TYPE_CHECKING:
    import torch

Signals: TypeAlias = "np.ndarray | torch.Tensor"
Device: TypeAlias = "str | torch.device | None"


@dataclass
class CropRequest:
    """Which crops a call asks for: `start` (one or several, at the extractor's rate), else `num_crops` …"""

    start: int | Sequence[int] | None = None
    num_crops: int | None = None
    generator: np.random.Generator | None = None

    def __post_init__(self) -> None:
        if self.start is not None and (self.num_crops is not None or self.generator is not None):
            raise ValueError("crop_start makes the crop explicit: give neither num_crops nor generator with it.")


class Chain:
    """The steps of an extractor after the record steps, split at the crop."""

    def __init__(self, steps: Sequence[Step], sampling_rate: float, fast: bool) -> None:
        borders = [position for position, step in enumerate(steps) if isinstance(step, Crop)]
        if len(borders) > 1:
            raise ValueError("a chain has one crop step at most.")
        border = borders[0] if borders else len(steps)
        self.before = list(steps[:border])
        self.after = list(steps[border + 1 :])
        self.crop = steps[border] if borders else None
        self.sampling_rate = sampling_rate
        self.fast = fast
        self.crop_rate = sampling_rate
        for step in self.before:
            assert isinstance(step, SignalStep)
            self.crop_rate = step.rate_after(self.crop_rate)

    def prepared_length(self, length: int, rate: float) -> int:
        """How many samples `prepare` makes of `length` samples at `rate` Hz."""
        for step in self.before:
            assert isinstance(step, SignalStep)
            length, rate = step.length_after(length, rate), step.rate_after(rate)
        return length

    def padded_samples(self, length: int, rate: float) -> int:
        """How many samples the pad step adds to a record of `length` samples at `rate` Hz."""
        for step in self.before:
            assert isinstance(step, SignalStep)
            if isinstance(step, Pad):
                return max(0, step.length - length)
            length, rate = step.length_after(length, rate), step.rate_after(rate)
        return 0

    def starts(self, length: int, request: CropRequest) -> list[int]:
        """Crop starts at the crop's own rate in a signal of `length` samples.

        Raises:
            ValueError: the record is too short, or a given start lies outside.
        """
        assert isinstance(self.crop, Crop)
        if request.start is None:
            return self.crop.starts(length, request.num_crops, request.generator)
        factor = self.crop.rate / self.sampling_rate
        given = [request.start] if isinstance(request.start, int | np.integer) else request.start
        starts = [self.crop.start_of(int(start), self.sampling_rate) for start in given]
        room = self.crop.starts_room(length)
        for start, asked in zip(starts, given):
            if not 0 <= start <= room:
                raise ValueError(f"crop_start {asked} is outside: starts lie between 0 and {int(room / factor)} here.")
        return starts

    def one_crop(self, request: CropRequest) -> bool:
        """Whether the result has no axis of crops."""
        if self.crop is None:
            return True
        assert isinstance(self.crop, Crop)
        if request.start is not None:
            return isinstance(request.start, int | np.integer)
        count = request.num_crops if request.num_crops is not None else self.crop.num_crops
        return count is None and (request.generator is not None or self.crop.mode != "sliding")

    def prepare(self, signals: Signals, rate: float, device: Device = None) -> Signals:
        """The part before the crop on signals `(B, L, T)`."""
        if device is not None:
            return run_on_device(self.before, signals, rate)
        return run_signal_steps(self.before, np.asarray(signals), rate, self.fast)

    def finish(
        self, prepared: Signals, starts: list[list[int]] | None, squeeze: bool, device: Device = None
    ) -> Signals:
        """Crops and the part after them: `(B, L, T)` to float32 `(B, L, seq_len)` or `(B, k, L, seq_len)`."""
        signals = prepared
        if starts is not None:
            assert isinstance(self.crop, Crop)
            signals = _crops(prepared, starts, self.crop.fitting(prepared.shape[-1]), squeeze)
        if device is not None:
            return run_on_device(self.after, signals, self.crop_rate)
        result = run_signal_steps(self.after, np.asarray(signals), self.crop_rate, self.fast)
        return np.ascontiguousarray(result, dtype=np.float32)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Puts the name of the record before the sentence of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


@dataclass
class Item:
    """One record after the record steps: `(L, T)` at its own rate, and the chain for its leads.

    The signal is in millivolts, or int16 as it is stored; then `scale` holds gain and offset of each lead, `(2, L)`.
    """

    signal: np.ndarray
    rate: float
    where: str
    leads: tuple[str, ...]
    chain: Chain
    scale: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Of the prepared signal, `(L, T)`."""
        return len(self.signal), self.chain.prepared_length(self.signal.shape[-1], self.rate)

    def starts(self, request: CropRequest) -> list[int]:
        """Where the crops start in the prepared signal; see `Chain.starts`."""
        with naming(self.where):
            return self.chain.starts(self.shape[-1], request)


@dataclass
class Group:
    """Records of equal shape, rate and leads, stacked: `(B, L, T)`, and `scale` `(B, 2, L)` where they are int16.

    `members` are the places of the records in the batch.
    """

    members: list[int]
    signals: Signals
    scale: "Signals | None"
    rate: float
    where: str
    chain: Chain

    def run(
        self, starts: list[list[int]] | None, squeeze: bool, device: Device = None, non_blocking: bool = False
    ) -> Signals:
        """The signal steps; see `Chain.finish` for the result."""
        signals = self.signals if device is None else self._on(device, non_blocking)
        with naming(self.where):
            return self.chain.finish(self.chain.prepare(signals, self.rate, device), starts, squeeze, device)

    def _on(self, device: Device, non_blocking: bool) -> Signals:
        """The signals on a device in float32 millivolts, to the bit what `data.millivolts.to_millivolt` gives."""
        import torch

        signals = torch.as_tensor(self.signals).to(device, non_blocking=non_blocking)
        if self.scale is None:
            return signals
        wide = torch.float32 if signals.device.type == "mps" else torch.float64  # Apple's have no more
        scale = torch.as_tensor(self.scale).to(wide).to(device, non_blocking=non_blocking)
        gain, offset = scale[..., None].unbind(1)
        return ((signals.to(wide) - offset) / gain).float()


def group_items(items: Sequence[Item]) -> list[Group]:
    """Records that can be worked on together, stacked."""
    groups: dict[Any, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault((item.signal.shape, item.signal.dtype.str, item.rate, item.leads), []).append(index)
    result = []
    for members in groups.values():
        own = [items[index] for index in members]
        scales = [item.scale for item in own if item.scale is not None]
        stacked = np.stack([item.signal for item in own])
        scale = np.stack(scales) if scales else None
        result.append(Group(members, stacked, scale, own[0].rate, own[0].where, own[0].chain))
    return result


def run_groups(items: Sequence[Item], requests: Sequence[CropRequest], device: Device = None) -> Signals:
    """The signal steps on groups of records of equal shape, rate and leads; float32 results stacked in their order.

    Raises:
        ValueError: a record is too short for the crop, or the results differ in shape.
    """
    # in the records' order, so that the draws of a generator are too
    starts = [None if item.chain.crop is None else item.starts(own) for item, own in zip(items, requests)]
    groups, results = group_items(items), []
    for group in groups:
        first = group.members[0]
        chosen = None if group.chain.crop is None else [starts[index] or [] for index in group.members]
        results.append(group.run(chosen, group.chain.one_crop(requests[first]), device))
    return in_order(groups, results)


def in_order(groups: Sequence[Group], results: Sequence[Signals]) -> Signals:
    """The results of groups, stacked in the order of the batch.

    Raises:
        ValueError: they differ in shape.
    """
    if len(groups) == 1:
        return results[0]
    rows = dict(pair for group, values in zip(groups, results) for pair in zip(group.members, values))
    ordered: list[Any] = [rows[index] for index in range(len(rows))]
    shapes = sorted({tuple(value.shape) for value in ordered})
    if len(shapes) > 1:
        raise ValueError(
            f"the records of this batch come out in different shapes {shapes}: set seq_len (and pad), or ask for the "
            "same leads and number of crops."
        )
    if isinstance(ordered[0], np.ndarray):
        return np.stack(ordered)
    import torch

    return torch.stack(ordered)


def _crops(signals: Any, starts: list[list[int]], length: int, squeeze: bool) -> Any:
    if squeeze and len({tuple(one) for one in starts}) == 1:
        return signals[..., starts[0][0] : starts[0][0] + length]
    crops: Any
    if isinstance(signals, np.ndarray):
        crops = np.stack([take_crops(signal, one, length) for signal, one in zip(signals, starts)])
    else:
        import torch

        crops = torch.stack([torch.stack([x[..., s : s + length] for s in one]) for x, one in zip(signals, starts)])
    return crops[:, 0] if squeeze else crops


def has_device_form(steps: Sequence[Step]) -> bool:
    """Whether `run_on_device` knows every step."""
    known = (Filter, Pad, Normalize, Scale)
    return all(isinstance(step, known) or (isinstance(step, Resample) and step.method == "fourier") for step in steps)


def run_on_device(steps: Sequence[Step], signals: Signals, rate: float) -> Signals:
    """The signal steps on a float32 tensor `(…, L, T)`, where it lies; filters in their fast form.

    Raises:
        ValueError: a step that has no form for devices (polyphase resampling, the steps of single published chains).
    """
    position = 0
    while position < len(steps):
        step = steps[position]
        if isinstance(step, Filter):
            chain = filter_chain(steps, position)
            signals = _filter_tensor(signals, chain, rate)
            position += len(chain)
            continue
        signals = _step_on_tensor(step, signals, rate)
        assert isinstance(step, SignalStep)
        rate = step.rate_after(rate)
        position += 1
    return signals


def _step_on_tensor(step: Step, signals: Any, rate: float) -> Any:
    import torch

    if isinstance(step, Resample):
        if step.method != "fourier" and rate != step.sampling_rate:
            raise ValueError('resampling on a device needs resample="fourier".')
        return _resample_tensor(signals, step.length_after(signals.shape[-1], rate))
    if isinstance(step, Pad):
        short = max(0, step.length - signals.shape[-1])
        if step.mode == "both":
            return torch.nn.functional.pad(signals, (short // 2, short - short // 2))
        tail = signals[..., -1:].expand(*signals.shape[:-1], short)
        return torch.cat((signals, tail if step.mode == "edge" else torch.zeros_like(tail)), dim=-1)
    if isinstance(step, Normalize):
        return _normalize_tensor(step, signals)
    if not isinstance(step, Scale):
        raise ValueError(f"the step {step.name!r} has no form for devices: leave out device, or fast=True.")
    scaled = signals * step.factor
    return scaled if step.clip is None else scaled.clamp(-step.clip, step.clip)


def _resample_tensor(signals: Any, length: int) -> Any:
    import torch

    old = signals.shape[-1]
    if old == length:
        return signals
    shortest = min(old, length)
    spectrum = torch.fft.rfft(signals)[..., : shortest // 2 + 1] * (length / old)
    if shortest % 2 == 0:
        spectrum[..., shortest // 2] *= 2.0 if length < old else 0.5
    return torch.where(_flat(signals), signals[..., :1], torch.fft.irfft(spectrum, n=length))


def _normalize_tensor(step: Normalize, signals: Any) -> Any:
    import torch

    if step.mode == "fixed":
        mean, std = (torch.tensor(v, dtype=signals.dtype, device=signals.device) for v in (step.mean, step.std))
        return (signals - mean[:, None]) / std[:, None]
    axes = (-2, -1) if step.mode == "joint" else (-1,)
    std, mean = torch.std_mean(signals, dim=axes, correction=0, keepdim=True)
    flat = signals.amax(axes, keepdim=True) == signals.amin(axes, keepdim=True)
    return torch.where(flat, torch.zeros_like(signals), (signals - mean) / (std + step.eps))


def _filter_tensor(signals: Any, chain: tuple[filtering.FilterSpec, ...], rate: float) -> Any:
    import torch

    fast = filtering.fast_filter(chain, signals.shape[-1], float(rate))
    transfer, analysis, synthesis, trend, response = _tensors(chain, signals.shape[-1], float(rate), signals.device)
    mean = signals.mean(-1, keepdim=True)
    slow = (signals - mean) @ trend
    rest = signals - mean - slow @ trend.T
    spectrum = torch.fft.rfft(rest, n=fast.fft_length) * transfer
    filtered = torch.fft.irfft(spectrum, n=fast.fft_length)[..., : fast.length]
    filtered = filtered + (rest @ analysis) @ synthesis + slow @ response + fast.constant_gain * mean
    return torch.where(_flat(signals), signals * fast.constant_gain, filtered)


def _flat(signals: Any) -> Any:
    return signals.amax(-1, keepdim=True) == signals.amin(-1, keepdim=True)


@lru_cache(maxsize=8)
def _tensors(chain: tuple[filtering.FilterSpec, ...], length: int, rate: float, device: Any) -> Any:
    """The matrices of a fast filter as float32 on a device, sent there once."""
    import torch

    fast = filtering.fast_filter(chain, length, rate)
    parts = (fast.transfer, fast.analysis, fast.synthesis, fast.trend, fast.trend_response)
    return tuple(torch.tensor(part, dtype=torch.float32, device=device) for part in parts)
