"""Voltage units by name."""

from __future__ import annotations

_PER_MILLIVOLT = {"v": 1e-3, "mv": 1.0, "uv": 1e3, "µv": 1e3, "μv": 1e3, "microvolt": 1e3, "millivolt": 1.0, "volt": 1e-3, "nv": 1e6}


def units_per_millivolt(unit: str) -> float | None:
    """How many of a unit make one millivolt: 1000 for `uV`; None for what is no voltage.

    Case does not matter (corpora write `mv`, `MV`, `UV`), and both micro signs are known.
    """
    return _PER_MILLIVOLT.get(unit.strip().lower())
