"""Reconstructions, loss curves, ROC curves, and ECG paper: the figures that come with a trained model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.analysis.ecg_paper import plot_ecg
from ecg_transformers.analysis.figures import (
    COLOURS,
    HAIRLINE,
    INK,
    LINE_STYLES,
    MUTED,
    NOT_A_MEDICAL_DEVICE,
    new_figure,
    save_figure,
    set_title,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


def plot_reconstruction(
    input_values: ArrayLike,
    reconstruction: ArrayLike,
    mask: ArrayLike,
    *,
    index: int = 0,
    normalized_target: bool = True,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    leads: Sequence[int] | None = None,
    title: str | None = None,
) -> Figure:
    """Original, masked and reconstructed signal side by side, one row a lead.

    Takes the outputs of any masked autoencoder of the package: `reconstruction` of patches `(B, L, n, p)` with
    mask `(B, L, n)`, of time windows over all leads `(B, n, p·L)` with mask `(B, n)`, or of whole leads
    `(B, L, T)` with mask `(B, L)`; a single record may lack the batch axis.

    Args:
        input_values: what the model saw, `(B, L, T)`.
        reconstruction: in normalised units where `normalized_target` says so; it is brought back with mean and SD of
            the original patch.
        mask: 1 = masked.
        index: record of the batch.
        normalized_target: the model predicts patches that are normalised one by one (`config.norm_pix_loss`).
        sampling_rate: in Hz; samples are counted where it is not known.
        leads: indices of the leads to draw, at most twelve; all (the first twelve) where not given.
    """
    from matplotlib.ticker import MaxNLocator

    signal, predicted, masked = reconstruction_patches(
        input_values, reconstruction, mask, index=index, normalized_target=normalized_target
    )  # (L, n, p), (L, n, p), (L, n)
    chosen = list(range(min(12, len(signal)))) if leads is None else list(leads)
    names = list(lead_names) if lead_names is not None else [str(number + 1) for number in range(len(signal))]
    figure = new_figure(11.0, 1.1 + 0.85 * len(chosen))
    grid = figure.subplots(len(chosen), 3, sharex=True, sharey="row", squeeze=False)
    time = np.arange(signal[0].size) / (sampling_rate or 1.0)
    for row, lead in enumerate(chosen):
        _reconstruction_row(grid[row], time, signal[lead], predicted[lead], masked[lead])
        grid[row][0].set_ylabel(names[lead], rotation=0, ha="right", va="center", fontsize=9, color=INK)
    for axes, heading in zip(grid[0], ("Original", "Masked", "Reconstructed"), strict=True):
        axes.set_title(heading, fontsize=10, color=INK, loc="left")
    # no number at the right edge: it would run into the first one of the next column
    grid[-1][0].xaxis.set_major_locator(MaxNLocator(nbins=6, prune="upper"))
    for axes in grid[-1]:
        axes.set_xlabel("Time (s)" if sampling_rate else "Sample", fontsize=8, color=MUTED)
    figure.subplots_adjust(left=0.06, right=0.99, top=1 - 0.75 / figure.get_figheight(), wspace=0.04, hspace=0.12)
    figure.subplots_adjust(bottom=0.45 / figure.get_figheight())
    set_title(figure, title)
    _reconstruction_key(figure)
    return figure


def reconstruction_patches(
    input_values: ArrayLike,
    reconstruction: ArrayLike,
    mask: ArrayLike,
    *,
    index: int = 0,
    normalized_target: bool = True,
) -> tuple[Array, Array, Array]:
    """Original patches, predicted patches in the input's units, and mask of one record: two `(L, n, p)`, `(L, n)`.

    Raises:
        ValueError: shapes that belong to none of the forms in `plot_reconstruction`.
    """
    signal, predicted, masked = _numpy(input_values), _numpy(reconstruction), _numpy(mask)
    if signal.ndim == 3:
        signal, predicted, masked = signal[index], predicted[index], masked[index]
    leads, length = signal.shape
    if predicted.ndim == 3 and masked.ndim == 2:  # patches of leads
        patch = predicted.shape[-1]
    elif predicted.shape == signal.shape and masked.shape == (leads,):  # whole leads
        patch, predicted, masked = length, predicted[:, None], masked[:, None]
    elif predicted.ndim == 2 and masked.shape == predicted.shape[:1]:  # windows over all leads, time-major
        patch = predicted.shape[1] // leads
        predicted = predicted.reshape(len(predicted), patch, leads).transpose(2, 0, 1)
        masked = np.broadcast_to(masked, (leads, len(masked)))
    else:
        raise ValueError(
            f"A reconstruction of shape {predicted.shape} with a mask of shape {masked.shape} does not fit a record "
            f"of {leads} leads and {length} samples."
        )
    original = signal[:, : length // patch * patch].reshape(leads, -1, patch)
    if normalized_target:
        # the target is the patch less its mean over its unbiased SD
        spread = np.sqrt(original.var(axis=-1, ddof=1, keepdims=True) + 1e-6)
        predicted = predicted * spread + original.mean(axis=-1, keepdims=True)
    return original, predicted, masked


def plot_loss_curve(
    log: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = "Training loss",
) -> Figure:
    """Loss of every step with its running mean, and the learning rate below it.

    Args:
        log: a `train_log.jsonl`, or its rows: each with `step`, `loss`, `lr`; a `validation_loss` or
            `eval_loss` in some rows is drawn as points.
        path: where to write the figure, if anywhere.

    Raises:
        ValueError: the log has no row with a finite loss.
    """
    rows = _read_rows(log)
    known = [row for row in rows if isinstance(row.get("loss"), (int, float)) and np.isfinite(row["loss"])]
    if not known:
        raise ValueError("The training log has no row with a finite loss; there is nothing to draw.")
    figure = new_figure(7.0, 4.2)
    top, bottom = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1], "hspace": 0.12})
    by_seed: dict[Any, list[Mapping[str, Any]]] = {}
    for row in known:
        by_seed.setdefault(row.get("seed"), []).append(row)
    for index, (seed, part) in enumerate(by_seed.items()):
        before = float(part[0]["step"]) - 1 if len(by_seed) > 1 else 0.0  # each repetition starts at its own step 1
        name = f"seed {seed}" if len(by_seed) > 1 else None
        _draw_losses(top, part, COLOURS[index % len(COLOURS)], before, name)
        rates = [(row["step"] - before, row["lr"]) for row in part if isinstance(row.get("lr"), (int, float))]
        if rates:
            bottom.plot(*zip(*rates, strict=True), color=MUTED, linewidth=1.2)
    for key in ("validation_loss", "eval_loss"):
        points = [(row["step"], row[key]) for row in rows if isinstance(row.get(key), (int, float))]
        if points:
            top.plot(
                *zip(*points, strict=True), "o-", color=COLOURS[1], markersize=4, linewidth=1.0, label="validation"
            )
    _limit_to_bulk(top, np.array([float(row["loss"]) for row in known]))
    _label_losses(top, bottom, "Step" if len(by_seed) == 1 else "Step of each seed")
    for axes in (top, bottom):
        tidy(axes)
    figure.subplots_adjust(left=0.11, right=0.98, top=0.9, bottom=0.12)
    set_title(figure, title)
    if path is not None:
        save_figure(figure, path)
    return figure


def _label_losses(top: Axes, bottom: Axes, steps: str) -> None:
    top.set_ylabel("Loss", fontsize=9, color=INK)
    if len(top.get_lines()) > 1:
        top.legend(frameon=False, fontsize=8, labelcolor=INK)
    bottom.set_ylabel("Learning\nrate", fontsize=8, color=INK)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    bottom.yaxis.get_offset_text().set(fontsize=7, color=MUTED)
    bottom.set_xlabel(steps, fontsize=9, color=INK)


def _draw_losses(axes: Axes, rows: Sequence[Mapping[str, Any]], colour: str, before: float, name: str | None) -> None:
    """The loss of every step, and above it the running mean of a fortieth of them."""
    steps, losses = (np.array([float(row[key]) for row in rows]) for key in ("step", "loss"))
    window = max(1, len(losses) // 40)
    faint = window > 1
    label = (name or "each step") if not faint or name is None else None
    axes.plot(steps - before, losses, color=colour, linewidth=0.8, alpha=0.35 if faint else 1.0, label=label)
    if faint:
        smooth = running_mean(losses, window)
        axes.plot(steps - before, smooth, color=colour, linewidth=1.8, label=name or f"mean of {window} steps")


def plot_roc_curves(
    y_true: ArrayLike,
    y_score: ArrayLike,
    label_names: Sequence[str],
    path: str | os.PathLike[str] | None = None,
    *,
    title: str | None = "ROC curves",
) -> Figure:
    """One ROC curve a class, best first in the legend with its area and number of positives.

    Args:
        y_true: multi-hot `(records, classes)`.
        y_score: `(records, classes)`.
        label_names: one a column; beyond twelve classes the other curves are thin and grey.
        path: where to write the figure, if anywhere.
    """
    target, score = _numpy(y_true), _numpy(y_score)
    if target.shape != score.shape or target.ndim != 2 or target.shape[1] != len(label_names):
        raise ValueError(
            f"Targets {target.shape}, scores {score.shape} and {len(label_names)} names must agree in their shapes."
        )
    curves = _curves(target, score, label_names)
    figure = new_figure(6.4, 4.6)
    axes = figure.add_axes((0.09, 0.13, 0.565, 0.76))
    axes.plot([0, 1], [0, 1], color=HAIRLINE, linewidth=1.0)
    _draw_curves(axes, curves)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set_xlabel("1 − specificity", fontsize=9, color=INK)
    axes.set_ylabel("Sensitivity", fontsize=9, color=INK)
    tidy(axes, grid="both")
    if curves:
        mean = np.mean([curve[0] for curve in curves])
        _legend_of_areas(axes, f"AUROC, mean {mean:.3f} ({len(curves)} of {len(label_names)} classes)")
    figure.text(0.01, 0.012, NOT_A_MEDICAL_DEVICE, fontsize=7, color=MUTED)
    set_title(figure, title)
    if path is not None:
        save_figure(figure, path)
    return figure


def _draw_curves(axes: Axes, curves: Sequence[tuple[float, str, Array, Array, int]]) -> None:
    """The first twelve with names and colours, the others thin and grey."""
    for position, (area, name, false_positive, true_positive, positives) in enumerate(curves):
        named = position < 12
        colour = COLOURS[position % len(COLOURS)] if named else HAIRLINE
        axes.plot(
            false_positive,
            true_positive,
            color=colour,
            linestyle=LINE_STYLES[position // len(COLOURS)] if named else "-",
            linewidth=1.5 if named else 0.7,
            label=f"{name}  {area:.3f}  (n = {positives})" if named else None,
            zorder=3 if named else 2,
        )


def _legend_of_areas(axes: Axes, heading: str) -> None:
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=8, labelcolor=INK)
    legend.set_title(heading)
    legend.get_title().set_fontsize(8)
    legend.set_alignment("left")


def _curves(target: Array, score: Array, label_names: Sequence[str]) -> list[tuple[float, str, Array, Array, int]]:
    """Area, name, false and true positive rates and positives of each class that has both answers, best first."""
    curves = []
    for index, name in enumerate(label_names):
        if 0 < target[:, index].sum() < len(target):
            false_positive, true_positive = roc_points(target[:, index], score[:, index])
            area = float(np.sum(np.diff(false_positive) * (true_positive[1:] + true_positive[:-1]) / 2))
            curves.append((area, name, false_positive, true_positive, int(target[:, index].sum())))
    return sorted(curves, key=lambda curve: -curve[0])


def roc_points(label: ArrayLike, score: ArrayLike) -> tuple[Array, Array]:
    """False and true positive rates from (0, 0) to (1, 1), one point a distinct score."""
    truth, values = _numpy(label), _numpy(score)
    order = np.argsort(-values, kind="stable")
    last_of_tie = np.append(np.diff(values[order]) != 0, True)
    true_positive = np.cumsum(truth[order])[last_of_tie]
    false_positive = np.cumsum(1 - truth[order])[last_of_tie]
    return (
        np.concatenate([[0.0], false_positive / false_positive[-1]]),
        np.concatenate([[0.0], true_positive / true_positive[-1]]),
    )


def running_mean(values: Array, window: int) -> Array:
    """Mean of the last `window` values (of those there are, at the start)."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    begin = np.maximum(end - window, 0)
    return (total[end] - total[begin]) / (end - begin)


def _reconstruction_row(row: Sequence[Axes], time: Array, signal: Array, predicted: Array, masked: Array) -> None:
    hidden = np.repeat(masked > 0.5, signal.shape[1])
    whole, guess = signal.ravel(), predicted.ravel()
    visible = np.where(hidden, np.nan, whole)
    row[0].plot(time, whole, color=INK, linewidth=0.8)
    row[1].plot(time, visible, color=INK, linewidth=0.8)
    row[2].plot(time, whole, color=HAIRLINE, linewidth=1.6)
    row[2].plot(time, visible, color=INK, linewidth=0.8)
    row[2].plot(time, np.where(hidden, guess, np.nan), color=COLOURS[1], linewidth=1.0)
    starts = np.flatnonzero(np.diff(hidden, prepend=False) & hidden)
    stops = np.flatnonzero(np.diff(hidden, append=False) & hidden) + 1
    step = time[1] - time[0] if len(time) > 1 else 1.0
    for start, stop in zip(starts, stops, strict=True):
        row[1].axvspan(time[start], time[stop - 1] + step, color="#efefef", linewidth=0)
    low, high = float(whole.min()), float(whole.max())
    margin = 0.15 * (high - low) or 1.0
    row[0].set_ylim(low - margin, high + margin)
    for axes in row:
        tidy(axes, grid=None)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_xlim(time[0], time[-1] + step)


def _reconstruction_key(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, linewidth=1.5) for colour in (INK, HAIRLINE, COLOURS[1])]
    labels = ["visible to the model", "masked original", "reconstruction"]
    figure.legend(
        handles, labels, loc="upper right", ncols=3, frameon=False, fontsize=8, labelcolor=INK, borderaxespad=0.3
    )


def _limit_to_bulk(axes: Axes, losses: Array) -> None:
    """A first step with a huge loss must not flatten the rest of the curve."""
    high = float(np.quantile(losses, 0.99))
    low = float(losses.min())
    if losses.max() > low + 3 * (high - low) > low:
        axes.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low))


def _read_rows(log: str | os.PathLike[str] | Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if isinstance(log, (str, os.PathLike)):
        text = Path(log).read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return list(log)


def _numpy(values: Any) -> Array:
    """A torch tensor (any device), array or list as float64."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


__all__ = [
    "plot_ecg",
    "plot_loss_curve",
    "plot_reconstruction",
    "plot_roc_curves",
    "reconstruction_patches",
    "roc_points",
    "running_mean",
    "save_figure",
]
