"""What the pipelines share: any record in, crops of it as chunks, so that long records and batches mix freely."""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.pipelines.base import ChunkPipeline
from transformers.utils import ModelOutput

from ecg_transformers.data.readers import read_digital
from ecg_transformers.features.inputs import Signal, as_rows, with_array
from ecg_transformers.signal.resampling import check_rate
from ecg_transformers.words import did_you_mean

# arguments that describe a raw array or a file that does not state them; records and rows carry their own
SIGNAL_PARAMETERS = ("sampling_rate", "lead_names", "units")
CROP_PARAMETERS = ("num_crops", "windows", "max_crops")
# a record up to this many crops long is seen through evenly spaced crops, a longer one through sliding windows,
# where the checkpoint does not say how it was evaluated
SHORT_RECORD_IN_CROPS = 1.5
DEFAULT_NUM_CROPS = 3
# a record that is longer than those of the training by more than this factor is seen thinly by the same crops
LONG_RECORD = 2.0

Chunk = dict[str, Any]


class LongRecordWarning(UserWarning):
    """A record is much longer than those the checkpoint was evaluated on."""


class ECGPipeline(ChunkPipeline):
    """Turns a path, an array with its rate, a dataset row or an ECGRecord into crops and runs the model on them.

    An array is `(T, L)`. `{"signal": array, "sampling_rate": 500, "lead_names": […]}` is understood too, so that a list may
    mix rates. A list gives a list; a dataset or a generator is a stream. The crops are those by which the checkpoint was
    evaluated (`config.evaluation_crops`); where it does not say, three evenly spaced ones for a record up to one and a
    half crops long, sliding windows beyond. `num_crops` fixes their number, `windows=True` slides over the whole record.
    """

    _load_processor = False
    _load_image_processor = False
    _load_tokenizer = False
    _load_feature_extractor = True
    own_parameters: tuple[str, ...] = ()

    def __call__(self, inputs: Signal, *args: Any, **kwargs: Any) -> Any:
        """Results of a record, a list of them for a list, an iterator for a dataset or a generator."""
        inputs, _ = as_rows(inputs)
        if not isinstance(inputs, (list, tuple, Mapping)) and hasattr(inputs, "__getitem__") and is_dataset(inputs):
            rows: Any = inputs
            return super().__call__((rows[index] for index in range(len(rows))), *args, **kwargs)
        if isinstance(inputs, Iterator):  # transformers knows generators only
            return super().__call__((item for item in inputs), *args, **kwargs)
        return super().__call__(list(inputs) if isinstance(inputs, tuple) else inputs, *args, **kwargs)

    def _signal_parameters(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What `preprocess` takes of the keywords of a call.

        Raises:
            ValueError: a keyword that nobody reads, with the nearest one that somebody does; a rate that is no number.
        """
        allowed = (*SIGNAL_PARAMETERS, *CROP_PARAMETERS)
        for name in parameters:
            if name not in allowed:
                names = sorted({*allowed, *self.own_parameters, "batch_size", "num_workers"})
                raise ValueError(f"{type(self).__name__} has no argument {name!r}{did_you_mean(name, names)}")
        given = {name: value for name, value in parameters.items() if value is not None}
        if "sampling_rate" in given:
            given["sampling_rate"] = check_rate(given["sampling_rate"])
        if not isinstance(given.get("windows", False), bool):
            raise ValueError(f"windows is True or False, got {given['windows']!r}.")
        return given

    def preprocess(
        self,
        inputs: Signal,
        sampling_rate: float | None = None,
        lead_names: list[str] | None = None,
        units: str | None = None,
        num_crops: int | None = None,
        windows: bool = False,
        max_crops: int = 10_000,
    ) -> Iterator[Chunk]:
        """One chunk `(1, L, seq_len)` per crop."""
        signal, hints = describe(inputs, {"sampling_rate": sampling_rate, "lead_names": lead_names, "units": units})
        if not self.feature_extractor.takes_crops:  # a record is one chunk
            yield {**self.feature_extractor(signal, **hints, return_tensors="pt"), "is_last": True}
            return
        if windows and num_crops is not None:
            raise ValueError("num_crops fixes the number of crops, windows=True slides over the record: give one.")
        crops, lead_indices = self._crops(signal, hints, num_crops, windows, max_crops)
        for index, crop in enumerate(crops):
            chunk = {
                "input_values": torch.from_numpy(np.ascontiguousarray(crop))[None],
                "is_last": index == len(crops) - 1,
            }
            if lead_indices is not None:
                chunk["lead_indices"] = torch.tensor([lead_indices])
            yield chunk

    def _crops(
        self, signal: Any, hints: dict[str, Any], num_crops: int | None, windows: bool, max_crops: int
    ) -> tuple[np.ndarray, list[int] | None]:
        """`(k, L, seq_len)` and, where the leads are not the model's own, their rows in its table."""
        extractor = self.feature_extractor
        starts = None
        if num_crops is None and not windows and self.model.config.evaluation_crops is not None:
            num_crops = self.model.config.evaluation_crops
            self._tell_of_a_long_record(signal, hints)
        if num_crops is None and extractor.seq_len is not None:
            prepared = extractor.prepare(signal, **hints)
            starts = extractor.sliding_crop_starts(prepared)
            if len(starts) == 1:
                num_crops = 1
            elif not windows and starts[-1] + extractor.seq_len <= SHORT_RECORD_IN_CROPS * extractor.seq_len:
                num_crops = DEFAULT_NUM_CROPS
            elif len(starts) > max_crops:
                raise ValueError(f"The record needs {len(starts)} crops, more than max_crops={max_crops}.")
        if num_crops is None and starts is not None:
            crops = extractor.finish(prepared, crop_start=starts, lead_names=extractor.last_leads)
            return crops, extractor.lead_indices(extractor.last_leads)
        features = extractor(signal, **hints, num_crops=num_crops)
        values = features["input_values"][0]
        return (values if values.ndim == 3 else values[None]), features.get("lead_indices")

    def _tell_of_a_long_record(self, signal: Any, hints: Mapping[str, Any]) -> None:
        trained, seconds = self.model.config.evaluation_seconds, duration_of(signal, hints)
        if trained is not None and seconds is not None and seconds > LONG_RECORD * trained:
            warnings.warn(
                f"A record of {seconds:g} s is much longer than those that this checkpoint was evaluated on "
                f"({trained:g} s): its {self.model.config.evaluation_crops} crops see little of it. windows=True "
                "(--windows) slides over the whole record.",
                LongRecordWarning,
                stacklevel=2,
            )

    def _forward(self, model_inputs: Chunk) -> Chunk:
        is_last = model_inputs.pop("is_last")
        parameters = {
            key: value.to(self.model.dtype) if value.is_floating_point() else value
            for key, value in model_inputs.items()
            if isinstance(value, torch.Tensor)
        }
        outputs = self.model(**parameters)
        return {**self.keep(outputs), "is_last": is_last}

    def keep(self, outputs: ModelOutput) -> dict[str, torch.Tensor]:
        """The tensors of a model output that `postprocess` needs."""
        raise NotImplementedError(f"{type(self).__name__} must say what it keeps of a model output.")

    def numbers(self, model_outputs: list[Chunk], name: str) -> torch.Tensor:
        """What the model gave for all crops of a record, in float32.

        Raises:
            ValueError: it holds NaN or infinity, which would be answered as if it were a result.
        """
        values = torch.cat([chunk[name].float() for chunk in model_outputs]).cpu()
        if not values.isfinite().all():
            narrow = f", or {self.model.dtype} is too narrow for it (dtype=torch.float32 computes in full precision)"
            raise ValueError(
                f"The {name} of the model are not finite for this record: its weights are damaged"
                f"{'' if self.model.dtype == torch.float32 else narrow}."
            )
        return values

    def run_many(self, items: Iterable[Any], batch_size: int = 32, **parameters: Any) -> Iterator[tuple[Any, Any]]:
        """`(item, result)` in order, where the result of an item that cannot be read or used is its exception.

        Crops of several records run through the model together, at most `batch_size` of them.
        """
        before, _, after = self._sanitize_parameters(**parameters)
        before, after = {**self._preprocess_params, **before}, {**self._postprocess_params, **after}
        return self._in_batches(items, batch_size, before, after)

    def get_iterator(
        self,
        inputs: Iterable[Any],
        num_workers: int,
        batch_size: int,
        preprocess_params: dict[str, Any],
        forward_params: dict[str, Any],
        postprocess_params: dict[str, Any],
    ) -> Iterable[Any]:
        """Results of a stream. Transformers' own batches would pad a record of few leads to those of its neighbours."""
        if batch_size == 1:
            return super().get_iterator(
                inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
            )
        results = self._in_batches(inputs, batch_size, preprocess_params, postprocess_params)
        return (_or_raise(result) for _, result in results)

    def _in_batches(
        self, items: Iterable[Any], batch_size: int, before: Mapping[str, Any], after: Mapping[str, Any]
    ) -> Iterator[tuple[Any, Any]]:
        waiting: list[tuple[Any, list[Chunk] | Exception]] = []
        count = 0
        for item in items:
            try:
                chunks: list[Chunk] | Exception = list(self.preprocess(item, **before))
            except (ValueError, OSError, ImportError) as error:
                chunks = error
            waiting.append((item, chunks))
            count += 1 if isinstance(chunks, Exception) else len(chunks)
            if count >= batch_size:
                yield from self._finish(waiting, batch_size, after)
                waiting, count = [], 0
        yield from self._finish(waiting, batch_size, after)

    def _finish(
        self, waiting: list[tuple[Any, list[Chunk] | Exception]], batch_size: int, after: Mapping[str, Any]
    ) -> Iterator[tuple[Any, Any]]:
        chunks = [chunk for _, found in waiting if not isinstance(found, Exception) for chunk in found]
        outputs = iter(self._run_batches(chunks, batch_size))
        for item, found in waiting:
            result: Any = found
            if not isinstance(found, Exception):
                own = [next(outputs) for _ in found]
                try:
                    result = self.postprocess(own, **after)
                except ValueError as error:
                    result = error
            yield item, result

    def _run_batches(self, chunks: list[Chunk], batch_size: int) -> list[Chunk]:
        """Model outputs of all chunks; neighbours of equal shapes share a pass."""
        results: list[Chunk] = []
        start = 0
        while start < len(chunks):
            shapes = _shapes(chunks[start])
            stop = start + 1
            while stop < len(chunks) and stop - start < batch_size and _shapes(chunks[stop]) == shapes:
                stop += 1
            batch = {name: torch.cat([chunk[name] for chunk in chunks[start:stop]]) for name in shapes}
            outputs = self.forward({**batch, "is_last": True})
            for index in range(stop - start):
                results.append({name: value[index : index + 1] for name, value in outputs.items() if name != "is_last"})
            start = stop
        return results


def _or_raise(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


def _shapes(chunk: Chunk) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in chunk.items() if isinstance(value, torch.Tensor)}


def is_dataset(inputs: object) -> bool:
    """Whether an object is a series of rows: a `datasets.Dataset`, a table of records, a torch dataset."""
    is_one = isinstance(inputs, (str, bytes, os.PathLike, np.ndarray, torch.Tensor)) or hasattr(inputs, "to_numpy")
    return hasattr(inputs, "__len__") and not is_one


def describe(inputs: Signal, hints: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A signal that the extractor takes, and what is known of it. Files are read here, once.

    Raises:
        ValueError: for an array that is not `(T, L)`, of which all but the first record would silently be lost.
    """
    hints = {key: value for key, value in hints.items() if value is not None}
    inputs = with_array(inputs)
    if isinstance(inputs, Mapping) and "record_id" not in inputs and ("signal" in inputs or "array" in inputs):
        inputs = dict(inputs)
        hints |= {key: inputs.pop(key) for key in SIGNAL_PARAMETERS if inputs.get(key) is not None}
        inputs = inputs.pop("signal" if "signal" in inputs else "array")
    if isinstance(inputs, torch.Tensor):
        inputs = inputs.detach().cpu().float().numpy()
    if isinstance(inputs, np.ndarray) and inputs.ndim != 2:
        raise ValueError(
            f"A record is an array (seq_len, num_leads); got shape {inputs.shape}. Pass several records as a list."
        )
    if isinstance(inputs, (int, float)):
        raise ValueError("A record is an array (seq_len, num_leads), not a nested list of numbers.")
    if isinstance(inputs, (str, os.PathLike)):
        # as a corpus keeps them, in 16 bits: a file is scored as it was when it stood in the test split
        return read_digital(Path(inputs), **hints).to_record(), {}
    return inputs, hints


def duration_of(signal: Signal, hints: Mapping[str, Any]) -> float | None:
    """Seconds of a record, as far as it says."""
    if isinstance(signal, Mapping):
        length, rate = signal.get("num_samples"), signal.get("sampling_rate")
        return None if length is None or not rate else float(length) / float(rate)
    rate = getattr(signal, "sampling_rate", None) or hints.get("sampling_rate")
    values: Any = getattr(signal, "signal", signal)
    return len(values) / float(rate) if rate else None
