"""Is what lies in a folder of this build: what a build is of, and which of its shards are finished."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.shards import (
    FACTS,
    SCHEMA_VERSION,
    CannotWriteError,
    Shard,
    ShardFacts,
    facts_name,
    job_of,
    read_facts,
    shard_key,
)
from ecg_transformers.data.building.store import Store
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.files import as_json

logger = logging.getLogger(__name__)

_IDENTITY = f"{FACTS}/build.json"  # what an unfinished build is of


def identity_of(corpus: Corpus, plan: CorpusPlan, shards: Sequence[Shard]) -> dict[str, Any]:
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


def check_identity(store: Store, identity: dict[str, Any]) -> None:
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


def key_in_store(corpus: Corpus, plan: CorpusPlan, store: Store, head: str, shard: Shard) -> str:
    return shard_key(job_of(corpus, plan, shard, store, head))


def finished_shards(
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
