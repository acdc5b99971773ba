"""What all figures share: how one is made, how one is written, and the colours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ecg_transformers.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NOT_A_MEDICAL_DEVICE = "Research software, not a medical device: not for diagnosis or treatment."

# Okabe and Ito's colours, which people with colour-blindness tell apart, in an order of falling contrast on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")
LINE_STYLES = ("-", "--", ":", "-.")
INK, MUTED, HAIRLINE = "#1a1a1a", "#6b6b6b", "#d9d9d9"

_MAX_BYTES = 2_000_000


def new_figure(width: float, height: float, dpi: int = 120) -> Figure:
    """An empty figure of `width` by `height` inches with its own Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str], dpi: int | None = None) -> Path:
    """Write a figure as PNG, SVG or PDF, by its name, in one step: the file is whole or absent.

    A PNG that would be over 2 MB is written at a lower resolution.

    Raises:
        ValueError: the name ends in none of `.png`, `.svg`, `.pdf`.
        OSError: the folder is missing or cannot be written to.
    """
    target = Path(path)
    kind = target.suffix.lower().removeprefix(".")
    if kind not in ("png", "svg", "pdf"):
        raise ValueError(f"A figure is written as .png, .svg or .pdf; the name {target.name!r} ends in none of them.")
    resolution = dpi or int(figure.dpi)
    with replacing(target) as beside:
        figure.savefig(beside, dpi=resolution, format=kind, facecolor=figure.get_facecolor())
        while kind == "png" and beside.stat().st_size > _MAX_BYTES and resolution > 40:
            resolution = int(resolution * 0.7)
            figure.savefig(beside, dpi=resolution, format=kind, facecolor=figure.get_facecolor())
    return target


def tidy(axes: Axes, grid: Literal["both", "x", "y"] | None = "y") -> None:
    """Quiet axes: no box, hairline grid below the data, small grey ticks."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
        axes.spines[side].set_linewidth(0.6)
    axes.tick_params(colors=MUTED, labelsize=8, width=0.6, length=3)
    if grid is not None:
        axes.grid(axis=grid, color=HAIRLINE, linewidth=0.6)
        axes.set_axisbelow(True)


def set_title(figure: Figure, title: str | None, **options: Any) -> None:
    """A left-aligned title at the top of the figure."""
    if title:
        figure.suptitle(
            title, x=0.01, y=1 - 0.12 / figure.get_figheight(), ha="left", va="top", fontsize=11, color=INK, **options
        )
