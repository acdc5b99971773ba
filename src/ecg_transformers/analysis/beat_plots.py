"""Figures of beats: beats over the signal, saliency over the beat, aggregation weights over the beats of a record.

Each function returns a matplotlib figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ecg_transformers.analysis.figures import COLOURS, INK, new_figure, tidy
from ecg_transformers.analysis.saliency import WAVES, explain_record, input_saliency, predicted_class
from ecg_transformers.signal.beat_segments import relative_bounds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecg_transformers.data.record import ECGRecord
    from ecg_transformers.features.feature_extraction_beats import ECGSLFeatureExtractor
    from ecg_transformers.features.protocol import Extractor
    from ecg_transformers.models.base import ECGPreTrainedModel

BEAT_COLOUR, PEAK_COLOUR = COLOURS[0], COLOURS[1]
WAVE_COLOURS = {"P": COLOURS[5], "QRS": COLOURS[4], "ST-T": COLOURS[2]}


def plot_beats(
    record: ECGRecord,
    extractor: ECGSLFeatureExtractor,
    *,
    start_s: float = 0.0,
    length_s: float = 10.0,
    title: str = "",
) -> Figure:
    """The signal with its R peaks and beat windows above, the beats as the model gets them, on top of each other,
    below.

    Args:
        record: an `ECGRecord`.
        extractor: an `ECGSLFeatureExtractor`.
        start_s, length_s: part of the record to show, in seconds.
    """
    prepared = extractor.prepare(record).segments
    rate = record.sampling_rate
    signal, lead, name = _lead_signal(record, extractor)
    first, last = int(start_s * rate), min(int((start_s + length_s) * rate), len(signal))
    shown = (prepared.samples >= first) & (prepared.samples < last)
    figure = _figure(2, 11, 6, ratios=[1.2, 1.0])
    above, below = figure.axes
    time = np.arange(first, last) / rate
    above.plot(time, signal[first:last], color=INK, linewidth=0.7)
    peaks = prepared.samples[shown]
    starts, lengths = _bounds(prepared.samples, rate, extractor)
    for peak, begin, length in zip(peaks, starts[shown], lengths[shown]):
        above.axvspan((peak + begin) / rate, (peak + begin + length) / rate, color=BEAT_COLOUR, alpha=0.10, linewidth=0)
    above.plot(peaks / rate, signal[peaks], linestyle="none", marker="v", markersize=5, color=PEAK_COLOUR)
    above.set(xlim=(first / rate, last / rate), xlabel="time (s)", ylabel=f"{name} (mV)")
    above.set_title(title or f"{record.record_id}: {peaks.size} beats in {length_s:g} s")
    beats = prepared.beats[shown, lead]
    axis = _beat_axis(extractor)
    below.plot(axis, beats.T, color=BEAT_COLOUR, alpha=0.35, linewidth=0.7)
    if len(beats):
        below.plot(axis, np.median(beats, axis=0), color=INK, linewidth=1.5, label="median beat")
        below.legend(loc="upper right", frameon=False)
    below.set(xlabel=_beat_label(extractor), ylabel="amplitude (scaled)", xlim=(axis[0], axis[-1]))
    return figure


def plot_saliency(
    record: ECGRecord,
    models: Sequence[tuple[str, ECGPreTrainedModel, Extractor]],
    *,
    method: str = "gradient",
    target: int | None = None,
    length_s: float = 5.0,
) -> Figure:
    """The start of a record coloured by saliency, one row per model, with the share on P, QRS and ST-T.

    Args:
        record: an `ECGRecord`.
        models: `(name, classification model, its extractor)`.
        method, target: see `input_saliency`.
        length_s: seconds to show.
    """
    figure = _figure(len(models), 11, 2.6 * len(models) + 0.4)
    for axes, (name, model, extractor) in zip(list(figure.axes), models):
        explained = explain_record(model, extractor, record, target, method)
        count = min(int(length_s * explained.sampling_rate), len(explained.values))
        time = np.arange(count) / explained.sampling_rate
        lead = record.lead_names.index("II") if "II" in record.lead_names else 0
        own_time = np.arange(len(record.signal)) / record.sampling_rate
        signal = np.interp(time, own_time, np.nan_to_num(record.signal[:, lead]))
        strength = explained.values[:count].sum(axis=1)
        strength = strength / max(np.quantile(strength, 0.99), 1e-12)
        axes.plot(time, signal, color=INK, linewidth=0.6)
        points = axes.scatter(time, signal, c=np.clip(strength, 0, 1), s=9, cmap="magma_r", vmin=0, vmax=1, zorder=3)
        figure.colorbar(points, ax=axes, label="saliency", pad=0.01)
        known = {
            wave: value for wave, value in explained.shares.items() if np.isfinite(value)
        }  # a wave may have no time
        shares = ", ".join(f"{wave} {value:.2f}" for wave, value in known.items())
        axes.set_title(f"{name}, {class_name(model, explained.target)}: {shares} (1 = uniform)", fontsize=9)
        axes.set(xlabel="time (s)", ylabel="mV", xlim=(0, count / explained.sampling_rate))
    return figure


def class_name(model: ECGPreTrainedModel, target: int) -> str:
    """Name of a class where the config gives one, else "class 3"."""
    name = (model.config.id2label or {}).get(target)
    return f"class {target}" if name in (None, f"LABEL_{target}") else str(name)


def plot_beat_saliency(
    record: ECGRecord, model: ECGPreTrainedModel, extractor: ECGSLFeatureExtractor, *, method: str = "gradient"
) -> Figure:
    """The median beat and the mean saliency over it, with the windows of P, QRS and ST-T.

    Args:
        record: an `ECGRecord`.
        model, extractor: a classification model on beats and its extractor; `beat_mode` must be "window".
    """
    if extractor.beat_mode != "window":
        raise ValueError('Waves have fixed places in a beat only with beat_mode="window".')
    features = extractor(record, return_tensors="pt")
    valid = features["beat_mask"][0].numpy()
    target = predicted_class(model, features)
    saliency = input_saliency(model, features, target, method)[0].numpy()[valid]
    beats = features["beats"][0].numpy()[valid]
    if beats.ndim == 3:
        lead = _lead_signal(record, extractor)[1]
        saliency, beats = saliency[:, lead], beats[:, lead]
    figure = _figure(1, 7, 4)
    axes = figure.axes[0]
    axis = _beat_axis(extractor)
    for wave, (low, high) in WAVES.items():
        axes.axvspan(low, high, color=WAVE_COLOURS[wave], alpha=0.22, linewidth=0, label=wave)
    axes.plot(axis, np.median(beats, axis=0), color=INK, label="median beat")
    axes.set(xlabel=_beat_label(extractor), ylabel="amplitude (scaled)", xlim=(axis[0], axis[-1]))
    right = axes.twinx()
    tidy(right, grid=None)
    right.fill_between(axis, saliency.mean(axis=0), color=PEAK_COLOUR, alpha=0.35, linewidth=0)
    right.set(ylabel="mean saliency", ylim=(0, None))
    axes.legend(loc="upper right", frameon=False, fontsize=8)
    axes.set_title(f"{record.record_id}, {class_name(model, target)}: saliency over {len(beats)} beats")
    return figure


def plot_attention(
    record: ECGRecord, model: ECGPreTrainedModel, extractor: ECGSLFeatureExtractor, *, length_s: float = 10.0
) -> Figure:
    """The signal with a bar under each beat: its share in the record's vector (aggregation weights).

    Args:
        record: an `ECGRecord`.
        model, extractor: a classification model on beats and its extractor.
    """
    features = extractor(record, return_tensors="pt")
    with torch.no_grad():
        output = model.eval()(**features)
    valid = features["beat_mask"][0].numpy()
    weights = output.aggregation_weights[0].numpy()[valid]
    rate = record.sampling_rate
    signal, _, name = _lead_signal(record, extractor)
    seconds = features["beat_samples"][0].numpy()[valid] / rate
    figure = _figure(2, 11, 5, ratios=[1.4, 1.0], sharex=True)
    above, below = figure.axes
    above.plot(np.arange(len(signal)) / rate, signal, color=INK, linewidth=0.7)
    above.set(ylabel=f"{name} (mV)", xlim=(0, min(length_s, len(signal) / rate)))
    below.bar(seconds, weights, width=0.15, color=BEAT_COLOUR)
    below.set(xlabel="time (s)", ylabel="weight", ylim=(0, 1.25 * max(weights, default=1.0)))  # room for the legend
    if len(weights):
        below.axhline(1 / len(weights), color=PEAK_COLOUR, linewidth=0.8, linestyle="--", label="uniform")
        below.legend(loc="upper right", frameon=False)
    above.set_title(f"{record.record_id}: entropy of the weights {attention_entropy(weights):.2f} (1 = uniform)")
    return figure


def attention_entropy(weights: np.ndarray) -> float:
    """Entropy of aggregation weights over the log of their number: 1 = uniform; NaN with fewer than two beats."""
    if len(weights) < 2:
        return float("nan")
    positive = weights[weights > 0]
    return float(-(positive * np.log(positive)).sum() / np.log(len(weights)))


def abnormal_weight_ratio(weights: np.ndarray, abnormal: np.ndarray) -> float:
    """Mean weight of the abnormal beats over that of the others; NaN when one of the groups is empty."""
    abnormal = np.asarray(abnormal, dtype=bool)
    if abnormal.all() or not abnormal.any():
        return float("nan")
    return float(weights[abnormal].mean() / max(weights[~abnormal].mean(), 1e-12))


def _lead_signal(record: ECGRecord, extractor: ECGSLFeatureExtractor) -> tuple[np.ndarray, int, str]:
    """The lead in which R peaks are looked for, in millivolts, its column and its name."""
    from ecg_transformers.features.inputs import read_inputs

    given = read_inputs(record)[0]
    signal, column = extractor.select(given), extractor.peak_column(given)
    return signal[:, column], column, (extractor.lead_names or record.lead_names)[column]


def _bounds(peaks: np.ndarray, rate: float, extractor: ECGSLFeatureExtractor) -> tuple[np.ndarray, np.ndarray]:
    return relative_bounds(
        peaks, rate, mode=extractor.beat_mode, before_s=extractor.before_s, after_s=extractor.after_s
    )


def _beat_axis(extractor: ECGSLFeatureExtractor) -> np.ndarray:
    grid = np.arange(extractor.beat_len) / extractor.beat_len
    if extractor.beat_mode == "cycle":
        return grid
    return -extractor.before_s + grid * (extractor.before_s + extractor.after_s)


def _beat_label(extractor: ECGSLFeatureExtractor) -> str:
    return "share of the cycle" if extractor.beat_mode == "cycle" else "time from the R peak (s)"


def _figure(
    rows: int, width: float, height: float, ratios: Sequence[float] | None = None, sharex: bool = False
) -> Figure:
    figure = new_figure(width, height)
    figure.set_layout_engine("constrained")
    figure.subplots(rows, 1, sharex=sharex, height_ratios=ratios)
    for axes in figure.axes:
        tidy(axes)
    return figure
