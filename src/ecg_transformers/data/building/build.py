"""From a corpus to files: cache key, build, parquet shards.

A build is whole or absent: it is made in a temporary folder beside its place and renamed when every record is in and
not too many had to be skipped. What was read, left out and skipped, and why, is in `build_report.json` next to the
data (`data.build_report`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.report import REPORT_NAME, BuildReport, check_skipped, check_splits, make_report
from ecg_transformers.data.corpora import corpus_class, make_corpus
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.errors import DuplicateRecordError, ECGDataError, EmptyRecordError, OptionError
from ecg_transformers.data.folds import Folds, apply_folds, take_folds

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
"""Part of every cache key; raised when the row schema or the reading of signals changes."""

MAX_SKIPPED = 0.01


def plan_of(corpus: Corpus, folds: Folds | None = None) -> CorpusPlan:
    """The plan of a corpus, with unique record ids and at least one record, in its own parts or those of `folds`."""
    plan = corpus.plan()
    counts = Counter(item.record_id for item in plan.each_item())
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise DuplicateRecordError(
            f"{len(repeated)} record id(s) of {corpus.facts.name!r} occur more than once, for example {repeated[:3]}.",
            path=corpus.data_dir if corpus.needs_data_dir else None,
        )
    if not plan.num_items:
        reasons = [f"{count} left out: {reason}" for reason, count in plan.excluded.items()]
        reasons += [f"{len(plan.skipped)} unusable, the first {': '.join(plan.skipped[0])}"] if plan.skipped else []
        detail = "; ".join(reasons)
        raise ECGDataError(
            f"no record of {corpus.facts.name!r} is left{f' ({detail})' if detail else ''}.",
            path=corpus.data_dir if corpus.needs_data_dir else None,
        )
    for sentence in plan.warnings:
        _say(corpus.facts.name, str(corpus.data_dir), sentence)
    return plan if folds is None else apply_folds(plan, folds, corpus.data_dir)


@functools.cache
def _say(name: str, data_dir: str, sentence: str) -> None:
    """Log a sentence about a corpus; a program that plans it for each of its splits says it once."""
    logger.warning("%s: %s", name, sentence)


def cache_key(corpus: Corpus, plan: CorpusPlan, max_skipped: float) -> str:
    """Digest of code version, options and the names, sizes and times of all files.

    The folder's own path is no part of it, so a moved or re-mounted corpus finds its cache again.
    """
    digest = hashlib.sha256()
    options = dataclasses.asdict(corpus.options)
    head = [SCHEMA_VERSION, corpus.code_version, corpus.facts.name, corpus.facts.version, options, max_skipped]
    digest.update(json.dumps(head, sort_keys=True, default=str).encode())
    digest.update(json.dumps([plan.label_names, plan.task_kind]).encode())
    for path in plan.files:
        digest.update(_stamp(path, corpus.data_dir))
    for split, items in plan.splits.items():
        for item in items:
            digest.update(f"{split}|{item.record_id}|{item.patient_id}|{item.labels}|{item.fold}\n".encode())
            if item.path is not None:
                digest.update(_record_stamp(os.fspath(item.path), os.fspath(corpus.data_dir)))
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


def cache_root(cache_dir: str | Path | None = None) -> Path:
    """Where builds are kept: the argument, `ECG_CACHE_DIR`, the home cache, or a temporary folder without a home."""
    if cache_dir is not None:
        return Path(cache_dir)
    if os.environ.get("ECG_CACHE_DIR"):
        return Path(os.environ["ECG_CACHE_DIR"])
    candidates = [Path(os.environ["XDG_CACHE_HOME"]) / "ecg_transformers"] if os.environ.get("XDG_CACHE_HOME") else []
    with contextlib.suppress(RuntimeError):
        candidates.append(Path.home() / ".cache" / "ecg_transformers")
    for candidate in candidates:
        if writable(candidate):
            return candidate
    return Path(tempfile.gettempdir()) / f"ecg_transformers-{os.getuid() if hasattr(os, 'getuid') else 'user'}"


def writable(folder: Path) -> bool:
    """Whether a folder is, or could be made, writable."""
    existing = next((p for p in (folder, *folder.parents) if p.exists()), None)
    return existing is not None and existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def prepare(
    corpus: Corpus,
    *,
    cache_dir: str | Path | None = None,
    max_skipped: float = MAX_SKIPPED,
    num_proc: int | None = None,
    folds: Folds | None = None,
) -> Path:
    """The folder with the built Arrow files of a corpus, made if it is not there yet."""
    if not 0 <= max_skipped <= 1:
        raise OptionError(f"max_skipped {max_skipped} is not a share of 0 to 1.")
    plan = plan_of(corpus, folds)
    root = cache_root(cache_dir)
    folder = root / corpus.facts.name / cache_key(corpus, plan, max_skipped)
    if (folder / REPORT_NAME).is_file():
        return folder
    build_into(corpus, plan, folder, max_skipped=max_skipped, num_proc=num_proc, file_format="arrow")
    return folder


def build_into(
    corpus: Corpus,
    plan: CorpusPlan,
    folder: Path,
    *,
    max_skipped: float = MAX_SKIPPED,
    num_proc: int | None = None,
    file_format: str = "arrow",
    max_shard_size: str = "500MB",
) -> BuildReport:
    """Build a corpus into a new folder; the folder appears when everything is in it."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = folder.parent / f".{folder.name}-{uuid.uuid4().hex[:12]}.incomplete"
        staging.mkdir()
    except OSError as error:
        raise ECGDataError(
            f"the build cannot be written here ({error}); pass cache_dir=… (or set ECG_CACHE_DIR).", path=folder.parent
        ) from error
    try:
        failures = list(_run_builder(corpus, plan, staging, num_proc, file_format, max_shard_size))
        empty = [failure for failure in failures if failure["kind"] == EmptyRecordError.__name__]
        failures = [failure for failure in failures if failure["kind"] != EmptyRecordError.__name__]
        skipped = [{"record": name, "kind": "Listed", "reason": reason} for name, reason in plan.skipped] + failures
        check_skipped(
            [(entry["record"], entry["reason"]) for entry in skipped],
            plan.num_items + len(plan.skipped),
            max_skipped,
            corpus.facts.name,
        )
        report = make_report(corpus, plan, staging / "data", skipped, folder, empty)
        check_splits(plan, report)
        report.save(staging / "data")
        _publish(staging / "data", folder)
        return report
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _run_builder(
    corpus: Corpus, plan: CorpusPlan, staging: Path, num_proc: int | None, file_format: str, max_shard_size: str
) -> Iterator[dict[str, str]]:
    """Let `datasets` write the files and give what each process skipped."""
    import datasets
    from datasets.exceptions import DatasetGenerationError

    from ecg_transformers.data.building.builder import ECGCorpusBuilder

    failures_dir = staging / "failures"
    failures_dir.mkdir()
    builder = ECGCorpusBuilder(
        corpus, plan, failures_dir, cache_dir=str(staging / "hf"), writer_batch_size=_batch_of(plan)
    )
    try:
        with _quiet(datasets, plan.num_items):
            builder.download_and_prepare(
                output_dir=str(staging / "data"),
                num_proc=num_proc,
                file_format=file_format,
                max_shard_size=max_shard_size,
            )
    except DatasetGenerationError as error:
        if isinstance(error.__cause__, ECGDataError):
            raise error.__cause__ from error
        raise
    except OSError as error:  # a full disk, mostly
        raise ECGDataError(
            f"the build could not be written ({error}); nothing is left behind.", path=staging.parent
        ) from error
    for path in sorted(failures_dir.glob("*.jsonl")):
        yield from (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def _batch_of(plan: CorpusPlan) -> int:
    """Rows per Arrow chunk: few when the records are long, so that memory stays flat."""
    return 4 if plan.task_kind in ("beats", "minutes") else 64


@contextlib.contextmanager
def _quiet(datasets: Any, num_records: int) -> Iterator[None]:
    """No progress bar for builds that take seconds."""
    was_on = datasets.utils.are_progress_bars_disabled() is False
    if was_on and num_records < 5000:
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if was_on:
            datasets.enable_progress_bars()


def _publish(finished: Path, folder: Path) -> None:
    """Rename into place; when another process was first, its build stands."""
    try:
        os.rename(finished, folder)
    except OSError:
        if not (folder / REPORT_NAME).is_file():
            raise


def build_corpus(
    name: str,
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    num_proc: int | None = None,
    shard: tuple[int, int] | None = None,
    max_skipped: float = MAX_SKIPPED,
    max_shard_size: str = "500MB",
    **options: Any,
) -> BuildReport:
    """Write a corpus as parquet files that any reader of parquet opens.

    Args:
        name: corpus.
        data_dir: its folder in the publisher's layout.
        output_dir: a new or empty folder. With `shard` the part gets its own folder `part-i-of-n` in it.
        num_proc: processes.
        shard: `(i, n)`, 0 <= i < n: every n-th record from the i-th on, for building on several machines.
        max_skipped: share of records that may fail.
        max_shard_size: uncompressed bytes per file.
        **options: options of the corpus.

    Returns:
        The report, also written as `build_report.json`.

    Raises:
        ECGDataError: unknown names, missing files, an output folder in use, too many unreadable records.
    """
    if output_dir is None:
        raise OptionError("build_corpus needs output_dir=…, the folder to write into.")
    folds = take_folds(options, [option.name for option in dataclasses.fields(corpus_class(name).options_class)])
    corpus = make_corpus(name, data_dir, options)
    plan = plan_of(corpus, folds)
    folder = Path(output_dir)
    if shard is not None:
        plan = shard_of(plan, *shard)
        folder = folder / f"part-{shard[0]:05d}-of-{shard[1]:05d}"
    if folder.exists():
        if any(folder.iterdir()):
            raise ECGDataError("the output folder is not empty; give a new one.", path=folder)
        folder.rmdir()
    return build_into(
        corpus,
        plan,
        folder,
        max_skipped=max_skipped,
        num_proc=num_proc,
        file_format="parquet",
        max_shard_size=max_shard_size,
    )


def shard_of(plan: CorpusPlan, index: int, count: int) -> CorpusPlan:
    """Every `count`-th record of a plan from the `index`-th on."""
    if not 0 <= index < count:
        raise OptionError(f"shard {index}/{count}: the index must lie in 0 to {count - 1}.")
    return dataclasses.replace(
        plan,
        splits={name: items[index::count] for name, items in plan.splits.items()},
        skipped=plan.skipped if index == 0 else [],
        excluded=plan.excluded if index == 0 else {},
    )
