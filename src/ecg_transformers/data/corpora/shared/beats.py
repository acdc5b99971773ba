"""Records with annotated beats, whole or cut into windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ecg_transformers.data.corpora.base import Item
from ecg_transformers.data.readers.wfdb.annotations import Annotations, read_annotations
from ecg_transformers.data.record import DigitalRecord


def marks_of(item: Item, root: Path, *, needed: bool) -> Annotations:
    """The annotations `.atr` of a record; none where the file is absent and they are not `needed`, as in pre-training."""
    assert item.path is not None
    path = item.path.with_suffix(".atr")
    if not needed and not path.exists():
        return Annotations(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=object), [])
    return read_annotations(path, root=root, record=item.record_id)


def windows_with_beats(
    digital: DigitalRecord, marks: Annotations, class_of_symbol: Mapping[str, str], item: Item, window_s: float | None
) -> Iterator[DigitalRecord]:
    """Consecutive windows of `window_s` seconds (None: the whole record) with the beats of each.

    Marks whose symbol has no class are no beats. A window of record 100 is called `100/0000`; its samples count from
    its own start, which `metadata["start_sample"]` tells.
    """
    length = digital.samples.shape[0]
    is_beat = np.array([symbol in class_of_symbol for symbol in marks.symbols], dtype=bool)
    is_beat &= (marks.samples >= 0) & (marks.samples < length)
    samples, symbols = marks.samples[is_beat], marks.symbols[is_beat]
    width = round((window_s or 0) * digital.sampling_rate) or length
    for number, start in enumerate(range(0, length - width + 1, width)):
        inside = (samples >= start) & (samples < start + width)
        classes = [class_of_symbol[symbol] for symbol in symbols[inside]]
        metadata: dict[str, Any] = {**digital.metadata, "record": item.record_id, "start_sample": start}
        yield digital.with_(
            samples=digital.samples[start : start + width],
            record_id=item.record_id if width == length else f"{item.record_id}/{number:04d}",
            patient_id=item.patient_id,
            labels=sorted(set(classes)),
            metadata=metadata,
            annotations={
                "beat_samples": samples[inside] - start,
                "beat_symbols": symbols[inside],
                "beat_labels": np.array(classes, dtype=object),
            },
        )
