"""Learning-rate schedules as plain functions, parameter groups that are checked, and the AdamW of a recipe."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.optim import Optimizer

from ecg_transformers.training.errors import UsageError

logger = logging.getLogger(__name__)


def half_cosine_lr(epoch: float, *, lr: float, min_lr: float, warmup_epochs: float, epochs: float) -> float:
    """Linear warm-up from 0, then half a cosine from `lr` to `min_lr`: the schedule of the ST-MEM code, per iteration.

    Args:
        epoch: fractional epoch, `step / steps_per_epoch`; the first step has learning rate 0 when there is a warm-up.
        lr: peak learning rate.
        min_lr: learning rate at `epoch == epochs`.
        warmup_epochs: length of the warm-up.
        epochs: length of the run, warm-up included.
    """
    if epoch < warmup_epochs:
        return lr * epoch / warmup_epochs
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs) if epochs > warmup_epochs else 0.0
    return min_lr + (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress))


def linear_warmup_cosine_lr(step: float, *, lr: float, min_lr: float, warmup_steps: float, total_steps: float) -> float:
    """As `half_cosine_lr` in steps, but the first step already moves: `lr / warmup_steps`, `2 lr / warmup_steps`, …"""
    if step < warmup_steps:
        return lr * min((step + 1) / warmup_steps, 1.0)
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return min_lr + (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


def unshifted_cosine_lr(
    step: float, *, lr: float, warmup_steps: float, total_steps: float, start_lr: float = 1e-6, min_lr: float = 1e-6
) -> float:
    """Linear warm-up from `start_lr`, then a cosine over the *whole* run that does not know of the warm-up.

    The schedule of the ECG-JEPA code (arXiv 2410.08559): at the end of the warm-up the rate drops at once to the
    cosine's value.
    """
    if step < warmup_steps:
        return start_lr + step * (lr - start_lr) / warmup_steps
    return min_lr + 0.5 * (lr - min_lr) * (1.0 + math.cos(math.pi * step / total_steps))


def warmup_cosine(
    step: float, *, start: float, final: float, warmup_steps: float, total_steps: float, warmup_start: float = 1e-6
) -> float:
    """Linear warm-up from `warmup_start` to `start`, then half a cosine that reaches `final` at the last step of a run.

    The schedule of learning rate and weight decay of Weimann and Conrad (arXiv 2410.13867). The last step of a run of
    `total_steps` is `total_steps - 1`; beyond it the cosine turns back once, then `final` stays.
    """
    if step < warmup_steps:
        return warmup_start + (start - warmup_start) * step / warmup_steps
    if step > total_steps:
        return final
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps - 1)
    return final + 0.5 * (1.0 + math.cos(math.pi * progress)) * (start - final)


def one_cycle_lr(
    step: float,
    *,
    lr: float,
    total_steps: float,
    warmup_share: float = 0.3,
    start_factor: float = 0.04,
    end_factor: float = 4e-6,
) -> float:
    """The one-cycle policy with cosine ramps (Smith and Topin, 2018).

    It rises from `start_factor * lr` and falls to `end_factor * lr`.
    With the default factors and `total_steps` steps it gives the learning rates of torch's `OneCycleLR`.
    """
    peak = warmup_share * total_steps - 1
    last = max(total_steps - 1, 1)

    def ramp(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * share))

    if step <= peak:
        return ramp(start_factor * lr, lr, step / peak)
    return ramp(lr, end_factor * lr, min((step - peak) / (last - peak), 1.0))


def linear_lr(step: float, *, lr: float, min_lr: float, warmup_steps: float, total_steps: float) -> float:
    """Linear from 0 to `lr` over the warm-up, then linear to `min_lr` at the last step (HuBERT-ECG's fine-tuning)."""
    if step < warmup_steps:
        return lr * step / warmup_steps
    return lr + (min_lr - lr) * (step - warmup_steps) / max(total_steps - warmup_steps, 1)


@dataclass(frozen=True)
class Schedule:
    """The learning rate of every step of a run, and its weight decay where that changes.

    Args:
        name: one of `SCHEDULES`.
        lr: peak learning rate.
        total_steps: optimiser steps of the run.
        warmup_steps: optimiser steps of the warm-up (fractions allowed; the one-cycle policy takes its share from it).
        min_lr: learning rate at the end.
        weight_decay: from where to where the weight decay goes, along half a cosine; None where it stays as it is.
    """

    name: str
    lr: float
    total_steps: int
    warmup_steps: float = 0.0
    min_lr: float = 0.0
    weight_decay: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.name not in SCHEDULES:
            raise UsageError(f"There is no schedule {self.name!r}; choose one of {', '.join(SCHEDULES)}.")
        if self.total_steps < 1:
            raise UsageError(f"A run takes at least one step, not {self.total_steps}.")
        if self.warmup_steps >= self.total_steps and self.name not in ("constant", "one_cycle"):
            raise UsageError(
                f"The warm-up of {self.warmup_steps:g} steps does not end within the run of {self.total_steps} steps."
            )

    def __call__(self, step: int) -> float:
        """The learning rate of optimiser step `step`, counted from 0."""
        return SCHEDULES[self.name](self, step)

    def set(self, optimizer: Optimizer, step: int) -> None:
        """Set learning rate and weight decay of every group of an optimiser for step `step`."""
        set_learning_rate(optimizer, self(step))
        if self.weight_decay is not None:
            start, final = self.weight_decay
            decay = warmup_cosine(step, start=start, final=final, warmup_steps=0, total_steps=self.total_steps)
            set_weight_decay(optimizer, decay)


def _half_cosine(run: Schedule, step: int) -> float:
    return half_cosine_lr(step, lr=run.lr, min_lr=run.min_lr, warmup_epochs=run.warmup_steps, epochs=run.total_steps)


def _linear_warmup_cosine(run: Schedule, step: int) -> float:
    lengths = {"warmup_steps": run.warmup_steps, "total_steps": run.total_steps}
    return linear_warmup_cosine_lr(step, lr=run.lr, min_lr=run.min_lr, **lengths)


def _linear(run: Schedule, step: int) -> float:
    lengths = {"warmup_steps": run.warmup_steps, "total_steps": run.total_steps}
    return linear_lr(step, lr=run.lr, min_lr=run.min_lr, **lengths)


def _unshifted_cosine(run: Schedule, step: int) -> float:
    lengths = {"warmup_steps": run.warmup_steps, "total_steps": run.total_steps}
    return unshifted_cosine_lr(step, lr=run.lr, min_lr=run.min_lr, **lengths)


def _warmup_cosine(run: Schedule, step: int) -> float:
    lengths = {"warmup_steps": run.warmup_steps, "total_steps": run.total_steps}
    return warmup_cosine(step, start=run.lr, final=run.min_lr, warmup_start=min(1e-6, run.lr), **lengths)


def _one_cycle(run: Schedule, step: int) -> float:
    share = run.warmup_steps / run.total_steps if run.warmup_steps else 0.3
    return one_cycle_lr(step, lr=run.lr, total_steps=run.total_steps, warmup_share=share)


def _constant(run: Schedule, step: int) -> float:
    return run.lr * min((step + 1) / run.warmup_steps, 1.0) if run.warmup_steps else run.lr


SCHEDULES: dict[str, Callable[[Schedule, int], float]] = {
    "half_cosine": _half_cosine,
    "linear_warmup_cosine": _linear_warmup_cosine,
    "linear": _linear,
    "unshifted_cosine": _unshifted_cosine,
    "warmup_cosine": _warmup_cosine,
    "one_cycle": _one_cycle,
    "constant": _constant,
}


@dataclass
class ParameterGroup:
    """Parameters that share learning-rate factor and weight decay, with their names."""

    names: list[str] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)
    weight_decay: float = 0.0
    lr_factor: float = 1.0


def parameter_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    decay_one_dimensional: bool = False,
    no_decay: Sequence[str] = (),
    lr_factors: Mapping[str, float] | None = None,
) -> list[ParameterGroup]:
    """Sort the trainable parameters of a model into optimiser groups; every one is in exactly one group.

    Args:
        model: parameters with `requires_grad=False` are left out.
        weight_decay: decay of the parameters that decay.
        decay_one_dimensional: biases, norms and other vectors decay too (as in the ST-MEM code; the ECG-JEPA code
            leaves out what has one dimension or "bias" in its name).
        no_decay: regular expressions of further parameter names without decay.
        lr_factors: regular expression of parameter names -> factor of the learning rate; the first that matches
            counts.

    Raises:
        UsageError: nothing is trainable, a pattern matches no parameter, or weight decay is set and nothing decays.
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trainable:
        raise UsageError("The model has no trainable parameter: everything is frozen.")
    names = [name for name, _ in trainable]
    exempt = set().union(*(_matching(pattern, names, "no_decay") for pattern in no_decay))
    if not decay_one_dimensional:
        exempt |= {name for name, parameter in trainable if parameter.ndim <= 1 or "bias" in name}
    factors = {
        pattern: (factor, _matching(pattern, names, "lr_factors")) for pattern, factor in (lr_factors or {}).items()
    }
    groups: dict[tuple[float, float], ParameterGroup] = {}
    for name, parameter in trainable:
        decay = 0.0 if name in exempt else weight_decay
        factor = next((factor for factor, found in factors.values() if name in found), 1.0)
        group = groups.setdefault((decay, factor), ParameterGroup(weight_decay=decay, lr_factor=factor))
        group.names.append(name)
        group.parameters.append(parameter)
    if weight_decay and not any(group.weight_decay for group in groups.values()):
        raise UsageError(
            f"Weight decay is {weight_decay:g}, but its rules leave no parameter to decay: its group is empty."
        )
    return list(groups.values())


def _matching(pattern: str, names: Sequence[str], setting: str) -> set[str]:
    try:
        found = {name for name in names if re.search(pattern, name)}
    except re.error as error:
        raise UsageError(f"{setting}: {pattern!r} is no regular expression ({error}).") from error
    if not found:
        raise UsageError(f"{setting}: {pattern!r} matches no trainable parameter.")
    return found


def build_optimizer(
    groups: Sequence[ParameterGroup],
    *,
    name: str = "adamw",
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Optimizer:
    """AdamW or SGD (momentum = the first beta) over checked groups.

    AdamW is fused where the device has the kernel: 4 to 5 times faster on a CPU than torch's default form.
    """
    settings = [
        {"params": group.parameters, "weight_decay": group.weight_decay, "lr_factor": group.lr_factor}
        for group in groups
    ]
    if name == "sgd":
        return torch.optim.SGD(settings, lr=lr, momentum=betas[0])
    if name != "adamw":
        raise UsageError(f"There is no optimizer {name!r}; choose adamw or sgd.")
    try:
        return torch.optim.AdamW(settings, lr=lr, betas=betas, eps=eps, fused=True)
    except RuntimeError as error:
        logger.info("Fused AdamW is not available here (%s); using the plain form.", error)
    return torch.optim.AdamW(settings, lr=lr, betas=betas, eps=eps)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every group: `lr` times the group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def set_weight_decay(optimizer: Optimizer, weight_decay: float) -> None:
    """Set the weight decay of the groups that have one; the others stay without."""
    for group in optimizer.param_groups:
        if group["weight_decay"]:
            group["weight_decay"] = weight_decay
