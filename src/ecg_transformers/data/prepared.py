"""Prepared corpora: the parquet shards that `ecg-transformers build` wrote, opened from a folder or any address of fsspec."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecg_transformers.data.building.build import MANIFEST_NAME, read_manifest
from ecg_transformers.data.building.report import REPORT_NAME
from ecg_transformers.data.building.shards import FACTS
from ecg_transformers.data.building.store import Store
from ecg_transformers.data.cache import root_of_streams
from ecg_transformers.data.errors import ECGDataError, OptionError
from ecg_transformers.data.record import DigitalRecord, ECGRecord
from ecg_transformers.files import json_sha256

if TYPE_CHECKING:
    import pyarrow as pa

    from ecg_transformers.data.rows import AnyDataset


_EVERY = "every"  # datasets keeps the name "all" for itself


def is_prepared(name: str) -> bool:
    """Whether a name means a prepared corpus and not a corpus by its name: an address, or the folder of a build."""
    folder = Path(name)
    finished = (folder / MANIFEST_NAME).is_file() and (folder / REPORT_NAME).is_file()
    return "://" in name or (name != "" and (finished or (folder / FACTS).is_dir()))


def shards_by_split(address: str) -> dict[str, list[dict[str, Any]]]:
    """The shards of a prepared corpus as its manifest lists them, by split.

    Raises:
        ECGDataError: there is no finished build, or a shard is missing or not as it was written.
    """
    store = Store(address)
    if store.read_text(MANIFEST_NAME) is None or store.read_text(REPORT_NAME) is None:
        finished = sum(name.endswith(".json") for name in store.sizes(FACTS)) - 1
        what = "there is no prepared corpus here"
        if finished >= 0:
            what = f"this build is not finished ({finished} shards are there): the same `build` command goes on with it"
        raise ECGDataError(f"{what}.", path=store.address)
    sizes = store.sizes()
    splits: dict[str, list[dict[str, Any]]] = {}
    for shard in read_manifest(store)["shards"]:
        if sizes.get(shard["file"]) != shard["size"]:
            raise ECGDataError(
                f"the shard has {sizes.get(shard['file'], 0)} bytes and not the {shard['size']} it was written with: "
                "fetch it again, or delete the folder and build anew.",
                path=store.url(shard["file"]),
            )
        splits.setdefault(shard["split"], []).append(shard)
    return splits


def load_prepared(address: str, split: str | None, streaming: bool, cache_dir: Path) -> AnyDataset:
    """A prepared corpus as a dataset.

    Args:
        address: a folder, or what fsspec opens.
        split: one part, "all" for them together, or None for a dictionary of them.
        streaming: read shard by shard; else the shards are unpacked to memory-mapped files in the cache first.
        cache_dir: where to.

    Raises:
        ECGDataError: see `shards_by_split`; or the cache cannot be written.
        OptionError: there is no such split.
    """
    import datasets

    from ecg_transformers.data.streams import ShardStream

    splits = shards_by_split(address)
    if split == "all":
        splits = {_EVERY: [shard for shards in splits.values() for shard in shards]}
        split = _EVERY
    if split is not None and split not in splits:
        raise OptionError(f"{address!r} has no record in the split {split!r}; it has {list(splits)}.")
    store = Store(address)
    files = {part: [_literal(store.url(shard["file"])) for shard in shards] for part, shards in splits.items()}
    if streaming:
        cache = str(root_of_streams(cache_dir) / "prepared")
        streams = datasets.load_dataset("parquet", data_files=files, streaming=True, cache_dir=cache)
        parts = {part: ShardStream.of(stream) for part, stream in streams.items()}
        return datasets.IterableDatasetDict(parts) if split is None else parts[split]
    _check_content(store, [shard for shards in splits.values() for shard in shards], cache_dir / "prepared")
    quiet = sum(shard["rows"] for shards in splits.values() for shard in shards) < 5000
    bars_off = quiet and not datasets.utils.are_progress_bars_disabled()  # seconds
    if bars_off:
        datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(cache_dir / "prepared"))
    except (OSError, datasets.exceptions.DatasetGenerationError) as error:
        cause = error.__cause__ or error
        raise ECGDataError(
            f"the shards cannot be unpacked to the cache ({cause}); pass cache_dir=… (or set ECG_CACHE_DIR), or "
            "streaming=True.",
            path=cache_dir,
        ) from error
    finally:
        if bars_off:
            datasets.enable_progress_bars()
    return loaded if split is None else loaded[split]


def _check_content(store: Store, shards: list[dict[str, Any]], cache: Path) -> None:
    """Compare shards with the digests of their manifest, once before they are unpacked to a cache.

    Raises:
        ECGDataError: a shard has other bytes than were written; it is named.
    """
    noted = cache / "checked" / json_sha256([store.address, *(shard["sha256"] for shard in shards)])
    if noted.exists():
        return
    for shard in shards:
        if store.sha256(shard["file"]) != shard["sha256"]:
            raise _damaged(store.url(shard["file"]))
    with suppress(OSError):  # a cache that cannot be written is told where it is needed
        noted.parent.mkdir(parents=True, exist_ok=True)
        noted.touch()


def _damaged(url: str) -> ECGDataError:
    reason = "the shard is damaged: fetch it again, or delete the folder and build anew."
    return ECGDataError(reason, path=url)


def _literal(url: str) -> str:
    """A name as `datasets` takes it, which reads names as patterns."""
    return url.replace("[", "[[]").replace("*", "[*]")


def manifest_of(address: str) -> dict[str, Any]:
    """What a prepared corpus was built from: `corpus`, `version`, `options`, `label_names`, `task_kind`, `shards`.

    Raises:
        ECGDataError: see `shards_by_split`.
    """
    shards_by_split(address)
    return read_manifest(Store(address))


class ShardRecords:
    """The records of a split by index, read from the shards as they are asked for: nothing is unpacked first.

    A row group (64 records) is read at a time, and the ones that were used last are kept, so an order that stays near
    (`groups` tells which records lie together) reads each group once.

    Args:
        address: the prepared corpus.
        split: its part, or "all".
        keep: row groups in memory, a few megabytes each.

    Attributes:
        groups: the row group of each record, int32 `(N,)`.
        places: the file and the number in it of each row group.
        fingerprint: 16 hexadecimal digits of the content of the files.
    """

    def __init__(self, address: str, split: str, keep: int = 64) -> None:
        splits = shards_by_split(address)
        shards = [shard for part, own in splits.items() if split in (part, "all") for shard in own]
        if not shards:
            raise OptionError(f"{address!r} has no record in the split {split!r}.")
        store = Store(address)
        self._urls = [store.url(shard["file"]) for shard in shards]
        self.fingerprint = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()[:16]
        self._keep = keep
        sizes = [_open(url).metadata for url in self._urls]
        rows = [data.row_group(number).num_rows for data in sizes for number in range(data.num_row_groups)]
        self.places = [(url, number) for url, data in zip(self._urls, sizes) for number in range(data.num_row_groups)]
        self._first = np.cumsum([0, *rows])
        self.groups = np.repeat(np.arange(len(rows), dtype=np.int32), rows)
        self._tables: OrderedDict[int, Any] = OrderedDict()

    def __len__(self) -> int:
        return len(self.groups)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": OrderedDict()}

    def __getitem__(self, index: int) -> ECGRecord:
        return ECGRecord.from_row(self._row(index))

    def stored(self, index: int) -> DigitalRecord:
        """A record as it is stored: int16 samples with their scale."""
        return DigitalRecord.from_row(self._row(index))

    def _row(self, index: int) -> dict[str, Any]:
        group = int(self.groups[index])
        if group not in self._tables:
            while len(self._tables) >= self._keep:
                self._tables.popitem(last=False)
            self._tables[group] = read_group(*self.places[group])
        self._tables.move_to_end(group)
        row = self._tables[group].slice(index - int(self._first[group]), 1)
        found: dict[str, Any] = row.to_pylist()[0]
        return found

    def column(self, name: str) -> list[Any]:
        """A column in the order of the records, as Python values; not for `signal`."""
        values: list[Any] = []
        for url in self._urls:
            with _open(url) as file:
                values += file.read([name]).column(0).to_pylist()
        return values

    def label_matrix(self) -> np.ndarray:
        """0/1 labels, int8 `(records, classes)`."""
        rows = self.column("label_vector")
        return np.asarray(rows, dtype=np.int8).reshape(len(rows), -1)


def read_group(url: str, number: int) -> pa.Table:
    """A row group of a shard as an Arrow table.

    Raises:
        ECGDataError: the shard cannot be read as one.
    """
    import pyarrow as pa

    try:
        with _open(url) as file:
            return file.read_row_group(number)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise _damaged(url) from error


def _open(url: str) -> Any:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    system, path = fsspec.core.url_to_fs(url)
    try:
        return pq.ParquetFile(path, filesystem=system)
    except pa.ArrowInvalid as error:
        raise _damaged(url) from error
