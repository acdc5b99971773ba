"""A corpus in shards: which records a file holds follows from the plan alone.

So any number of processes, machines and interruptions gives the same files, byte for byte, and a build that was killed
needs only those that are missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.store import Store
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan, Item
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.options import fitting_advice
from ecg_transformers.data.record import record_features
from ecg_transformers.files import QuietFile, file_sha256

SCHEMA_VERSION = 1
"""Part of every key; raised when the row schema or the reading of signals changes."""

FACTS = ".building"
"""Folder of the facts of finished shards in a build that is not finished."""

_LONG = ("beats", "minutes")  # records of half an hour and more
_SMALLEST = 16


@dataclass(frozen=True)
class Shard:
    """One file of a build: the records from `first` up to `last` (not included) of a split."""

    file: str
    split: str
    first: int
    last: int


@dataclass(frozen=True)
class ShardFacts:
    """What a finished shard holds.

    Attributes:
        file, split: as in `Shard`.
        key: of the records and the state of their files, see `shard_key`.
        records: of the plan; `rows` of the file; they differ by failures and by records of several rows.
        size, sha256: of the file.
        labels, flags: how often each occurs.
        failed: records that could not be read, each with `record`, `kind` (error class) and `reason`.
    """

    file: str
    split: str
    key: str
    records: int
    rows: int
    size: int
    sha256: str
    labels: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    failed: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class ShardJob:
    """All that a worker needs to write one shard, on any machine that sees the corpus and the store.

    `plan` holds the records of the shard alone; `head` is of the whole build, see `build_head`.
    """

    corpus: Corpus
    plan: CorpusPlan
    shard: Shard
    store: Store
    head: str


def shards_of(plan: CorpusPlan, name: str, ending: str, records_per_shard: int | None = None) -> list[Shard]:
    """The files of a build, in order; a corpus of a few records has a few, so that little is lost with one."""
    shards = []
    for split, items in plan.splits.items():
        most = 64 if plan.task_kind in _LONG else 4096
        size = records_per_shard or min(most, max(_SMALLEST, -(-len(items) // 16)))
        starts = range(0, len(items), size)
        shards += [
            Shard(
                f"{name}-{split}-{number:05d}-of-{len(starts):05d}.{ending}",
                split,
                first,
                min(first + size, len(items)),
            )
            for number, first in enumerate(starts)
        ]
    return shards


def job_of(corpus: Corpus, plan: CorpusPlan, shard: Shard, store: Store, head: str) -> ShardJob:
    """The job of one shard, with no more of the plan than it needs."""
    items = list(plan.splits[shard.split][shard.first : shard.last])
    part = CorpusPlan({shard.split: items}, plan.label_names, plan.task_kind)
    return ShardJob(corpus, part, shard, store, head)


def write_shard(job: ShardJob) -> ShardFacts:
    """Read the records of a shard, write its file, then its facts: a shard is finished when these are there.

    Raises:
        CannotWriteError: a full disk, mostly.
    """
    features = record_features(job.plan.label_names)
    key = shard_key(job)  # before the files are read: a change in between shows
    labels: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    failed: list[dict[str, str]] = []
    items = job.plan.splits[job.shard.split]
    try:
        with job.store.writing(job.shard.file) as path:
            with QuietFile(path) as file, _writer(file, path.suffix, features, job.plan.task_kind) as writer:
                for row in _rows(job.corpus, job.plan, items, failed):
                    labels.update(row["labels"] or [])
                    flags.update(json.loads(row["metadata"]).get("flags", []))
                    writer.write(features.encode_example(row))
                    file.check()
                rows, _ = writer.finalize()
            size, digest = path.stat().st_size, file_sha256(path)
        facts = ShardFacts(
            job.shard.file, job.shard.split, key, len(items), rows, size, digest, dict(labels), dict(flags), failed
        )
        job.store.write_text(facts_name(job.shard.file), json.dumps(dataclasses.asdict(facts), ensure_ascii=False))
    except OSError as error:  # readers raise nothing but ECGDataError
        raise CannotWriteError(
            f"the build could not be written ({error.strerror or error}); the finished shards are whole and kept: make "
            "room, then the same command goes on with them.",
            path=job.store.address,
        ) from error
    return facts


class CannotWriteError(ECGDataError):
    """A shard could not be written."""


def facts_name(file: str) -> str:
    """Name of the facts of a finished shard."""
    return f"{FACTS}/{file}.json"


def read_facts(store: Store, file: str) -> ShardFacts | None:
    """The facts of a shard; None where it is not finished."""
    text = store.read_text(facts_name(file))
    try:
        return None if not text else ShardFacts(**json.loads(text))
    except (ValueError, TypeError):  # of another version of the package: it is built again
        return None


def _writer(file: QuietFile, suffix: str, features: Any, task_kind: str) -> Any:
    from datasets.arrow_writer import ArrowWriter, ParquetWriter

    kind = ParquetWriter if suffix == ".parquet" else ArrowWriter
    # few rows a batch (a row group in parquet) when the records are long, so that memory stays flat
    return kind(features=features, stream=file, writer_batch_size=4 if task_kind in _LONG else 64)


def _rows(
    corpus: Corpus, plan: CorpusPlan, items: Iterable[Item], failed: list[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    for item in items:
        try:
            yield from corpus.rows(item, plan)
        except ECGDataError as error:
            reason = fitting_advice(str(error), corpus.options)
            failed.append({"record": item.record_id, "kind": type(error).__name__, "reason": reason})


def build_head(corpus: Corpus, plan: CorpusPlan, *more: Any) -> str:
    """Digest of code version, options, label names and the tables of a corpus: what all of its shards depend on."""
    options = dataclasses.asdict(corpus.options)
    head = [SCHEMA_VERSION, corpus.code_version, corpus.facts.name, corpus.facts.version, options, *more]
    digest = hashlib.sha256(json.dumps(head, sort_keys=True, default=str).encode())
    digest.update(json.dumps([plan.label_names, plan.task_kind]).encode())
    for path in plan.files:
        digest.update(_stamp(path, corpus.data_dir))
    return digest.hexdigest()


def shard_key(job: ShardJob) -> str:
    """Digest of the records of a shard and of the names, sizes and times of their files."""
    return items_key(job.head, job.corpus, job.plan)


def items_key(head: str, corpus: Corpus, plan: CorpusPlan) -> str:
    """Digest of a head and of all records of a plan, with the names, sizes and times of their files.

    The folder's own path is no part of it, so a moved or re-mounted corpus finds its build again.
    """
    digest = hashlib.sha256(head.encode())
    base = os.fspath(corpus.data_dir)
    for split, items in plan.splits.items():
        for item in items:
            digest.update(f"{split}|{item.record_id}|{item.patient_id}|{item.labels}|{item.fold}\n".encode())
            if item.path is not None:
                digest.update(_record_stamp(os.fspath(item.path), base))
    return digest.hexdigest()[:24]


_RECORD_SUFFIXES = (".hea", ".dat", ".mat", ".atr", ".apn")


def _record_stamp(path: str, base: str) -> bytes:
    """Name, size and time of the files of a record: itself, and for a WFDB record header, signals and annotations of
    the same name. Plain texts and system calls: a large corpus has millions of them.
    """
    stem, suffix = os.path.splitext(path)
    stem = stem if suffix in _RECORD_SUFFIXES else path
    stamps = [path.removeprefix(base)]
    for name in dict.fromkeys([path, *(stem + one for one in _RECORD_SUFFIXES)]):
        try:
            status = os.stat(name)
        except OSError:
            continue
        stamps.append(f"{name[len(stem) :]}|{status.st_size}|{status.st_mtime_ns}")
    return "\n".join(stamps).encode(errors="surrogateescape")


def _stamp(path: Path, base: Path) -> bytes:
    name = os.path.relpath(path, base)
    with contextlib.suppress(OSError):
        status = path.stat()
        return f"{name}|{status.st_size}|{status.st_mtime_ns}\n".encode(errors="surrogateescape")
    return b""
