"""Rows of a dataset that print at a length one reads: the samples as their number of bytes, long lists as their ends."""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import datasets

# what gives another dataset of the same rows, and forgets which class it was called on
_KEEPING = ("select", "map", "filter", "shuffle", "sort", "shard", "add_column", "add_item", "flatten", "cast")


class _Short(reprlib.Repr):
    def repr_bytes(self, value: bytes, level: int) -> str:
        return f"<{len(value):,} bytes>"


_SHORT = _Short()
_SHORT.maxlist = _SHORT.maxdict = 12
_SHORT.maxstring = _SHORT.maxother = 160


D = TypeVar("D")


class Row(dict[str, Any]):
    """A row, one column a line; in all else a dictionary.

    Example:
        >>> Row(record_id="a", signal=bytes(2000))
        {'record_id': 'a',
         'signal': <2,000 bytes>}
    """

    def __repr__(self) -> str:
        return "{" + ",\n ".join(f"{name!r}: {_SHORT.repr(value)}" for name, value in self.items()) + "}"


class PrintedDataset(datasets.Dataset):
    """A dataset whose rows are `Row`s, and stay so in what is selected, mapped or split from it."""

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return Row(found) if type(found) is dict else found

    def __iter__(self) -> Iterator[Any]:
        for found in super().__iter__():
            yield Row(found) if type(found) is dict else found


def printed(dataset: D) -> D:
    """The dataset itself, with rows that print short; anything but a plain `datasets.Dataset` as it is."""
    if type(dataset) is datasets.Dataset:
        dataset.__class__ = PrintedDataset  # same state: a copy would read its index tables again
    return dataset


def _keeping(name: str) -> Callable[..., Any]:
    method = getattr(datasets.Dataset, name)

    @functools.wraps(method)
    def kept(self: Any, *args: Any, **kwargs: Any) -> Any:
        return printed(method(self, *args, **kwargs))

    return kept


for _name in _KEEPING:
    setattr(PrintedDataset, _name, _keeping(_name))
