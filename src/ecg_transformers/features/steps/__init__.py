"""The steps of a preprocessing chain. One ordered list of them *is* the preprocessor: it is saved, read and executed.

Record steps (`record.py`) see one record `(T, L)` with its names and units; after them every record has the same leads.
Signal steps (`signal.py`, and `published.py` for those of single published chains) see signals `(…, L, T)`, a whole
group of equal shapes at once, and give for each what they would give for it alone. `crop` is the border between what
may be cached (`prepare`) and what is done anew for each crop (`finish`).
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ecg_transformers.features.steps.base import RecordReport, RecordState, RecordStep, SignalStep, Step
from ecg_transformers.features.steps.published import (
    BandPass,
    DecimateFlattened,
    FIRBandPass,
    KeepEvery,
    MedianBaseline,
    MinMax,
    Notch,
    ResampleWindows,
)
from ecg_transformers.features.steps.record import CheckSignal, ConvertUnits, SelectLeads
from ecg_transformers.features.steps.running import fast_form_fits, filter_chain, run_signal_steps
from ecg_transformers.features.steps.signal import Crop, Filter, Normalize, Pad, Resample, Scale

STEPS: dict[str, type[Any]] = {
    step.name: step
    for step in (
        *(SelectLeads, ConvertUnits, CheckSignal),
        *(Resample, Pad, Crop, Filter, Normalize, Scale),
        *(Notch, BandPass, MedianBaseline, MinMax),
        *(FIRBandPass, DecimateFlattened, KeepEvery, ResampleWindows),
    )
}


def step_from_dict(data: Mapping[str, Any]) -> Step:
    """The step that `Step.to_dict` wrote.

    Raises:
        ValueError: an unknown step or an unknown setting of it.
    """
    settings = dict(data)
    name = settings.pop("step", None)
    if name not in STEPS:
        raise ValueError(f"unknown preprocessing step {name!r}: the steps are {', '.join(STEPS)}.")
    known = {item.name for item in fields(STEPS[name])}
    if unknown := sorted(set(settings) - known):
        raise ValueError(f"the step {name!r} has no setting {', '.join(unknown)}; it has {', '.join(sorted(known))}.")
    step: Step = STEPS[name](**settings)
    return step


__all__ = [
    "STEPS",
    "BandPass",
    "CheckSignal",
    "ConvertUnits",
    "Crop",
    "DecimateFlattened",
    "FIRBandPass",
    "Filter",
    "KeepEvery",
    "MedianBaseline",
    "MinMax",
    "Normalize",
    "Notch",
    "Pad",
    "RecordReport",
    "RecordState",
    "RecordStep",
    "Resample",
    "ResampleWindows",
    "Scale",
    "SelectLeads",
    "SignalStep",
    "Step",
    "fast_form_fits",
    "filter_chain",
    "run_signal_steps",
    "step_from_dict",
]
