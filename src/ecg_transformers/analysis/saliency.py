"""Which samples of an ECG a classification model looks at, and how much of that falls on P waves, QRS complexes and
ST-T.

Works with every classification model of the package: what a model differentiates by is its `main_input_name`, and a
model that works on beats is mapped back to time through the extractor that cut them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ecg_transformers.signal.beat_segments import relative_bounds
from ecg_transformers.signal.beats import detect_r_peaks
from ecg_transformers.words import check_choice

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ecg_transformers.data.record import ECGRecord
    from ecg_transformers.features.feature_extraction_beats import ECGSLFeatureExtractor
    from ecg_transformers.features.feature_extraction_ecg import ECGFeatureExtractor
    from ecg_transformers.features.protocol import Extractor
    from ecg_transformers.models.base import ECGPreTrainedModel

METHODS = ("gradient", "smoothgrad", "integrated_gradients")
WAVES: dict[str, tuple[float, float]] = {"P": (-0.20, -0.06), "QRS": (-0.06, 0.06), "ST-T": (0.06, 0.40)}
"""Seconds relative to the R peak."""


@dataclass(frozen=True)
class RecordSaliency:
    """Saliency of one record on its time axis.

    Attributes:
        values: `(T, L)` float64, at least 0.
        covered: `(T,)` bool, samples that the model saw at all.
        sampling_rate: of `values`, in Hz.
        target: the class whose logit was explained.
        peaks: R peaks in samples of `values`.
        shares: see `wave_shares`.
    """

    values: np.ndarray
    covered: np.ndarray
    sampling_rate: float
    target: int
    peaks: np.ndarray
    shares: dict[str, float]


def input_saliency(
    model: ECGPreTrainedModel,
    inputs: Mapping[str, Any],
    target: int | None = None,
    method: str = "gradient",
    *,
    num_samples: int = 25,
    noise_level: float = 0.1,
    generator: torch.Generator | None = None,
    signed: bool = False,
) -> torch.Tensor:
    """Attribution of every input sample, in the shape of the model's main input.

    Args:
        model: a classification model in eval mode.
        inputs: its arguments as tensors, the batch first.
        target: the class to explain; the predicted class of each record when not given.
        method: "gradient" (|∂ logit / ∂ sample|), "smoothgrad" (mean gradient over `num_samples` noisy copies; Smilkov
            et al., 2017) or "integrated_gradients" (along a straight line from zero in `num_samples` steps, times the
            input; Sundararajan et al., 2017).
        noise_level: standard deviation of SmoothGrad's noise, relative to that of each record's input.
        generator: of the noise; seeded with 0 when not given.
        signed: keep signs instead of absolute values.

    Raises:
        ValueError: an unknown method, or a model in training mode, whose dropout and batch statistics would be
            explained.
    """
    check_choice("method", method, METHODS)
    if model.training:
        raise ValueError("Saliency explains a model in eval mode: call model.eval() first.")
    name = model.main_input_name
    x = inputs[name].detach()
    rest = {key: value for key, value in inputs.items() if key not in (name, "labels")}
    with torch.no_grad():
        logits = _logits(model, {name: x, **rest})
    classes = logits.argmax(dim=-1) if target is None else torch.full_like(logits[..., 0], target, dtype=torch.long)
    if method == "gradient":
        total = _gradient(model, name, x, rest, classes)
    elif method == "smoothgrad":
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        spread = noise_level * x.float().flatten(1).std(dim=1).view(-1, *[1] * (x.ndim - 1))
        total = torch.zeros_like(x)
        for _ in range(num_samples):
            noise = torch.randn(x.shape, generator=generator).to(x)
            total += _gradient(model, name, x + spread.to(x) * noise, rest, classes) / num_samples
    else:
        total = torch.zeros_like(x)
        for step in range(num_samples):
            total += _gradient(model, name, x * ((step + 0.5) / num_samples), rest, classes) / num_samples
        total = total * x
    return total if signed else total.abs()


def _logits(model: ECGPreTrainedModel, inputs: Mapping[str, Any]) -> torch.Tensor:
    return model(**inputs).logits


def _gradient(
    model: ECGPreTrainedModel, name: str, x: torch.Tensor, rest: Mapping[str, Any], classes: torch.Tensor
) -> torch.Tensor:
    """Gradient of the chosen logits (summed over beats where a model has logits of beats)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        chosen = _logits(model, {name: x, **rest}).gather(-1, classes[..., None])
        (gradient,) = torch.autograd.grad(chosen.sum(), x)
    return gradient.detach()


def explain_record(
    model: ECGPreTrainedModel,
    extractor: Extractor,
    record: ECGRecord,
    target: int | None = None,
    method: str = "gradient",
    *,
    rpeaks: ArrayLike | None = None,
    **options: Any,
) -> RecordSaliency:
    """Saliency of one record on its time axis, for any classification model of the package.

    Args:
        model: a classification model in eval mode.
        extractor: the extractor that belongs to it; a record longer than a crop is cut into neighbouring crops.
        record: an `ECGRecord`.
        target, method, options: see `input_saliency`.
        rpeaks: R peaks in samples of the record; detected in its first lead (lead II where it has one) when not given.
    """
    if rpeaks is None:
        lead = record.lead_names.index("II") if "II" in record.lead_names else 0
        rpeaks = detect_r_peaks(record.signal[:, lead], record.sampling_rate)
    peaks = np.asarray(rpeaks, dtype=np.int64)
    explain: Callable[..., Explained] = _explain_crops if extractor.takes_crops else _explain_beats
    values, covered, rate, chosen = explain(model, extractor, record, peaks, target, method, options)
    peaks = np.round(peaks * (rate / record.sampling_rate)).astype(np.int64)
    peaks = peaks[peaks < len(values)]
    return RecordSaliency(values, covered, rate, chosen, peaks, wave_shares(values, peaks, rate, covered))


Explained = tuple[np.ndarray, np.ndarray, float, int]


def _explain_beats(
    model: ECGPreTrainedModel,
    extractor: ECGSLFeatureExtractor,
    record: ECGRecord,
    peaks: np.ndarray,
    target: int | None,
    method: str,
    options: dict[str, Any],
) -> Explained:
    features = extractor(record, rpeaks=peaks, return_tensors="pt")
    chosen = predicted_class(model, features) if target is None else target
    value = input_saliency(model, features, chosen, method, **options)[0].double().numpy()
    valid = features["beat_mask"][0].numpy()
    value = value[valid] if value.ndim == 3 else value[valid][:, None]
    samples = features["beat_samples"][0].numpy()[valid]
    values, covered = beats_to_time(value, samples, record.sampling_rate, len(record.signal), extractor)
    return values, covered, float(record.sampling_rate), chosen


def _explain_crops(
    model: ECGPreTrainedModel,
    extractor: ECGFeatureExtractor,
    record: ECGRecord,
    peaks: np.ndarray,
    target: int | None,
    method: str,
    options: dict[str, Any],
) -> Explained:
    """The whole record in neighbouring crops, all for one class."""
    rate = float(extractor.sampling_rate)
    available = int(len(record.signal) * rate / record.sampling_rate)
    length = extractor.seq_len or available
    starts = range(0, max(available - length, 0) + 1, length)
    crops = [extractor(record, crop_start=start, return_tensors="pt")["input_values"] for start in starts]
    features = {"input_values": torch.cat(crops)}
    chosen = predicted_class(model, features) if target is None else target
    value = input_saliency(model, features, chosen, method, **options).double().numpy()  # (k, L, T)
    values = np.concatenate(list(value), axis=1).T
    return values, np.ones(len(values), dtype=bool), rate, chosen


def predicted_class(model: ECGPreTrainedModel, features: Mapping[str, Any]) -> int:
    """The class of the largest mean logit, over crops or beats of one record."""
    with torch.no_grad():
        logits = _logits(model, features)
    return int(logits.reshape(-1, logits.shape[-1]).mean(dim=0).argmax())


def beats_to_time(
    values: np.ndarray,
    beat_samples: np.ndarray,
    sampling_rate: float,
    num_samples: int,
    extractor: ECGSLFeatureExtractor,
) -> tuple[np.ndarray, np.ndarray]:
    """Values of beats `(N, L, beat_len)` on the record's time axis.

    Where beats overlap, their values are averaged.

    Returns:
        `(T, L)` float64 and the samples `(T,)` that some beat covers.
    """
    mode, before, after = extractor.beat_mode, extractor.before_s, extractor.after_s
    starts, lengths = relative_bounds(beat_samples, sampling_rate, mode=mode, before_s=before, after_s=after)
    total, count = np.zeros((num_samples, values.shape[1])), np.zeros(num_samples)
    points = np.arange(values.shape[2])
    for beat, peak in enumerate(beat_samples):
        first = max(int(np.ceil(peak + starts[beat])), 0)
        last = min(int(np.ceil(peak + starts[beat] + lengths[beat])), num_samples)
        position = (np.arange(first, last) - peak - starts[beat]) / lengths[beat] * len(points)
        for lead in range(values.shape[1]):
            total[first:last, lead] += np.interp(position, points, values[beat, lead])
        count[first:last] += 1
    return total / np.maximum(count, 1)[:, None], count > 0


def wave_regions(peaks: np.ndarray, sampling_rate: float, num_samples: int) -> dict[str, np.ndarray]:
    """Samples `(T,)` of the P wave, the QRS complex, ST-T and the rest, from fixed windows around the R peaks.

    Where windows of neighbouring beats meet, QRS goes before P, and P before ST-T.
    """
    label = np.full(num_samples, len(WAVES), dtype=np.int64)
    names = list(WAVES)
    for name in ("ST-T", "P", "QRS"):
        low, high = WAVES[name]
        for peak in np.asarray(peaks).tolist():
            first, last = round(peak + low * sampling_rate), round(peak + high * sampling_rate)
            label[max(first, 0) : max(last, 0)] = names.index(name)
    return {name: label == index for index, name in enumerate([*names, "rest"])}


def wave_shares(
    values: np.ndarray, peaks: np.ndarray, sampling_rate: float, covered: np.ndarray | None = None
) -> dict[str, float]:
    """Share of the saliency in each wave divided by its share of time: 1 = no preference.

    Args:
        values: `(T,)` or `(T, L)`, at least 0.
        peaks: R peaks in samples of `values`.
        sampling_rate: in Hz.
        covered: `(T,)` bool, samples that count; all when not given.

    Returns:
        A ratio for "P", "QRS", "ST-T" and "rest"; NaN where a wave has no time or nothing is salient.
    """
    total = np.asarray(values, dtype=np.float64)
    total = total.sum(axis=1) if total.ndim == 2 else total
    counts = np.ones(len(total), dtype=bool) if covered is None else covered
    everything, time = total[counts].sum(), int(counts.sum())
    shares = {}
    for name, inside in wave_regions(peaks, sampling_rate, len(total)).items():
        part = inside & counts
        defined = part.any() and everything > 0
        shares[name] = float(total[part].sum() / everything / (part.sum() / time)) if defined else float("nan")
    return shares
