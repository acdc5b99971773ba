"""What a build reads: the plan of a corpus, checked, in the parts that are asked for."""

from __future__ import annotations

import functools
import logging
from collections import Counter

from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.corpora.shared.search import without_records
from ecg_transformers.data.errors import DuplicateRecordError, ECGDataError, RecordNotFoundError
from ecg_transformers.data.folds import Folds, apply_folds

logger = logging.getLogger(__name__)


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
