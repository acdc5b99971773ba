"""Zero-phase Butterworth filters, exact and fast.

Exact: second-order sections run forward and backward over an odd extension of the signal, bit-equal to
`scipy.signal.sosfiltfilt`; design and steady-state initial conditions are cached, which saves a third of the time.

Fast: on a fixed length the whole chain of zero-phase filters is a linear map `y = x R`. Away from the ends R is
Toeplitz (a convolution with the two-sided kernel of |H|²); what the ends add has a rank of about 20. With
slow cosines S taken out first (their response is known exactly), `x - mean = s S + r`,
`y = irfft(rfft(r) · kernel) + (r A) C + s (S R) [+ mean]`, in float32 to a few 1e-6.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft

FilterSpec = tuple[str, float, int]
"""("highpass" | "lowpass", cut-off in Hz, Butterworth order)."""

_KERNEL_GRID = 1 << 17  # the impulse response of a 0.67 Hz high-pass has died away long before this many samples
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
    if not 0 < cutoff < sampling_rate / 2:
        raise ValueError(
            f"the {kind} cut-off must lie between 0 and {sampling_rate / 2:g} Hz, half the sampling rate: got {cutoff:g}."
        )
    if order < 1:
        raise ValueError(f"the filter order must be at least 1, got {order}.")
    sos = np.asarray(butter(order, cutoff, kind, fs=sampling_rate, output="sos"))
    taps = 2 * len(sos) + 1 - min(int((sos[:, 2] == 0).sum()), int((sos[:, 5] == 0).sum()))
    return _Sections(sos, np.asarray(sosfilt_zi(sos)), 3 * taps)


def zero_phase_filter(
    signal: np.ndarray, kind: str, cutoff: float, sampling_rate: float, order: int = 5, axis: int = 0
) -> np.ndarray:
    """`signal` filtered forward and backward along `axis` (0: a record `(T, L)`); float64, contiguous, same shape.

    Bit-equal to `sosfiltfilt(butter(order, cutoff, kind, fs=sampling_rate, output="sos"), signal)`.

    Raises:
        ValueError: a cut-off out of range, or a signal of no more samples than the extension needs (18 for order 5).
    """
    from scipy.signal import sosfilt

    sections = _sections(kind, float(cutoff), float(sampling_rate), int(order))
    moved = np.moveaxis(np.asarray(signal), axis, -1)
    edge = sections.edge
    if moved.shape[-1] <= edge:
        raise ValueError(
            f"a {kind} of order {order} needs more than {edge} samples, the signal has {moved.shape[-1]}."
        )
    extended = _odd_extension(moved, edge)
    initial = sections.initial.reshape((len(sections.sos),) + (1,) * (moved.ndim - 1) + (2,))
    forward, _ = sosfilt(sections.sos, extended, axis=-1, zi=initial * extended[..., :1])
    backward, _ = sosfilt(sections.sos, forward[..., ::-1], axis=-1, zi=initial * forward[..., -1:])
    result = np.ascontiguousarray(backward[..., ::-1][..., edge:-edge])
    return result if axis in (-1, signal.ndim - 1) else np.ascontiguousarray(np.moveaxis(result, -1, axis))


def _odd_extension(signal: np.ndarray, edge: int) -> np.ndarray:
    left = 2 * signal[..., :1] - signal[..., edge:0:-1]
    right = 2 * signal[..., -1:] - signal[..., -2 : -(edge + 2) : -1]
    return np.concatenate((left, signal, right), axis=-1)


@dataclass(frozen=True, eq=False)
class FastFilter:
    """The chain of zero-phase filters for one length, as convolution plus low rank (see the module's head).

    All arrays are float64: `transfer (fft_length // 2 + 1,)`, `analysis (T, rank)`, `synthesis (rank, T)`, and the
    slow basis `trend (T, q)` with what the chain makes of it, `trend_response (q, T)`. `constant_gain` is 1 when
    constants pass, else 0.
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
        transfer, analysis, synthesis, trend, response = _cast(self, np.dtype(signal.dtype).name)
        rows = np.ascontiguousarray(signal).reshape(-1, self.length)
        result = np.empty_like(rows)
        for start in range(0, len(rows), _ROWS_PER_BLOCK):
            block = rows[start : start + _ROWS_PER_BLOCK]
            mean = block.mean(axis=1, keepdims=True)
            centred = block - mean  # first: an offset of some mV would cost the products their digits
            slow = centred @ trend
            rest = centred - slow @ trend.T
            spectrum = scipy.fft.rfft(rest, n=self.fft_length, axis=-1)
            spectrum *= transfer
            smooth = scipy.fft.irfft(spectrum, n=self.fft_length, axis=-1)[:, : self.length]
            ends = np.concatenate((rest @ analysis, slow), axis=1) @ np.concatenate((synthesis, response))
            np.add(smooth, ends, out=result[start : start + len(block)])
            if self.constant_gain:
                result[start : start + len(block)] += mean
        return result.reshape(signal.shape)


@lru_cache(maxsize=16)
def _cast(fast: FastFilter, dtype: str) -> tuple[np.ndarray, ...]:
    parts = (fast.transfer, fast.analysis, fast.synthesis, fast.trend, fast.trend_response)
    return tuple(part.astype(dtype) for part in parts)


@lru_cache(maxsize=8)
def fast_filter(filters: tuple[FilterSpec, ...], length: int, sampling_rate: float) -> FastFilter:
    """The fast form of a chain of zero-phase filters on signals of `length` samples; built in about a second, then
    cached.

    `filters` are applied in order, each ("highpass" | "lowpass", cut-off in Hz, order).
    """

    def exact(rows: np.ndarray) -> np.ndarray:
        for kind, cutoff, order in filters:
            rows = zero_phase_filter(rows, kind, cutoff, sampling_rate, order, axis=-1)
        return rows

    fft_length = scipy.fft.next_fast_len(2 * length - 1, real=True)
    transfer = np.asarray(scipy.fft.rfft(_wrapped_kernel(filters, length, fft_length, sampling_rate)).real)
    identity = np.eye(length)
    spectrum = scipy.fft.rfft(identity, n=fft_length, axis=-1) * transfer
    ends = exact(identity) - scipy.fft.irfft(spectrum, n=fft_length, axis=-1)[:, :length]
    trend = _slow_basis(filters, length, sampling_rate)
    passes_constants = all(kind == "lowpass" for kind, _, _ in filters)
    return FastFilter(length, fft_length, transfer, *_low_rank(ends), trend, exact(trend.T), int(passes_constants))


def _slow_basis(filters: tuple[FilterSpec, ...], length: int, sampling_rate: float) -> np.ndarray:
    """Orthonormal cosines `(T, q)` that a high-pass removes (the mean alone without one).

    Baseline wander may be a hundred times larger than what is left of it. Taken out by these columns, whose filtered
    form is known in float64, it does not cost the rest its float32 digits.
    """
    highest = max((cutoff for kind, cutoff, _ in filters if kind == "highpass"), default=0.0)
    count = min(1 + int(2 * highest * length / sampling_rate), _MAX_RANK, length)
    return np.asarray(scipy.fft.idct(np.eye(length)[:count], type=2, norm="ortho", axis=-1).T)


def _wrapped_kernel(filters: tuple[FilterSpec, ...], length: int, fft_length: int, sampling_rate: float) -> np.ndarray:
    """The two-sided kernel of |H|², lags 0 … T-1 at the front and -(T-1) … -1 at the back of the FFT's period."""
    from scipy.signal import sosfreqz

    grid = max(_KERNEL_GRID, 1 << (4 * length - 1).bit_length())
    frequencies = np.linspace(0, np.pi, grid // 2 + 1)
    power = np.ones(grid // 2 + 1)
    for kind, cutoff, order in filters:
        sections = _sections(kind, float(cutoff), float(sampling_rate), int(order))
        power *= np.abs(sosfreqz(sections.sos, worN=frequencies)[1]) ** 2
    kernel = scipy.fft.irfft(power, n=grid)
    wrapped = np.zeros(fft_length)
    wrapped[:length] = kernel[:length]
    wrapped[-(length - 1) :] = kernel[-(length - 1) :]
    return wrapped


def _low_rank(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors A, C with `matrix ≈ A C`, by a seeded random range finder (a full SVD would take many seconds)."""
    probes = np.random.default_rng(0).standard_normal((min(_MAX_RANK, len(matrix)), len(matrix)))
    rows = np.linalg.qr((probes @ matrix).T)[0].T
    rows = np.linalg.qr(matrix.T @ (matrix @ rows.T))[0].T  # one power iteration sharpens the small ones
    left, values, right = np.linalg.svd(matrix @ rows.T, full_matrices=False)
    rank = int((values > _RANK_TOLERANCE * max(values[0], 1e-300)).sum())
    return left[:, :rank] * values[:rank], right[:rank] @ rows
