"""The state of a run as named tensors: model, optimiser moments, gradient scaler. Nothing else has state."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ecg_transformers.training.errors import FrozenParameterMoved, UsageError

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer

SEPARATOR = "/"


def full_tensor(value: torch.Tensor) -> torch.Tensor:
    """A plain tensor; a tensor that is sharded over processes is gathered (every process must call this)."""
    gather = getattr(value, "full_tensor", None)
    tensor: torch.Tensor = gather() if gather is not None else value
    return tensor.detach()


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """All parameters and persistent buffers by name."""
    return {name: full_tensor(value) for name, value in model.state_dict().items()}


def load_model_tensors(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `model_tensors` gave into an equal model that is not yet sharded.

    Raises:
        UsageError: names or shapes differ; one of them is named.
    """
    own = model.state_dict()
    for name in sorted(set(own) ^ set(tensors)):
        where = "the checkpoint lacks" if name in own else "the model does not have"
        raise UsageError(f"The checkpoint does not fit the model: {where} the tensor {name}.")
    for name, value in own.items():
        if tensors[name].shape != value.shape:
            raise UsageError(
                f"The checkpoint does not fit the model: {name} has shape {tuple(tensors[name].shape)} instead of "
                f"{tuple(value.shape)}."
            )
    model.load_state_dict(dict(tensors), strict=True)


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """The optimiser's state as `<entry>/<parameter name>`, e.g. `exp_avg/encoder.norm.weight`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for entry, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{entry}{SEPARATOR}{names[id(parameter)]}"] = full_tensor(value)
    return tensors


def load_optimizer_tensors(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """Load what `optimizer_tensors` gave; the groups are those of the new optimiser.

    Raises:
        UsageError: a tensor belongs to no parameter of the optimiser.
    """
    parameters = dict(model.named_parameters())
    own = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    for key, value in tensors.items():
        entry, _, name = key.partition(SEPARATOR)
        parameter = parameters.get(name)
        if parameter is None or id(parameter) not in own:
            raise UsageError(f"The checkpoint's optimiser state {key} belongs to no trainable parameter of this run.")
        optimizer.state[parameter][entry] = _like(parameter, value, entry, fused=bool(own[id(parameter)].get("fused")))


def _like(parameter: nn.Parameter, value: torch.Tensor, entry: str, *, fused: bool) -> torch.Tensor:
    if entry == "step":  # the fused kernel wants its counter on the device, the plain form on the CPU
        return value.to(parameter.device) if fused else value
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return value.to(parameter.device)
    from torch.distributed.tensor import distribute_tensor

    sharded: torch.Tensor = distribute_tensor(value.to(parameter.device), mesh, parameter.placements)  # type: ignore[attr-defined]
    return sharded


def tensors_hash(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """SHA-256 over names, types, shapes and bytes of tensors."""
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(tensors, key=lambda item: item[0]):
        tensor = full_tensor(value).to("cpu").contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return digest.hexdigest()


class BeforeStep:
    """What forward passes and the hook before them change, although no optimiser does: running statistics, and, in
    models with such a hook, the parameters without gradient (a momentum encoder).

    Args:
        model: the plain model of a run.
        parameters: whether the parameters without gradient change, too.
    """

    def __init__(self, model: nn.Module, *, parameters: bool) -> None:
        self._watched = [
            buffer
            for module in model.modules()
            if getattr(module, "running_mean", None) is not None
            for buffer in module.buffers(recurse=False)
        ]
        if parameters:
            self._watched += [parameter for parameter in model.parameters() if not parameter.requires_grad]
        self._copies: list[torch.Tensor] = []

    def remember(self) -> None:
        """Copy it; called before each step."""
        self._copies = [value.detach().clone() for value in self._watched]

    def restore(self) -> None:
        """Bring it back: the model is the one before the step."""
        for value, copy in zip(self._watched, self._copies, strict=True):
            value.detach().copy_(copy)


class FrozenGuard:
    """Remembers the content of everything frozen at the start of a run and compares it at the end.

    Frozen are the parameters with `requires_grad=False` below the given modules, and those modules' buffers.

    Args:
        modules: prefix -> module that must not move.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = dict(modules)
        self._before = self._hashes()

    def check(self) -> None:
        """Raise `FrozenParameterMoved` when one of the modules changed."""
        for name, value in self._hashes().items():
            if value != self._before[name]:
                raise FrozenParameterMoved(
                    f"The frozen part {name!r} moved during training: this is a defect, its result is not valid."
                )

    def _hashes(self) -> dict[str, str]:
        return {prefix: tensors_hash(module.state_dict().items()) for prefix, module in self._modules.items()}


def frozen_pieces(model: nn.Module) -> dict[str, nn.Module]:
    """The largest modules all of whose parameters are frozen, by name."""
    found: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        parameters = list(module.parameters())
        if not name or not parameters or any(parameter.requires_grad for parameter in parameters):
            continue
        if not any(name.startswith(f"{prefix}.") for prefix in found):
            found[name] = module
    return found


def scaler_state(scaler: Any) -> dict[str, Any]:
    """The gradient scaler of fp16 training as JSON; empty without one."""
    return dict(scaler.state_dict()) if scaler is not None and scaler.is_enabled() else {}
