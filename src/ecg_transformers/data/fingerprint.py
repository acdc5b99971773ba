"""What data a number was computed on: a hash of content, not of paths or cache files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ecg_transformers.data.rows import RecordTable

if TYPE_CHECKING:
    import datasets

# the samples are hashed as bytes, and what follows from the labels need not be
_NOT_HASHED = ("signal", "gain", "offset", "label_ids", "label_vector")


def dataset_fingerprint(dataset: datasets.Dataset | Mapping[str, datasets.Dataset]) -> str:
    """16 hexadecimal digits that stand for all of a dataset that a figure can depend on.

    Samples and scales, ids, patients, labels, folds, beats, wave marks, minute labels and metadata. Not covered is what
    follows from these (label indices).

    The order of the rows does not matter; the part a row is in does (for a dictionary of datasets). Two builds of the
    same files give the same fingerprint on any machine.

    Args:
        dataset: a dataset, or a dictionary of them, in the schema of `data.record`.
    """
    if isinstance(dataset, Mapping):
        parts = {name: dataset_fingerprint(part) for name, part in sorted(dataset.items())}
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    table = RecordTable(dataset)
    light = dataset.with_format(None).remove_columns([name for name in _NOT_HASHED if name in dataset.column_names])
    digests = []
    for index, row in enumerate(light):
        digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
        digest.update(table.samples(index).tobytes())
        for scale in table.scale(index):
            digest.update(scale.tobytes())
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()[:16]
