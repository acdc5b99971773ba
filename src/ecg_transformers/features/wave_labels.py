"""Where the samples of a record lie in what an extractor makes of it, and the wave classes of its places."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
from ecg_transformers.features.steps import (
    Crop,
    DecimateFlattened,
    Pad,
    RecordStep,
    Resample,
    SignalStep,
    step_from_dict,
)
from ecg_transformers.signal.leads import canonical_lead
from ecg_transformers.signal.waves import IGNORED, Wave, wave_classes, waves_from_marks


@dataclass(frozen=True)
class SampleMap:
    """Sample s of the record lies at place `scale · s + shift` of the crop, which has `length` places.

    Exact, whatever the rates: a resampling that cuts off a fraction of a sample stretches time a little.
    """

    scale: float
    shift: float
    length: int


def sample_map(
    extractor: ECGFeatureExtractor, num_samples: int, sampling_rate: float, crop_start: int | None = None
) -> SampleMap:
    """How an extractor moves the samples of a record of `num_samples` at `sampling_rate` Hz.

    Args:
        crop_start: start of the crop, at the extractor's own rate; None maps the whole record, of which a crop is a part.

    Raises:
        ValueError: a step that mixes leads or windows, so that a sample has no one place.
    """
    scale, shift, length, rate = 1.0, 0.0, num_samples, float(sampling_rate)
    in_crops = False
    for step in map(step_from_dict, extractor.steps):
        if isinstance(step, Crop):
            in_crops = crop_start is None
            if crop_start is not None:
                shift -= step.start_of(crop_start, extractor.sampling_rate)
                length = step.fitting(length)
        elif isinstance(step, Resample):
            after = step.length_after(length, rate)
            # what follows the cut stretches each crop alone, not the record that they are parts of
            method = "" if in_crops else step.method
            factor = _stretch(method, length, after, rate, step.sampling_rate)
            scale, shift, length, rate = scale * factor, shift * factor, after, step.rate_after(rate)
        elif isinstance(step, Pad):
            short = max(0, step.length - length)
            shift, length = shift + (short // 2 if step.mode == "both" else 0), length + short
        elif isinstance(step, SignalStep) and not isinstance(step, RecordStep):
            moves = step.rate_after(rate) != rate or step.length_after(length, rate) != length
            if moves or isinstance(step, DecimateFlattened):
                raise ValueError(f"the step {step.name!r} does not say where a sample goes: labels cannot follow it.")
    return SampleMap(scale, shift, length)


def window_places(
    extractor: ECGFeatureExtractor, num_samples: int, sampling_rate: float, starts: Sequence[int]
) -> tuple[list[float], float]:
    """Where the crops that start at `starts` lie among the places of the whole record, see `sample_map`.

    Place q of a crop is place `start + stretch · q` of the record. A start is no whole number where the cut falls between
    two places, and the stretch is not 1 where straight lines fit each crop alone into its length.

    Returns:
        start of every crop, and the stretch that all of them have.
    """
    whole = sample_map(extractor, num_samples, sampling_rate)
    crops = [sample_map(extractor, num_samples, sampling_rate, start) for start in starts]
    stretch = whole.scale / crops[0].scale
    return [round(whole.shift - stretch * crop.shift, 6) for crop in crops], round(stretch, 12)


def _stretch(method: str, length: int, after: int, from_rate: float, to_rate: float) -> float:
    """Places a sample: the Fourier method and straight lines fit the whole signal into the new length."""
    if method == "fourier":
        return after / length
    if method == "linear":
        return (after - 1) / max(length - 1, 1)
    return to_rate / from_rate


def marked_waves(annotations: Mapping[str, Any] | None, sampling_rate: float) -> dict[str, list[Wave]]:
    """The waves that a record's annotations hold, by lead; empty without marks."""
    if not annotations or annotations.get("wave_samples") is None:
        return {}
    names = np.asarray([canonical_lead(str(name)) for name in annotations["wave_leads"]], dtype=object)
    samples, symbols = np.asarray(annotations["wave_samples"]), np.asarray(annotations["wave_symbols"])
    return {
        str(name): waves_from_marks(samples[names == name].tolist(), symbols[names == name].tolist(), sampling_rate)
        for name in dict.fromkeys(names)
    }


def wave_labels(
    waves: Mapping[str, Sequence[Wave]], lead_names: Sequence[str], places: SampleMap, sampling_rate: float
) -> np.ndarray:
    """Classes `(L, length)` int64 of the leads in the order asked for, `IGNORED` throughout for a lead without marks.

    Args:
        waves: of a record, by lead.
        lead_names: leads of the result.
        places: where the record's samples lie, see `sample_map`.
        sampling_rate: of the record, in Hz.
    """
    labels = np.full((len(lead_names), places.length), IGNORED, dtype=np.int64)
    for row, name in enumerate(lead_names):
        labels[row] = wave_classes(waves.get(name, ()), places.scale * sampling_rate, places.shift, places.length)
    return labels


def window_stride(extractor: ECGFeatureExtractor) -> int:
    """Places between windows that vote: half a crop, so that all of a long record but its ends is seen twice."""
    return max(1, (extractor.seq_len or 2) // 2)
