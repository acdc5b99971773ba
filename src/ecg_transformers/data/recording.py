"""A recording while it is converted: read as often as needed, in parts of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ecg_transformers.data.millivolts import to_millivolt
from ecg_transformers.data.readers.converted import facts_of
from ecg_transformers.data.record import DigitalRecord, ECGRecord

_BLOCK = 2**17


@dataclass
class Recording:
    """A file that is read as often as needed, in parts of bounded size.

    Attributes:
        record: its first part, with what the whole says beside the samples.
        length: samples a lead.
        low, high: of each lead, in counts where `is_digital`, else in millivolts; NaN where a lead has no value at all.
    """

    read: Callable[[], Iterator[DigitalRecord | ECGRecord]]
    record: DigitalRecord | ECGRecord
    keep_identity: bool
    is_digital: bool = True
    length: int = 0
    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @property
    def facts(self) -> dict[str, Any]:
        return facts_of(self.record, self.keep_identity)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Counts (or millivolts) `(block, L)` and what is missing, from the beginning to the end."""
        for part in self.read():
            if self.is_digital and isinstance(part, DigitalRecord):
                for at in range(0, len(part.samples), _BLOCK):
                    block = part.samples[at : at + _BLOCK]
                    yield block, block == np.iinfo(block.dtype).min
                continue
            signal = part.to_record().signal if isinstance(part, DigitalRecord) else part.signal
            for at in range(0, len(signal), _BLOCK):
                yield signal[at : at + _BLOCK], np.isnan(signal[at : at + _BLOCK])

    def millivolts(self) -> Iterator[np.ndarray]:
        """float32 `(block, L)` from the beginning to the end."""
        for block, _ in self.blocks():
            if self.is_digital and isinstance(self.record, DigitalRecord):
                block = to_millivolt(block, self.record.gain, self.record.offset)
            yield block
