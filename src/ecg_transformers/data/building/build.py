"""From a corpus to files: plan, cache key, build, parquet shards.

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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.engines import Engine, run_jobs, start_ray
from ecg_transformers.data.building.report import REPORT_NAME, BuildReport, check_skipped, check_splits, make_report
from ecg_transformers.data.building.shards import (
    FACTS,
    SCHEMA_VERSION,
    CannotWriteError,
    Shard,
    ShardFacts,
    build_head,
    facts_name,
    items_key,
    job_of,
    read_facts,
    shard_key,
    shards_of,
    write_shard,
)
from ecg_transformers.data.building.store import Store
from ecg_transformers.data.cache import cache_root
from ecg_transformers.data.corpora import corpus_class, make_corpus
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.corpora.shared.search import without_records
from ecg_transformers.data.errors import (
    DuplicateRecordError,
    ECGDataError,
    OptionError,
    RecordNotFoundError,
    SkippedRecordsError,
)
from ecg_transformers.data.folds import Folds, apply_folds, take_folds
from ecg_transformers.files import as_json
from ecg_transformers.locks import FolderInUseError, FolderLock

logger = logging.getLogger(__name__)

MAX_SKIPPED = 0.01
MANIFEST_NAME = "manifest.json"
_IDENTITY = f"{FACTS}/build.json"  # what an unfinished build is of


def plan_of(corpus: Corpus, folds: Folds | None = None) -> CorpusPlan:
    """The plan of a corpus, with unique record ids and at least one record, in its own parts or those of `folds`."""
    try:
        plan = corpus.plan()
    except RecordNotFoundError as error:
        raise without_records(error, corpus.data_dir) from error
    counts = Counter(item.record_id for item in plan.each_item())
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise _repeated_error(corpus, plan, repeated)
    if not plan.num_items:
        reasons = [f"{count} left out: {reason}" for reason, count in plan.excluded.items()]
        reasons += [f"{len(plan.skipped)} unusable, the first {': '.join(plan.skipped[0])}"] if plan.skipped else []
        if getattr(corpus.options, "bad_records", "keep") != "keep" and plan.excluded:
            reasons.append("bad_records='keep' keeps what is known as bad")
        detail = "; ".join(reasons)
        raise ECGDataError(
            f"no record of {corpus.facts.name!r} is left{f' ({detail})' if detail else ''}.",
            path=corpus.data_dir if corpus.needs_data_dir else None,
        )
    for sentence in plan.warnings:
        say_once(corpus.facts.name, str(corpus.data_dir), sentence)
    return plan if folds is None else apply_folds(plan, folds)


def _repeated_error(corpus: Corpus, plan: CorpusPlan, repeated: list[str]) -> DuplicateRecordError:
    """The error of ids that occur more than once, with the folders that hold the copies."""
    paths = [item.path for item in plan.each_item() if item.record_id == repeated[0] and item.path is not None]
    where = ""
    if len(set(paths)) > 1 and all(path.is_relative_to(corpus.data_dir) for path in paths):
        below = [path.relative_to(corpus.data_dir).parts for path in paths[:2]]
        level = next(k for k, (one, other) in enumerate(zip(*below)) if one != other)
        folders = [corpus.data_dir.joinpath(*parts[: level + 1]) for parts in below]
        where = f"; they lie in {folders[0]} and in {folders[1]}: give one of the two as data_dir"
    return DuplicateRecordError(
        f"{len(repeated)} record id(s) of {corpus.facts.name!r} occur more than once, for example {repeated[:3]}{where}.",
        path=corpus.data_dir if corpus.needs_data_dir else None,
    )


@functools.cache
def say_once(name: str, data_dir: str, sentence: str) -> None:
    """Log a sentence about a corpus; a program that plans it for each of its splits says it once."""
    logger.warning("%s: %s", name, sentence)


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
    _check_identity(store, _identity(corpus, plan, shards))
    done = _finished(store, own, functools.partial(_key_of, corpus, plan, store, head))
    missing = [shard for shard in own if shard.file not in done]
    if done:
        kept = sum(facts.records for facts in done.values())
        logger.warning("%s: %d records of an interrupted build are kept.", store.address, kept)
    jobs = (job_of(corpus, plan, shard, store, head) for shard in missing)
    with _bar(own, done, progress) as bar:
        for facts in run_jobs(write_shard, jobs, engine=engine, num_proc=num_proc):
            done[facts.file] = facts
            bar.update(facts.records)
    done |= _finished(store, [shard for shard in shards if shard.file not in done])
    present = [done[shard.file] for shard in shards if shard.file in done]
    if len(present) < len(shards):
        report = make_report(corpus, plan, [done[shard.file] for shard in own], store.address, whole=False)
        report.notes.append(
            f"part {part[0]} of {part[1]}; {len(present)} of {len(shards)} shards of the build are there"
        )
        return report
    return _finish(corpus, plan, store, present, max_skipped)


def _identity(corpus: Corpus, plan: CorpusPlan, shards: Sequence[Shard]) -> dict[str, Any]:
    """What a build is of, in plain data."""
    identity = {
        "corpus": corpus.facts.name,
        "version": [SCHEMA_VERSION, corpus.code_version, corpus.facts.version],
        "options": dataclasses.asdict(corpus.options),
        "label_names": plan.label_names,
        "task_kind": plan.task_kind,
        "shards": [dataclasses.asdict(shard) for shard in shards],
    }
    return as_json(identity)


def _check_identity(store: Store, identity: dict[str, Any]) -> None:
    """Begin a build in an empty folder, or go on with the same one.

    Raises:
        ECGDataError: the folder holds something else.
    """
    text = store.read_text(_IDENTITY)
    if text is None:
        if store.sizes() or (store.local is not None and any(store.local.glob("[!.]*"))):
            raise ECGDataError("the output folder is not empty; give a new one.", path=store.address)
        try:
            store.write_text(_IDENTITY, json.dumps(identity, ensure_ascii=False))
        except OSError as error:
            raise CannotWriteError(
                f"the build cannot be written here ({error.strerror or error}).", path=store.address
            ) from error
        return
    before = json.loads(text)
    differing = sorted(key for key in identity if identity[key] != before.get(key))
    if differing:
        raise ECGDataError(
            f"the folder holds an unfinished build that differs in its {' and '.join(differing)}: delete it, or give a new "
            "one.",
            path=store.address,
        )


def _key_of(corpus: Corpus, plan: CorpusPlan, store: Store, head: str, shard: Shard) -> str:
    return shard_key(job_of(corpus, plan, shard, store, head))


def _finished(
    store: Store, shards: Sequence[Shard], key_of: Callable[[Shard], str] | None = None
) -> dict[str, ShardFacts]:
    """The shards that are finished, and whose records have not changed since where `key_of` is given."""
    there = store.sizes(FACTS) if shards else {}
    sizes = store.sizes() if there else {}
    found = {}
    for shard in shards:
        facts = read_facts(store, shard.file) if Path(facts_name(shard.file)).name in there else None
        if facts is None:
            continue
        if sizes.get(shard.file) == facts.size and (key_of is None or key_of(shard) == facts.key):
            found[shard.file] = facts
        else:
            logger.warning("%s: its records or the file itself have changed; it is built again.", store.url(shard.file))
            store.remove(facts_name(shard.file))
    return found


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
    manifest = {**_identity(corpus, plan, []), "shards": light}
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

    from ecg_transformers.data.record import record_features

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
    index, count = shard or (0, 1)
    if not 0 <= index < count:
        raise OptionError(f"shard {index}/{count}: the index must lie in 0 to {count - 1}.")
    if records_per_shard is not None and records_per_shard < 1:
        raise OptionError(f"records_per_shard must be at least 1, not {records_per_shard}.")
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
    with contextlib.ExitStack() as held:
        if store.local is not None:
            suffix = "" if shard is None else f"-{index}-of-{count}"
            lock = FolderLock(store.local / FACTS, f".lock{suffix}")
            held.enter_context(_own_turn(lock, "give another folder", wait=False))
            for other in lock.folder.glob(".lock*"):  # the parts of one division do not meet, all others do
                if other != lock.path and (shard is None or not other.name.endswith(f"-of-{count}")):
                    with _own_turn(FolderLock(lock.folder, other.name), "give another folder", wait=False):
                        pass
        return build_into(
            corpus,
            plan,
            store.address,
            part=(index, count),
            max_skipped=max_skipped,
            num_proc=num_proc,
            engine=engine,
            records_per_shard=records_per_shard,
            progress=progress,
        )


def _built_before(corpus: Corpus, plan: CorpusPlan, store: Store, records_per_shard: int | None) -> BuildReport:
    """The report of a finished build, where it is the one that is asked for.

    Raises:
        ECGDataError: it is of something else, or of files that have changed since.
    """
    report = BuildReport.load(store)
    manifest = json.loads(store.read_text(MANIFEST_NAME) or "{}")
    identity = _identity(corpus, plan, [])
    differing = sorted(key for key in identity if key != "shards" and identity[key] != manifest.get(key))
    shards = shards_of(plan, corpus.facts.name, "parquet", records_per_shard)
    key_of = functools.partial(_key_of, corpus, plan, store, build_head(corpus, plan))
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
