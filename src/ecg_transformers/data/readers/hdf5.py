"""HDF5 files, read with every caution: plain numeric datasets by name, nothing that leads out of the file.

h5py follows external links, external raw storage and virtual datasets without a word, so a file could make it read
any file of the disk. Here only hard links and datasets stored in the file itself are accepted. Specification:
reliability, 2.3. Needs h5py, which comes with the extra `[corpora]`.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_transformers.data.errors import (
    ECGDataError,
    LimitError,
    MissingDependencyError,
    SignalError,
    UnsafePathError,
    UnsupportedFormatError,
    brief,
)
from ecg_transformers.data.readers.limits import checked_file

if TYPE_CHECKING:
    import h5py

_MAX_OPEN = 4
_PLAIN_BYTES, _MAX_RATIO = 2**26, 50
_FILTERS = {1, 2, 3, 32000}  # deflate, shuffle, fletcher32, lzf
_OPENED: OrderedDict[tuple[int, str, int, int], Any] = OrderedDict()


def open_hdf5(path: Path, root: Path) -> h5py.File:
    """The file opened for reading. Handles are kept for the process that opened them, never over a fork.

    Raises:
        MissingDependencyError: h5py is not installed.
        UnsupportedFormatError: no HDF5 file, or a damaged one.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            "reading HDF5 needs h5py: pip install 'ecg_transformers[corpora]'.", path=path
        ) from error
    checked_file(path, root)
    status = path.stat()
    key = (os.getpid(), str(path), status.st_size, status.st_mtime_ns)
    if key in _OPENED:
        _OPENED.move_to_end(key)
        return _OPENED[key]
    for stale in [other for other in _OPENED if other[:2] == key[:2]]:  # the library would go on with the old content
        _OPENED.pop(stale).close()
    try:
        opened = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise UnsupportedFormatError(f"this is no readable HDF5 file ({brief(error)}).", path=path) from error
    while len(_OPENED) >= _MAX_OPEN:
        stale, handle = _OPENED.popitem(last=False)
        if stale[0] == os.getpid():
            handle.close()
    _OPENED[key] = opened
    return opened


def hdf5_dataset(path: Path, root: Path, name: str, ndim: int) -> h5py.Dataset:
    """A numeric dataset by name, not yet read; index it to read a part.

    Raises:
        SignalError: no such dataset, or another number of axes.
        UnsafePathError: the name leads out of the file.
        LimitError: the dataset declares far more than the file stores.
    """
    file = open_hdf5(path, root)  # says so where h5py is missing
    import h5py

    try:
        link = file.get(name, getlink=True) if name in file else None
        if link is None:
            raise SignalError(f"the file has no dataset {name!r}, but {sorted(file)[:5]}.", path=path)
        if not isinstance(link, h5py.HardLink):
            raise UnsafePathError(f"{name!r} is a link; only datasets of the file itself are read.", path=path)
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise SignalError(f"{name!r} is no dataset.", path=path)
        _check_storage(dataset, name, path)
        if dataset.ndim != ndim:
            raise SignalError(f"{name!r} has the shape {dataset.shape} instead of {ndim} axes.", path=path)
        stored = max(dataset.id.get_storage_size(), 1)
        chunk = math.prod(dataset.chunks or ())  # read and unpacked as a whole, whatever part of it is asked for
        declared = max(dataset.size, chunk) * dataset.dtype.itemsize
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, ECGDataError):
            raise
        raise UnsupportedFormatError(f"the HDF5 file is damaged ({brief(error)}).", path=path) from error
    if declared > max(_PLAIN_BYTES, _MAX_RATIO * stored):
        raise LimitError(f"{name!r} declares {declared} bytes, but {stored} are stored.", path=path)
    return dataset


def read_hdf5(dataset: h5py.Dataset, where: int | slice | tuple[slice, ...] | np.ndarray, path: Path) -> np.ndarray:
    """A part of a dataset in memory; damage shows only now."""
    try:
        return np.asarray(dataset[where])
    except (OSError, RuntimeError, ValueError) as error:
        raise UnsupportedFormatError(f"the HDF5 file is damaged ({brief(error)}).", path=path) from error


def _check_storage(dataset: Any, name: str, path: Path) -> None:
    if dataset.external or dataset.is_virtual:
        raise UnsafePathError(f"{name!r} is stored outside the file.", path=path)
    if dataset.dtype.kind not in "iuf":
        raise SignalError(f"{name!r} holds {dataset.dtype}, no plain numbers.", path=path)
    properties = dataset.id.get_create_plist()
    foreign = [c for n in range(properties.get_nfilters()) if (c := properties.get_filter(n)[0]) not in _FILTERS]
    if foreign:
        raise UnsupportedFormatError(f"{name!r} is packed with a filter ({foreign[0]}) that is not read.", path=path)
