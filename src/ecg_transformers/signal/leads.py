"""Lead names: one spelling for every lead, and the limb leads that follow from two others.

`canonical_lead` understands the spellings found in public corpora, `select_leads` picks leads by name and derives
missing limb leads by Einthoven's law (III = II - I) and Goldberger's definitions: aVR = -(I + II) / 2,
aVL = I - II / 2 and aVF = II - I / 2.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

STANDARD_LEADS: tuple[str, ...] = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve standard leads in their standard order."""

LIMB_LEADS: tuple[str, ...] = STANDARD_LEADS[:6]


# Every limb lead as a * I + b * II.
_LIMB_AS_I_AND_II: dict[str, tuple[float, float]] = {
    "I": (1.0, 0.0),
    "II": (0.0, 1.0),
    "III": (-1.0, 1.0),
    "aVR": (-0.5, -0.5),
    "aVL": (1.0, -0.5),
    "aVF": (-0.5, 1.0),
}
# A hyphen that touches the prefix belongs to it (`ECG-II`); behind a blank it is a sign (`ECG -aVR`).
_PREFIX = re.compile(r"^(?:ecg|ekg|lead|derivation|channel)(?:-\s*|[\s_:.]+(?:-\s+)?)?", re.IGNORECASE)
_ALIASES: dict[str, str] = {name.lower(): name for name in STANDARD_LEADS}
_ALIASES.update({f"v{i}": f"V{i}" for i in range(7, 10)} | {f"v{i}r": f"V{i}R" for i in range(1, 10)})
_ALIASES.update({"d1": "I", "d2": "II", "d3": "III", "di": "I", "dii": "II", "diii": "III"})
_ALIASES.update({"l1": "I", "l2": "II", "l3": "III", "mli": "I", "mlii": "II", "mliii": "III"})
_ALIASES.update({"vr": "aVR", "vl": "aVL", "vf": "aVF"})
_ALIASES.update({"vx": "VX", "vy": "VY", "vz": "VZ"})

# C1 to C6 are chest leads on European carts, and C3 and C4 electrodes over the brain: the other names tell.
_CHEST = {f"c{i}": f"V{i}" for i in range(1, 7)}
_SCALP = re.compile(r"^(?:fp[12z]|f(?:[3478z]|[1256])|c[z]|t[3-8]|p[3478z]|o[12z]|a[12]|m[12]|e[o0]g.*|emg.*|eeg.*)\b")


@lru_cache(maxsize=4096)
def canonical_lead(name: str) -> str:
    """The one spelling of a lead name; a name that is no known lead comes back stripped and otherwise unchanged.

    Letter case does not matter (`AVR`, `avr` → `aVR`), nor do the prefixes `ECG ` and `Lead `, `D` of the Romance
    languages (`DII` → `II`) and `ML` of modified limb leads (`MLII` → `II`, the Holter lead in the position of lead
    II). A sign is part of the name (`-aVR` is no `aVR`), and a difference of two leads is none of them (`I-II`).

    >>> [canonical_lead(name) for name in ("AVR", "MLII", "DI", "ECG I", "Lead II", "v1", "-aVR", "I-II", "abdomen")]
    ['aVR', 'II', 'I', 'I', 'II', 'V1', '-aVR', 'I-II', 'abdomen']
    """
    stripped = str(name).strip().strip("\x00").strip()
    return _ALIASES.get(_key(stripped), stripped)


def is_lead(name: str) -> bool:
    """Whether a name tells where on the body a lead is: `MLII` does, `ECG` and `ch1` do not."""
    return canonical_lead(name) in _ALIASES.values()


def columns_of(leads: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Which of the columns `names` the leads are; None when one of them is none."""
    known = list(names) if set(leads) <= set(names) else canonical_leads(names)
    return [known.index(lead) for lead in leads] if set(leads) <= set(known) else None


def names_the_only_lead(given: Sequence[str] | None, own: Sequence[str]) -> bool:
    """Whether `given` says which lead that of a record is, whose own name does not (`ECG`)."""
    return given is not None and len(given) == len(own) == 1 and is_lead(given[0]) and not is_lead(own[0])


@lru_cache(maxsize=4096)  # a corpus spells its leads alike, record after record
def _key(name: str) -> str:
    """A lead name without prefixes and separators, in small letters; what joins two leads is kept (`I-II`, `I II`)."""
    bare = name
    while (shorter := _PREFIX.sub("", bare)) != bare and shorter:
        bare = shorter
    pieces = re.split(r"[\s_]+", bare.lower())
    if len(pieces) > 1 and all(piece in _ALIASES for piece in pieces):
        return bare.lower()
    return re.sub(r"(?<=[a-z])-(?=\d\Z)", "", "".join(pieces))  # `V-1` is V1


def canonical_in_file(names: Sequence[str]) -> list[str]:
    """`canonical_lead` of the names of one file, where `C1` to `C6` are chest leads if the other names say so.

    They are when at least four of the six are there, or when limb leads are and no electrode of the scalp; C3 and C4
    alone, as in a sleep recording, are not.

    >>> canonical_in_file(["I", "II", "C1", "C2", "C3", "C4", "C5", "C6"])[2:4]
    ['V1', 'V2']
    >>> canonical_in_file(["C3", "C4", "ECG"])
    ['C3', 'C4', 'ECG']
    """
    result = [canonical_lead(name) for name in names]
    keys = [_key(lead) for lead in result]
    chest = {key for key in keys if key in _CHEST}
    if not chest:
        return result
    scalp = any(_SCALP.match(key) for key in keys)
    limbs = any(lead in LIMB_LEADS for lead in result)
    if scalp or not (len(chest) >= 4 or (limbs and not chest <= {"c3", "c4"})):
        return result
    return [_CHEST[key] if key in _CHEST and _CHEST[key] not in result else lead for key, lead in zip(keys, result)]


def canonical_leads(names: Sequence[str]) -> list[str]:
    """`canonical_in_file` of the names of a record.

    Raises:
        ValueError: when two names mean the same lead (`II` and `MLII`), because picking one would be a guess.
    """
    if isinstance(names, str):
        raise ValueError(f"lead_names must be a list of names, got the single string {names!r}: write [{names!r}].")
    result = canonical_in_file([str(name) for name in names])
    for lead in result:
        if result.count(lead) > 1:
            spelt = [str(name) for name, canonical in zip(names, result) if canonical == lead]
            raise ValueError(f"the names {spelt} all mean lead {lead}: every lead may be given once.")
    return result


def derivation(lead: str, available: Sequence[str]) -> list[tuple[str, float]] | None:
    """How a limb lead follows from two available limb leads: [(lead, weight), (lead, weight)], or None.

    The first two available limb leads that are independent are used, I and II before others.

    >>> derivation("aVF", ["I", "II", "V1"])
    [('I', -0.5), ('II', 1.0)]
    """
    if lead not in _LIMB_AS_I_AND_II:
        return None
    present = [name for name in LIMB_LEADS if name in available]
    target = np.array(_LIMB_AS_I_AND_II[lead])
    for first in range(len(present)):
        for second in range(first + 1, len(present)):
            pair = (present[first], present[second])
            basis = np.array([_LIMB_AS_I_AND_II[name] for name in pair]).T
            if abs(np.linalg.det(basis)) > 1e-6:
                weights = np.linalg.solve(basis, target)
                return [(name, float(weight)) for name, weight in zip(pair, weights) if abs(weight) > 1e-12]
    return None


_LAW_TOLERANCE = 0.2
_LAW_SAMPLES = 500  # a record of 10 s at 500 Hz every tenth sample
_LAW_SMALLEST = 0.5
"""A lead smaller than this share of the larger of I and II is compared with as much: its noise breaks no law."""


def limb_leads_disagree(signal: np.ndarray, names: Sequence[str]) -> str | None:
    """A sentence when the limb leads of a record `(T, L)` do not follow from I and II, else None.

    The part of III, aVR, aVL and aVF that Einthoven's law and Goldberger's definitions leave over is compared with
    all of it; leads in another order, under another name or scaled one by one leave most of it. Constants (electrode
    offsets) are left out of account. Samples are looked at in even steps: the law holds at each of them.
    """
    others = [name for name in LIMB_LEADS if name in names and name not in ("I", "II")]
    if "I" not in names or "II" not in names or not others:
        return None
    every = max(1, len(signal) // _LAW_SAMPLES)
    columns = [list(names).index(name) for name in ("I", "II", *others)]
    values = np.array(signal[::every, columns].T, dtype=np.float64, order="C")  # (leads, samples)
    if not np.isfinite(values.sum()):
        values = values[:, np.isfinite(values).all(axis=0)]
    if not values.size:
        return None
    values -= values.mean(axis=1, keepdims=True)
    products = values @ values.T  # all that is needed of the samples: |a - b|² = |a|² - 2 ab + |b|²
    weights = np.array([_LIMB_AS_I_AND_II[name] for name in others])
    power, expected = products.diagonal(), ((weights @ products[:2, :2]) * weights).sum(axis=1)
    left = power[2:] - 2 * (weights * products[2:, :2]).sum(axis=1) + expected
    most = np.maximum(power[2:], expected)
    most = np.maximum(most, _LAW_SMALLEST**2 * power[:2].max())
    broken = [name for name, far in zip(others, left > _LAW_TOLERANCE**2 * most, strict=True) if far]
    if not broken:
        return None
    return (
        f"{', '.join(broken)} do{'' if len(broken) > 1 else 'es'} not follow from I and II (Einthoven's law): are the leads "
        "in another order? Give lead_names=[…]."
    )


@dataclass
class LeadPlan:
    """How the wanted leads come from the given ones: rows of one matrix, so that a batch is one product.

    `leads` are the leads that come out (`wanted`, less those dropped). `copied` holds for each of them the column of
    the source, or -1; `derived` the linear combinations, `zero_filled` and `dropped` the leads that were not there.
    """

    leads: list[str] = field(default_factory=list)
    copied: list[int] = field(default_factory=list)
    derived: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    zero_filled: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def apply(self, signal: np.ndarray, names: Sequence[str], axis: int = 1) -> np.ndarray:
        """The planned leads of `signal`, whose leads `names` lie along `axis`; the dtype is kept."""
        if self.copied == list(range(signal.shape[axis])):
            return signal
        source = np.moveaxis(signal, axis, 0)
        picked = np.take(source, [max(column, 0) for column in self.copied], axis=0)
        for row, (lead, column) in enumerate(zip(self.leads, self.copied)):
            if lead in self.derived:
                parts = [source[list(names).index(name)] * weight for name, weight in self.derived[lead]]
                picked[row] = sum(parts[1:], start=parts[0])
            elif column < 0:
                picked[row] = 0
        return np.moveaxis(picked, 0, axis)


def plan_leads(available: Sequence[str], wanted: Sequence[str], missing: str = "derive") -> LeadPlan:
    """How to make the leads `wanted` out of the leads `available` (canonical names).

    `missing` says what happens to a lead that is not there: "derive" (limb leads from two others, else an error),
    "error" (never derive), "drop" and "zero" (derive where possible, else leave the lead out, or fill it with zeros).

    Raises:
        ValueError: a lead is missing and the policy does not allow it.
    """
    if missing not in ("derive", "error", "drop", "zero"):
        raise ValueError(f'missing_leads must be "derive", "error", "drop" or "zero", got {missing!r}.')
    plan = LeadPlan()
    lost: list[str] = []
    for lead in wanted:
        if lead in available:
            plan.copied.append(list(available).index(lead))
            plan.leads.append(lead)
            continue
        parts = derivation(lead, available) if missing != "error" else None
        if parts is not None:
            plan.copied.append(-1)
            plan.derived[lead] = parts
        elif missing == "zero":
            plan.copied.append(-1)
            plan.zero_filled.append(lead)
        elif missing == "drop":
            plan.dropped.append(lead)
            continue
        else:
            lost.append(lead)
            continue
        plan.leads.append(lead)
    if lost:
        hint = " (limb leads follow from any two others)" if missing == "derive" else ""
        raise ValueError(
            f"no lead {', '.join(lost)} among {', '.join(available)}{hint}. Ask for leads that are "
            'there, or set missing_leads="drop" or "zero".'
        )
    if not plan.leads or len(plan.zero_filled) == len(plan.leads):
        hint = "" if len(available) > 1 or is_lead(available[0]) else " Say which lead it is, as lead_names=['II']."
        raise ValueError(f"none of the leads {', '.join(wanted)} is among {', '.join(available)}.{hint}")
    return plan


def select_leads(
    signal: np.ndarray, lead_names: Sequence[str], wanted: Sequence[str], missing: str = "derive"
) -> tuple[np.ndarray, LeadPlan]:
    """The leads `wanted`, in that order, of a record `(T, L)` with leads `lead_names`, and the plan that says how.

    Raises:
        ValueError: names and columns do not match, a name is given twice, or a lead is missing (see `plan_leads`).
    """
    if signal.ndim != 2 or signal.shape[1] != len(lead_names):
        raise ValueError(
            f"a record is (seq_len, num_leads): {len(lead_names)} lead names do not fit the shape {signal.shape}."
        )
    names = canonical_leads(lead_names)
    plan = plan_leads(names, canonical_leads(wanted), missing)
    return plan.apply(signal, names), plan
