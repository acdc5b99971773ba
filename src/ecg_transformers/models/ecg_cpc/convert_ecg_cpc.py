"""Published CPC checkpoints (pre-trained and fine-tuned, LSTM and S4 forms) into our classes."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_transformers.models.ecg_cpc.configuration_ecg_cpc import ECGCPCConfig
from ecg_transformers.models.ecg_cpc.method import LEADS
from ecg_transformers.models.ecg_cpc.modeling_ecg_cpc import (
    ECGCPCForPreTraining,
    ECGCPCForSequenceClassification,
    ECGCPCModel,
    ECGCPCPreTrainedModel,
)
from ecg_transformers.models.shared.state_dicts import (
    CheckpointError,
    StateDictReader,
    load_converted,
    take_batch_norm,
    take_linear,
)
from ecg_transformers.signal.leads import STANDARD_LEADS

POOLINGS = {3: ["mean", "max", "last"], 1: ["mean"]}  # by the number of parts that a head's width shows


def convert_ecg_cpc(state_dict: Mapping[str, Tensor], **config_overrides: Any) -> ECGCPCPreTrainedModel:
    """The model that the tensors describe.

    Args:
        state_dict: keys `encoder.{i}.*`, then `rnn.*` or `s4_layers.{i}.*` with `norms.{i}.*` (below any prefix), then
            `proj.*` (pre-training) or `head.*` / `decoder.*` (classification). Or the released S4 files
            (`ts_encoder.encoder.layers.{i}.*`, `ts_encoder.predictor.*`, with or without `ts_encoder.`), of which the
            authors load encoder and context alone: of all else only a CPC projection is taken, and the rest ignored.
        config_overrides: what tensors cannot tell: `conv_strides` (taken as 2 for kernels longer than 1),
            `steps_predicted`, `num_negatives`, `negatives`, `seq_len`, `sampling_rate` (100 Hz for the LSTM form, 240 Hz
            for the S4 form, as published).

    Returns:
        `ECGCPCForPreTraining` for a file with a projection, `ECGCPCForSequenceClassification` for one with a head,
        else `ECGCPCModel`; in eval mode.

    Raises:
        CheckpointError: when keys are missing, left over, or do not fit together.
    """
    released = released_tensors(state_dict)
    reader = StateDictReader(released or state_dict, "CPC")
    stack = next((m[1] for key in reader.tensors if (m := re.fullmatch(r"(.*)s4_layers\.0\.D", key))), None)
    projection = "proj.weight" in reader or "proj.0.weight" in reader
    head = _head_key(reader, stack or "")
    prefix = "ecg_cpc." if projection or head else ""
    tensors: dict[str, Tensor] = {}
    sizes = _take_encoder(reader, prefix, stack, tensors)
    if stack is None:
        sizes |= _take_recurrent(reader, prefix, tensors)
    else:
        sizes |= _take_s4(reader, prefix, stack, tensors)
        sizes.setdefault("seq_len", sizes["s4_max_length"] * math.prod(sizes["conv_strides"]))
    model_class: type[ECGCPCPreTrainedModel] = ECGCPCModel
    if projection:
        model_class = ECGCPCForPreTraining
        sizes |= _take_projection(reader, tensors)
    elif head:
        model_class = ECGCPCForSequenceClassification
        sizes |= _take_head(reader, head, sizes["hidden_size"], tensors)
    reader.finish()
    if released:
        sizes |= {"variant": "s4", "pooling": ["mean"]}
        sizes["lead_names"] = list(STANDARD_LEADS) if sizes["num_leads"] == len(STANDARD_LEADS) else None
    return load_converted(model_class(ECGCPCConfig(**{**sizes, **config_overrides})), tensors)


def released_tensors(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The encoder, context and CPC projection of a released S4 file under the names of the other layout.

    Everything else of such a file (`ema.*`, which looks like the encoder and is not it, heads, masks, losses) is left out.
    Empty for a file of another layout. A bidirectional context never predicted anything, so it has no projection.
    """
    stripped = {str(key).removeprefix("ts_encoder."): value for key, value in state_dict.items()}
    if "encoder.layers.0.0.weight" not in stripped:
        return {}
    kept = {key: value for key, value in stripped.items() if key.startswith(("encoder.", "predictor."))}
    projection = "head_ssl.proj.0.weight"
    causal = getattr(kept.get("predictor.predictor.s4_layers.0.kernel.kernel.C"), "shape", (2,))[0] == 1
    if projection in stripped and causal:
        kept["proj.weight"] = stripped[projection]
    return {re.sub(r"^encoder\.layers\.", "encoder.", key): value for key, value in kept.items()}


def _head_key(reader: StateDictReader, stack: str) -> str | None:
    """What the keys of the classification head begin with."""
    if any(key.startswith("head.") for key in reader.tensors):
        return "head"
    return f"{stack}decoder" if f"{stack}decoder.weight" in reader else None


def _take_encoder(reader: StateDictReader, prefix: str, stack: str | None, out: dict[str, Tensor]) -> dict[str, Any]:
    """Convolutions; a linear map before S4 layers is a convolution of one sample; with neither, leads are features."""
    count = reader.count("encoder.{}.0.weight")
    if count == 0 and stack is not None:
        return _take_linear_encoder(reader, prefix, stack, out)
    if count == 0:
        raise CheckpointError("This is no CPC checkpoint: the convolutions 'encoder.0.0.weight', … are missing.")
    weights = []
    for index in range(count):
        take_linear(reader, f"encoder.{index}.0", f"{prefix}encoder.{index}.0", out)
        weights.append(reader.take(f"encoder.{index}.0.weight", ndim=3))  # (out, in, kernel)
        if f"encoder.{index}.1.running_mean" in reader:
            take_batch_norm(reader, f"encoder.{index}.1", f"{prefix}encoder.{index}.1", out)
    num_leads = weights[0].shape[1]
    return {
        "num_leads": num_leads,
        "lead_names": LEADS[:num_leads] if num_leads in (8, 12) else None,
        "conv_dims": [weight.shape[0] for weight in weights],
        "conv_kernels": [weight.shape[2] for weight in weights],
        "conv_strides": [2 if weight.shape[2] > 1 else 1 for weight in weights],
        "conv_norm": f"{prefix}encoder.0.1.running_mean" in out,
    }


def _take_linear_encoder(reader: StateDictReader, prefix: str, stack: str, out: dict[str, Tensor]) -> dict[str, Any]:
    width = reader.take(f"{stack}s4_layers.0.D", ndim=2).shape[-1]
    sizes: dict[str, Any] = {"conv_norm": False, "conv_activation": False, "lead_names": None}
    if f"{stack}encoder.weight" not in reader:
        return sizes | {"num_leads": width, "conv_dims": [], "conv_kernels": [], "conv_strides": []}
    take_linear(reader, f"{stack}encoder", f"{prefix}encoder.0.0", out)
    weight = reader.take(f"{stack}encoder.weight", ndim=2)
    out[f"{prefix}encoder.0.0.weight"] = weight[..., None]
    return sizes | {
        "num_leads": weight.shape[1],
        "conv_dims": [weight.shape[0]],
        "conv_kernels": [1],
        "conv_strides": [1],
    }


def _take_recurrent(reader: StateDictReader, prefix: str, out: dict[str, Tensor]) -> dict[str, Any]:
    """The layers of one packed LSTM or GRU, which are separate modules here."""
    count = reader.count("rnn.weight_ih_l{}")
    for index in range(count):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            out[f"{prefix}layers.{index}.rnn.{name}_l0"] = reader.take(f"rnn.{name}_l{index}")
    gates, width = reader.take("rnn.weight_hh_l0", ndim=2).shape
    if gates not in (4 * width, 3 * width):
        raise CheckpointError(f"CPC: 'rnn.weight_hh_l0' is {gates} x {width}: neither LSTM (4 gates) nor GRU (3).")
    return {
        "context": "lstm" if gates == 4 * width else "gru",
        "hidden_size": width,
        "num_hidden_layers": count,
    }


def _take_s4(reader: StateDictReader, prefix: str, stack: str, out: dict[str, Tensor]) -> dict[str, Any]:
    count = reader.count(f"{stack}s4_layers.{{}}.")
    if f"{prefix}encoder.0.0.weight" in out and f"{stack}encoder.weight" in set(reader.tensors) - reader.taken:
        take_linear(
            reader, f"{stack}encoder", f"{prefix}context_map", out
        )  # between convolutions and layers of other width
    for index in range(count):
        source, target = f"{stack}s4_layers.{index}", f"{prefix}layers.{index}.s4"
        for name in ("C", "B", "P", "Q", "w", "log_dt"):
            out[f"{target}.kernel.{name}"] = reader.take(f"{source}.kernel.kernel.{name}")
        out[f"{target}.skip"] = reader.take(f"{source}.D")
        take_linear(reader, f"{source}.output_linear.0", f"{target}.output", out)
        out[f"{target}.output.bias"] = out[f"{target}.output.bias"].flatten()
        weight = out[f"{target}.output.weight"]  # of a linear map, or of a convolution with kernel 1
        out[f"{target}.output.weight"] = weight.flatten(1) if weight.ndim > 1 else weight
        take_linear(reader, f"{stack}norms.{index}", f"{target}.norm", out)
        for name in ("omega", "z"):  # computed from the length when needed
            reader.take_optional(f"{source}.kernel.kernel.{name}")
    directions, width, half, _ = reader.take(f"{stack}s4_layers.0.kernel.kernel.C", ndim=4).shape
    return {
        "context": "s4",
        "sampling_rate": 240,
        "hidden_size": width,
        "num_hidden_layers": count,
        "state_size": 2 * half,
        "s4_bidirectional": directions == 2,
        "s4_max_length": _built_length(reader, f"{stack}s4_layers.0.kernel.kernel.omega"),
        "steps_predicted": 14,
    }


def _built_length(reader: StateDictReader, key: str) -> int:
    """The length that the S4 parameters are tied to, from the stored roots of unity exp(-2πi k / length)."""
    omega = reader.take(key, ndim=2)  # (length // 2 + 1, 2)
    if omega.shape[0] < 2 or omega.shape[1] != 2:
        raise CheckpointError(f"CPC: {key!r} has shape {tuple(omega.shape)}; the built length cannot be read from it.")
    angle = -torch.atan2(omega[1, 1].double(), omega[1, 0].double())
    return round(2 * math.pi / float(angle)) if float(angle) > 0 else 2


def _take_projection(reader: StateDictReader, out: dict[str, Tensor]) -> dict[str, Any]:
    if "proj.weight" in reader:
        take_linear(reader, "proj", "projection.output", out)
        return {"projection_bias": "projection.output.bias" in out}
    take_linear(reader, "proj.0", "projection.hidden", out)
    take_linear(reader, "proj.2", "projection.output", out)
    return {
        "projection_hidden_size": reader.take("proj.0.weight", ndim=2).shape[0],
        "projection_bias": "projection.output.bias" in out,
    }


def _take_head(reader: StateDictReader, head: str, hidden_size: int, out: dict[str, Tensor]) -> dict[str, Any]:
    """A linear head, or batch norms with a linear map two modules behind each."""
    linears = [i for i in range(64) if (key := f"{head}.{i}.weight") in reader and reader.tensors[key].ndim == 2]
    if not linears or f"{head}.{linears[0] - 2}.running_mean" not in reader:
        source = f"{head}.{linears[0]}" if linears else head
        take_linear(reader, source, "classifier", out)
        num_labels, width = reader.take(f"{source}.weight", ndim=2).shape
        return {"num_labels": num_labels, "pooling": _pooling(width, hidden_size)}
    for index, linear in enumerate(linears):
        take_batch_norm(reader, f"{head}.{linear - 2}", f"classifier.norms.{index}", out)
        take_linear(reader, f"{head}.{linear}", f"classifier.linears.{index}", out)
    maps = [out[f"classifier.linears.{index}.weight"] for index in range(len(linears))]
    return {
        "num_labels": maps[-1].shape[0],
        "classifier_hidden_sizes": [weight.shape[0] for weight in maps[:-1]],
        "pooling": _pooling(maps[0].shape[1], hidden_size),
    }


def _pooling(width: int, hidden_size: int) -> list[str]:
    parts, rest = divmod(width, hidden_size)
    if rest or parts not in POOLINGS:
        raise CheckpointError(
            f"CPC: the head takes {width} features of a context of {hidden_size}; it should be as many (the mean) or "
            "three times as many (mean, max and last)."
        )
    return POOLINGS[parts]
