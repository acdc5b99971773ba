"""`pipeline("ecg-delineation")`: where P, QRS and T begin and end in every lead. Not a medical device."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from transformers.utils import ModelOutput

from ecg_transformers.features.inputs import Signal
from ecg_transformers.features.wave_labels import sample_map, window_places, window_stride
from ecg_transformers.pipelines.base import Chunk, ECGPipeline, describe
from ecg_transformers.signal.qrs_witness import doubt_of_qrs
from ecg_transformers.signal.wave_intervals import WaveIntervals, wave_intervals
from ecg_transformers.signal.waves import Wave, delineate, vote


class ECGDelineationPipeline(ECGPipeline):
    """The waves of records, by lead: `{"II": [{"wave": "P", "onset_s": …, "peak_s": …, "offset_s": …}, …], …}`.

    A record is seen through windows that overlap by half; for every sample their probabilities are averaged, each
    weighted by the distance from its window's ends. A record of some of the model's leads, or of one, is delineated in
    these (and in the limb leads that follow from two); of one called `ECG`, `lead_names` says which lead it is. Times are
    in seconds from the start of the record; a peak is where the model's input is farthest from the line between onset and
    offset. A wave that the record's start or end cuts is left out. With `intervals=True` these waves are the entry `waves`,
    beside `intervals` (rate, PR, QRS, QT: median, SD and number of beats) and `refused`, sentences on those not given. Not a
    medical device: the waves are for research.

    Example:
        >>> find_waves = pipeline("ecg-delineation", model="path/to/checkpoint")  # doctest: +SKIP
        >>> find_waves("records/00001_lr.hea")["II"][0]  # doctest: +SKIP
        {'wave': 'P', 'onset_s': 0.412, 'peak_s': 0.46, 'offset_s': 0.512}
    """

    feature_extractor: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.model, "head_is_new", False):
            raise ValueError(
                f"The checkpoint {self.model.name_or_path or type(self.model).__name__} holds no head that finds waves, so "
                "what it says would be noise: fine-tune it first (`ecg-transformers finetune --dataset ludb --task "
                "delineation`), or name a fine-tuned model."
            )
        extractor = self.feature_extractor
        if extractor.missing_leads == "derive":  # every lead is judged on its own: those that are there are enough
            self.feature_extractor = type(extractor).from_dict(extractor.to_dict(), missing_leads="drop")

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        after = {"intervals": parameters.pop("intervals")} if "intervals" in parameters else {}
        return self._signal_parameters(parameters), {}, after

    def preprocess(
        self,
        inputs: Signal,
        sampling_rate: float | None = None,
        lead_names: list[str] | None = None,
        units: str | None = None,
        num_crops: int | None = None,
        windows: bool = False,
        max_crops: int = 100_000,
    ) -> Iterator[Chunk]:
        """One chunk `(1, L, seq_len)` per window."""
        if num_crops is not None or windows:
            raise ValueError("num_crops and windows have no meaning here: windows always cover the whole record.")
        extractor = self.feature_extractor
        signal, hints = describe(inputs, {"sampling_rate": sampling_rate, "lead_names": lead_names, "units": units})
        rate = float(hints.get("sampling_rate") or _own(signal, "sampling_rate") or 0)
        prepared = extractor.prepare(signal, **hints)
        starts = extractor.sliding_crop_starts(prepared, stride=window_stride(extractor))
        if len(starts) > max_crops:
            raise ValueError(f"The record needs {len(starts)} windows, more than max_crops={max_crops}.")
        indices = extractor.lead_indices(extractor.last_leads) or list(range(prepared.shape[0]))
        num_samples = _num_samples(signal)
        places = sample_map(extractor, num_samples, rate)
        own_places, stretch = window_places(extractor, num_samples, rate, starts)
        where = [places.scale * rate, places.shift, places.length, (num_samples - 1) / rate, stretch]
        crops_of_record = extractor.finish(prepared, crop_start=starts, lead_names=extractor.last_leads)
        for start, place, crop in zip(starts, own_places, crops_of_record, strict=True):
            yield {
                "input_values": torch.from_numpy(crop)[None],
                "lead_indices": torch.tensor([indices]),
                "start": torch.tensor([place], dtype=torch.float64),
                "map": torch.tensor([where], dtype=torch.float64),
                "is_last": start == starts[-1],
            }

    def _names(self, indices: list[int]) -> list[str]:
        table = self.feature_extractor.lead_table or [str(index) for index in range(self.model.config.num_leads)]
        return [table[index] for index in indices]

    def _forward(self, model_inputs: Chunk) -> Chunk:
        own = {name: model_inputs.pop(name) for name in ("start", "map")}
        seen = {"signal": model_inputs["input_values"], "leads": model_inputs["lead_indices"]}
        return {**super()._forward(model_inputs), **own, **seen}

    def keep(self, outputs: ModelOutput) -> dict[str, torch.Tensor]:
        probabilities = outputs.logits.float().softmax(dim=-1)
        config = self.model.config
        repeats = config.patch_size if config.label_resolution == "patches" else 1
        return {"probabilities": probabilities.repeat_interleave(repeats, dim=2)}

    def postprocess(self, model_outputs: list[dict[str, Any]], intervals: bool = False) -> dict[str, Any]:
        """Lead -> its waves in the order of time, as plain data; with `intervals` these are `waves` beside the others."""
        found = self.waves(model_outputs)
        waves = {lead: [wave.to_dict() for wave in of_lead] for lead, of_lead in found.items()}
        return {"waves": waves, **self._intervals(found, model_outputs).to_dict()} if intervals else waves

    def waves(self, model_outputs: list[dict[str, Any]]) -> dict[str, list[Wave]]:
        """Lead -> its waves, from the outputs of all windows of a record."""
        probabilities, signals = self.numbers(model_outputs, "probabilities").numpy(), _signals(model_outputs)
        starts = [float(chunk["start"][0]) for chunk in model_outputs]
        per_second, shift, length, last_s, stretch = model_outputs[0]["map"][0].tolist()
        leads, _ = delineate(probabilities, signals, starts, int(length), per_second, shift, last_s, stretch)
        return dict(zip(self._names(model_outputs[0]["leads"][0].tolist()), leads, strict=True))

    def _intervals(self, waves: dict[str, list[Wave]], model_outputs: list[dict[str, Any]]) -> WaveIntervals:
        starts = [float(chunk["start"][0]) for chunk in model_outputs]
        per_second, shift, length, last_s, stretch = model_outputs[0]["map"][0].tolist()
        voted = vote(_signals(model_outputs)[..., None], starts, int(length), stretch)[..., 0]
        doubt = doubt_of_qrs(waves, dict(zip(waves, voted, strict=True)), per_second, shift, last_s)
        return wave_intervals(waves, doubt)


def _signals(model_outputs: list[dict[str, Any]]) -> np.ndarray:
    """What the model saw, `(k, L, T)`."""
    return torch.cat([chunk["signal"] for chunk in model_outputs]).float().cpu().numpy()


def _own(signal: Any, name: str) -> Any:
    """What a record or a row says of itself."""
    return signal.get(name) if isinstance(signal, dict) else getattr(signal, name, None)


def _num_samples(signal: Any) -> int:
    return int(_own(signal, "num_samples") or len(signal))
