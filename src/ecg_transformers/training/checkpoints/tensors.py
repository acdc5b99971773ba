"""The state of a run as named tensors: model, optimiser moments, gradient scaler. Nothing else has state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.amp import GradScaler
from torch.distributed.tensor import distribute_tensor
from torch.optim import Optimizer

from ecg_transformers.training.errors import UsageError

SEPARATOR = "/"


def full_tensor(value: Tensor) -> Tensor:
    """A plain tensor; a tensor that is sharded over processes is gathered (every process must call this)."""
    gather = getattr(value, "full_tensor", None)
    tensor: Tensor = gather() if gather is not None else value
    return tensor.detach()


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and persistent buffers by name."""
    return {name: full_tensor(value) for name, value in model.state_dict().items()}


def load_model_tensors(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
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


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimiser's state as `<entry>/<parameter name>`, e.g. `exp_avg/encoder.norm.weight`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            for entry, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{entry}{SEPARATOR}{names[id(parameter)]}"] = full_tensor(value)
    return tensors


def load_optimizer_tensors(optimizer: Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
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


def _like(parameter: nn.Parameter, value: Tensor, entry: str, *, fused: bool) -> Tensor:
    if entry == "step":  # the fused kernel wants its counter on the device, the plain form on the CPU
        return value.to(parameter.device) if fused else value
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return value.to(parameter.device)
    sharded: Tensor = distribute_tensor(value.to(parameter.device), mesh, parameter.placements)  # type: ignore[attr-defined]
    return sharded


def scaler_state(scaler: GradScaler | None) -> dict[str, Any]:
    """The gradient scaler of fp16 training as JSON; empty without one."""
    return dict(scaler.state_dict()) if scaler is not None and scaler.is_enabled() else {}
