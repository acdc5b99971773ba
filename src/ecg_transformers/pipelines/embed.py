"""`embed`: one vector a record, from any record and any checkpoint, in one line."""

import inspect
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from ecg_transformers.data.corpora.folder.files import records_of
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.readers import read_record
from ecg_transformers.features.inputs import Signal, as_rows
from ecg_transformers.hub.checkpoints import load_checkpoint
from ecg_transformers.models.checkpoints import CHECKPOINTS, RESTING_ECG_SECONDS
from ecg_transformers.words import did_you_mean

Readout = Literal["pooler", "mean", "max"]
READOUTS = ("pooler", "mean", "max")
_WAITING_TASKS = 4  # per process, so that a generator is not read far ahead


@dataclass
class EmbedReport:
    """What happened to the records of a call.

    Attributes:
        records: how many there were.
        skipped: position, name and reason of each record whose row is NaN.
        windows: number of windows of each record, 0 where it was skipped.
    """

    records: int = 0
    skipped: list[dict[str, Any]] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Prepared:
    """One record as the model takes it: `values (k, …)`, one row a window, and what else the model is given."""

    name: str
    features: dict[str, np.ndarray] = field(default_factory=dict)
    problem: str | None = None
    record_id: str | None = None
    patient_id: str | None = None

    @property
    def num_windows(self) -> int:
        return len(next(iter(self.features.values()))) if self.features else 0


@dataclass(frozen=True)
class Encoder:
    """A checkpoint that is ready to embed records.

    Attributes:
        model: the network without its head, in eval mode, on its device.
        extractor: what feeds it.
        readout: one of `READOUTS`.
        batch_size: windows in one forward pass.
    """

    model: Any
    extractor: Any
    readout: str = "pooler"
    batch_size: int = 32

    @classmethod
    def load(
        cls,
        checkpoint: str | os.PathLike[str],
        *,
        readout: str | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 32,
    ) -> "Encoder":
        """See `embed`.

        Raises:
            ValueError: as `load_checkpoint`, or a batch size or a readout that cannot be meant.
        """
        if isinstance(batch_size, bool) or int(batch_size) < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size!r}.")
        model, extractor = load_checkpoint(checkpoint)
        row = CHECKPOINTS.get(os.fspath(checkpoint))
        chosen = readout or (row.readout if row else "pooler")
        if chosen not in READOUTS:
            raise ValueError(f"readout must be one of {', '.join(READOUTS)}, got {chosen!r}.")
        return cls(model.base_model.to(device or _default_device()).eval(), extractor, chosen, batch_size)

    @property
    def width(self) -> int:
        """Length of one vector."""
        return int(self.model.feature_size)

    def embed_each(
        self, named: Iterable[tuple[str, Any]], *, num_proc: int | None = None, **hints: Any
    ) -> Iterator[tuple[Prepared, np.ndarray | None]]:
        """Every record, in order, with the vectors `(k, D)` of its windows; None, and the reason, where it cannot be used.

        Args:
            named: what to call a record, and the record: a path, an array, an ECGRecord or a dataset row.
            num_proc: processes that read and preprocess.
            hints: `sampling_rate`, `lead_names` and `units` of what does not say them itself.
        """
        prepared = _in_processes(partial(_prepare, self.extractor, hints), iter(named), num_proc)
        yield from _vectors(self.model, prepared, self.batch_size, self.readout)


def embed(
    records: Signal,
    checkpoint: str | os.PathLike[str],
    *,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    units: str = "mV",
    batch_size: int = 32,
    device: str | torch.device | None = None,
    readout: Readout | None = None,
    windows: bool = False,
    num_proc: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    **unknown: Any,
) -> np.ndarray | list[np.ndarray]:
    """The embeddings of records, float32 `(N, D)` in their order.

    A resting ECG (up to 15 s) is fed as the checkpoint's authors do: in one crop, or in several whose vectors are averaged.
    A longer record is cut into windows back to back, as long as that crop, which are averaged. The result does not depend
    on `batch_size` and `num_proc` beyond rounding.

    Args:
        records: a path, a folder (its records by name), a `(T, L)` array, an ECGRecord, a dataset row; or a list,
            dataset or generator of these.
        checkpoint: as for `load_checkpoint`: a name of `list_checkpoints()`, a folder, a Hub repository, or a file.
        sampling_rate, lead_names, units: of raw arrays; records, rows and files that know their own need none.
        batch_size: windows in one forward pass.
        device: where the model runs; the accelerator where there is one.
        readout: "pooler" (the published feature), or "mean" or "max" over the tokens; None as the checkpoint's row says.
        windows: give the vector of each window instead: a list of `(k, D)` arrays.
        num_proc: processes that read and preprocess; the model runs in this one.
        on_error: "raise", or "skip": the row of a record that cannot be used is NaN, and `embed.last_report.skipped`
            names it with the reason.

    Raises:
        ValueError: one sentence that names the record, or what is wrong with the checkpoint or an argument.

    Example:
        >>> embed(["a.hea", "b.hea"], "ecgfounder").shape  # doctest: +SKIP
        (2, 1024)
    """
    for name in unknown:
        known = [one.name for one in inspect.signature(embed).parameters.values() if one.kind is not one.VAR_KEYWORD]
        raise ValueError(f"embed has no argument {name!r}{did_you_mean(name, known)}")
    if on_error not in ("raise", "skip"):
        raise ValueError(f'on_error must be "raise" or "skip", got {on_error!r}.')
    encoder = Encoder.load(checkpoint, readout=readout, device=device, batch_size=batch_size)
    hints = {"sampling_rate": sampling_rate, "lead_names": lead_names, "units": None if units == "mV" else units}
    report = EmbedReport()
    rows: list[np.ndarray | None] = []
    for record, vectors in encoder.embed_each(_each(records), num_proc=num_proc, **hints):
        if record.problem is not None:
            if on_error == "raise":
                raise ValueError(record.problem)
            report.skipped.append({"index": report.records, "record": record.name, "reason": record.problem})
        report.records += 1
        report.windows.append(record.num_windows)
        rows.append(vectors)
    embed.last_report = report  # type: ignore[attr-defined]
    return _stacked(rows, windows, encoder.width)


embed.last_report = EmbedReport()  # type: ignore[attr-defined]


def _each(records: Any) -> Iterator[tuple[str, Any]]:
    """Name and record of everything that `records` holds."""
    if isinstance(records, str | os.PathLike) and Path(records).is_dir():
        yield from ((str(path), path) for path in records_of(records))
        return
    records, _ = as_rows(records)
    single = isinstance(records, str | os.PathLike | Mapping) or hasattr(records, "lead_names")
    if single or (hasattr(records, "__array__") and np.ndim(records) < 3):
        records = [records]
    elif not isinstance(records, Iterable) and hasattr(records, "__len__") and hasattr(records, "__getitem__"):
        rows: Any = records  # a dataset of torch
        records = (rows[index] for index in range(len(rows)))
    elif not isinstance(records, Iterable):
        raise ValueError(
            f"records must be records, or a list, dataset or generator of them; got a {type(records).__name__}."
        )
    for position, record in enumerate(records):
        yield _name(record, position), record


def _name(record: Any, position: int) -> str:
    if isinstance(record, str | os.PathLike):
        return os.fspath(record)
    return _own(record, "record_id") or f"record {position}"


def _prepare(extractor: Any, hints: Mapping[str, Any], named: tuple[str, Any]) -> Prepared:
    """The windows of one record; a record that cannot be used becomes its reason."""
    name, record = named
    try:
        if isinstance(record, str | os.PathLike):
            record, hints = _read(record, hints), {}
        whose = {key: _own(record, key) for key in ("record_id", "patient_id")}
        if not extractor.takes_crops:  # a record is one sequence
            features = dict(extractor(record, **hints, return_tensors="np"))
            values = {key: np.asarray(value) for key, value in features.items() if key != "beat_samples"}
            return Prepared(name, values, **whose)
        return Prepared(name, _windows(extractor, record, hints), **whose)
    except (ValueError, OSError, ECGDataError) as error:
        text = (str(error) or type(error).__name__).removeprefix("the record: ")  # each record is handed on alone
        return Prepared(name, problem=text if name in text else f"{name}: {text}")


def _read(path: str | os.PathLike[str], hints: Mapping[str, Any]) -> Any:
    return read_record(Path(path), **{name: value for name, value in hints.items() if value is not None})


def _own(record: Any, key: str) -> str | None:
    """What a record, or a row, says of itself."""
    value = record.get(key) if isinstance(record, Mapping) else getattr(record, key, None)
    return str(value) if value not in (None, "") else None


def _windows(extractor: Any, record: Any, hints: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`input_values (k, L, seq_len)` and, where the leads are not the model's table, `lead_indices (k, L)`."""
    signal = extractor.prepare(record, **hints)
    names = extractor.last_leads
    starts = None
    rate = float(extractor.crop_sampling_rate or extractor.sampling_rate)
    if extractor.seq_len is not None and extractor.crop != "sliding" and signal.shape[-1] > RESTING_ECG_SECONDS * rate:
        starts = extractor.sliding_crop_starts(signal, keep_end=False)
    values = extractor.finish(signal, crop_start=starts, lead_names=names)
    values = values if values.ndim == 3 else values[None]
    features = {"input_values": values}
    if (rows := extractor.lead_indices(names)) is not None:
        features["lead_indices"] = np.tile(np.array(rows, dtype=np.int64), (len(values), 1))
    return features


def _in_processes(
    work: Callable[[tuple[str, Any]], Prepared], items: Iterator[tuple[str, Any]], num_proc: int | None
) -> Iterator[Prepared]:
    """`work` of each item in order, in this process or in others."""
    if num_proc is None or num_proc < 2:
        yield from map(work, items)
        return
    method = (
        "fork" if "fork" in multiprocessing.get_all_start_methods() and not torch.cuda.is_initialized() else "spawn"
    )
    with ProcessPoolExecutor(num_proc, mp_context=multiprocessing.get_context(method)) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= _WAITING_TASKS * num_proc:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _vectors(
    model: Any, prepared: Iterable[Prepared], batch_size: int, readout: str
) -> Iterator[tuple[Prepared, np.ndarray | None]]:
    """The vectors `(k, D)` of each record in order (None for a skipped one), from batches of windows of equal shape."""
    waiting: list[tuple[Prepared, list[np.ndarray]]] = []
    batch: list[tuple[dict[str, np.ndarray], list[np.ndarray]]] = []

    def run() -> None:
        if batch:
            names = batch[0][0].keys()
            inputs = {name: torch.from_numpy(np.stack([rows[name] for rows, _ in batch])) for name in names}
            for vector, (_, target) in zip(_forward(model, inputs, readout), batch):
                target.append(vector)
            batch.clear()

    for record in prepared:
        target: list[np.ndarray] = []
        waiting.append((record, target))
        for index in range(record.num_windows):
            window = {name: value[index] for name, value in record.features.items()}
            if batch and _shapes(window) != _shapes(batch[0][0]):
                run()
            batch.append((window, target))
            if len(batch) == batch_size:
                run()
        while waiting and len(waiting[0][1]) == waiting[0][0].num_windows:
            yield _answer(*waiting.pop(0))
    run()
    yield from (_answer(record, target) for record, target in waiting)


def _answer(record: Prepared, vectors: list[np.ndarray]) -> tuple[Prepared, np.ndarray | None]:
    """A record with its vectors `(k, D)`; with a reason instead where it was skipped, or one of them holds no numbers."""
    if not vectors:
        return record, None
    rows = np.stack(vectors)
    if np.isfinite(rows).all():
        return record, rows
    text = (
        f"{record.name}: its embedding is not finite: the weights are damaged, or their precision is too narrow for it."
    )
    return replace(record, features={}, problem=text), None


def _shapes(window: Mapping[str, np.ndarray]) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, value.shape) for name, value in window.items()]


@torch.inference_mode()
def _forward(model: Any, inputs: Mapping[str, torch.Tensor], readout: str) -> np.ndarray:
    """`(B, D)` float32."""
    first = next(model.parameters())
    moved = {
        name: value.to(first.device, first.dtype if value.is_floating_point() else None)
        for name, value in inputs.items()
    }
    outputs = model(**moved)
    if readout == "pooler":
        features = outputs.pooler_output
    else:
        tokens = outputs.last_hidden_state
        features = tokens.mean(dim=1) if readout == "mean" else tokens.amax(dim=1)
    return np.asarray(features.float().cpu().numpy())


def _stacked(rows: list[np.ndarray | None], windows: bool, width: int) -> Any:
    """One row a record, or the rows of its windows; NaN for a skipped record."""
    width = next((row.shape[1] for row in rows if row is not None), width)
    missing = np.full((1, width), np.nan, dtype=np.float32)
    if windows:
        return [missing if row is None else row for row in rows]
    means = [missing[0] if row is None else mean_vector(row) for row in rows]
    return np.stack(means) if means else np.zeros((0, width), dtype=np.float32)


def mean_vector(vectors: np.ndarray) -> np.ndarray:
    """The mean of the windows' vectors, float32 `(D,)`."""
    return np.asarray(vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)


def _default_device() -> torch.device:
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return accelerator or torch.device("cpu")
