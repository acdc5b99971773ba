"""Units of voltage: everything inside the package is in millivolts."""

from collections.abc import Sequence

import numpy as np

MILLIVOLTS_PER_UNIT: dict[str, float] = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}

SUSPICIOUS_MILLIVOLTS = 50.0
"""No surface ECG reaches this amplitude; a signal that does was most likely read in microvolts."""

SUSPICIOUS_RANGE_MILLIVOLTS = 0.03
"""An ECG whose largest lead spans less than this is most likely in volts: there 30 mV would be no more."""

_SPELLINGS = {"v": "V", "volt": "V", "volts": "V", "mv": "mV", "millivolt": "mV", "millivolts": "mV"}
_SPELLINGS.update({"uv": "uV", "microvolt": "uV", "microvolts": "uV"})
_SPELLINGS.update({"nv": "nV", "nanovolt": "nV", "nanovolts": "nV"})


def canonical_unit(unit: str) -> str:
    """One of "V", "mV", "uV", "nV": letter case does not matter, and both micro signs (µ, μ) are understood.

    Raises:
        ValueError: the unit is not a known unit of voltage.
    """
    text = str(unit).strip().strip("\x00").strip()
    if text == "MV":  # headers in capitals; a megavolt is no ECG
        return "mV"
    key = text.replace("\u00b5", "u").replace("\u03bc", "u").lower()
    if key not in _SPELLINGS:
        raise ValueError(f"unknown unit {unit!r}: an ECG is in V, mV, uV (µV) or nV.")
    return _SPELLINGS[key]


def to_millivolts(signal: np.ndarray, units: str | Sequence[str]) -> np.ndarray:
    """A record `(T, L)` in millivolts; `units` is one unit for all leads, or one for each lead.

    Floating dtypes are kept, integers become float64. A record in millivolts comes back without a copy.

    Raises:
        ValueError: an unknown unit, or a number of units that is not the number of leads.
    """
    if not np.issubdtype(signal.dtype, np.floating):
        signal = signal.astype(np.float64)
    if isinstance(units, str):
        factor = MILLIVOLTS_PER_UNIT[canonical_unit(units)]
        return signal if factor == 1.0 else signal * factor
    if len(units) != signal.shape[-1]:
        raise ValueError(f"{len(units)} units were given for {signal.shape[-1]} leads: give one for each lead.")
    factors = np.array([MILLIVOLTS_PER_UNIT[canonical_unit(unit)] for unit in units])
    return signal if (factors == 1.0).all() else signal * factors.astype(signal.dtype)


def unit_suspicion(signal: np.ndarray) -> str | None:
    """A sentence when a record `(T, L)` said to be in millivolts looks like another unit, else None."""
    return range_suspicion(signal.min(axis=0), signal.max(axis=0))


def range_suspicion(lowest: np.ndarray, highest: np.ndarray) -> str | None:
    """`unit_suspicion` of a record of which the lowest and the highest millivolt of each lead are known, `(L,)` each."""
    peak = float(np.maximum(np.abs(lowest), np.abs(highest)).max())
    spread = float((highest - lowest).max())
    size = min(peak, spread)  # electrodes may have an offset of hundreds of millivolts (BDF), which is no other unit
    if size > SUSPICIOUS_MILLIVOLTS:
        small = size > SUSPICIOUS_MILLIVOLTS / MILLIVOLTS_PER_UNIT["uV"]  # neither would be one in microvolts
        meant = 'nanovolts (units="nV")' if small else 'microvolts (units="uV")'
        return f"the amplitude reaches {peak:.4g} mV, which no surface ECG does: was it in {meant}?"
    if 0.0 < spread < SUSPICIOUS_RANGE_MILLIVOLTS:
        return f'the largest lead spans only {spread:.2g} mV: was it in volts (units="V")?'
    return None
