"""What every step of a preprocessing chain is: named, serialisable, and either of one record or of many signals."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np


@dataclass
class RecordReport:
    """What was noticed and what was repaired in one record; every entry is empty for a record that needed nothing."""

    record: str = ""
    assumed_leads: list[str] = field(default_factory=list)
    derived_leads: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    zero_filled_leads: list[str] = field(default_factory=list)
    dropped_leads: list[str] = field(default_factory=list)
    interpolated_samples: dict[str, int] = field(default_factory=dict)
    zeroed_samples: dict[str, int] = field(default_factory=dict)
    flat_leads: list[str] = field(default_factory=list)
    padded_samples: int = 0
    suspicions: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The entries that are not empty, as plain Python values."""
        return {name: value for name, value in vars(self).items() if value}

    def repairs(self) -> list[str]:
        """One sentence for each kind of repair and suspicion."""
        said = []
        if self.derived_leads:
            said.append(f"Leads {', '.join(self.derived_leads)} were derived from the other limb leads.")
        if self.zero_filled_leads:
            said.append(f"Leads {', '.join(self.zero_filled_leads)} are missing and were filled with zeros.")
        if self.dropped_leads:
            said.append(f"Leads {', '.join(self.dropped_leads)} are missing and were left out.")
        if self.interpolated_samples:
            said.append(f"NaN gaps in leads {', '.join(self.interpolated_samples)} were interpolated.")
        if self.zeroed_samples:
            said.append(
                f"NaN in leads {', '.join(self.zeroed_samples)} became zero, as in the published preprocessing."
            )
        if self.padded_samples:
            said.append("A record shorter than the crop was padded.")
        flat = [lead for lead in self.flat_leads if lead not in {*self.zero_filled_leads, *self.zeroed_samples}]
        if flat:
            said.append(f"Lead{'s' if len(flat) > 1 else ''} {', '.join(flat)} flat: nothing was recorded there.")
        return said + [f"{self.record}: {text}" for text in self.suspicions]


@dataclass
class RecordState:
    """One record on its way through the record steps."""

    where: str
    lead_names: list[str] | None
    units: str | Sequence[str]
    sampling_rate: float
    report: RecordReport
    discontinuous: bool = False

    def lead(self, column: int) -> str:
        return self.lead_names[column] if self.lead_names else str(column)


class Step:
    """A named, serialisable piece of the chain."""

    name: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]  # every step is a dataclass

    def to_dict(self) -> dict[str, Any]:
        """The step as plain data, `{"step": name, …settings that are not None…}`."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
        return {"step": self.name} | {key: value for key, value in plain.items() if value is not None}


class RecordStep(Step):
    def apply(self, signal: np.ndarray, state: RecordState) -> np.ndarray:
        """`(T, L)` to `(T, L)`; updates `state`."""
        raise NotImplementedError


class SignalStep(Step):
    def apply(self, signal: np.ndarray, rate: float) -> np.ndarray:
        """`(…, L, T)` at `rate` Hz to `(…, L, T)`; each signal gives what it would give alone."""
        raise NotImplementedError

    def rate_after(self, rate: float) -> float:
        """The rate of what `apply` gives, for a step that changes it."""
        return rate

    def length_after(self, length: int, rate: float) -> int:
        """The number of samples that `apply` gives, for a step that changes it."""
        return length
