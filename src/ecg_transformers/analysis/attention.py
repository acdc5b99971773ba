"""Attention maps of models whose tokens lie on a grid of leads and time.

An attention tensor is `(B, heads, N, N)` a layer: row = the token that looks, column = the token that is looked at,
rows sum to 1. Separators and class tokens are part of it; `on_grid` leaves them out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.analysis.figures import HAIRLINE, INK, MUTED, new_figure, set_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ecg_transformers.models.base import ECGPreTrainedModel

Array = NDArray[np.float64]


def compute_attentions(model: ECGPreTrainedModel, **inputs: Any) -> list[Array]:
    """The attention of every layer of a model's encoder, each `(B, heads, N, N)`.

    The fused kernels give no weights, so the encoder runs with the eager ones for this call (in eval mode) and is set
    back afterwards.

    Args:
        model: any model of the package; of a model with a head, its base model is read.
        inputs: of its forward, `input_values (B, L, T)` at least.

    Raises:
        ValueError: the model has no attention.
    """
    encoder = model.base_model
    before, training = encoder.config._attn_implementation, encoder.training
    encoder.set_attn_implementation("eager")
    encoder.eval()
    try:
        with torch.no_grad():
            attentions = encoder(**inputs, output_attentions=True).attentions
    finally:
        encoder.set_attn_implementation(before)
        encoder.train(training)
    if not attentions:
        raise ValueError(f"{type(encoder).__name__} has no attention layers; there are no maps to draw.")
    return [layer.float().cpu().numpy().astype(np.float64) for layer in attentions]


def average_map(attentions: Sequence[ArrayLike], layers: Sequence[int] | None = None) -> Array:
    """Mean over layers, heads and records: `(N, N)`; rows still sum to 1.

    Args:
        attentions: one `(B, heads, N, N)` a layer.
        layers: which ones; all where not given.
    """
    chosen = range(len(attentions)) if layers is None else layers
    return np.mean([np.asarray(attentions[index], dtype=np.float64).mean(axis=(0, 1)) for index in chosen], axis=0)


def min_max(values: ArrayLike) -> Array:
    """Scaled to [0, 1]; zeros where all values are equal."""
    array = np.asarray(values, dtype=np.float64)
    span = array.max() - array.min()
    return (array - array.min()) / span if span > 0 else np.zeros_like(array)


def rollout(attentions: Sequence[ArrayLike], residual: float = 0.5) -> Array:
    """Attention rollout (Abnar and Zuidema, 2020): how much of each input token reaches each output token.

    Args:
        attentions: one `(B, heads, N, N)` a layer, first layer first.
        residual: weight of the skip connection.

    Returns:
        `(B, N, N)`, rows sum to 1.
    """
    result: Array | None = None
    for layer in attentions:
        mean = np.asarray(layer, dtype=np.float64).mean(axis=1)
        mixed = residual * np.eye(mean.shape[-1]) + (1 - residual) * mean
        result = mixed if result is None else mixed @ result
    if result is None:
        raise ValueError("Attention rollout needs at least one layer.")
    return result


def on_grid(model: ECGPreTrainedModel, attention: ArrayLike, num_leads: int) -> Array:
    """An attention map between patches: `(…, N, N)` to `(…, L, n, L, n)`, special tokens left out.

    The rows are not scaled again: what is missing to 1 goes to special tokens.

    Raises:
        ValueError: the tokens of the model belong to no lead.
    """
    values = np.asarray(attention, dtype=np.float64)
    numbers = torch.arange(values.shape[-1], dtype=torch.float32)[None, :, None]  # (1, N, 1): the hook sorts them
    sorted_numbers = model.base_model.tokens_by_lead(numbers, num_leads)
    if sorted_numbers is None:
        raise ValueError(f"The tokens of {type(model).__name__} do not belong to single leads; it has no lead grid.")
    tokens = sorted_numbers[0, :, :, 0].long().numpy()  # (L, n)
    flat = values[..., tokens.ravel(), :][..., tokens.ravel()]
    return flat.reshape(*values.shape[:-2], *tokens.shape, *tokens.shape)


def lead_by_lead(grid: ArrayLike) -> Array:
    """Share of its attention that each lead spends on each lead: `(L, n, L, n)` to `(L, L)`, rows sum to 1."""
    summed = np.asarray(grid, dtype=np.float64).sum(axis=3).mean(axis=1)
    return summed / summed.sum(axis=1, keepdims=True)


def time_by_time(grid: ArrayLike) -> Array:
    """Share of its attention that each instant spends on each instant: `(L, n, L, n)` to `(n, n)`."""
    summed = np.asarray(grid, dtype=np.float64).sum(axis=2).mean(axis=0)
    return summed / summed.sum(axis=1, keepdims=True)


def attention_summary(grid: ArrayLike, patch_seconds: float, qrs_patches: ArrayLike | None = None) -> dict[str, Any]:
    """A map in figures, each beside the figure of uniform attention.

    Args:
        grid: `(L, n, L, n)` of one record, or an average.
        patch_seconds: duration of a patch.
        qrs_patches: bool `(n,)` or `(L, n)`, patches that hold a QRS complex.

    Returns:
        `mean_distance_s`, `same_lead`, `same_time`, `itself`, `other` (shares; a patch itself counts in none
        of the others) and, with `qrs_patches`, `on_qrs`; `uniform` holds the same for uniform attention.
    """
    weights = np.asarray(grid, dtype=np.float64)
    uniform = np.ones_like(weights)
    return {
        **_shares(weights, patch_seconds, qrs_patches),
        "uniform": _shares(uniform, patch_seconds, qrs_patches),
    }


def plot_attention_map(
    attention: ArrayLike,
    *,
    lead_names: Sequence[str] | None = None,
    scale: bool = True,
    title: str | None = "Attention, mean over layers and heads",
) -> Figure:
    """The map of all tokens, `(N, N)`, with a hairline between leads.

    Args:
        attention: as from `average_map`; for twelve leads of 30 patches with separators `(384, 384)`.
        lead_names: tokens are divided evenly over these leads.
        scale: min-max scale the map.
    """
    from matplotlib.colors import PowerNorm

    values = min_max(attention) if scale else np.asarray(attention, dtype=np.float64)
    figure = new_figure(6.6, 6.0)
    axes = figure.add_axes((0.09, 0.08, 0.78, 0.82))
    # a strong diagonal would leave the rest black: colours follow the square root, the bar shows the values
    image = axes.imshow(values, cmap="magma", norm=PowerNorm(0.5), interpolation="nearest", aspect="equal")
    _mark_leads(axes, len(values), lead_names)
    axes.set_xlabel("Token that is looked at", fontsize=9, color=INK)
    axes.set_ylabel("Token that looks", fontsize=9, color=INK)
    _colour_bar(figure, image, (0.89, 0.08, 0.02, 0.82), "min-max scaled" if scale else "weight")
    set_title(figure, title)
    return figure


def plot_lead_attention(
    grid: ArrayLike, lead_names: Sequence[str], *, patch_seconds: float = 1.0, title: str | None = "Attention"
) -> Figure:
    """Two summaries of `(L, n, L, n)` side by side: lead by lead, and instant by instant."""
    leads, instants = lead_by_lead(grid), time_by_time(grid)
    figure = new_figure(10.4, 4.9)
    left = figure.add_axes((0.06, 0.12, 0.36, 0.74))
    image = left.imshow(leads, cmap="magma", vmin=0.0)
    ticks = range(len(lead_names))
    left.set_xticks(ticks, lead_names, fontsize=7, rotation=90 if len(lead_names) > 6 else 0)
    left.set_yticks(ticks, lead_names, fontsize=7)
    left.set_title("Lead by lead", fontsize=10, loc="left", color=INK)
    _colour_bar(figure, image, (0.43, 0.12, 0.012, 0.74), f"share (uniform {1 / len(leads):.3f})")
    right = figure.add_axes((0.56, 0.12, 0.36, 0.74))
    span = len(instants) * patch_seconds
    image = right.imshow(instants, cmap="magma", vmin=0.0, extent=(0, span, span, 0))
    right.set_title("Time by time", fontsize=10, loc="left", color=INK)
    unit = "Time (s)" if patch_seconds != 1.0 else "Patch"
    right.set_xlabel(f"{unit} looked at", fontsize=9, color=INK)
    right.set_ylabel(f"{unit} that looks", fontsize=9, color=INK)
    _colour_bar(figure, image, (0.93, 0.12, 0.012, 0.74), f"share (uniform {1 / len(instants):.3f})")
    for axes in (left, right):
        axes.tick_params(colors=MUTED, labelsize=7, length=0)
        _without_frame(axes)
    set_title(figure, title)
    return figure


def _shares(weights: Array, patch_seconds: float, qrs_patches: ArrayLike | None) -> Mapping[str, float]:
    num_leads, num_patches = weights.shape[:2]
    total = float(weights.sum())
    by_lead = weights.sum(axis=(1, 3))  # (L, L)
    by_time = weights.sum(axis=(0, 2))  # (n, n)
    itself = float(np.einsum("lili->", weights)) / total
    same_lead = float(np.trace(by_lead)) / total - itself
    same_time = float(np.trace(by_time)) / total - itself
    instants = np.arange(num_patches)
    distance = np.abs(instants[:, None] - instants) * patch_seconds
    shares = {
        "mean_distance_s": float((by_time * distance).sum() / total),
        "itself": itself,
        "same_lead": same_lead,
        "same_time": same_time,
        "other": 1.0 - itself - same_lead - same_time,
    }
    if qrs_patches is not None:
        looked_at = np.broadcast_to(np.asarray(qrs_patches, dtype=np.float64), (num_leads, num_patches))
        shares["on_qrs"] = float((weights.sum(axis=(0, 1)) * looked_at).sum() / total)
    return shares


def _mark_leads(axes: Axes, num_tokens: int, lead_names: Sequence[str] | None) -> None:
    axes.tick_params(colors=MUTED, labelsize=7, length=0)
    _without_frame(axes)
    if not lead_names or num_tokens % len(lead_names):
        return
    width = num_tokens / len(lead_names)
    middles = [width * (index + 0.5) - 0.5 for index in range(len(lead_names))]
    axes.set_xticks(middles, lead_names)
    axes.set_yticks(middles, lead_names)
    for index in range(1, len(lead_names)):
        for draw in (axes.axvline, axes.axhline):
            draw(width * index - 0.5, color=HAIRLINE, linewidth=0.3, alpha=0.7)


def _without_frame(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)


def _colour_bar(figure: Figure, image: Any, box: tuple[float, float, float, float], label: str) -> None:
    bar = figure.colorbar(image, cax=figure.add_axes(box))
    bar.set_label(label, fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7, colors=MUTED, length=2)
    bar.ax.spines["outline"].set_visible(False)
