"""Reading a frozen encoder: features once, then the same readouts for every model.

>>> features = extract_features(model, extractor, records, num_crops=4, readout="per_lead")      # doctest: +SKIP
>>> probe = LinearProbe().fit(features[train], y[train], features[valid], y[valid])              # doctest: +SKIP
>>> macro_auroc(y[test], probe.predict_proba(features[test]))["value"]                           # doctest: +SKIP
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.utils import ModelOutput

from ecg_transformers.data.record import ECGRecord
from ecg_transformers.evaluation.probes import LinearProbe, RidgeProbe, Standardizer, knn_scores
from ecg_transformers.evaluation.signal_features import amplitude_features, simple_features
from ecg_transformers.evaluation.trained_probes import AttentionProbe, AttentionProbeHead, LastEpochProbe
from ecg_transformers.layers.frozen import eval_mode, tensors_sha256
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.words import check_choice

READOUTS = ("pooled", "mean", "per_lead", "per_lead_spread", "tokens")
EXTRAS = ("amplitude", "simple")


class Records(Protocol):
    """Map-style access to dataset rows or `ECGRecord` objects (a `datasets.Dataset`, a list…)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


def extract_features(
    model: ECGPreTrainedModel,
    extractor: Callable[..., Mapping[str, Tensor]],
    records: Records,
    *,
    num_crops: int | None = None,
    batch_size: int = 32,
    readout: str = "mean",
    extra: str | None = None,
    device: str | torch.device | None = None,
) -> NDArray[np.float32]:
    """Features of whole records from a frozen encoder, averaged over their crops.

    The model is put into eval mode for the time of the call and never changed: two calls give equal features.

    Args:
        model: any model of the package; of a model with a head, its base model is read.
        extractor: makes `input_values` of a row or record, as the model was trained with.
        records: dataset rows or `ECGRecord` objects.
        num_crops: evenly spaced crops of a record; None takes the extractor's own single crop.
        batch_size: records in one forward pass.
        readout: `"pooled"` the published downstream feature; `"mean"` mean of the patch tokens; `"per_lead"`
            mean token of each lead, side by side; `"per_lead_spread"` the same with the SD over time of each lead;
            `"tokens"` every patch token, for attention pooling. Models whose tokens belong to no lead give the
            published feature for the middle three.
        extra: `"amplitude"` or `"simple"` appends figures of the signal in millivolts, which normalisation takes
            away from the model: log SD, maximum and minimum of each lead, or all simple features.
        device: where to compute; None leaves the model where it is.

    Returns:
        float32 `(records, features)`, or `(records, tokens, width)` for `"tokens"`.

    Raises:
        ValueError: unknown readout or extra, no records, or features that are not finite (the record is named).
    """
    check_choice("readout", readout, READOUTS)
    if extra is not None:
        check_choice("extra", extra, EXTRAS)
    if len(records) == 0:
        raise ValueError("There are no records to extract features from.")
    if device is not None:
        model.to(device)
    blocks = []
    for start in range(0, len(records), batch_size):
        rows = [records[index] for index in range(start, min(start + batch_size, len(records)))]
        options = {} if num_crops is None else {"num_crops": num_crops}
        batch = extractor(rows, return_tensors="pt", **options)
        block = encode_batch(model, batch, readout).cpu().numpy().astype(np.float32)
        if extra is not None:
            block = np.concatenate([block, np.stack([signal_figures(row, extra) for row in rows])], axis=1)
        _check_finite(block, rows)
        blocks.append(block)
    return np.concatenate(blocks)


def encode_batch(model: ECGPreTrainedModel, batch: Mapping[str, Tensor], readout: str = "mean") -> Tensor:
    """Features `(B, F)` of one batch of model inputs (`"tokens"`: `(B, N, D)`).

    `input_values` may be `(B, L, T)` or `(B, k, L, T)`; the k crops are averaged (tokens: put side by side).
    """
    check_choice("readout", readout, READOUTS)
    encoder = model.base_model
    accepted = inspect.signature(encoder.forward).parameters
    device = next(encoder.parameters()).device
    inputs = {key: torch.as_tensor(value, device=device) for key, value in batch.items() if key in accepted}
    crops = None
    signal = inputs.get("input_values")
    if signal is not None and signal.ndim == 4:
        crops = signal.shape[1]
        inputs["input_values"] = signal.flatten(0, 1)
        if "lead_indices" in inputs and inputs["lead_indices"].ndim == 2:
            inputs["lead_indices"] = inputs["lead_indices"].repeat_interleave(crops, dim=0)
    with frozen(encoder):
        outputs = encoder(**inputs)
        leads = inputs["input_values"].shape[1] if signal is not None else 0
        features = read_tokens(encoder, outputs, leads, readout)
    if crops is None:
        return features
    features = features.unflatten(0, (-1, crops))
    return features.flatten(1, 2) if readout == "tokens" else features.mean(dim=1)


def read_tokens(encoder: ECGPreTrainedModel, outputs: ModelOutput, num_leads: int, readout: str) -> Tensor:
    """What a readout takes from the outputs of a base model; see `extract_features`."""
    if readout == "pooled":
        return outputs.pooler_output.float()
    tokens = encoder.tokens_by_lead(outputs.last_hidden_state, num_leads)  # (B, L, n, D) or None
    if readout == "tokens":
        return (outputs.last_hidden_state if tokens is None else tokens.flatten(1, 2)).float()
    if tokens is None:
        return outputs.pooler_output.float()
    tokens = tokens.float()
    if readout == "mean":
        return tokens.mean(dim=(1, 2))
    per_lead = tokens.mean(dim=2).flatten(1)
    if readout == "per_lead":
        return per_lead
    return torch.cat([per_lead, tokens.std(dim=2, correction=0).flatten(1)], dim=1)


def signal_figures(row: ECGRecord | Mapping[str, Any], extra: str) -> NDArray[np.float32]:
    """`"amplitude"` or `"simple"` figures of a dataset row or record, on its own leads."""
    record = row if isinstance(row, ECGRecord) else ECGRecord.from_row(row)
    function = amplitude_features if extra == "amplitude" else simple_features
    return function(record.signal, record.sampling_rate).astype(np.float32)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every sub-module gets its mode back afterwards."""
    with eval_mode(module), torch.inference_mode():
        yield


def parameter_hash(module: nn.Module) -> str:
    """SHA-256 over names, types, shapes and bytes of every parameter and buffer, non-persistent buffers included.

    Equal before and after a readout was fitted, or the encoder was not frozen.
    """
    return tensors_sha256(
        [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    )


def _check_finite(block: NDArray[np.float32], rows: Sequence[Any]) -> None:
    bad = np.flatnonzero(~np.isfinite(block.reshape(len(block), -1)).all(axis=1))
    if len(bad):
        row = rows[int(bad[0])]
        name = row.record_id if isinstance(row, ECGRecord) else row["record_id"]
        raise ValueError(f"The features of record {name} are not finite (and of {len(bad) - 1} more of its batch).")


__all__ = [
    "AttentionProbe",
    "AttentionProbeHead",
    "LastEpochProbe",
    "LinearProbe",
    "RidgeProbe",
    "Standardizer",
    "encode_batch",
    "extract_features",
    "frozen",
    "knn_scores",
    "parameter_hash",
    "read_tokens",
    "signal_figures",
]
