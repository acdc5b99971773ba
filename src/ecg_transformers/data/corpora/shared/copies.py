"""Copies of one recording in a corpus, told by the headers alone.

A WFDB header states the first sample and the sum of each lead. Two records that agree in both in several leads are one
recording, also where a publisher has repaired the others: no signal has to be read for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from ecg_transformers.data.corpora.base import Item

MAX_LEADS = 12
_ENOUGH = 3  # leads that agree: by chance one pair in ten million agrees in a single one
_NONE = 0  # also of a lead of zeros, in which many recordings agree
_INVALID = -32768  # a lead that begins so may hold nothing else


def lead_sums(lines: Sequence[str]) -> tuple[int, ...]:
    """A number for each lead of a header, made of its first sample and its sum; 0 where it does not state both."""
    sums: list[int] = []
    for line in lines[1:]:
        fields = line.split()
        if line.startswith("#") or len(sums) == MAX_LEADS:
            break
        try:
            first, total = int(fields[5]), int(fields[6])
        except (IndexError, ValueError):
            sums.append(_NONE)
            continue
        sums.append(_NONE if first == _INVALID else first % 2**32 * 2**16 + total % 2**16)
    return tuple(sums)


def copies_by_header(items: Sequence[Item]) -> list[tuple[str, str]]:
    """Pairs of records that are one recording, by the `lead_sums` in the hints of their items."""
    table = np.zeros((len(items), MAX_LEADS), dtype=np.int64)
    for row, item in enumerate(items):
        sums = item.hints.get("lead_sums", ())
        table[row, : len(sums)] = sums
    shared: Counter[tuple[int, int]] = Counter()
    for column in table.T:
        order = np.argsort(column, kind="stable")
        same = (column[order][1:] == column[order][:-1]) & (column[order][1:] != _NONE)
        shared.update((int(a), int(b)) for (a, b), equal in zip(pairwise(order), same.tolist()) if equal)
    return [(items[a].record_id, items[b].record_id) for (a, b), leads in shared.items() if leads >= _ENOUGH]
