"""From what a checkpoint file holds to the state dict that a converter takes: containers opened, prefixes taken off."""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from torch import Tensor

from ecg_transformers.models.shared.state_dicts import CheckpointError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

# names under which published training scripts keep the weights inside their checkpoint dictionaries
CONTAINERS = ("model", "state_dict", "encoder", "model_state_dict")
# what wrappers put before every name: distributed training, torch.compile, a module around the model
WRAPPERS = ("module.", "_orig_mod.", "model.", "encoder.")
_DEPTH = 3


def state_dict_of(content: Mapping[str, Any], containers: tuple[str, ...] = ()) -> "dict[str, Tensor]":
    """The entries of the innermost container of weights; `containers` are looked for before the usual names."""
    for _ in range(_DEPTH):
        for name in (*containers, *CONTAINERS):
            inner = content.get(name)
            if isinstance(inner, Mapping) and _holds_tensors(inner):
                content = inner
                break
        else:
            break
    return {str(key): value for key, value in content.items()}


def has_container(content: Mapping[str, Any], containers: tuple[str, ...]) -> bool:
    """Whether one of these containers of weights is there."""
    return any(isinstance(inner := content.get(name), Mapping) and _holds_tensors(inner) for name in containers)


def _holds_tensors(content: Mapping[Any, Any], depth: int = _DEPTH) -> bool:
    values = content.values()
    if any(isinstance(value, Tensor) for value in values):
        return True
    return depth > 1 and any(isinstance(value, Mapping) and _holds_tensors(value, depth - 1) for value in values)


def without_wrappers(tensors: "Mapping[str, Tensor]") -> "Iterator[tuple[str, dict[str, Tensor]]]":
    """The state dict as it is, and after each further prefix of a wrapper that all its names share."""
    taken, current = "", dict(tensors)
    yield taken, current
    while current:
        prefix = next((name for name in WRAPPERS if all(key.startswith(name) for key in current)), None)
        if prefix is None:
            return
        taken += prefix
        current = {key.removeprefix(prefix): value for key, value in current.items()}
        yield taken, current


def convert_unwrapped(tensors: "Mapping[str, Tensor]", convert: "Callable[[dict[str, Tensor]], Result]") -> Result:
    """What `convert` makes of the tensors, with the fewest wrapper prefixes taken off that let every key fit.

    Raises:
        CheckpointError: no form fits. The sentence is that of the tensors as they are, or, where a wrapper stands before
            all names that belongs to no published layout (`module.`, `_orig_mod.`), that of the tensors without it.
    """
    failure: CheckpointError | None = None
    for prefix, candidate in without_wrappers(tensors):
        try:
            result = convert(candidate)
        except CheckpointError as error:
            if failure is None or prefix.endswith(("module.", "_orig_mod.")):
                failure = error
            continue
        if prefix:
            logger.warning("All %d tensor names began with %s; this prefix was taken off.", len(tensors), prefix)
        return result
    assert failure is not None
    raise failure
