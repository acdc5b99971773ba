"""Zero-phase Butterworth filters, exact and fast.

Exact: second-order sections run forward and backward over an odd extension of the signal, bit-equal to
`scipy.signal.sosfiltfilt`; design and steady-state initial conditions are cached, which saves a third of the time.

Fast: on a fixed length T the whole chain of zero-phase filters is a linear map `y = x R`. Away from the ends R is
the circular convolution with |H|², a product in the spectrum; what the ends add (extension, initial conditions,
wrap-around) is a sum of decaying exponentials, a matrix A C of rank about 20. With slow cosines S taken out first,
whose response is known, `x - mean = s S + r` and `y = irfft(rfft(r) · |H|²) + (r A) C + s (S R) [+ mean]`, in float32
to a few 1e-6.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.fft

FilterSpec = tuple[str, float, int]
"""("highpass" | "lowpass", cut-off in Hz, Butterworth order)."""

_MAX_RANK = 64
_ROWS_PER_BLOCK = 96
_RANK_TOLERANCE = 1e-9


@dataclass(frozen=True)
class _Sections:
    sos: np.ndarray
    initial: np.ndarray
    edge: int


def butterworth(kind: str, cutoff: float, sampling_rate: float, order: int = 5) -> np.ndarray:
    """Second-order sections `(sections, 6)` of a Butterworth "highpass" or "lowpass".

    The zero-phase filter runs them twice: at the cut-off the magnitude is 0.5, the effective order `2 · order`.

    Raises:
        ValueError: a cut-off outside (0, sampling_rate / 2), an order below 1, or an unknown kind.
    """
    return _sections(kind, float(cutoff), float(sampling_rate), int(order)).sos.copy()


@lru_cache(maxsize=64)
def _sections(kind: str, cutoff: float, sampling_rate: float, order: int) -> _Sections:
    from scipy.signal import butter, sosfilt_zi

    if kind not in ("highpass", "lowpass"):
        raise ValueError(f'a filter is a "highpass" or a "lowpass", got {kind!r}.')
    btype: Literal["highpass", "lowpass"] = "highpass" if kind == "highpass" else "lowpass"
    if not 0 < cutoff < sampling_rate / 2:
        raise ValueError(
            f"the {kind} cut-off must lie between 0 and {sampling_rate / 2:g} Hz, half the rate: got {cutoff:g}."
        )
    if order < 1:
        raise ValueError(f"the filter order must be at least 1, got {order}.")
    sos = np.asarray(butter(order, cutoff, btype, fs=sampling_rate, output="sos"))
    taps = 2 * len(sos) + 1 - min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    return _Sections(sos, np.asarray(sosfilt_zi(sos)), 3 * taps)


def zero_phase_filter(
    signal: np.ndarray, kind: str, cutoff: float, sampling_rate: float, order: int = 5, axis: int = 0
) -> np.ndarray:
    """`signal` filtered forward and backward along `axis` (0: a record `(T, L)`); float64, contiguous, same shape.

    Bit-equal to `sosfiltfilt(butter(order, cutoff, btype, fs=sampling_rate, output="sos"), signal)`.

    Raises:
        ValueError: a cut-off out of range, or a signal of no more samples than the extension needs (18 for order 5).
    """
    from scipy.signal import sosfilt

    sections = _sections(kind, float(cutoff), float(sampling_rate), int(order))
    moved = np.moveaxis(np.asarray(signal), axis, -1)
    edge = sections.edge
    if moved.shape[-1] <= edge:
        raise ValueError(f"a {kind} of order {order} needs more than {edge} samples, the signal has {moved.shape[-1]}.")
    extended = _odd_extension(moved, edge)
    initial = sections.initial.reshape((len(sections.sos),) + (1,) * (moved.ndim - 1) + (2,))
    forward, _ = sosfilt(sections.sos, extended, axis=-1, zi=initial * extended[..., :1])
    backward, _ = sosfilt(sections.sos, forward[..., ::-1], axis=-1, zi=initial * forward[..., -1:])
    result = np.ascontiguousarray(backward[..., ::-1][..., edge:-edge])
    return result if axis in (-1, signal.ndim - 1) else np.ascontiguousarray(np.moveaxis(result, -1, axis))


def zero_phase_band_pass(
    signal: np.ndarray, low: float, high: float, sampling_rate: float, order: int = 4, axis: int = 0
) -> np.ndarray:
    """`signal` filtered forward and backward by a Butterworth band-pass of `order` (2 · order poles), float64.

    The odd extension has `3 · (2 · order + 1)` samples, that of the polynomial form (scipy's `filtfilt`), which second
    order sections follow to 1e-6 mV.

    Raises:
        ValueError: limits out of range, or a signal of no more samples than the extension.
    """
    if not 0 < low < high < sampling_rate / 2:
        raise ValueError(
            f"a band-pass needs 0 < low < high < {sampling_rate / 2:g} Hz, half the rate: got {low:g} and {high:g}."
        )
    sos = _band_pass_sections(float(low), float(high), float(sampling_rate), int(order))
    return _forward_backward(signal, sos, 3 * (2 * order + 1), axis, "a band-pass")


def zero_phase_notch(
    signal: np.ndarray, frequency: float, sampling_rate: float, quality: float = 30.0, axis: int = 0
) -> np.ndarray:
    """`signal` filtered forward and backward by a second-order IIR notch, float64; odd extension of 9 samples.

    `quality` is `frequency` over the width of the notch at -3 dB.

    Raises:
        ValueError: a frequency out of range, or a signal of no more than 9 samples.
    """
    if not 0 < frequency < sampling_rate / 2 or not quality > 0:
        raise ValueError(
            f"a notch needs a frequency between 0 and {sampling_rate / 2:g} Hz, half the rate, and a positive quality: "
            f"got {frequency:g} and {quality:g}."
        )
    return _forward_backward(
        signal, _notch_section(float(frequency), float(sampling_rate), float(quality)), 9, axis, "a notch"
    )


@lru_cache(maxsize=64)
def _band_pass_sections(low: float, high: float, sampling_rate: float, order: int) -> np.ndarray:
    from scipy.signal import butter

    return np.asarray(butter(order, (low, high), "bandpass", fs=sampling_rate, output="sos"))


@lru_cache(maxsize=64)
def _notch_section(frequency: float, sampling_rate: float, quality: float) -> np.ndarray:
    from scipy.signal import iirnotch

    numerator, denominator = iirnotch(frequency, quality, fs=sampling_rate)
    return np.concatenate((numerator, denominator))[None]


def _forward_backward(signal: np.ndarray, sos: np.ndarray, edge: int, axis: int, what: str) -> np.ndarray:
    from scipy.signal import sosfiltfilt

    signal = np.asarray(signal, dtype=np.float64)
    if signal.shape[axis] <= edge:
        raise ValueError(f"{what} needs more than {edge} samples, the signal has {signal.shape[axis]}.")
    return np.ascontiguousarray(sosfiltfilt(sos, signal, axis=axis, padtype="odd", padlen=edge))


def _odd_extension(signal: np.ndarray, edge: int) -> np.ndarray:
    left = 2 * signal[..., :1] - signal[..., edge:0:-1]
    right = 2 * signal[..., -1:] - signal[..., -2 : -(edge + 2) : -1]
    return np.concatenate((left, signal, right), axis=-1)


@dataclass(frozen=True, eq=False)
class FastFilter:
    """The chain of zero-phase filters for one length: a product in the spectrum plus low rank (see the module's head).

    All arrays are float64: `transfer (fft_length // 2 + 1,)` is |H|², `analysis (T, rank)` and `synthesis (rank, T)`
    are A and C, `trend (T, q)` the slow cosines and `trend_response (q, T)` what the chain makes of them.
    `constant_gain` is 1 when constants pass, else 0.
    """

    length: int
    fft_length: int
    transfer: np.ndarray
    analysis: np.ndarray
    synthesis: np.ndarray
    trend: np.ndarray
    trend_response: np.ndarray
    constant_gain: int

    def __call__(self, signal: np.ndarray) -> np.ndarray:
        """`signal (…, T)` filtered in its own precision (float32 or float64)."""
        if signal.shape[-1] != self.length:
            raise ValueError(f"this filter was built for {self.length} samples, the signal has {signal.shape[-1]}.")
        transfer, analysis, trend, responses = _cast(self, np.dtype(signal.dtype).name)
        rows = np.ascontiguousarray(signal).reshape(-1, self.length)
        result = np.empty_like(rows)
        rank = analysis.shape[1]
        padded = np.zeros((min(_ROWS_PER_BLOCK, len(rows)), self.fft_length), signal.dtype)
        for start in range(0, len(rows), _ROWS_PER_BLOCK):
            block = rows[start : start + _ROWS_PER_BLOCK]
            rest = padded[: len(block), : self.length]
            mean = block.mean(axis=1, keepdims=True)
            np.subtract(block, mean, out=rest)  # first: an offset of some mV would cost the products their digits
            weights = np.empty((len(block), len(responses)), signal.dtype)
            weights[:, rank:] = rest @ trend
            rest -= weights[:, rank:] @ trend.T
            weights[:, :rank] = rest @ analysis
            spectrum = scipy.fft.rfft(padded[: len(block)], axis=-1)
            pairs = spectrum.view(signal.dtype)  # real and imaginary parts: a real product is three times faster
            pairs *= transfer
            smooth = scipy.fft.irfft(spectrum, n=self.fft_length, axis=-1, overwrite_x=True)[:, : self.length]
            np.add(smooth, weights @ responses, out=result[start : start + len(block)])
            if self.constant_gain:
                result[start : start + len(block)] += mean
        return result.reshape(signal.shape)


@lru_cache(maxsize=64)
def _cast(fast: FastFilter, dtype: str) -> tuple[np.ndarray, ...]:
    responses = np.concatenate((fast.synthesis, fast.trend_response))
    parts = (np.repeat(fast.transfer, 2), fast.analysis, fast.trend, responses)
    return tuple(part.astype(dtype) for part in parts)


@lru_cache(maxsize=64)
def fast_filter(filters: tuple[FilterSpec, ...], length: int, sampling_rate: float) -> FastFilter:
    """The fast form of a chain of zero-phase filters on signals of `length` samples; built in some 30 ms, then cached.

    `filters` are applied in order, each ("highpass" | "lowpass", cut-off in Hz, order).
    """

    def exact(rows: np.ndarray) -> np.ndarray:
        for kind, cutoff, order in filters:
            rows = zero_phase_filter(rows, kind, cutoff, sampling_rate, order, axis=-1)
        return rows

    def transposed(rows: np.ndarray) -> np.ndarray:
        for kind, cutoff, order in reversed(filters):
            rows = _transposed_filter(rows, _sections(kind, float(cutoff), float(sampling_rate), int(order)))
        return rows

    fft_length = scipy.fft.next_fast_len(length, real=True)
    transfer = _power_response(filters, fft_length, sampling_rate)

    def circular(rows: np.ndarray) -> np.ndarray:  # symmetric: its own transpose
        spectrum = scipy.fft.rfft(rows, n=fft_length, axis=-1) * transfer
        return np.asarray(scipy.fft.irfft(spectrum, n=fft_length, axis=-1)[:, :length])

    # Random combinations of the rows of E = R - circular span all its rows, since its rank is small.
    probes = np.random.default_rng(0).standard_normal((min(_MAX_RANK, length), length))
    basis = np.linalg.qr((exact(probes) - circular(probes)).T)[0].T
    left, values, right = np.linalg.svd((transposed(basis) - circular(basis)).T, full_matrices=False)
    rank = int((values > _RANK_TOLERANCE * values[0]).sum())
    analysis, synthesis = left[:, :rank] * values[:rank], right[:rank] @ basis
    trend = _slow_basis(filters, length, sampling_rate)
    passes_constants = all(kind == "lowpass" for kind, _, _ in filters)
    return FastFilter(length, fft_length, transfer, analysis, synthesis, trend, exact(trend.T), int(passes_constants))


def _slow_basis(filters: tuple[FilterSpec, ...], length: int, sampling_rate: float) -> np.ndarray:
    """Orthonormal cosines `(T, q)` that a high-pass removes (the mean alone without one).

    Baseline wander may be a hundred times larger than what is left of it. Taken out by these columns, whose filtered
    form is known in float64, it does not cost the rest its float32 digits.
    """
    highest = max((cutoff for kind, cutoff, _ in filters if kind == "highpass"), default=0.0)
    count = min(1 + int(2 * highest * length / sampling_rate), 64, length)
    return np.asarray(scipy.fft.idct(np.eye(count, length), type=2, norm="ortho", axis=-1).T)


def _power_response(filters: tuple[FilterSpec, ...], fft_length: int, sampling_rate: float) -> np.ndarray:
    """|H|² of the whole chain at the bins of a real FFT."""
    from scipy.signal import sosfreqz

    frequencies = 2 * np.pi * np.arange(fft_length // 2 + 1) / fft_length
    power = np.ones(len(frequencies))
    for kind, cutoff, order in filters:
        sections = _sections(kind, float(cutoff), float(sampling_rate), int(order))
        power *= np.abs(sosfreqz(sections.sos, worN=frequencies)[1]) ** 2
    return power


def _transposed_filter(rows: np.ndarray, sections: _Sections) -> np.ndarray:
    """`rows (k, T)` times the transpose of the matrix that `zero_phase_filter` multiplies its input with.

    One pass is `F x = H x + g x[0]`, g being the answer to the initial state; its transpose runs the filter backward
    in time and adds `g · v` to the first sample. The odd extension and the trimming are transposed likewise.
    """
    from scipy.signal import sosfilt

    edge = sections.edge
    length = rows.shape[-1] + 2 * edge
    state_answer, _ = sosfilt(sections.sos, np.zeros(length), zi=sections.initial)

    def one_pass(values: np.ndarray) -> np.ndarray:
        result = np.array(sosfilt(sections.sos, values[:, ::-1], axis=-1)[:, ::-1])
        result[:, 0] += values @ state_answer
        return result

    values = np.pad(rows, ((0, 0), (edge, edge)))[:, ::-1]
    values = one_pass(one_pass(values)[:, ::-1])
    result = values[:, edge:-edge].copy()
    result[:, 0] += 2 * values[:, :edge].sum(axis=1)
    result[:, 1 : edge + 1] -= values[:, edge - 1 :: -1]
    result[:, -1] += 2 * values[:, -edge:].sum(axis=1)
    result[:, -(edge + 1) : -1] -= values[:, : -(edge + 1) : -1]
    return result
