"""A device of its own, "distant", made in Python: it computes as the CPU does, and what goes to it and back is written down.

As on an accelerator a tensor of it cannot meet one of the CPU in an operation. It has to be known before the first
gradient of a process and stays for its life: tests use it in a process of its own (`process_with_device`).
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "distant"


class Transfer(NamedTuple):
    """A tensor on its way from one kind of device to another."""

    source: str
    target: str
    dtype: torch.dtype
    shape: tuple[int, ...]


TRANSFERS: list[Transfer] = []


class DistantTensor(torch.Tensor):
    """A tensor of the device; `held` has its values."""

    held: torch.Tensor

    def __new__(cls, held: torch.Tensor) -> "DistantTensor":
        strides, offset = held.stride(), held.storage_offset()
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, held.shape, strides=strides, storage_offset=offset, dtype=held.dtype, device=f"{NAME}:0"
        )
        tensor.held = held
        return tensor

    def __repr__(self) -> str:  # type: ignore[override]
        return f"DistantTensor({self.held})"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, *args, **(kwargs or {}))


def _run(operation: Any, *args: Any, **kwargs: Any) -> Any:
    """An operation on what the tensors hold."""
    name = operation.name()
    if name == "aten::copy_":
        _note(args[1], args[0].device)
        _held(args[0]).copy_(_held(args[1]))
        return args[0]
    if name == "aten::_to_copy":
        target = torch.device(kwargs.pop("device", None) or args[0].device)
        _note(args[0], target)
        copied = operation(_held(args[0]), **kwargs)
        return DistantTensor(copied) if target.type == NAME else copied
    if name in ("aten::_conj", "aten::_neg_view"):  # views by a mark on the tensor, which a wrapper cannot carry
        return DistantTensor(_held(args[0]).conj_physical() if name == "aten::_conj" else -_held(args[0]))
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if any(tensor.ndim and not isinstance(tensor, DistantTensor) for tensor in tensors):
        raise RuntimeError(f"{name} got tensors of two devices")
    if "device" in kwargs:
        kwargs["device"] = torch.device("cpu")
    result = operation(*tree_map(_held, args), **tree_map(_held, kwargs))
    known = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, DistantTensor)}  # in-place operations

    def returned(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return known[id(value)] if id(value) in known else DistantTensor(value)

    return tree_map(returned, result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, DistantTensor) else value


def _note(tensor: torch.Tensor, target: torch.device) -> None:
    if tensor.device.type != target.type:
        TRANSFERS.append(Transfer(tensor.device.type, target.type, tensor.dtype, tuple(tensor.shape)))


class _Constants(TorchFunctionMode):
    """Constants are made on the CPU and sent: torch makes them below the level at which Python can answer."""

    makers = (torch.tensor, torch.as_tensor, torch.arange, torch.linspace, torch.eye, torch.randperm)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in self.makers and torch.device(kwargs.get("device") or "cpu").type == NAME:
            target = kwargs.pop("device")
            return function(*args, **kwargs).to(target)
        if function is torch.Tensor.__getitem__ and isinstance(args[0], DistantTensor):
            index = args[1] if isinstance(args[1], tuple) else (args[1],)
            sent = tuple(torch.tensor(part).to(NAME) if isinstance(part, list) else part for part in index)
            return function(args[0], sent)
        return function(*args, **kwargs)


class _Module(backend_registration._DummyBackendModule):
    """`torch.distant`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_KEPT: list[Any] = []  # torch forgets a library and a mode with the object


def register() -> None:
    """Make the device known to this process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, _Module())
    library, constants = torch.library.Library("_", "IMPL"), _Constants()
    library.fallback(_run, "PrivateUse1")
    constants.__enter__()
    _KEPT.extend([library, constants])
    # parameters stay the same objects when a model is moved, as on every other device
    torch.__future__.set_swap_module_params_on_conversion(True)


def process_with_device() -> ProcessPoolExecutor:
    """A process that knows the device and in which Accelerate takes it."""
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    os.environ["ACCELERATE_TORCH_DEVICE"] = NAME
    register()


def sent_by(action: Callable[..., object], *arguments: Any, **options: Any) -> list[Transfer]:
    """What an action sends to the device; called in that process."""
    TRANSFERS.clear()
    action(*arguments, **options)
    return [transfer for transfer in TRANSFERS if transfer.target == NAME]
