"""Reading foreign state dicts: every key is used, or named in the error."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

Model = TypeVar("Model", bound=PreTrainedModel)

BATCH_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


class CheckpointError(ValueError):
    """A checkpoint that does not hold what its method needs, or holds what nobody asked for."""


# narrower ones are of no use without the scales that lie beside them
_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _is_plain(value: Tensor) -> bool:
    kept = value.layout == torch.strided and not (value.is_nested or value.is_quantized or value.is_meta)
    return kept and (value.dtype in _FLOATING or not value.is_floating_point())


class StateDictReader:
    """Hands out tensors of a foreign checkpoint by name and remembers which were taken.

    Args:
        state_dict: name to tensor.
        method: title of the method, for error messages.
    """

    def __init__(self, state_dict: Mapping[str, Any], method: str) -> None:
        not_tensors = [key for key, value in state_dict.items() if not isinstance(value, Tensor)]
        if not_tensors or not state_dict:
            found = ", ".join(map(str, not_tensors[:5])) or "nothing"
            raise CheckpointError(f"A {method} state dict maps names to tensors; found {found}.")
        for key, value in state_dict.items():
            if not _is_plain(value):
                raise CheckpointError(
                    f"The {method} checkpoint holds the tensor {key!r} in a form that is not its plain values (sparse, "
                    "nested, quantised to eight bits or fewer, or without content)."
                )
        self.tensors: dict[str, Tensor] = dict(state_dict)
        self.method = method
        self.taken: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def take(self, key: str, ndim: int | None = None) -> Tensor:
        """The tensor of that name.

        Args:
            ndim: axes that it must have, where sizes of the model are read from its shape.

        Raises:
            CheckpointError: when it is not there, or has another number of axes.
        """
        if key not in self.tensors:
            some = ", ".join(sorted(self.tensors)[:6])
            raise CheckpointError(
                f"This is no {self.method} checkpoint: the tensor {key!r} is missing (it has {some}, …)."
            )
        tensor = self.tensors[key]
        if ndim is not None and tensor.ndim != ndim:
            raise CheckpointError(
                f"This is no {self.method} checkpoint: the tensor {key!r} has shape {tuple(tensor.shape)}, expected "
                f"{ndim} axes."
            )
        self.taken.add(key)
        return tensor

    def take_optional(self, key: str) -> Tensor | None:
        return self.take(key) if key in self else None

    def take_duplicates(self, aliases: Mapping[str, str]) -> None:
        """Drop aliases, name to what it stands for, after checking that all are there and equal, or none is there."""
        missing = [key for key in aliases if key not in self]
        if missing and len(missing) < len(aliases):
            raise CheckpointError(f"The {self.method} checkpoint is damaged: {', '.join(missing)} missing.")
        for key, of in aliases.items() if not missing else ():
            if not torch.equal(self.take(key), self.take(of)):
                raise CheckpointError(
                    f"The {self.method} checkpoint is damaged: {key!r} should equal {of!r} and does not."
                )

    def count(self, pattern: str) -> int:
        """How many consecutive `pattern.format(i)`, from 0, are the beginning of a key."""
        index = 0
        while any(key.startswith(pattern.format(index)) for key in self.tensors):
            index += 1
        return index

    def drop(self, pattern: str) -> list[str]:
        """Pass over all tensors whose name the pattern is found in; their names."""
        dropped = sorted(key for key in self.tensors if re.search(pattern, key))
        self.taken.update(dropped)
        return dropped

    def finish(self) -> None:
        """Raise a CheckpointError that names every key nobody took."""
        unused = sorted(set(self.tensors) - self.taken)
        if unused:
            raise CheckpointError(
                f"The {self.method} checkpoint holds {len(unused)} tensors that no part of the model takes: "
                f"{', '.join(unused[:8])}{', …' if len(unused) > 8 else ''}."
            )


def take_linear(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    """Weight and, where there is one, bias of a linear layer or a norm."""
    out[f"{target}.weight"] = reader.take(f"{source}.weight")
    bias = reader.take_optional(f"{source}.bias")
    if bias is not None:
        out[f"{target}.bias"] = bias


def take_weight_and_bias(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    """Weight and bias of a layer whose published form always has both."""
    for name in ("weight", "bias"):
        out[f"{target}.{name}"] = reader.take(f"{source}.{name}")


def take_batch_norm(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    """Weight, bias and running statistics of a batch norm."""
    for name in BATCH_NORM_TENSORS:
        out[f"{target}.{name}"] = reader.take(f"{source}.{name}")


def take_packed_qkv(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    """A packed query-key-value projection into three."""
    for kind in ("weight", "bias"):
        if kind == "bias" and f"{source}.bias" not in reader:
            continue
        packed = reader.take(f"{source}.{kind}", ndim=2 if kind == "weight" else 1)
        if packed.shape[0] % 3:
            raise CheckpointError(
                f"{reader.method}: {source}.{kind} has {packed.shape[0]} rows, not three equal parts."
            )
        for name, part in zip(("query", "key", "value"), packed.chunk(3, dim=0), strict=True):
            out[f"{target}.{name}.{kind}"] = part.clone()


def take_masked_autoencoder_block(reader: StateDictReader, source: str, target: str, out: dict[str, Tensor]) -> None:
    """One block of the ST-MEM repository's transformers (ST-MEM, MTAE and MLAE) into a `TransformerBlock`."""
    take_linear(reader, f"{source}.attn.norm", f"{target}.layernorm_before", out)
    take_packed_qkv(reader, f"{source}.attn.fn.to_qkv", f"{target}.attention", out)
    if f"{source}.attn.fn.to_out.0.weight" in reader:  # absent with one head as wide as the tokens
        take_linear(reader, f"{source}.attn.fn.to_out.0", f"{target}.attention.output", out)
    take_linear(reader, f"{source}.ff.norm", f"{target}.layernorm_after", out)
    take_linear(reader, f"{source}.ff.fn.net.0", f"{target}.intermediate", out)
    take_linear(reader, f"{source}.ff.fn.net.3", f"{target}.output", out)


def heads_of(reader: StateDictReader, packed_key: str, head_size: int) -> int:
    """Number of heads of a packed projection with heads of a fixed size.

    Raises:
        CheckpointError: when the rows are no multiple of three heads.
    """
    rows = reader.take(packed_key, ndim=2).shape[0]
    heads, rest = divmod(rows, 3 * head_size)
    if not heads or rest:
        raise CheckpointError(
            f"{reader.method}: {packed_key!r} has {rows} rows, not a multiple of three heads of {head_size}."
        )
    return heads


def is_fixed_table(table: Tensor, formula: Tensor) -> bool:
    """Whether a stored position table still is the formula, up to the rounding of the type it is stored in."""
    rounding = torch.finfo(table.dtype).eps if table.is_floating_point() else 0.0
    return torch.allclose(table.float(), formula, atol=max(1e-5, rounding))


def load_converted(model: Model, tensors: Mapping[str, Tensor]) -> Model:
    """Put converted tensors into a freshly built model, strictly, and return it in eval mode.

    Raises:
        CheckpointError: when names or shapes do not fit, or values cannot be weights.
    """
    expected = model.state_dict()
    missing, unexpected = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    wrong = [
        f"{name} has shape {tuple(tensors[name].shape)}, the model needs {tuple(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    if missing or unexpected or wrong:
        raise CheckpointError(
            f"{type(model).__name__} cannot take this checkpoint: "
            f"missing {missing[:5]}, unexpected {unexpected[:5]}, shapes {wrong[:5]}."
        )
    for name, value in tensors.items():
        wanted = expected[name].dtype
        # as it will be: double precision can hold what single precision cannot
        if wanted.is_floating_point and not (value.is_floating_point() and value.to(wanted).isfinite().all()):
            what = "values that are not finite" if value.is_floating_point() else f"{value.dtype} values"
            raise CheckpointError(f"{type(model).__name__} cannot take this checkpoint: {name} has {what}.")
    model.load_state_dict(dict(tensors), strict=True)
    return model.eval()
