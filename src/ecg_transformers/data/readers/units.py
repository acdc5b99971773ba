"""Voltage units as readers need them: by how much a gain grows to mean millivolts."""

from __future__ import annotations

from functools import lru_cache

from ecg_transformers.signal.units import MILLIVOLTS_PER_UNIT, canonical_unit


@lru_cache(maxsize=256)
def units_per_millivolt(unit: str) -> float | None:
    """How many of a unit make one millivolt: 1000 for `uV`; None for what is no voltage."""
    try:
        return 1.0 / MILLIVOLTS_PER_UNIT[canonical_unit(unit)]
    except ValueError:
        return None
