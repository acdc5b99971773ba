"""What a user hands to an extractor, as a list of records: arrays, records, dataset rows, paths, or lists of these."""

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from ecg_transformers.data.millivolts import INVALID
from ecg_transformers.data.readers import read_record
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.features.steps import RecordReport, RecordState
from ecg_transformers.signal.leads import canonical_lead, names_the_only_lead
from ecg_transformers.signal.resampling import check_rate
from ecg_transformers.signal.units import canonical_unit

if TYPE_CHECKING:
    import pandas as pd

Signal: TypeAlias = (
    "np.ndarray | pd.DataFrame | ECGRecord | DigitalRecord | Mapping[str, Any] | str | os.PathLike[str] | Sequence[Any]"
)
"""`(T, L)` array | ECGRecord | DigitalRecord | dataset row | path | list of these."""


IGNORED = -100
"""The class of a record that carries none, which losses of torch pass over."""


class ECGSignalWarning(UserWarning):
    """A record was repaired, or looks suspicious; the extractor's `last_report` has the details."""


@dataclass
class Given:
    """One record as it was handed in: the array `(T, L)` and what is known of it.

    A record that stays int16 has `stored`; its `signal` then holds the lowest and the highest value of each lead, which
    is all that the record steps look at where nothing is to be repaired or derived.
    """

    signal: np.ndarray
    state: RecordState
    stored: DigitalRecord | None = None

    def unpack(self) -> None:
        """The whole signal after all, and nothing said of it yet."""
        assert self.stored is not None
        record, where = self.stored.to_record(), self.state.where
        report = RecordReport(record=where)
        self.state = RecordState(where, record.lead_names, "mV", self.state.sampling_rate, report)
        self.signal, self.stored = record.signal, None


def read_inputs(
    signal: Signal,
    sampling_rate: float | Sequence[float] | None = None,
    lead_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
    units: str | Sequence[Any] | None = None,
    default_units: str = "mV",
    keep_stored: bool = False,
) -> list[Given]:
    """Every record of `signal`, with its own rate, lead names and units.

    `sampling_rate`, `lead_names` and `units` hold for all records, or are lists with one entry for each. A record, a
    row or a file that knows its rate, leads and unit needs none of them; an array without a unit is in `default_units`.
    With `keep_stored` rows and `DigitalRecord`s stay int16 (see `Given`) unless they have gaps.

    Raises:
        ValueError: no rate for a raw array, a rate, leads or a unit that contradict the record's own, a shape that is
            not `(T, L)`, or an empty batch.
    """
    if isinstance(lead_names, str):
        lead_names = [name.strip() for name in lead_names.split(",")]
    if units is not None and not hasattr(units, "__len__"):
        raise ValueError(f"units is the name of a unit, or a list of them; got {units!r}.")
    batch = _as_batch(signal)
    if batch is None:
        rate = _single(sampling_rate)
        return [_read_input(signal, rate, lead_names, units, default_units, "the record", keep_stored)]
    if not batch:
        raise ValueError("an empty list holds no record.")
    rates = _each(sampling_rate, len(batch), isinstance(sampling_rate, Sequence | np.ndarray), "sampling rates")
    nested = lead_names is not None and len(lead_names) > 0 and not isinstance(lead_names[0], str)
    names = _each(lead_names, len(batch), nested, "lists of lead names")
    unit = _each(units, len(batch), units is not None and not isinstance(units, str), "units")
    where = ["the record"] if len(batch) == 1 else [f"record {i}" for i in range(len(batch))]
    return [
        _read_input(item, rates[i], names[i], unit[i], default_units, where[i], keep_stored)
        for i, item in enumerate(batch)
    ]


def as_rows(signal: Signal) -> tuple[Signal, bool]:
    """A batch of dataset rows by column, as `datasets` hands it to a function in any of its formats, as a list of rows; and
    whether it was one.
    """
    if hasattr(signal, "to_dict") and {"signal", "lead_names"} <= set(getattr(signal, "columns", ())):  # a data frame
        return signal.to_dict("records"), True
    samples = signal.get("signal") if isinstance(signal, Mapping) else None
    is_column = isinstance(samples, list) or (isinstance(samples, np.ndarray) and samples.dtype.kind in "SO")
    if not isinstance(signal, Mapping) or samples is None or not is_column:
        return signal, False
    lengths = {
        -1 if isinstance(column, str) else len(column) for column in signal.values() if hasattr(column, "__len__")
    }
    stored = all(isinstance(one, bytes) for one in samples) and {"gain", "offset", "lead_names"} <= set(signal)
    if len(lengths) != 1 or not (stored or all(np.ndim(one) == 2 for one in samples)):
        return signal, False
    rows = [{name: column[index] for name, column in signal.items()} for index in range(len(samples))]
    return rows if stored else [{**row, "signal": np.asarray(row["signal"])} for row in rows], True


def with_array(row: Signal) -> Signal:
    """A row whose signal is a list of samples, as a dataset without a format gives it, with the array that it means."""
    if not isinstance(row, Mapping) or not isinstance(row.get("signal"), list):
        return row
    try:
        samples = np.asarray(row["signal"])
    except ValueError:  # lists of different lengths
        return row
    return {**row, "signal": samples} if samples.ndim == 2 and samples.dtype.kind in "iuf" else row


def labels_of(batch: Signal) -> np.ndarray | None:
    """The labels of dataset rows as a classifier takes them: a class each `(B,)`, or 0.0 and 1.0 for every label `(B, C)`;
    None where a row has none of either kind. Rows of other datasets keep the numbers of `labels` or `label`; text there is
    told.
    """
    rows = cast("Sequence[Mapping[str, Any]]", batch)
    if rows and "task_kind" not in rows[0]:
        return _numbers_of(rows)
    kinds = {str(row.get("task_kind")) for row in rows}
    column = {"multiclass": "label_ids", "multilabel": "label_vector"}.get(kinds.pop()) if len(kinds) == 1 else None
    values = [np.asarray(row[column]) for row in rows if row.get(column) is not None] if column else []
    sizes = {value.size for value in values}
    if not values or len(values) < len(rows):
        return None
    if column == "label_vector":
        return np.stack(values).astype(np.float32) if len(sizes) == 1 and 0 not in sizes else None
    return np.array([value[0] if value.size else IGNORED for value in values]) if sizes <= {0, 1} else None


def _numbers_of(rows: Sequence[Mapping[str, Any]]) -> np.ndarray | None:
    name = next((name for name in ("labels", "label") if rows[0].get(name) is not None), None)
    if name is None:
        return None
    values = [np.asarray(row[name]) for row in rows]
    if all(value.dtype.kind in "biuf" for value in values) and len({value.shape for value in values}) == 1:
        stacked = np.stack(values)
        is_class = stacked.ndim == 1 and stacked.dtype.kind in "iu"
        return stacked.astype(np.int64 if is_class else np.float32)
    warnings.warn(
        f"The column {name!r} holds no numbers of one shape, which is what a model takes: it is not among the results. Number "
        f"the classes first: dataset.class_encode_column({name!r}), or a list of 0.0 and 1.0 for every label.",
        ECGSignalWarning,
        stacklevel=4,
    )
    return None


def _as_batch(signal: Any) -> Sequence[Any] | None:
    """The records of a list, tuple or `(B, T, L)` array; None for a single record."""
    if isinstance(signal, list | tuple):
        if any(isinstance(item, list | tuple | int | float) for item in signal):
            raise ValueError(
                "nested Python lists do not say what is time and what is leads: give numpy arrays "
                "(seq_len, num_leads), or a list of such arrays."
            )
        return signal
    if _is_array(signal) and np.ndim(signal) == 3:
        return list(signal)
    return None


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "__array__") and not isinstance(value, bytes)  # as numpy has them


def _single(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple | np.ndarray) and np.size(value) == 1 else value


def _each(value: Any, count: int, is_list: bool, what: str) -> list[Any]:
    if not is_list:
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{len(value)} {what} were given for {count} records: give one for all, or one for each.")
    return list(value)


def _read_input(
    item: Any,
    sampling_rate: float | None,
    lead_names: Any,
    units: str | Sequence[str] | None,
    default_units: str,
    where: str,
    keep_stored: bool,
) -> Given:
    """One record; see `read_inputs`."""
    stored = None
    if isinstance(item, str | os.PathLike):
        item = _read_path(item, sampling_rate, lead_names, units or default_units)
        sampling_rate = lead_names = units = None
    elif hasattr(item, "columns") and hasattr(item, "to_numpy"):  # a data frame: its columns are the leads
        own = None if all(isinstance(name, int | np.integer) for name in item.columns) else list(item.columns)
        lead_names = _agree_leads(own, lead_names, where)
        item = item.to_numpy()
    elif isinstance(item, Mapping):
        item = with_array(item)
        _check_holds_a_signal(item, where)
        if _is_array(item["signal"]):
            return _given_by_name(item, sampling_rate, lead_names, units, default_units, where)
        stored = _as_stored(DigitalRecord.from_row(item)) if keep_stored else None
        item = ECGRecord.from_row(item) if stored is None else stored.extremes()
    elif hasattr(item, "to_record"):  # a DigitalRecord
        stored = _as_stored(item) if keep_stored else None
        item = item.to_record() if stored is None else stored.extremes()
    if hasattr(item, "signal") and hasattr(item, "lead_names"):
        given = _read_record(item, sampling_rate, lead_names, units, where)
        given.stored = stored
        return given
    if not _is_array(item):
        raise ValueError(
            f"{where} is a {type(item).__name__}: give an array (seq_len, num_leads), an ECGRecord, a dataset row "
            "or a path."
        )
    return _given(item, sampling_rate, lead_names, units or default_units, where)


def _given_by_name(
    item: Mapping[str, Any], sampling_rate: float | None, lead_names: Any, units: Any, default_units: str, where: str
) -> Given:
    """A dictionary that holds an array and may say its rate, leads and unit."""
    where = f"{where} ({item['record_id']})" if item.get("record_id") else where
    rate = _agree(item.get("sampling_rate"), sampling_rate, where)
    names = _agree_leads(item.get("lead_names"), lead_names, where)
    own = _agree_units(item.get("units"), units, where)
    return _given(item["signal"], rate, names, own or default_units, where)


def _as_stored(record: DigitalRecord) -> DigitalRecord | None:
    """A record that a device can scale: int16 in millivolts, without gaps."""
    if record.samples.dtype != np.int16 or record.samples.min() == INVALID:
        return None
    sound = np.isfinite(record.gain).all() and np.isfinite(record.offset).all() and np.all(record.gain != 0)
    return record if sound and record.units == "mV" else None


def _check_holds_a_signal(item: Mapping[Any, Any], where: str) -> None:
    if "signal" not in item:
        keys = ", ".join(map(str, list(item)[:5]))
        if item and set(item) <= {"label", "labels", "label_ids", "lead_indices"}:
            raise ValueError(
                f"{where} has nothing but {keys}: Trainer takes out the columns that the model does not name before a transform "
                "sees them; pass TrainingArguments(remove_unused_columns=False)."
            )
        raise ValueError(
            f"{where} is a dictionary without a signal (it has {keys or 'nothing'}): give a record or a dataset row, or of a "
            "dataset one of its splits."
        )
    if isinstance(item["signal"], list):
        raise ValueError(
            f"{where} holds its signal as a list: give an array (seq_len, num_leads), a dataset row, or a list of rows."
        )


def _read_record(record: Any, sampling_rate: Any, lead_names: Any, units: Any, where: str) -> Given:
    """An `ECGRecord`, whose own words and the hints must agree."""
    where = f"{where} ({record.record_id})" if getattr(record, "record_id", "") else where
    rate = _agree(record.sampling_rate, sampling_rate, where)
    names = _agree_leads(record.lead_names, lead_names, where)
    given = _given(record.signal, rate, names, _agree_units("mV", units, where), where)
    flags = (getattr(record, "metadata", None) or {}).get("flags", ())
    given.state.discontinuous = "gaps" in flags
    if "z_scores" in flags:
        given.state.report.suspicions.append("the samples are z-scores of each lead, no millivolts.")
    return given


def _read_path(path: Any, sampling_rate: Any, lead_names: Any, units: Any) -> Any:
    hints = {"sampling_rate": sampling_rate, "lead_names": lead_names, "units": None if units == "mV" else units}
    return read_record(path, **{name: value for name, value in hints.items() if value is not None})


def _agree(own: float | None, given: float | None, where: str) -> float | None:
    if own is not None and given is not None and float(own) != float(given):
        raise ValueError(f"{where} says {float(own):g} Hz, the call says {float(given):g} Hz: leave sampling_rate out.")
    return given if own is None else own


def _agree_leads(own: Any, given: Any, where: str) -> Any:
    if own is None or given is None:
        return given if own is None else own
    if names_the_only_lead(given, own):
        return given
    if [canonical_lead(str(name)) for name in own] != [canonical_lead(str(name)) for name in given]:
        raise ValueError(
            f"{where} says that its leads are {', '.join(map(str, own))}, the call says {', '.join(map(str, given))}: "
            "leave lead_names out (the extractor's own lead_names choose and order the leads)."
        )
    return own


def _agree_units(own: Any, given: Any, where: str) -> Any:
    if own is None or given is None:
        return given if own is None else own
    mine, theirs = (
        [canonical_unit(unit) for unit in ([part] if isinstance(part, str) else part)] for part in (own, given)
    )
    if (mine * len(theirs) if len(mine) == 1 else mine) != (theirs * len(mine) if len(theirs) == 1 else theirs):
        raise ValueError(f"{where} says {own}, the call says {given}: leave units out.")
    return own


def _given(signal: Any, rate: float | None, names: Any, units: Any, where: str) -> Given:
    array = _array(signal)
    if rate is None:
        raise ValueError(f"{where} is a raw array: its rate cannot be guessed, give sampling_rate=… in Hz.")
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{where} has the shape {array.shape}: a record is (seq_len, num_leads) and not empty.")
    if array.dtype == object or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise ValueError(f"{where} holds {array.dtype} values: a record holds real numbers.")
    if array.dtype != np.float32:
        array = array.astype(np.float64, copy=False)
    names = [str(name) for name in names] if names is not None else None
    if names is not None and len(names) != array.shape[1]:
        hint = " The shape looks like (num_leads, seq_len): transpose it." if array.shape[0] == len(names) else ""
        raise ValueError(f"{where} has the shape {array.shape} but {len(names)} lead names.{hint}")
    return Given(array, RecordState(where, names, units, check_rate(rate), RecordReport(record=where)))


def _array(signal: Any) -> np.ndarray:
    if not hasattr(signal, "detach"):
        return np.asarray(signal)
    import torch

    tensor = signal.detach().cpu()
    return np.asarray(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)  # numpy knows no bfloat16
