"""Prepared corpora: the parquet shards that `ecg-transformers build` wrote, opened from a folder or any address of fsspec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.build import MANIFEST_NAME
from ecg_transformers.data.building.report import REPORT_NAME
from ecg_transformers.data.building.shards import FACTS
from ecg_transformers.data.building.store import Store
from ecg_transformers.data.errors import ECGDataError, OptionError


def is_prepared(name: str) -> bool:
    """Whether a name means a prepared corpus and not a corpus by its name: an address, or the folder of a build."""
    return "://" in name or any((Path(name) / what).exists() for what in (MANIFEST_NAME, FACTS))


def shards_by_split(address: str) -> dict[str, list[dict[str, Any]]]:
    """The shards of a prepared corpus as its manifest lists them, by split.

    Raises:
        ECGDataError: there is no finished build, or a shard is missing or not as it was written.
    """
    store = Store(address)
    text = store.read_text(MANIFEST_NAME)
    if text is None or store.read_text(REPORT_NAME) is None:
        finished = sum(name.endswith(".json") for name in store.sizes(FACTS)) - 1
        what = "there is no prepared corpus here"
        if finished >= 0:
            what = f"this build is not finished ({finished} shards are there): the same `build` command goes on with it"
        raise ECGDataError(f"{what}.", path=store.address)
    sizes = store.sizes()
    splits: dict[str, list[dict[str, Any]]] = {}
    for shard in json.loads(text)["shards"]:
        if sizes.get(shard["file"]) != shard["size"]:
            raise ECGDataError(
                f"the shard has {sizes.get(shard['file'], 0)} bytes and not the {shard['size']} it was written with: "
                "fetch it again, or build anew.",
                path=store.url(shard["file"]),
            )
        splits.setdefault(shard["split"], []).append(shard)
    return splits


def load_prepared(address: str, split: str | None, streaming: bool, cache_dir: Path) -> Any:
    """A prepared corpus as a dataset.

    Args:
        address: a folder, or what fsspec opens.
        split: one part, or None for all.
        streaming: read shard by shard; else the shards are unpacked to memory-mapped files in the cache first.
        cache_dir: where to.

    Raises:
        ECGDataError: see `shards_by_split`.
        OptionError: there is no such split.
    """
    import datasets

    from ecg_transformers.data.streams import ShardStream

    splits = shards_by_split(address)
    if split is not None and split not in splits:
        raise OptionError(f"{address!r} has no record in the split {split!r}; it has {list(splits)}.")
    store = Store(address)
    files = {part: [store.url(shard["file"]) for shard in shards] for part, shards in splits.items()}
    cache = str(cache_dir / "prepared")
    if streaming:
        streams = datasets.load_dataset("parquet", data_files=files, streaming=True, cache_dir=cache)
        parts = {part: ShardStream.of(stream) for part, stream in streams.items()}
        return datasets.IterableDatasetDict(parts) if split is None else parts[split]
    quiet = sum(shard["rows"] for shards in splits.values() for shard in shards) < 5000
    bars_off = quiet and not datasets.utils.are_progress_bars_disabled()  # seconds
    if bars_off:
        datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=cache)
    finally:
        if bars_off:
            datasets.enable_progress_bars()
    return loaded if split is None else loaded[split]
