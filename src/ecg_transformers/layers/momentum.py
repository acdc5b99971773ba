"""Slow copies of a network: the exponential moving average, its schedules, and freezing."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def ema_update(
    target_params: Iterable[Tensor] | nn.Module, source_params: Iterable[Tensor] | nn.Module, momentum: float
) -> None:
    """One step `target = momentum * target + (1 - momentum) * source`, in place, for all tensors at once.

    Either argument may be a module; then its parameters are taken, in order. Buffers (running statistics of
    normalisation layers) are no parameters and are left alone, as in the published momentum methods.

    Args:
        target_params: the slow tensors, written to.
        source_params: the fast tensors, of the same number, order and shapes.
        momentum: share of the slow value that stays, in [0, 1].

    Raises:
        ValueError: if momentum lies outside [0, 1] or the two lists do not fit together.
    """
    if not 0.0 <= momentum <= 1.0:
        raise ValueError(f"momentum must lie between 0 and 1, got {momentum}")
    targets = _tensors(target_params)
    sources = _tensors(source_params)
    if [t.shape for t in targets] != [s.shape for s in sources]:
        raise ValueError(
            f"the averaged network has {len(targets)} tensors and its source {len(sources)}, or their shapes differ; "
            "both must be built from the same configuration"
        )
    if not targets or momentum == 1.0:
        return
    sources = [s.to(device=t.device, dtype=t.dtype) for t, s in zip(targets, sources)]
    torch._foreach_lerp_(targets, sources, 1.0 - momentum)


@torch.no_grad()
def copy_state(target: nn.Module, source: nn.Module) -> None:
    """Make `target` equal to `source`: every parameter and every buffer (a teacher at the start of training).

    Raises:
        ValueError: if the two modules hold different numbers of tensors.
    """
    for kind in ("parameters", "buffers"):
        targets, sources = list(getattr(target, kind)()), list(getattr(source, kind)())
        if len(targets) != len(sources):
            raise ValueError(f"the copy has {len(targets)} {kind} and its source {len(sources)}; they must be equal")
        for to_tensor, from_tensor in zip(targets, sources):
            to_tensor.copy_(from_tensor)


def freeze(*modules: nn.Module | nn.Parameter) -> None:
    """Switch gradients off for whole modules or single parameters.

    A model loaded by `from_pretrained` comes back with every parameter trainable, so freezing belongs in a place
    that runs after loading as well (before the forward pass or at the start of a training step), not only in a
    constructor.
    """
    for module in modules:
        module.requires_grad_(False)


def linear_momentum(step: float, total: int, start: float, end: float) -> float:
    """`start + (end - start) * step / total`: the I-JEPA schedule, `start` at step 0, `end` after the last step."""
    if total <= 0:
        raise ValueError(f"total must be a positive number of steps, got {total}")
    return start + (end - start) * min(max(step / total, 0.0), 1.0)


def cosine_momentum(progress: float, base: float) -> float:
    """`1 - (1 - base) * (1 + cos(pi * progress)) / 2`: the MoCo v3 schedule from `base` at 0 to 1 at progress 1.

    Args:
        progress: share of the training that is done, epoch / epochs (may be fractional); clipped to [0, 1].
        base: momentum at the start.
    """
    progress = min(max(progress, 0.0), 1.0)
    return 1.0 - 0.5 * (1.0 + math.cos(math.pi * progress)) * (1.0 - base)


def scheduled_momentum(name: str, progress: float, base: float, end: float = 1.0) -> float:
    """Momentum of a schedule that a configuration names: "cosine", "linear" or "constant".

    Args:
        name: the schedule.
        progress: share of the training that is done, clipped to [0, 1].
        base: momentum at the start.
        end: momentum at the end, used by "linear" only ("cosine" always ends at 1).
    """
    if name == "cosine":
        return cosine_momentum(progress, base)
    if name == "linear":
        return linear_momentum(progress, 1, base, end)
    if name == "constant":
        return base
    raise ValueError(f'there is no momentum schedule "{name}"; choose "cosine", "linear" or "constant"')


def _tensors(params: Iterable[Tensor] | nn.Module) -> list[Tensor]:
    return list(params.parameters()) if isinstance(params, nn.Module) else list(params)
