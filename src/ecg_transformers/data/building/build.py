"""From a corpus to files: a cache of Arrow files, or parquet shards.

A build is a number of shards (`data.building.shards`), each written whole by one worker. It is finished when its report
is there (`build_report.json`: what was read, left out and skipped, and why), beside the manifest of the shards; one that
was killed goes on with the shards that are missing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.engines import Engine, run_jobs, start_ray
from ecg_transformers.data.building.identity import check_identity, finished_shards, identity_of, key_in_store
from ecg_transformers.data.building.plan import plan_of
from ecg_transformers.data.building.report import REPORT_NAME, BuildReport, check_skipped, check_splits, make_report
from ecg_transformers.data.building.shards import (
    FACTS,
    CannotWriteError,
    Shard,
    ShardFacts,
    build_head,
    items_key,
    job_of,
    shards_of,
    write_shard,
)
from ecg_transformers.data.building.store import Store
from ecg_transformers.data.cache import cache_root
from ecg_transformers.data.corpora import corpus_class, make_corpus
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.errors import ECGDataError, OptionError, SkippedRecordsError
from ecg_transformers.data.folds import Folds, take_folds
from ecg_transformers.data.record import record_features
from ecg_transformers.locks import FolderInUseError, FolderLock

logger = logging.getLogger(__name__)

MAX_SKIPPED = 0.01
MANIFEST_NAME = "manifest.json"


def cache_key(corpus: Corpus, plan: CorpusPlan, max_skipped: float) -> str:
    """Digest of code version, options and the names, sizes and times of all files."""
    return items_key(build_head(corpus, plan, max_skipped), corpus, plan)


def prepare(
    corpus: Corpus,
    *,
    cache_dir: str | Path | None = None,
    max_skipped: float = MAX_SKIPPED,
    num_proc: int | None = None,
    folds: Folds | None = None,
) -> Path:
    """The folder with the built Arrow files of a corpus, made if it is not there yet; a killed build goes on.

    Of several processes that ask for it at once one builds and the others wait.
    """
    if not 0 <= max_skipped <= 1:
        raise OptionError(f"max_skipped {max_skipped} is not a share of 0 to 1.")
    plan = plan_of(corpus, folds)
    folder = cache_root(cache_dir) / corpus.facts.name / cache_key(corpus, plan, max_skipped)
    if (folder / REPORT_NAME).is_file():
        return folder
    staging = folder.parent / f".{folder.name}.incomplete"
    with _own_turn(FolderLock(folder.parent, f".{folder.name}.lock"), "pass cache_dir=… (or set ECG_CACHE_DIR)"):
        if (folder / REPORT_NAME).is_file():  # another process built it while this one waited
            return folder
        try:
            build_into(corpus, plan, staging, max_skipped=max_skipped, num_proc=num_proc, ending="arrow")
        except SkippedRecordsError:  # another bound has another folder: these shards are of no use
            shutil.rmtree(staging, ignore_errors=True)
            raise
        report = BuildReport.load(staging)
        report.path = str(folder)
        report.save(Store(staging))
        os.rename(staging, folder)
    return folder


@contextlib.contextmanager
def _own_turn(lock: FolderLock, elsewhere: str, wait: bool = True) -> Iterator[None]:
    """Hold a lock, waiting for it or refused."""
    told = False
    while True:
        try:
            lock.acquire()
            break
        except FolderInUseError as error:
            if not wait:
                raise ECGDataError(
                    f"another build writes here ({error}); wait for it or give another folder.", path=lock.folder.parent
                ) from error
            if not told:
                logger.warning("%s: another build of this corpus is at work (%s); waiting for it.", lock.folder, error)
            told = True
            time.sleep(0.2)
        except OSError as error:
            raise ECGDataError(
                f"the build cannot be written here ({error.strerror or error}); {elsewhere}.", path=lock.folder
            ) from error
    try:
        yield
    finally:
        lock.release()


def build_into(
    corpus: Corpus,
    plan: CorpusPlan,
    folder: str | Path,
    *,
    part: tuple[int, int] = (0, 1),
    max_skipped: float = MAX_SKIPPED,
    num_proc: int | None = None,
    engine: Engine = "local",
    ending: str = "parquet",
    records_per_shard: int | None = None,
    progress: bool | None = None,
) -> BuildReport:
    """Write the shards that are missing of one part; when none of any part is missing, manifest and report.

    Args:
        part: `(i, n)`: every n-th shard from the i-th on.
        ending: of the files, "parquet" or "arrow".
        progress: show a bar; None: for builds that take minutes.

    Returns:
        The report of the build, or of the part while other parts are missing.
    """
    store = Store(folder)
    head = build_head(corpus, plan)
    shards = shards_of(plan, corpus.facts.name, ending, records_per_shard)
    own = shards[part[0] :: part[1]]
    check_identity(store, identity_of(corpus, plan, shards))
    done = finished_shards(store, own, functools.partial(key_in_store, corpus, plan, store, head))
    missing = [shard for shard in own if shard.file not in done]
    if done:
        kept = sum(facts.records for facts in done.values())
        logger.warning("%s: %d records of an interrupted build are kept.", store.address, kept)
    jobs = (job_of(corpus, plan, shard, store, head) for shard in missing)
    with _bar(own, done, progress) as bar:
        for facts in run_jobs(write_shard, jobs, engine=engine, num_proc=num_proc):
            done[facts.file] = facts
            bar.update(facts.records)
    done |= finished_shards(store, [shard for shard in shards if shard.file not in done])
    present = [done[shard.file] for shard in shards if shard.file in done]
    if len(present) < len(shards):
        report = make_report(corpus, plan, [done[shard.file] for shard in own], store.address, whole=False)
        report.notes.append(
            f"part {part[0]} of {part[1]}; {len(present)} of {len(shards)} shards of the build are there"
        )
        return report
    return _finish(corpus, plan, store, present, max_skipped)


@contextlib.contextmanager
def _bar(shards: Sequence[Shard], done: dict[str, ShardFacts], progress: bool | None) -> Iterator[Any]:
    """Records, records/s and the time left; none for builds that take seconds."""
    import datasets
    from tqdm import tqdm

    total = sum(shard.last - shard.first for shard in shards)
    silent = datasets.utils.are_progress_bars_disabled() or total < 5000 if progress is None else not progress
    people = sys.stderr.isatty()
    kept = sum(facts.records for facts in done.values())
    with tqdm(
        total=total, initial=kept, unit=" records", desc="build", disable=silent, mininterval=0.1 if people else 30
    ) as bar:
        yield bar


def _finish(
    corpus: Corpus, plan: CorpusPlan, store: Store, facts: Sequence[ShardFacts], max_skipped: float
) -> BuildReport:
    """Manifest, the description that `datasets` reads, and the report, which comes last: with it the build is finished."""
    report = make_report(corpus, plan, facts, store.address)
    check_skipped(
        [(entry["record"], entry["reason"]) for entry in report.skipped],
        plan.num_items + len(plan.skipped),
        max_skipped,
        corpus.facts.name,
    )
    check_splits(plan, report)
    light = [{**dataclasses.asdict(one), "failed": len(one.failed)} for one in facts]
    for name in ("labels", "flags"):
        for one in light:
            del one[name]
    manifest = {**identity_of(corpus, plan, []), "shards": light}
    try:
        store.write_text(MANIFEST_NAME, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
        _describe(corpus, plan, store, facts)
        report.save(store)
        store.remove(FACTS)
    except OSError as error:
        raise CannotWriteError(
            f"the build could not be written ({error.strerror or error}); its shards are kept.", path=store.address
        ) from error
    return report


def _describe(corpus: Corpus, plan: CorpusPlan, store: Store, facts: Sequence[ShardFacts]) -> None:
    """`dataset_info.json`, as `datasets` writes it."""
    import datasets

    rows = Counter({one.split: 0 for one in facts})
    sizes = Counter(rows)
    for one in facts:
        rows[one.split] += one.rows
        sizes[one.split] += one.size
    splits = {name: datasets.SplitInfo(name, sizes[name], rows[name], dataset_name=corpus.facts.name) for name in rows}
    info = datasets.DatasetInfo(
        description=f"{corpus.facts.title}: {corpus.facts.summary}.",
        citation=corpus.facts.citation,
        homepage=corpus.facts.homepage,
        license=corpus.facts.licence,
        features=record_features(plan.label_names),
        splits=datasets.SplitDict(splits, dataset_name=corpus.facts.name),
        dataset_name=corpus.facts.name,
        config_name=corpus.facts.name,
    )
    with tempfile.TemporaryDirectory() as folder:
        info.write_to_directory(folder)
        store.write_text("dataset_info.json", (Path(folder) / "dataset_info.json").read_text(encoding="utf-8"))


def build_corpus(
    name: str,
    data_dir: str | Path | None = None,
    output_dir: str | Path | None = None,
    *,
    num_proc: int | None = None,
    engine: Engine = "local",
    shard: tuple[int, int] | None = None,
    max_skipped: float = MAX_SKIPPED,
    records_per_shard: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> BuildReport:
    """Write a corpus as parquet shards that any reader of parquet opens: a prepared corpus, for `load_ecg_dataset`.

    The files are the same, byte for byte, however they are made: by any number of processes, by Ray, in parts on several
    machines, at once or after interruptions. A build that was killed goes on with the same call: finished shards are
    whole and kept, and none of their records is read again.

    Args:
        name: corpus.
        data_dir: its folder in the publisher's layout.
        output_dir: a new or empty folder, or the folder of an unfinished build of the same; a path, or an address that
            fsspec opens (`s3://…`, `memory://…`).
        num_proc: processes, or tasks at once with `engine="ray"`.
        engine: "local", or "ray": shards are tasks of a Ray cluster, whose machines all see `data_dir` and `output_dir`.
        shard: `(i, n)`, 0 <= i < n: every n-th shard from the i-th on, for other schedulers. All parts write to one
            `output_dir`; the one that ends last finishes the build.
        max_skipped: share of records that may fail.
        records_per_shard: default: 4096 of short records (64 of long ones), fewer in small corpora.
        progress: show a bar with records/s and the time left; None: for builds that take minutes.
        **options: options of the corpus.

    Returns:
        The report; of a finished build it is also written as `build_report.json`.

    Raises:
        ECGDataError: unknown names, missing files, an output folder in use or of another build, a folder that cannot be
            written, too many unreadable records.
    """
    if output_dir is None:
        raise OptionError("build_corpus needs output_dir=…, the folder to write into.")
    part = shard or (0, 1)
    _check_division(part, records_per_shard)
    folds = take_folds(options, [option.name for option in dataclasses.fields(corpus_class(name).options_class)])
    store = Store(output_dir)
    if engine == "ray":
        start_ray()  # that it is there is known before anything is written
    if store.address.startswith("memory://") and (engine == "ray" or (num_proc or 1) > 1):
        raise OptionError("memory:// is the memory of one process: build there without num_proc and engine.")
    corpus = make_corpus(name, data_dir, options)
    plan = plan_of(corpus, folds)
    if store.read_text(REPORT_NAME) is not None:
        return _built_before(corpus, plan, store, records_per_shard)
    with _own_part(store, shard):
        return build_into(
            corpus,
            plan,
            store.address,
            part=part,
            max_skipped=max_skipped,
            num_proc=num_proc,
            engine=engine,
            records_per_shard=records_per_shard,
            progress=progress,
        )


def _check_division(part: tuple[int, int], records_per_shard: int | None) -> None:
    index, count = part
    if count < 1:
        raise OptionError(f"shard {index}/{count}: there must be at least one part.")
    if not 0 <= index < count:
        raise OptionError(f"shard {index}/{count}: the index must lie in 0 to {count - 1}.")
    if records_per_shard is not None and records_per_shard < 1:
        raise OptionError(f"records_per_shard must be at least 1, not {records_per_shard}.")


def read_manifest(store: Store) -> dict[str, Any]:
    """The manifest of a finished build.

    Raises:
        ECGDataError: it is not there, or not as it was written.
    """
    try:
        manifest = json.loads(store.read_text(MANIFEST_NAME) or "")
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("shards"), list):
        raise ECGDataError(
            "the manifest is missing or damaged: fetch it again, or delete the folder and build anew.",
            path=store.url(MANIFEST_NAME),
        )
    return manifest


@contextlib.contextmanager
def _own_part(store: Store, part: tuple[int, int] | None) -> Iterator[None]:
    """Hold a folder, or its part: the parts of one division do not meet, all other builds do. Addresses have no locks."""
    with contextlib.ExitStack() as held:
        if store.local is not None:
            suffix = "" if part is None else f"-{part[0]}-of-{part[1]}"
            lock = FolderLock(store.local / FACTS, f".lock{suffix}")
            held.enter_context(_own_turn(lock, "give another folder", wait=False))
            for other in lock.folder.glob(".lock*"):
                if other != lock.path and (part is None or not other.name.endswith(f"-of-{part[1]}")):
                    with _own_turn(FolderLock(lock.folder, other.name), "give another folder", wait=False):
                        pass
        yield


def _built_before(corpus: Corpus, plan: CorpusPlan, store: Store, records_per_shard: int | None) -> BuildReport:
    """The report of a finished build, where it is the one that is asked for.

    Raises:
        ECGDataError: it is of something else, or of files that have changed since.
    """
    report = BuildReport.load(store)
    manifest = read_manifest(store)
    identity = identity_of(corpus, plan, [])
    differing = sorted(key for key in identity if key != "shards" and identity[key] != manifest.get(key))
    shards = shards_of(plan, corpus.facts.name, "parquet", records_per_shard)
    key_of = functools.partial(key_in_store, corpus, plan, store, build_head(corpus, plan))
    if not differing and [one["key"] for one in manifest["shards"]] != [key_of(shard) for shard in shards]:
        differing = ["state of its files"]
    if differing:
        raise ECGDataError(
            f"the output folder is not empty: it holds a build that differs in its {' and '.join(differing)}; give a new "
            "one.",
            path=store.address,
        )
    logger.warning("%s: this build is finished already; nothing was done.", store.address)
    return report
