"""What both pipelines share: any record in, crops of it as chunks, so that long records and batches mix freely."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import ModelOutput

# arguments that describe a raw array; records, rows and files carry their own
SIGNAL_PARAMETERS = ("sampling_rate", "lead_names", "units")
CROP_PARAMETERS = ("num_crops", "max_crops")
# a record up to this many crops long is seen through evenly spaced crops, a longer one through sliding windows
SHORT_RECORD_IN_CROPS = 1.5
DEFAULT_NUM_CROPS = 3


class ECGPipeline(ChunkPipeline):
    """Turns a path, an array with its rate, a dataset row or an ECGRecord into crops and runs the model on them.

    An array is `(T, L)`. `{"signal": array, "sampling_rate": 500, "lead_names": […]}` is understood too, so that a list may
    mix rates. Crops: three evenly spaced ones for a record up to one and a half crops long, sliding windows beyond;
    `num_crops` fixes their number.
    """

    _load_processor = False
    _load_image_processor = False
    _load_tokenizer = False
    _load_feature_extractor = True

    def _signal_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        known = (*SIGNAL_PARAMETERS, *CROP_PARAMETERS)
        return {name: parameters[name] for name in known if parameters.get(name) is not None}

    def preprocess(
        self,
        inputs: Any,
        sampling_rate: float | None = None,
        lead_names: list[str] | None = None,
        units: str | None = None,
        num_crops: int | None = None,
        max_crops: int = 10_000,
    ) -> Iterator[dict[str, Any]]:
        """One chunk `(1, L, seq_len)` per crop."""
        signal, hints = describe(inputs, {"sampling_rate": sampling_rate, "lead_names": lead_names, "units": units})
        if not hasattr(self.feature_extractor, "sliding_crop_starts"):  # beats: a record is one chunk
            chunk = dict(self.feature_extractor(signal, **hints, return_tensors="pt"))
            yield {**{key: value for key, value in chunk.items() if key != "beat_samples"}, "is_last": True}
            return
        crops, lead_indices = self._crops(signal, hints, num_crops, max_crops)
        for index, crop in enumerate(crops):
            chunk = {
                "input_values": torch.from_numpy(np.ascontiguousarray(crop))[None],
                "is_last": index == len(crops) - 1,
            }
            if lead_indices is not None:
                chunk["lead_indices"] = torch.tensor([lead_indices])
            yield chunk

    def _crops(
        self, signal: Any, hints: dict[str, Any], num_crops: int | None, max_crops: int
    ) -> tuple[np.ndarray, list[int] | None]:
        """`(k, L, seq_len)` and, where the leads are not the model's own, their rows in its table."""
        extractor = self.feature_extractor
        starts = None
        if num_crops is None and extractor.seq_len is not None:
            prepared = extractor.prepare(signal, **hints)
            starts = extractor.sliding_crop_starts(prepared)
            if len(starts) == 1:
                num_crops = 1
            elif starts[-1] + extractor.seq_len <= SHORT_RECORD_IN_CROPS * extractor.seq_len:
                num_crops = DEFAULT_NUM_CROPS
            elif len(starts) > max_crops:
                raise ValueError(f"The record needs {len(starts)} crops, more than max_crops={max_crops}.")
        if num_crops is None and starts is not None:
            first = extractor(signal, **hints, crop_start=0)
            return extractor.finish(prepared, crop_start=starts), first.get("lead_indices")
        features = extractor(signal, **hints, num_crops=num_crops)
        values = features["input_values"][0]
        return (values if values.ndim == 3 else values[None]), features.get("lead_indices")

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:
        is_last = model_inputs.pop("is_last")
        parameters = {key: value for key, value in model_inputs.items() if isinstance(value, torch.Tensor)}
        outputs = self.model(**parameters)
        return {**self.keep(outputs), "is_last": is_last}

    def keep(self, outputs: ModelOutput) -> dict[str, torch.Tensor]:
        """The tensors of a model output that `postprocess` needs."""
        raise NotImplementedError(f"{type(self).__name__} must say what it keeps of a model output.")


def describe(inputs: Any, hints: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A signal that the extractor takes, and what is known of it.

    Raises:
        ValueError: for an array that is not `(T, L)`, of which all but the first record would silently be lost.
    """
    hints = {key: value for key, value in hints.items() if value is not None}
    if isinstance(inputs, Mapping) and "record_id" not in inputs and ("signal" in inputs or "array" in inputs):
        inputs = dict(inputs)
        hints |= {key: inputs.pop(key) for key in SIGNAL_PARAMETERS if inputs.get(key) is not None}
        inputs = inputs.get("signal", inputs.get("array"))
    if isinstance(inputs, torch.Tensor):
        inputs = inputs.numpy()
    if isinstance(inputs, np.ndarray) and inputs.ndim != 2:
        raise ValueError(
            f"A record is an array (seq_len, num_leads); got shape {inputs.shape}. Pass several records as a list."
        )
    if isinstance(inputs, (int, float)):
        raise ValueError("A record is an array (seq_len, num_leads), not a nested list of numbers.")
    return (str(inputs) if isinstance(inputs, Path) else inputs), hints
