"""`ECGSLFeatureExtractor`: records as they came from the hospital to sequences of heartbeats."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from transformers.feature_extraction_utils import BatchFeature

from ecg_transformers.features.inputs import ECGSignalWarning, Given, Signal, as_rows, labels_of, read_inputs
from ecg_transformers.features.saving import SavedFeatureExtractor, base_settings, refuse_unknown
from ecg_transformers.features.steps import SelectLeads
from ecg_transformers.features.steps.record import note_amplitudes
from ecg_transformers.models.registry import get_method
from ecg_transformers.signal import leads as lead_tools
from ecg_transformers.signal.beat_segments import MODES, NORMS, BeatSegments, segment_beats, select_beats
from ecg_transformers.signal.beats import METHODS, detect_r_peaks
from ecg_transformers.signal.units import to_millivolts
from ecg_transformers.words import check_choice

PEAK_SOURCES = ("detect", "annotations")
IGNORED_LABEL = -100
NO_BEAT = -1


@dataclass(frozen=True)
class PreparedBeats:
    """All beats of one record, before some are chosen: what may be cached.

    Attributes:
        segments: the beats, in order.
        labels: `(N,)` int64 class of each beat, or None.
    """

    segments: BeatSegments
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.segments)


class ECGSLFeatureExtractor(SavedFeatureExtractor):
    """Turns records `(seq_len, num_leads)` into sequences of fixed-length beats.

    Gives `beats (B, N, beat_len)` float32 (several leads: `(B, N, L, beat_len)`), `beat_mask (B, N)` True = valid,
    `rr (B, N, 2)` log seconds to the previous and the next beat, and `beat_samples (B, N)`, the R peaks in samples of
    the record as it was given (-1 on padding). Records are not resampled: every beat is, to `beat_len` points. A
    record without beats gives one beat of zeros that is not valid.

    Args:
        lead_names: leads of a beat, in order; one lead is the method's default. None takes the leads as they come.
        lead_table: the model's own leads; where `lead_names` are others of them, `lead_indices` are given too.
        missing_leads: "single" derives missing limb leads and takes the only lead of a one-lead record whatever its
            name; "derive", "error" and "zero" as in `ECGFeatureExtractor`.
        units: unit of raw arrays when a call names none.
        peak_lead: lead in which R peaks are looked for; lead II where it is among the leads, else the first.
        peak_source: "detect", or "annotations" to use the beat annotations of a record or row.
        peak_method: "zero_phase", "sleepecg" or "neurokit", see `detect_r_peaks`.
        beat_mode, beat_len, before_s, after_s, beat_norm, drop_edge: see `segment_beats` (`beat_norm` is its `norm`).
        max_beats: longest sequence; more beats are cut off with a warning.
        beat_label_names: classes of annotated beats; a record's `beat_labels` then become `labels`, with -100 for
            other classes.

    Example:
        >>> import numpy as np
        >>> from ecg_transformers import ECGSLFeatureExtractor
        >>> extractor = ECGSLFeatureExtractor()
        >>> ecg = np.zeros(5000)
        >>> ecg[250::400] = 1.0
        >>> extractor(ecg, sampling_rate=500)["beats"].shape
        (1, 12, 128)
    """

    model_input_names = ["beats", "beat_mask", "rr"]
    takes_crops: ClassVar[bool] = False

    def __init__(
        self,
        lead_names: Sequence[str] | None = ("II",),
        lead_table: Sequence[str] | None = None,
        missing_leads: str = "single",
        units: str = "mV",
        peak_lead: str | None = None,
        peak_source: str = "detect",
        peak_method: str = "zero_phase",
        beat_mode: str = "window",
        beat_len: int = 128,
        before_s: float = 0.25,
        after_s: float = 0.45,
        beat_norm: str = "record",
        drop_edge: bool = False,
        max_beats: int = 64,
        beat_label_names: Sequence[str] | None = None,
        sampling_rate: None = None,
        feature_size: int | None = None,
        padding_value: float = 0.0,
        **kwargs: Any,
    ) -> None:
        others = base_settings(type(self), kwargs)
        if sampling_rate is not None:
            raise ValueError("Beats are resampled one by one, records never: leave sampling_rate out of the settings.")
        self.lead_names = None if lead_names is None else lead_tools.canonical_leads(list(lead_names))
        self.lead_table = self.lead_names if lead_table is None else lead_tools.canonical_leads(list(lead_table))
        self.peak_lead = None if peak_lead is None else lead_tools.canonical_lead(peak_lead)
        super().__init__(feature_size=int(beat_len), sampling_rate=None, padding_value=padding_value, **others)
        self.missing_leads = missing_leads
        self.units = units
        self.peak_source = peak_source
        self.peak_method = peak_method
        self.beat_mode = beat_mode
        self.beat_len = int(beat_len)
        self.before_s = before_s
        self.after_s = after_s
        self.beat_norm = beat_norm
        self.drop_edge = drop_edge
        self.max_beats = int(max_beats)
        self.beat_label_names = None if beat_label_names is None else list(beat_label_names)
        self._check_settings()

    def _check_settings(self) -> None:
        choices = {
            "missing_leads": ("single", "derive", "error", "zero"),
            "peak_source": PEAK_SOURCES,
            "peak_method": METHODS,
            "beat_mode": MODES,
            "beat_norm": NORMS,
        }
        for name, allowed in choices.items():
            check_choice(name, getattr(self, name), allowed)
        for lead in self.lead_names or []:
            if lead not in (self.lead_table or []):
                raise ValueError(f"Lead {lead} is not among the model's leads {', '.join(self.lead_table or [])}.")
        if self.peak_lead is not None and self.lead_names is not None and self.peak_lead not in self.lead_names:
            raise ValueError(f"peak_lead {self.peak_lead!r} is not among the leads {', '.join(self.lead_names)}.")
        if self.beat_len < 2 or self.max_beats < 1:
            raise ValueError(f"beat_len must be at least 2 and max_beats 1; got {self.beat_len} and {self.max_beats}.")

    @classmethod
    def for_method(cls, name: str, **overrides: Any) -> "ECGSLFeatureExtractor":
        """The extractor of a method's registry entry.

        Raises:
            ValueError: the method does not work on beats.
        """
        method = get_method(name)
        if not issubclass(cls, method.extractor_class):
            raise ValueError(f"{method.title} does not work on beats: use {method.extractor_class.__name__}.")
        return cls(**{**method.preprocessing, **overrides})

    def __call__(
        self,
        signal: Signal,
        sampling_rate: float | Sequence[float] | None = None,
        lead_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
        units: str | Sequence[str] | Sequence[Sequence[str]] | None = None,
        rpeaks: ArrayLike | Sequence[ArrayLike] | None = None,
        beat_labels: ArrayLike | Sequence[ArrayLike] | None = None,
        crop_start: int | None = None,
        crop_length: int | None = None,
        num_crops: int | None = None,
        generator: np.random.Generator | None = None,
        padding: str | None = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Beats of one record or of several.

        Args:
            signal: `(T, L)` or `(T,)` array, `ECGRecord`, dataset row, path, or a list of these.
            sampling_rate, lead_names, units: of raw arrays; one for all or one for each record.
            rpeaks: R peaks to use as they are, in samples of the record; a list of arrays for several records.
            beat_labels: an integer class for each of `rpeaks`; comes back as `labels (B, N)`, -100 on padding.
            crop_start: first sample of the part whose beats are kept.
            crop_length: its length in samples; to the end of the record when not given.
            num_crops: k runs of at most `max_beats` beats, evenly spread: `beats (B, k, N, L, beat_len)`.
            generator: keep a random run of `max_beats` beats instead of the first ones.
            padding: "longest" (of the batch) or "max_length" (`max_beats`). By default that of the batch, and the greatest for
                dataset rows by column (`dataset.map`), whose results are put together anew.
            return_tensors: "np" or "pt".
        """
        refuse_unknown(self, kwargs)
        signal, is_columns = as_rows(signal)
        padding = padding or ("max_length" if is_columns else "longest")
        given = read_inputs(signal, sampling_rate, lead_names, units, self.units)
        items = _items(signal, len(given))
        peaks = _for_each(rpeaks, given, signal, "rpeaks")
        labels = _for_each(beat_labels, given, signal, "beat_labels")
        chosen = []
        for index, record in enumerate(given):
            prepared = self._prepare(record, items[index], peaks[index], labels[index])
            parts = {"crop_start": crop_start, "crop_length": crop_length, "num_crops": num_crops}
            chosen.append(self._choose(prepared, generator=generator, where=record.state.where, **parts))
        for sentence in dict.fromkeys(text for one in given for text in one.state.report.repairs()):
            warnings.warn(sentence, ECGSignalWarning, stacklevel=2)
        length = self.max_beats if padding == "max_length" else None
        data = _stack([self._arrays(runs, squeeze=num_crops is None) for runs in chosen], length)
        if num_crops is None:
            data = {name: values[:, 0] for name, values in data.items()}
        if self.lead_names is not None and self.lead_table is not None and self.lead_names != self.lead_table:
            indices = np.asarray([self.lead_table.index(lead) for lead in self.lead_names])
            data["lead_indices"] = np.tile(indices, (len(given), 1)) if is_columns else indices
        if is_columns and "labels" not in data and (found := labels_of(signal)) is not None:
            data["labels"] = found
        return BatchFeature(data, tensor_type=return_tensors)

    def prepare(self, record: Signal, rpeaks: ArrayLike | None = None) -> PreparedBeats:
        """All beats of one record: everything that does not depend on chance, so that it may be cached."""
        return self._prepare(read_inputs(record, default_units=self.units)[0], record, rpeaks, None)

    def finish(
        self,
        prepared: PreparedBeats,
        crop_start: int | None = None,
        generator: np.random.Generator | None = None,
        num_crops: int | None = None,
        crop_length: int | None = None,
    ) -> dict[str, np.ndarray]:
        """At most `max_beats` of the prepared beats, as model inputs without the batch axis (and `labels` if known).

        Arguments as in a call: a random run with `generator`, `num_crops` runs `(k, N, L, beat_len)`, or those from
        sample `crop_start` on.
        """
        runs = self._choose(prepared, crop_start, crop_length, num_crops, generator)
        data = _stack([self._arrays(runs, squeeze=num_crops is None)])
        names = ("beats", "beat_mask", "rr", "labels")
        picked = {name: data[name][0] for name in names if name in data}
        return picked if num_crops is not None else {name: values[0] for name, values in picked.items()}

    def select(self, given: Given) -> np.ndarray:
        """The wanted leads of a record in millivolts, `(T, L)`."""
        signal, state = given.signal, given.state
        any_name = self.missing_leads == "single" and signal.shape[1] == 1 and len(self.lead_names or []) == 1
        if any_name or self.lead_names is None:
            return to_millivolts(signal, state.units)
        missing = "derive" if self.missing_leads == "single" else self.missing_leads
        try:
            signal = SelectLeads(lead_names=self.lead_names, missing=missing).apply(signal, state)
        except ValueError as error:
            raise ValueError(f"{state.where}: {error}") from error
        return to_millivolts(signal, state.units)

    def peak_column(self, given: Given) -> int:
        """The column of the selected leads in which R peaks are looked for."""
        names = self.lead_names or lead_tools.canonical_leads(given.state.lead_names or [])
        if self.peak_lead is not None and self.peak_lead not in names:
            raise ValueError(f"{given.state.where} has no lead {self.peak_lead} to look for R peaks in.")
        return names.index(self.peak_lead or "II") if self.peak_lead or "II" in names else 0

    def _prepare(self, given: Given, item: Any, rpeaks: Any, labels: Any) -> PreparedBeats:
        signal, rate, where = self.select(given), given.state.sampling_rate, given.state.where
        note_amplitudes(signal, given.state)
        annotated = _annotations(item)
        if rpeaks is None and self.peak_source == "annotations":
            if annotated.get("beat_samples") is None:
                raise ValueError(f'{where} has no beat annotations: use peak_source="detect", or give rpeaks=….')
            rpeaks = annotated["beat_samples"]
            labels = self._label_ids(annotated.get("beat_labels")) if labels is None else labels
        if rpeaks is None:
            rpeaks = detect_r_peaks(signal[:, self.peak_column(given)], rate, self.peak_method)
        try:
            segments = segment_beats(
                signal,
                rpeaks,
                rate,
                mode=self.beat_mode,
                beat_len=self.beat_len,
                before_s=self.before_s,
                after_s=self.after_s,
                norm=self.beat_norm,
            )
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        ids = None if labels is None else np.asarray(labels, dtype=np.int64)
        if ids is not None and ids.shape != segments.samples.shape:
            raise ValueError(f"{where}: {ids.size} beat labels were given for {len(segments)} R peaks.")
        prepared = PreparedBeats(segments, ids)
        return _subset(prepared, ~segments.edge) if self.drop_edge else prepared

    def _label_ids(self, names: Any) -> np.ndarray | None:
        if names is None or self.beat_label_names is None:
            return None
        table = {name: index for index, name in enumerate(self.beat_label_names)}
        return np.asarray([table.get(str(name), IGNORED_LABEL) for name in names], dtype=np.int64)

    def _choose(
        self,
        prepared: PreparedBeats,
        crop_start: int | None = None,
        crop_length: int | None = None,
        num_crops: int | None = None,
        generator: np.random.Generator | None = None,
        where: str = "the record",
    ) -> list[PreparedBeats]:
        """Runs of neighbouring beats: one, or `num_crops`."""
        if crop_start is not None or crop_length is not None:
            samples, start = prepared.segments.samples, crop_start or 0
            inside = samples >= start
            if crop_length is not None:
                inside &= samples < start + crop_length
            prepared = _subset(prepared, inside)
        spare = max(len(prepared) - self.max_beats, 0)
        if num_crops is not None:
            starts = np.round(np.linspace(0, spare, num_crops)).astype(int).tolist()
        elif generator is not None:
            starts = [int(generator.integers(spare + 1))]
        else:
            starts = [0]
            if spare:
                warnings.warn(
                    f"{where} has {len(prepared)} beats; the first {self.max_beats} are kept. Raise max_beats, or "
                    "take parts with crop_start and crop_length.",
                    stacklevel=3,
                )
        return [_subset(prepared, slice(start, start + self.max_beats)) for start in starts]

    def _arrays(self, runs: Sequence[PreparedBeats], squeeze: bool) -> dict[str, np.ndarray]:
        """The runs of one record, stacked on a first axis and padded to the longest (one beat at least)."""
        return _stack([self._run_arrays(run, squeeze) for run in runs])

    def _run_arrays(self, run: PreparedBeats, squeeze: bool) -> dict[str, np.ndarray]:
        segments, count = run.segments, len(run)
        data = {
            "beats": segments.beats[:, 0] if squeeze and segments.beats.shape[1] == 1 else segments.beats,
            "beat_mask": np.ones(count, dtype=bool),
            "rr": segments.rr,
            "beat_samples": segments.samples,
        }
        if run.labels is not None:
            data["labels"] = run.labels
        return {name: _pad(values, 1, _fill(name), axis=0) for name, values in data.items()} if not count else data


def _subset(prepared: PreparedBeats, keep: Any) -> PreparedBeats:
    labels = None if prepared.labels is None else prepared.labels[keep]
    return PreparedBeats(select_beats(prepared.segments, keep), labels)


def _items(signal: Signal, count: int) -> list[Any]:
    """What was handed in for each record (annotations of a row are read from it)."""
    return list(signal) if isinstance(signal, list | tuple) else [signal] * count


def _for_each(values: Any, given: Sequence[Given], signal: Signal, what: str) -> list[Any]:
    """One entry for each record of an optional argument that holds one array a record."""
    if values is None:
        return [None] * len(given)
    if not isinstance(signal, list | tuple) and len(given) == 1:
        return [values]
    if len(values) != len(given):
        raise ValueError(f"{what} holds {len(values)} arrays for {len(given)} records: give a list with one for each.")
    return list(values)


def _annotations(item: Any) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    return getattr(item, "annotations", None) or {}


def _fill(name: str) -> float:
    return {"beat_samples": NO_BEAT, "labels": IGNORED_LABEL}.get(name, 0)


def _pad(values: np.ndarray, length: int, fill: float, axis: int) -> np.ndarray:
    shape = list(values.shape)
    shape[axis] = max(length - shape[axis], 0)
    return np.concatenate([values, np.full(shape, fill, dtype=values.dtype)], axis=axis) if shape[axis] else values


def _stack(samples: Sequence[Mapping[str, np.ndarray]], length: int | None = None) -> dict[str, np.ndarray]:
    """Arrays of several samples on a new first axis.

    The beat axis, which is padded, is the first of a run and the second of stacked runs.
    """
    names = set.intersection(*(set(sample) for sample in samples))
    data = {}
    for name in sorted(names):
        axis = samples[0]["beat_mask"].ndim - 1
        longest = length or max(sample[name].shape[axis] for sample in samples)
        data[name] = np.stack([_pad(sample[name], longest, _fill(name), axis) for sample in samples])
    return data
