"""From the flat settings of `ECGFeatureExtractor` to its ordered list of steps, with all checks on the way."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Protocol

from ecg_transformers.features.steps import (
    CheckSignal,
    ConvertUnits,
    Crop,
    Filter,
    Normalize,
    Pad,
    Resample,
    ResampleWindows,
    Scale,
    SelectLeads,
    Step,
    step_from_dict,
)
from ecg_transformers.signal.resampling import RESAMPLE_METHODS, check_rate
from ecg_transformers.signal.units import canonical_unit
from ecg_transformers.words import check_choice

_CHOICES: dict[str, tuple[Any, ...]] = {
    "missing_leads": ("derive", "error", "drop", "zero"),
    "resample": RESAMPLE_METHODS,
    "resample_rounding": (None, "truncate", "round", "ratio_first"),
    "crop": ("center", "start", "random", "sliding"),
    "crop_policy": ("exact", "official"),
    "pad_short": (None, "zero", "edge", "both", "keep"),
    "normalize": (None, "joint", "per_lead", "fixed"),
    "nan": ("error", "interpolate", "zero", "zero_lead"),
    "flat": ("error", "zero"),
}


class Settings(Protocol):
    """The attributes of an extractor that its steps follow from."""

    sampling_rate: float
    seq_len: int | None
    lead_names: list[str] | None
    lead_table: list[str] | None
    missing_leads: str
    units: str
    resample: str
    resample_rounding: str | None
    chain: list[str | dict[str, Any]] | None
    crop: str
    crop_stride: int | None
    crop_before_filter: bool
    crop_sampling_rate: float | None
    num_crops: int | None
    crop_policy: str
    pad_short: str | None
    highpass: float | None
    lowpass: float | None
    filter_order: int
    normalize: str | None
    normalize_eps: float
    mean: list[float] | None
    std: list[float] | None
    scale: float
    clip: float | None
    nan: str
    max_gap: float
    flat: str
    do_patch: bool
    patch_size: int | None


def derive_steps(settings: Settings) -> list[Step]:
    """The ordered list of steps that the settings mean.

    Raises:
        ValueError: a setting that is unknown, out of range, or contradicts another.
    """
    check_settings(settings)
    steps: list[Step] = [SelectLeads(settings.lead_names, settings.missing_leads), ConvertUnits()]
    steps.append(CheckSignal(settings.nan, settings.max_gap, settings.flat))
    for entry in settings.chain or usual_chain(settings):
        steps += _PARTS[entry](settings) if isinstance(entry, str) else [step_from_dict(entry)]
    return steps


def usual_chain(settings: Settings) -> list[str]:
    """The order of the signal steps where a preset gives none of its own."""
    crop = ["pad", "crop", "resample_crop"]
    middle = [*crop, "filters"] if settings.crop_before_filter else ["filters", *crop]
    return ["resample", *middle, "normalize", "scale"]


def _rates(settings: Settings) -> tuple[float, float]:
    """The rate of the result, and that at which crops are cut."""
    rate = float(settings.sampling_rate)
    return rate, float(settings.crop_sampling_rate or rate)


def _crop_samples(settings: Settings, samples: int) -> int:
    """`samples` of the result, counted at the rate at which crops are cut."""
    rate, crop_rate = _rates(settings)
    return round(samples * crop_rate / rate)


def _resample(settings: Settings) -> list[Step]:
    return [Resample(_rates(settings)[1], settings.resample, None, settings.resample_rounding)]


def _resample_windows(settings: Settings) -> list[Step]:
    """Windows as long as the crop, each resampled alone."""
    if settings.seq_len is None:
        return _resample(settings)
    rate = _rates(settings)[1]
    return [
        ResampleWindows(rate, _crop_samples(settings, settings.seq_len), settings.resample, settings.resample_rounding)
    ]


def _resample_crop(settings: Settings) -> list[Step]:
    rate, crop_rate = _rates(settings)
    if rate == crop_rate:
        return []
    return [Resample(rate, settings.resample, crop_rate, settings.resample_rounding)]


def _pad(settings: Settings) -> list[Step]:
    if settings.seq_len is None or settings.pad_short in (None, "keep"):
        return []
    return [Pad(_crop_samples(settings, settings.seq_len), settings.pad_short)]


def _crop(settings: Settings) -> list[Step]:
    if settings.seq_len is None:
        return []
    length = _crop_samples(settings, settings.seq_len)
    stride = None if settings.crop_stride is None else _crop_samples(settings, settings.crop_stride)
    unit = _crop_samples(settings, settings.patch_size or 1) if settings.pad_short == "keep" else None
    return [Crop(length, _rates(settings)[1], settings.crop, settings.num_crops, settings.crop_policy, stride, unit)]


def _filters(settings: Settings) -> list[Step]:
    return [
        Filter(kind, float(cutoff), int(settings.filter_order))
        for kind, cutoff in (("highpass", settings.highpass), ("lowpass", settings.lowpass))
        if cutoff is not None
    ]


def _standardisation(settings: Settings) -> list[Step]:
    return [] if settings.normalize is None else [_normalize(settings)]


def _scale(settings: Settings) -> list[Step]:
    return [] if settings.scale == 1.0 and settings.clip is None else [Scale(settings.scale, settings.clip)]


_PARTS: dict[str, Callable[[Settings], list[Step]]] = {
    "resample": _resample,
    "resample_windows": _resample_windows,
    "pad": _pad,
    "crop": _crop,
    "resample_crop": _resample_crop,
    "filters": _filters,
    "normalize": _standardisation,
    "scale": _scale,
}

# settings that only one part reads, each with the value that asks for nothing
_READ_BY: dict[str, Mapping[str, Any]] = {
    "pad": {"pad_short": None},
    "crop": {"seq_len": None, "num_crops": None, "crop_stride": None},
    "filters": {"highpass": None, "lowpass": None},
    "normalize": {"normalize": None},
    "scale": {"scale": 1.0, "clip": None},
}


def _normalize(settings: Settings) -> Normalize:
    if settings.normalize != "fixed":
        return Normalize(str(settings.normalize), settings.normalize_eps)
    mean, std = (statistics_of(settings, values, settings.lead_names) for values in (settings.mean, settings.std))
    return Normalize("fixed", 0.0, mean, std)


def statistics_of(settings: Settings, values: list[float] | None, names: Sequence[str] | None) -> list[float]:
    """The fixed statistics of the leads `names`, taken by name from those of the lead table."""
    assert values is not None
    if len(values) == 1 or names is None or settings.lead_table is None:
        return list(values)
    return [values[settings.lead_table.index(name)] for name in names]


def check_settings(settings: Settings) -> None:
    """Raises ValueError for the first setting that cannot be meant; see `derive_steps`."""
    for name, allowed in _CHOICES.items():
        check_choice(name.removesuffix("_short"), getattr(settings, name), allowed)
    canonical_unit(settings.units)
    rate = check_rate(settings.sampling_rate)
    crop_rate = check_rate(settings.crop_sampling_rate or rate, "crop_sampling_rate")
    for name in ("seq_len", "patch_size", "num_crops", "crop_stride", "filter_order"):
        value = getattr(settings, name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < 1):
            raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
    _check_crops(settings, rate, crop_rate)
    filter_rate = rate if settings.crop_before_filter else crop_rate
    for name in ("highpass", "lowpass"):
        cutoff = getattr(settings, name)
        if cutoff is not None and not 0 < cutoff < filter_rate / 2:
            raise ValueError(f"{name} must lie between 0 and {filter_rate / 2:g} Hz, half the rate, got {cutoff!r}.")
    _check_leads(settings)
    _check_chain(settings)
    if settings.do_patch and (not settings.patch_size or (settings.seq_len or 0) % settings.patch_size):
        raise ValueError(
            f"do_patch needs a patch_size that divides seq_len, got {settings.patch_size} and {settings.seq_len}."
        )


def _check_chain(settings: Settings) -> None:
    """Every entry is known, and no setting asks for a part that the chain leaves out."""
    if settings.chain is None:
        return
    for entry in settings.chain:
        if isinstance(entry, str) and entry not in _PARTS:
            raise ValueError(f"unknown part {entry!r} of a chain: the parts are {', '.join(_PARTS)}, or a step's data.")
        if not isinstance(entry, str):
            step_from_dict(entry)
    for part, unset in _READ_BY.items():
        asked = [name for name, nothing in unset.items() if getattr(settings, name) != nothing]
        if part not in settings.chain and asked:
            shown = ", ".join(entry if isinstance(entry, str) else str(entry["step"]) for entry in settings.chain)
            raise ValueError(
                f"{asked[0].removesuffix('_short')} has no place in this preprocessing: its steps are {shown}. "
                f"Give chain=[…] with {part!r} where it belongs."
            )


def _check_crops(settings: Settings, rate: float, crop_rate: float) -> None:
    if settings.seq_len is None:
        if settings.num_crops is not None or settings.pad_short is not None or crop_rate != rate:
            raise ValueError("num_crops, pad and crop_sampling_rate need a seq_len: without one there are no crops.")
    elif abs(settings.seq_len * crop_rate / rate - round(settings.seq_len * crop_rate / rate)) > 1e-9:
        raise ValueError(
            f"seq_len {settings.seq_len} at {rate:g} Hz is no whole number of samples at {crop_rate:g} Hz."
        )


def _check_leads(settings: Settings) -> None:
    if settings.lead_names is not None and not settings.lead_names:
        raise ValueError("lead_names is empty: name at least one lead, or give None for series without names.")
    if settings.lead_names is not None and settings.lead_table is not None:
        foreign = [name for name in settings.lead_names if name not in settings.lead_table]
        if foreign:
            raise ValueError(
                f"the model has no lead {', '.join(foreign)}: its leads are {', '.join(settings.lead_table)}."
            )
    if settings.normalize == "fixed":
        for name in ("mean", "std"):
            values = getattr(settings, name)
            count = len(settings.lead_table) if settings.lead_table else None
            if values is None or (count is not None and len(values) not in (1, count)):
                raise ValueError(
                    f'normalize="fixed" needs {name}, one value for each of the {count} leads of the table.'
                )
        if any(value <= 0 for value in settings.std or []):
            raise ValueError("every std of a fixed normalisation must be positive.")
