"""Twelve leads, or any other number, on ECG paper: 25 mm a second, 10 mm a millivolt, in true size."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ecg_transformers.analysis.figures import COLOURS, INK, MUTED, NOT_A_MEDICAL_DEVICE, new_figure
from ecg_transformers.signal.leads import STANDARD_LEADS
from ecg_transformers.signal.wave_intervals import WaveIntervals, in_words, wave_intervals
from ecg_transformers.signal.waves import WAVES, Wave

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ecg_transformers.data.record import ECGRecord

MM_PER_SECOND, MM_PER_MILLIVOLT = 25.0, 10.0
PAGE_SECONDS = 10.0
WAVE_COLOURS = dict(zip(WAVES, COLOURS))

_MINOR, _MAJOR, _PAPER = "#f7d9d6", "#eeb0aa", "#fffaf9"
_MARGIN_MM, _HEAD_MM, _FOOT_MM, _PULSE_MM = 6.0, 12.0, 8.0, 9.0
_LABEL_MM, _LABEL_HEIGHT_MM, _ROW_LIMIT_MM = (
    (1.2, 11.0),
    4.5,
    40.0,
)  # where a name begins and ends, from its lead's start
_INCH_MM = 25.4
_LETTER_MM, _FOOT_LETTER_MM, _LINE_MM = 1.75, 1.5, 4.2  # of 9 and 8 points, on average and with some room

Layout = Literal["auto", "standard", "rows"]
Array = NDArray[np.float64]


@dataclass
class _Strip:
    """One stretch of one lead: its row, how many samples after the row's start it begins, and what it shows."""

    lead: int
    row: int
    offset: int
    start: int
    stop: int


def plot_ecg(
    record: ECGRecord | ArrayLike,
    sampling_rate: float | None = None,
    lead_names: Sequence[str] | None = None,
    *,
    layout: Layout = "auto",
    start_s: float = 0.0,
    seconds: float = PAGE_SECONDS,
    rhythm_lead: str = "II",
    title: str | None = None,
    predictions: Mapping[str, float] | None = None,
    waves: Mapping[str, Sequence[Wave]] | None = None,
    intervals: WaveIntervals | None = None,
) -> Figure:
    """An ECG as cardiologists read it.

    Args:
        record: an `ECGRecord`, or millivolts `(samples, leads)` or `(samples,)` with the next arguments.
        sampling_rate: in Hz, of an array.
        lead_names: of an array; numbers where not given.
        layout: `"standard"`: three rows of four leads, 2.5 s each, and a rhythm strip; `"rows"`: one row a lead
            (a single long lead goes on in the next row, at most six rows); `"auto"`: standard for the twelve
            standard leads, rows for others.
        start_s: where the page starts in the record.
        seconds: width of the page, at most what is left of the record.
        rhythm_lead: lead of the rhythm strip.
        title: above the paper; the record's id where not given.
        predictions: label to probability, written under the title with a note that this is no medical device.
        waves: of the leads that were delineated, drawn in colour; rate, PR, QRS and QT are written as predictions are.
        intervals: of these waves; made of them where not given.

    Raises:
        ValueError: no samples in the chosen stretch, or names and signal do not agree.
    """
    signal, rate, names, name = _unpack(record, sampling_rate, lead_names)
    start = round(start_s * rate)
    page = min(round(seconds * rate), len(signal) - start)
    if start < 0 or page < 2:
        raise ValueError(f"{start_s:g} s lies outside the record {name!r}, which lasts {len(signal) / rate:g} s.")
    strips = _strips(layout, names, start, page, len(signal), rhythm_lead)
    centred = signal - _baseline(signal[start : start + page])
    label_heights = [_label_height(strip, centred, rate) for strip in strips]
    zero_lines, height_mm = _zero_lines(strips, centred, label_heights)
    parts = [_in_words(predictions)] if predictions else []
    parts += [] if waves is None else [in_words(intervals or wave_intervals(waves))]
    said = _in_lines("   ".join(parts), page / rate * MM_PER_SECOND)
    figure, axes = _paper(page / rate * MM_PER_SECOND, height_mm, said.count("\n"))
    for zero_line in zero_lines:
        _draw_pulse(axes, zero_line)
    for strip, label_height in zip(strips, label_heights, strict=True):
        zero_line = zero_lines[strip.row]
        _draw_lead(axes, strip, centred, rate, zero_line, (waves or {}).get(names[strip.lead], ()))
        label = names[strip.lead] if len(names) > 1 else f"{names[0]}  {strip.start / rate:g} s"
        _write_label(axes, label, strip.offset / rate * MM_PER_SECOND, zero_line + label_height)
    shown = (min(strip.start for strip in strips) / rate, max(strip.stop for strip in strips) / rate)
    if waves is not None:
        _write_key(figure)
    _write_margins(
        figure, name if title is None else title, said, shown, len(signal) / rate, rate, getattr(record, "units", "mV")
    )
    return figure


def _draw_lead(axes: Axes, strip: _Strip, centred: Array, rate: float, zero_line: float, waves: Sequence[Wave]) -> None:
    """The stretch of a lead, and its waves in colour."""
    values, left = centred[strip.start : strip.stop, strip.lead], strip.offset / rate * MM_PER_SECOND
    _draw_strip(axes, values, left, rate, zero_line)
    for wave in waves:
        _draw_wave(axes, wave, strip, values, left, rate, zero_line)


def _unpack(
    record: ECGRecord | ArrayLike, sampling_rate: float | None, lead_names: Sequence[str] | None
) -> tuple[Array, float, list[str], str]:
    known: Any = record
    if hasattr(known, "signal") and hasattr(known, "lead_names"):
        signal = np.asarray(known.signal, dtype=np.float64)
        return signal, float(known.sampling_rate), list(known.lead_names), str(known.record_id)
    signal = np.asarray(record, dtype=np.float64)
    signal = signal[:, None] if signal.ndim == 1 else signal
    if signal.ndim != 2 or sampling_rate is None:
        raise ValueError("plot_ecg takes an ECGRecord, or an array (samples, leads) together with its sampling_rate.")
    names = [str(index + 1) for index in range(signal.shape[1])] if lead_names is None else list(lead_names)
    if len(names) != signal.shape[1]:
        raise ValueError(f"{len(names)} lead names do not fit a signal (samples, leads) of shape {signal.shape}.")
    return signal, float(sampling_rate), names, ""


def _strips(layout: Layout, names: list[str], start: int, page: int, length: int, rhythm_lead: str) -> list[_Strip]:
    standard = layout == "standard" or (layout == "auto" and set(STANDARD_LEADS) <= set(names))
    return (
        _standard_strips(names, start, page, rhythm_lead) if standard else _row_strips(len(names), start, page, length)
    )


def _standard_strips(names: list[str], start: int, page: int, rhythm_lead: str) -> list[_Strip]:
    """Limb leads, augmented leads, V1–V3, V4–V6, a quarter of the page each; below them the rhythm lead."""
    quarter = page // 4
    strips = []
    for position, lead in enumerate(STANDARD_LEADS):
        column, row = divmod(position, 3)
        first = start + column * quarter
        last = start + page if column == 3 else first + quarter
        strips.append(_Strip(names.index(lead), row, column * quarter, first, last))
    if rhythm_lead in names:
        strips.append(_Strip(names.index(rhythm_lead), 3, 0, start, start + page))
    return strips


def _row_strips(num_leads: int, start: int, page: int, length: int) -> list[_Strip]:
    if num_leads > 1:
        return [_Strip(lead, lead, 0, start, start + page) for lead in range(num_leads)]
    begins = range(start, min(length, start + 6 * page), page)
    return [_Strip(0, row, 0, begin, min(begin + page, length)) for row, begin in enumerate(begins)]


def _baseline(signal: Array) -> Array:
    """The median of each lead: a constant offset would push the trace out of its row."""
    known = np.isfinite(signal).any(axis=0)
    middle = np.zeros(signal.shape[1])
    middle[known] = np.nanmedian(signal[:, known], axis=0)
    return middle


def _label_height(strip: _Strip, signal: Array, rate: float) -> float:
    """How many mm above its zero line the name of a lead stands: over the trace beneath it."""
    end = strip.start + round(_LABEL_MM[1] / MM_PER_SECOND * rate)
    beneath = MM_PER_MILLIVOLT * signal[strip.start : min(strip.stop, end), strip.lead]
    beneath = beneath[np.isfinite(beneath)]
    highest = float(beneath.max()) if beneath.size else 0.0
    return min(max(6.0, highest + 1.5), _ROW_LIMIT_MM - _LABEL_HEIGHT_MM)


def _zero_lines(strips: list[_Strip], signal: Array, label_heights: list[float]) -> tuple[list[float], float]:
    """Height of each row's zero line and of the paper, in mm: room for the tallest lead of a row, up to 4 mV."""
    rows = 1 + max(strip.row for strip in strips)
    above, below = np.full(rows, 13.0), np.full(rows, 6.0)  # the pulse needs so much
    for strip, label_height in zip(strips, label_heights, strict=True):
        above[strip.row] = max(above[strip.row], label_height + _LABEL_HEIGHT_MM)
        part = MM_PER_MILLIVOLT * signal[strip.start : strip.stop, strip.lead]
        part = part[np.isfinite(part)]
        if part.size:
            above[strip.row] = max(above[strip.row], min(_ROW_LIMIT_MM, float(np.quantile(part, 0.999)) + 2.0))
            below[strip.row] = max(below[strip.row], min(_ROW_LIMIT_MM, 2.0 - float(np.quantile(part, 0.001))))
    height = 5.0 * float(np.ceil((above.sum() + below.sum()) / 5.0))
    tops = height - np.concatenate([[0.0], np.cumsum(above + below)[:-1]])
    return [float(round(line)) for line in tops - above], height


def _in_lines(said: str, width_mm: float) -> str:
    """What is written above the paper, in lines that are no wider than it."""
    bound = re.sub(r" (?=[±\d/%]|ms\b)|(?<=±) ", "\u00a0", said)  # a value stays in one line with its name and unit
    return "\n".join(wrap(bound, max(20, int((width_mm + _PULSE_MM) / _LETTER_MM)))).replace("\u00a0", " ")


def _paper(width_mm: float, height_mm: float, further_lines: int) -> tuple[Figure, Axes]:
    from matplotlib.collections import LineCollection

    left, right = -_PULSE_MM, width_mm
    total_width = right - left + 2 * _MARGIN_MM
    total_height = height_mm + _HEAD_MM + further_lines * _LINE_MM + _FOOT_MM
    figure = new_figure(total_width / _INCH_MM, total_height / _INCH_MM, dpi=130)
    box = (
        _MARGIN_MM / total_width,
        _FOOT_MM / total_height,
        (right - left) / total_width,
        height_mm / total_height,
    )
    axes = figure.add_axes(box, facecolor=_PAPER)
    axes.set_xlim(left, right)
    axes.set_ylim(0, height_mm)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(_MAJOR)
    for step, colour, width in ((1.0, _MINOR, 0.35), (5.0, _MAJOR, 0.6)):
        upright = np.arange(np.ceil(left / step) * step, right + 1e-6, step)
        level = np.arange(0.0, height_mm + 1e-6, step)
        lines = [[(x, 0.0), (x, height_mm)] for x in upright] + [[(left, y), (right, y)] for y in level]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, zorder=1 if step == 1 else 1.5))
    return figure, axes


def _draw_pulse(axes: Axes, zero_line: float) -> None:
    """The calibration pulse: 1 mV for 0.2 s, 10 mm by 5 mm."""
    x = np.array([0.0, 1.0, 1.0, 1.0 + 0.2 * MM_PER_SECOND, 1.0 + 0.2 * MM_PER_SECOND, 7.0]) - _PULSE_MM + 1.0
    y = zero_line + np.array([0.0, 0.0, MM_PER_MILLIVOLT, MM_PER_MILLIVOLT, 0.0, 0.0])
    axes.plot(x, y, color=INK, linewidth=0.8, zorder=3, solid_joinstyle="miter")


def _draw_strip(axes: Axes, values: Array, left: float, rate: float, zero_line: float) -> None:
    x = left + np.arange(len(values)) / rate * MM_PER_SECOND
    axes.plot(x, zero_line + MM_PER_MILLIVOLT * values, color=INK, linewidth=0.75, zorder=3, solid_joinstyle="round")
    if left > 0:  # a tick where the next lead begins
        axes.plot([left, left], [zero_line - 4, zero_line + 4], color=INK, linewidth=0.75, zorder=3)


def _draw_wave(
    axes: Axes, wave: Wave, strip: _Strip, values: Array, left: float, rate: float, zero_line: float
) -> None:
    """The part of a strip's trace that a wave is, in the wave's colour; a wave without a border is left out."""
    if wave.onset_s is None or wave.offset_s is None:
        return
    first = max(round(wave.onset_s * rate), strip.start) - strip.start
    last = min(round(wave.offset_s * rate) + 1, strip.stop) - strip.start
    if last - first > 1:
        x = left + np.arange(first, last) / rate * MM_PER_SECOND
        y = zero_line + MM_PER_MILLIVOLT * values[first:last]
        axes.plot(x, y, color=WAVE_COLOURS[wave.wave], linewidth=1.7, zorder=4, solid_capstyle="butt")


def _write_key(figure: Figure) -> None:
    width, height = figure.get_size_inches() * _INCH_MM
    for number, (wave, colour) in enumerate(reversed(WAVE_COLOURS.items())):
        place = 1 - (_MARGIN_MM + 11.0 * number) / width
        figure.text(place, 1 - 2.5 / height, wave, fontsize=9, fontweight="bold", color=colour, va="top", ha="right")


def _write_label(axes: Axes, label: str, left: float, height: float) -> None:
    axes.annotate(
        label,
        (left + _LABEL_MM[0], height),
        fontsize=9,
        fontweight="bold",
        color=INK,
        zorder=2,  # below the trace, which must never be hidden
        bbox={"facecolor": _PAPER, "edgecolor": "none", "pad": 0.8, "alpha": 0.8},
    )


def _write_margins(
    figure: Figure,
    title: str,
    said: str,
    shown: tuple[float, float],
    duration: float,
    rate: float,
    units: str,
) -> None:
    width, height = figure.get_size_inches() * _INCH_MM
    left = _MARGIN_MM / width
    figure.text(left, 1 - 2.5 / height, title, fontsize=11, fontweight="bold", color=INK, va="top")
    if said:
        figure.text(left, 1 - 7.5 / height, said, fontsize=9, color=INK, va="top")
    part = "" if shown[1] - shown[0] >= duration - 1 / rate else f"   {shown[0]:g}–{shown[1]:g} s of {duration:g} s"
    scale = f"25 mm/s   10 mm/{units}   {rate:g} Hz{part}"
    below = _FOOT_LETTER_MM * (len(scale) + len(NOT_A_MEDICAL_DEVICE) + 3) > width - 2 * _MARGIN_MM and bool(said)
    figure.text(left, (4.8 if below else 2.2) / height, scale, fontsize=8, color=MUTED)
    if said:
        size = min(8.0, 8.0 * (width - 2 * _MARGIN_MM) / (_FOOT_LETTER_MM * len(NOT_A_MEDICAL_DEVICE)))
        figure.text(
            1 - left, (1.4 if below else 2.2) / height, NOT_A_MEDICAL_DEVICE, fontsize=size, color=MUTED, ha="right"
        )


def _in_words(predictions: Mapping[str, float]) -> str:
    listed = sorted(predictions.items(), key=lambda pair: -pair[1])[:5]
    return "   ".join(f"{label} {100 * probability:.0f} %" for label, probability in listed)
