"""`ECGFeatureExtractor`: records as they came from the hospital to what a model takes."""

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from transformers.feature_extraction_utils import BatchFeature

from ecg_transformers.features.crop_requests import crop_requests
from ecg_transformers.features.execution import Chain, CropRequest, Device, Item, has_device_form, naming, run_groups
from ecg_transformers.features.inputs import ECGSignalWarning, Given, Signal, as_rows, labels_of, read_inputs
from ecg_transformers.features.saving import SavedFeatureExtractor, base_settings, refuse_unknown
from ecg_transformers.features.settings import derive_steps, statistics_of
from ecg_transformers.features.steps import Crop, Normalize, RecordStep, Step, step_from_dict
from ecg_transformers.models.registry import get_method
from ecg_transformers.signal import leads as lead_tools
from ecg_transformers.signal.cropping import sliding_starts


class ECGFeatureExtractor(SavedFeatureExtractor):
    """Turns records `(seq_len, num_leads)` into `input_values` `(batch, num_leads, seq_len)`, float32.

    The settings below are derived into one ordered list, `steps`, which is saved in `preprocessor_config.json` and is
    what is executed: leads → millivolts → checks → resample → [pad] → crop → filters → normalise → scale, or in the
    order that `chain` gives.

    Args:
        sampling_rate: Hz of the result.
        seq_len: samples of a crop; None takes whole records.
        lead_names: leads and their order; None takes any series as it comes (no names, no derivation).
        lead_table: the model's own leads, into which `lead_indices` point; `lead_names` when not given.
        missing_leads: what happens when a lead is not there: "derive" (limb leads from two others by Einthoven's law,
            other leads are an error), "error", "drop" or "zero" (derive if possible, else leave out or fill with
            zeros).
        units: unit of raw arrays when a call names none.
        resample: "fourier" (whole record, as published), "polyphase" or "linear".
        resample_rounding: rule for the number of samples after it, see `signal.resampling.resampled_length`.
        chain: the order of the steps after the checks, for chains that are not the usual one. An entry is the name of a
            part that the other settings fill in ("resample", "pad", "crop", "resample_crop", "filters", "normalize",
            "scale"), or a step with its own values, `{"step": "notch", "frequency": 50.0}`.
        crop: "center", "start", "random" (needs a generator), or "sliding" with `crop_stride`.
        crop_stride: samples between sliding crops.
        crop_before_filter: True: the filters see the crop only (ST-MEM); False: they see the whole record.
        crop_sampling_rate: Hz at which crops are cut when it is not `sampling_rate` (ECG-JEPA cuts 10 s at 500 Hz,
            then resamples to 250 Hz).
        num_crops: default number of crops.
        crop_policy: "exact" gives exactly `num_crops`, "official" follows the published rule, which may give more.
        pad: None refuses records shorter than a crop; "zero" or "edge" lengthens them at their end, "both" with zeros
            on both sides; "keep" leaves them as short as they are, cut at their end to whole patches of `patch_size`.
        highpass, lowpass: cut-offs in Hz of zero-phase Butterworth filters of order `filter_order`, or None.
        normalize: "joint" (one mean and deviation per crop), "per_lead", "fixed" with `mean` and `std`, or None.
        normalize_eps: added to the standard deviation.
        mean, std: fixed statistics, one for each lead of `lead_table`.
        scale, clip: factor after normalisation, and limit of the absolute value.
        nan: "error", "interpolate" for gaps of at most `max_gap` seconds, "zero" for the samples, "zero_lead" for the
            whole lead.
        flat: "error" for records whose leads are all flat, or "zero" to let them through as zeros.
        do_patch: also return `patches` `(batch, num_leads, n, patch_size)`.
        patch_size: samples of a patch.
        fast: filters by FFT and a low-rank correction in float32: several times faster, equal to about 1e-6.
        steps: a list of steps (as `steps` gives them) to execute instead of the derived one.

    Example:
        >>> import numpy as np
        >>> from ecg_transformers import ECGFeatureExtractor
        >>> extractor = ECGFeatureExtractor.for_method("st_mem")
        >>> record = np.random.default_rng(0).standard_normal((5000, 12))
        >>> extractor(record, sampling_rate=500)["input_values"].shape
        (1, 12, 2250)
        >>> extractor(record, sampling_rate=500, num_crops=3)["input_values"].shape
        (1, 3, 12, 2250)
    """

    model_input_names = ["input_values"]
    takes_crops: ClassVar[bool] = True

    def __init__(
        self,
        sampling_rate: float = 250,
        seq_len: int | None = None,
        lead_names: Sequence[str] | None = lead_tools.STANDARD_LEADS,
        lead_table: Sequence[str] | None = None,
        missing_leads: str = "derive",
        units: str = "mV",
        resample: str = "fourier",
        resample_rounding: str | None = None,
        chain: Sequence[str | Mapping[str, Any]] | None = None,
        crop: str = "center",
        crop_stride: int | None = None,
        crop_before_filter: bool = True,
        crop_sampling_rate: float | None = None,
        num_crops: int | None = None,
        crop_policy: str = "exact",
        pad: str | None = None,
        highpass: float | None = None,
        lowpass: float | None = None,
        filter_order: int = 5,
        normalize: str | None = None,
        normalize_eps: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        scale: float = 1.0,
        clip: float | None = None,
        nan: str = "error",
        max_gap: float = 0.2,
        flat: str = "error",
        do_patch: bool = False,
        patch_size: int | None = None,
        fast: bool = False,
        feature_size: int | None = None,
        padding_value: float = 0.0,
        steps: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        others = base_settings(type(self), kwargs)
        self.lead_names = None if lead_names is None else lead_tools.canonical_leads(lead_names)
        self.lead_table = self.lead_names if lead_table is None else lead_tools.canonical_leads(lead_table)
        size = len(self.lead_names) if self.lead_names else feature_size or 1
        super().__init__(feature_size=size, sampling_rate=sampling_rate, padding_value=padding_value, **others)
        self.seq_len = seq_len
        self.missing_leads = missing_leads
        self.units = units
        self.resample = resample
        self.resample_rounding = resample_rounding
        self.chain = None if chain is None else [e if isinstance(e, str) else dict(e) for e in chain]
        self.crop = crop
        self.crop_stride = crop_stride
        self.crop_before_filter = crop_before_filter
        self.crop_sampling_rate = crop_sampling_rate
        self.num_crops = num_crops
        self.crop_policy = crop_policy
        self.pad_short = pad
        self.highpass = highpass
        self.lowpass = lowpass
        self.filter_order = filter_order
        self.normalize = normalize
        self.normalize_eps = normalize_eps
        self.mean = None if mean is None else [float(value) for value in mean]
        self.std = None if std is None else [float(value) for value in std]
        self.scale = scale
        self.clip = clip
        self.nan = nan
        self.max_gap = max_gap
        self.flat = flat
        self.do_patch = do_patch
        self.patch_size = patch_size
        self.fast = fast
        self._custom_steps: list[dict[str, Any]] | None = None
        self._last_report: list[dict[str, Any]] = []
        self._derived: tuple[dict[str, Any], list[Step]] = {}, []
        derived = self.steps
        if steps is not None and _plain(steps) != derived:
            self._custom_steps = [step_from_dict(step).to_dict() for step in steps]

    @classmethod
    def for_method(cls, name: str, variant: str | None = None, **overrides: Any) -> "ECGFeatureExtractor":
        """The published preprocessing of a method, with settings changed by `overrides`.

        `lead_names=` selects and orders leads of the method's own table (`lead_indices` then says which), `seq_len=`
        sets the length of a crop. `variant=` names one of several published preprocessings of a method.

        Raises:
            ValueError: an unknown method, variant or setting, a lead that the method does not have, or a method whose
                extractor is another class.
        """
        method = get_method(name)
        if not issubclass(cls, method.extractor_class):
            raise ValueError(f"{name} uses {method.extractor_class.__name__}.for_method, not {cls.__name__}.")
        preset = dict(method.preset(variant))
        preset.setdefault("lead_table", preset.get("lead_names", lead_tools.STANDARD_LEADS))
        return cls(**(preset | overrides))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The ordered list of steps that is executed, as plain data."""
        return self._custom_steps or [step.to_dict() for step in derive_steps(self)]

    @property
    def last_report(self) -> list[dict[str, Any]]:
        """For each record of the last call what was assumed, derived, filled, dropped, padded, or looks suspicious."""
        return self._last_report

    def __call__(
        self,
        signal: Signal,
        sampling_rate: float | Sequence[float] | None = None,
        lead_names: Sequence[str] | Sequence[Sequence[str]] | None = None,
        units: str | Sequence[Any] | None = None,
        crop_start: int | Sequence[int] | None = None,
        num_crops: int | None = None,
        generator: np.random.Generator | None = None,
        return_tensors: str | None = None,
        device: Device = None,
        return_report: bool = False,
        **unknown: Any,
    ) -> BatchFeature:
        """`input_values` float32 `(B, L, seq_len)`, or `(B, k, L, seq_len)` with `num_crops=k`.

        Of a batch of dataset rows by column also their `labels` as a classifier takes them, so that `Trainer` can be given
        `dataset.with_transform(extractor)` (with `remove_unused_columns=False`) or a mapped dataset.

        Args:
            signal: `(T, L)` array or data frame, ECGRecord, DigitalRecord, dataset row, path, or a list of these (lengths
                and rates may differ), or a batch of dataset rows by column, as `dataset.map(extractor, batched=True)` gives it.
            sampling_rate: Hz; needed for raw arrays. A list gives one for each record.
            lead_names: names of the columns. Without names a record of twelve columns is taken as the standard leads
                in their order, one with as many columns as the extractor has leads as these.
            units: unit of raw arrays: V, mV, uV or nV, for all or for each lead.
            crop_start: sample at the extractor's own rate where the crop starts; a list gives one for each record.
            num_crops: this many crops, evenly spaced (random ones with `generator`).
            generator: makes crops random; one draw `integers` for each crop, records in order.
            return_tensors: "np" (default) or "pt".
            device: torch device of the result; with `fast=True` the signal work is done there, and of rows and
                DigitalRecords only the int16 samples are sent (float32 where a lead is derived or a gap repaired).
            return_report: add `report`, the `last_report` of this call.

        Raises:
            ValueError: whatever is wrong with a record, in one sentence that names the record and the lead.
        """
        refuse_unknown(self, unknown)
        signal, is_columns = as_rows(signal)
        _check_result(return_tensors, device)
        device_work = device if self.fast else None
        given = read_inputs(signal, sampling_rate, lead_names, units, self.units, keep_stored=device_work is not None)
        requests = crop_requests(crop_start, num_crops, generator, len(given))
        steps = self._step_objects()
        items = [self._item(one, steps) for one in given]
        values: Any = run_groups(items, requests, device_work)
        self._note(given)
        if return_tensors == "pt":
            import torch

            values = torch.as_tensor(values, device=device)
        data: dict[str, Any] = {"input_values": values}
        if self.do_patch:
            data["patches"] = values.reshape(*values.shape[:-1], -1, self.patch_size)
        indices = [self.lead_indices(item.leads) for item in items]
        if self.lead_table and any(one is not None for one in indices):
            data["lead_indices"] = self._indices_of_batch(indices, is_columns)
        if is_columns and (labels := labels_of(signal)) is not None:
            data["labels"] = labels
        if is_columns and return_tensors == "pt":
            data |= {name: torch.as_tensor(data[name]) for name in ("lead_indices", "labels") if name in data}
        if return_report:
            data["report"] = self.last_report
        return BatchFeature(data)

    def _indices_of_batch(self, indices: list[list[int] | None], is_columns: bool) -> list[Any] | np.ndarray:
        rows = [list(range(len(self.lead_table or ()))) if row is None else row for row in indices]
        is_shared = all(row == rows[0] for row in rows)
        # columns as arrays: a DataLoader takes lists apart
        return np.array(rows) if is_columns else rows[0] if is_shared else rows

    def prepare(
        self,
        signal: Signal,
        sampling_rate: float | None = None,
        lead_names: Sequence[str] | None = None,
        units: str | Sequence[str] | None = None,
    ) -> np.ndarray:
        """The deterministic part before the crop of one record, `(L, T)` at the crop's rate: what a loop may cache.

        `extractor(record) == finish(prepare(record))`, to the bit.
        """
        given = read_inputs([signal], sampling_rate, lead_names, units, self.units)
        item = self._item(given[0], self._step_objects())
        self._note(given)
        with naming(item.where):
            return np.asarray(item.chain.prepare(item.signal[None], item.rate)[0])

    def checked(self, signal: Signal) -> Item:
        """One record after the record steps alone, int16 where it is stored so: what a device takes."""
        given = read_inputs([signal], default_units=self.units, keep_stored=True)
        item = self._item(given[0], self._step_objects())
        self._note(given)
        return item

    @property
    def has_device_form(self) -> bool:
        """Whether a device can do the signal work and give a fixed number of crops: `fast`, and no step for hosts only."""
        chain = self._chain(self._step_objects(), None)
        exact = isinstance(chain.crop, Crop) and chain.crop.policy == "exact" and chain.crop.mode != "sliding"
        return self.fast and exact and has_device_form([*chain.before, *chain.after])

    def finish(
        self,
        prepared: np.ndarray,
        crop_start: int | Sequence[int] | None = None,
        num_crops: int | None = None,
        generator: np.random.Generator | None = None,
        lead_names: Sequence[str] | None = None,
    ) -> np.ndarray:
        """Crop and all after it: float32 `(L, seq_len)`, or `(k, L, seq_len)` with `num_crops=k` or k crop starts.

        `lead_names` names the leads of `prepared` where they are not the extractor's (after dropped leads).
        """
        names = None if lead_names is None else lead_tools.canonical_leads(lead_names)
        chain = self._chain(self._step_objects(), names)
        request = CropRequest(crop_start, num_crops, generator)
        starts = None if chain.crop is None else [chain.starts(prepared.shape[-1], request)]
        return np.asarray(chain.finish(prepared[None], starts, chain.one_crop(request))[0])

    @property
    def last_leads(self) -> list[str] | None:
        """Leads of the record prepared last, in their order: those of `lead_names` that were not left out."""
        dropped = self._last_report[0].get("dropped_leads", ()) if self._last_report else ()
        return None if self.lead_names is None else [name for name in self.lead_names if name not in dropped]

    def lead_indices(self, lead_names: Sequence[str] | None) -> list[int] | None:
        """Rows of the lead table for the leads of a record; None when they are the table itself, or have no names."""
        if not self.lead_table or not lead_names:
            return None
        rows = [self.lead_table.index(name) for name in lead_names]
        return None if rows == list(range(len(self.lead_table))) else rows

    def sliding_crop_starts(self, prepared: np.ndarray, stride: int | None = None, keep_end: bool = True) -> list[int]:
        """Starts for `finish` of crops that cover a prepared record; `keep_end` adds one that reaches its end."""
        chain = self._chain(self._step_objects(), None)
        if not isinstance(chain.crop, Crop) or self.seq_len is None:
            return [0]
        if chain.crop.fitting(prepared.shape[-1]) < chain.crop.length:
            return [0]
        length = int(prepared.shape[-1] * self.sampling_rate / chain.crop.rate)
        return sliding_starts(length, self.seq_len, stride or self.crop_stride or self.seq_len, keep_end)

    def to_dict(self) -> dict[str, Any]:
        """All settings and the list of steps, as plain data."""
        output = super().to_dict()
        output["pad"] = output.pop("pad_short")
        output["steps"] = self.steps
        return output

    @classmethod
    def from_dict(cls, feature_extractor_dict: dict[str, Any], **kwargs: Any) -> Self:
        """The extractor that `to_dict` describes; `kwargs` change settings (its derived steps then follow)."""
        saved = dict(feature_extractor_dict)
        steps = saved.pop("steps", None)
        if steps is not None and "steps" not in kwargs and cls(**saved).steps != _plain(steps):
            if changed := sorted(set(kwargs) & set(saved)):
                raise ValueError(f"this extractor has its own steps: change these, not {', '.join(changed)}.")
            saved["steps"] = steps
        return super().from_dict(saved, **kwargs)

    def _step_objects(self) -> list[Step]:
        """The steps of a call: derived once, and anew when a setting has changed."""
        if self._custom_steps:
            return [step_from_dict(step) for step in self._custom_steps]
        settings = {name: value for name, value in vars(self).items() if not name.startswith("_")}
        if settings != self._derived[0]:
            self._derived = copy.deepcopy(settings), derive_steps(self)
        return self._derived[1]

    def _chain(self, steps: Sequence[Step], names: list[str] | None) -> Chain:
        """The signal steps, for records with the leads `names`."""
        after = [step for step in steps if not isinstance(step, RecordStep)]
        if self.normalize == "fixed" and names is not None and names != self.lead_names and not self._custom_steps:
            mean, std = (statistics_of(self, values, names) for values in (self.mean, self.std))
            after = [Normalize("fixed", 0.0, mean, std) if isinstance(step, Normalize) else step for step in after]
        return Chain(after, float(self.sampling_rate), self.fast)

    def _item(self, given: Given, steps: Sequence[Step]) -> Item:
        """The record steps: `(T, L)` as given to `(L, T)` with the extractor's leads, in millivolts, checked."""
        signal, state = np.asfortranarray(given.signal), given.state  # time is contiguous from here on
        names = state.lead_names
        with naming(state.where):
            for step in steps:
                if isinstance(step, RecordStep):
                    signal = step.apply(signal, state)
        chain = self._chain(steps, state.lead_names)
        leads, rate, scale = tuple(state.lead_names or ()), state.sampling_rate, None
        if given.stored is None:
            array = np.ascontiguousarray(signal.T, dtype=np.float32 if self.fast else None)
        else:
            stored, columns = given.stored, lead_tools.columns_of(leads, names or ())
            if columns is None:  # a lead that is not stored as it is: derived, or filled with zeros
                given.unpack()
                return self._item(given, steps)
            array = np.ascontiguousarray(stored.samples.T[columns])
            scale = np.stack(
                [np.broadcast_to(part, len(names or ()))[columns] for part in (stored.gain, stored.offset)]
            )
        with naming(state.where):
            state.report.padded_samples = chain.padded_samples(array.shape[-1], rate)
        return Item(array, rate, state.where, leads, chain, scale)

    def _note(self, given: Sequence[Given]) -> None:
        """Keeps the reports of a call, and warns once for each kind of repair."""
        self._last_report = [one.state.report.to_dict() for one in given]
        for sentence in dict.fromkeys(text for one in given for text in one.state.report.repairs()):
            warnings.warn(sentence, ECGSignalWarning, stacklevel=3)


def _check_result(return_tensors: str | None, device: Device) -> None:
    if return_tensors not in (None, "np", "pt"):
        raise ValueError(f'return_tensors must be "np" or "pt", got {return_tensors!r}.')
    if device is not None and return_tensors != "pt":
        raise ValueError('a result on a device is a tensor: pass return_tensors="pt".')


def _plain(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Steps as they come back from JSON and as they are derived, in one form that can be compared."""
    return [step_from_dict(step).to_dict() for step in steps]
