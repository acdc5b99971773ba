"""What can be wrong with a signal, found and (where asked) repaired: NaN gaps, flat leads, empty starts."""

import numpy as np

BY_PARTS = "convert-record --gaps split writes a record of each of its parts"
"""What to do with a discontinuous recording (EDF+D) where missing samples are not taken."""


def nan_gaps(lead: np.ndarray) -> list[tuple[int, int]]:
    """The gaps of a lead `(T,)`: (first NaN sample, number of NaN samples), in order."""
    missing = np.concatenate(([False], np.isnan(lead), [False]))
    edges = np.flatnonzero(missing[1:] != missing[:-1])
    return [(int(start), int(stop - start)) for start, stop in zip(edges[::2], edges[1::2])]


def interpolate_gaps(signal: np.ndarray, max_gap: int) -> tuple[np.ndarray, list[int]]:
    """A copy of a record `(T, L)` with NaN gaps of at most `max_gap` samples filled by straight lines, and the number
    of samples filled in each lead. At the ends the nearest sample is repeated.

    Raises:
        ValueError: a longer gap; the message names lead (column), sample and length.
    """
    result = np.array(signal)
    filled = [0] * signal.shape[1]
    for column in np.flatnonzero(np.isnan(signal).any(axis=0)):
        lead = result[:, column]
        for start, size in nan_gaps(lead):
            if size > max_gap:
                raise ValueError(
                    f"column {column} has a gap of {size} NaN samples at sample {start}, longer than the {max_gap} "
                    "samples that may be interpolated."
                )
        known = np.flatnonzero(~np.isnan(lead))
        unknown = np.flatnonzero(np.isnan(lead))
        if known.size == 0:
            raise ValueError(f"column {column} holds nothing but NaN.")
        lead[unknown] = np.interp(unknown, known, lead[known])
        filled[int(column)] = int(unknown.size)
    return result, filled


def zero_gaps(signal: np.ndarray, whole_leads: bool = False) -> tuple[np.ndarray, list[int]]:
    """A copy of a record `(T, L)` whose NaN are 0, and how many there were in each lead.

    With `whole_leads` a lead with a NaN is 0 throughout: what Fourier resampling makes of it in the codes that replace
    NaN afterwards, since it spreads one over its lead.
    """
    missing = np.isnan(signal)
    counts = [int(count) for count in missing.sum(axis=0)]
    return np.where(missing.any(axis=0) if whole_leads else missing, signal.dtype.type(0), signal), counts


def flat_leads(signal: np.ndarray) -> np.ndarray:
    """bool `(…, L)`: the leads of signals `(…, L, T)` that hold one value throughout."""
    first = signal[..., 0]
    flat = np.asarray((first == signal[..., -1]) & (first == signal[..., signal.shape[-1] // 2]))
    if flat.any():  # seldom: only then every sample is looked at
        flat[flat] = (signal[flat] == signal[flat][:, :1]).all(axis=-1)
    return flat


def keep_flat(signal: np.ndarray, result: np.ndarray, passes_constants: bool = True) -> np.ndarray:
    """`result` with the leads that were flat in `signal` put exactly to their constant, or to zero.

    Resampling and filters leave rounding noise of a flat lead, which a standardisation would blow up to a signal.
    """
    flat = flat_leads(signal)
    if flat.any():
        result[flat] = signal[flat][:, :1] if passes_constants else 0
    return result


def starts_recorded(signal: np.ndarray, head: int = 15) -> bool:
    """False for a record `(T, L)` that holds a NaN, or whose leads are all exactly zero in the first `head` samples.

    The rule by which ECG-JEPA drops records from its pre-training corpora (`head` counts samples at 500 Hz there).
    """
    return not (bool(np.isnan(signal).any()) or bool((signal[:head] == 0).all()))
