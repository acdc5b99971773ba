"""All records of a run are looked at before its first step: what cannot be used is told at once, or left out and counted."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from torch.utils.data import DataLoader
from tqdm import tqdm

from ecg_transformers.data.cache import cache_root
from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.data.fingerprint import dataset_fingerprint
from ecg_transformers.data.rows import RecordTable
from ecg_transformers.files import json_sha256, write_text
from ecg_transformers.training.arguments import RunArguments
from ecg_transformers.training.errors import UsageError, in_training_options, one_sentence
from ecg_transformers.training.process.signals import ignore_stop_signals_in_worker
from ecg_transformers.training.samples.splits import Split, unread_records
from ecg_transformers.training.samples.views import View

logger = logging.getLogger(__name__)
SHOWN = 40


@dataclass(frozen=True)
class BadRecord:
    """A record that the run cannot use: its place in the split, its id, the sentence why, and what was unreadable."""

    index: int
    record_id: str
    reason: str
    unread: str | None = None

    @property
    def kind(self) -> str:
        """A word for the log and the card."""
        return self.unread or next((kind for kind, word in KINDS.items() if word in self.reason), "unusable")

    def __str__(self) -> str:
        return self.reason if self.record_id in self.reason else f"{self.record_id}: {self.reason}"


# what the sentences of readers and extractors hold, by kind
KINDS = {
    "too short": "samples, the crop needs",
    "too short for two segments": "Two adjacent segments",
    "with gaps": "NaN samples",
    "with infinite values": "is infinite",
    "flat": "every lead is flat",
    "without the leads": "lead",
}


class _Records:
    """A split as a `DataLoader` wants it: index -> None, or the sentence of what is wrong with the record."""

    def __init__(self, split: Split, view: View, indices: Sequence[int]) -> None:
        self._records, self._view, self._indices = split.records, view, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, position: int) -> tuple[int, str | None]:
        index = self._indices[position]
        try:
            self._view.check(self._view.prepare(self._records[index]))
        except (ECGDataError, UsageError, ValueError) as error:
            return index, in_training_options(one_sentence(error))
        return index, None


def find_bad_records(args: RunArguments, split: Split, view: View, accelerator: Accelerator) -> list[BadRecord]:
    """Every record of a split that the view cannot make a sample of; the findings are kept with the data's fingerprint."""
    kept = _findings_file(split, view)
    if kept.is_file():
        found = {int(index): reason for index, reason in json.loads(kept.read_text(encoding="utf-8")).items()}
    else:
        own = range(accelerator.process_index, len(split), accelerator.num_processes)
        found = dict(_look(args, split, view, own, accelerator.is_main_process))
        if accelerator.num_processes > 1:
            found = {index: reason for part in gather_object([found]) for index, reason in part.items()}
        if accelerator.is_main_process:
            _keep(kept, found)
    return [BadRecord(index, split.record_ids[index], reason) for index, reason in sorted(found.items())]


def _look(
    args: RunArguments, split: Split, view: View, indices: Sequence[int], is_main: bool
) -> Iterator[tuple[int, str]]:
    loader: DataLoader[Any] = DataLoader(
        _Records(split, view, indices),  # type: ignore[arg-type]  # map-style access is all it needs
        batch_size=16,
        num_workers=args.num_workers,
        collate_fn=list,
        worker_init_fn=ignore_stop_signals_in_worker,
        multiprocessing_context="fork" if args.num_workers else None,
    )
    wait = 0.1 if sys.stderr.isatty() else 20  # a log gets a line now and then
    bar = tqdm(
        total=len(indices),
        desc=f"checking {split.name}",
        unit=" records",
        disable=not is_main,
        leave=False,
        mininterval=wait,
        delay=wait,
    )
    with bar:
        for batch in loader:
            bar.update(len(batch))
            yield from ((index, reason) for index, reason in batch if reason is not None)


def _findings_file(split: Split, view: View) -> Path:
    asked = [split.facts["fingerprint"], split.record_ids, type(view).__name__, view.extractor.to_dict()]
    return cache_root() / "checks" / f"{json_sha256(asked)[:24]}.json"


def _keep(path: Path, found: dict[int, str]) -> None:
    """Remember the findings; a cache that cannot be written only costs time."""
    try:
        os.makedirs(path.parent, exist_ok=True)
        write_text(path, json.dumps(found))
    except OSError as error:
        logger.warning("The findings could not be kept (%s).", error)


def usable_records(args: RunArguments, split: Split, bad: Sequence[BadRecord]) -> Split:
    """The split without its bad records; its facts count what was left out and why.

    Raises:
        UsageError: nothing is left.
    """
    if not bad:
        return split
    out = {record.index for record in bad}
    if len(out) == len(split):
        raise UsageError(f"The {split.name} split of {args.dataset} holds no usable record; the first: {bad[0].reason}")
    chosen = split.select([index for index in range(len(split)) if index not in out])
    if isinstance(split.records, RecordTable):  # what is trained on counts: a run goes on when bad records are removed
        dataset = split.records.dataset.select(sorted(set(range(len(split))) - out))
        chosen.records = RecordTable(dataset)
        chosen.facts = {**split.facts, "records": len(chosen), "fingerprint": dataset_fingerprint(dataset)}
    return chosen


def check_all(
    args: RunArguments,
    splits: Sequence[Split],
    view: View,
    accelerator: Accelerator,
    unused: Callable[[], Sequence[Split]] = tuple,
) -> tuple[list[Split], dict[str, int], list[list[BadRecord]]]:
    """The usable records of all splits, how many of the corpus were left out by kind, and the bad ones of each split.

    `unused` are splits that the run does not need: where it stops, their bad records are told with the others.

    Raises:
        UsageError: with `--on_bad_record stop`, all bad records, each with its reason.
    """
    unread = [BadRecord(-1, *entry) for entry in unread_records(args, splits[0].facts["task"])]
    found = [find_bad_records(args, split, view, accelerator) for split in splits]
    everything = [*unread, *(record for part in found for record in part)]
    if everything and args.on_bad_record == "stop":
        everything += [record for split in unused() for record in find_bad_records(args, split, view, accelerator)]
        error = UsageError(_told(everything))
        error.is_shared = True  # every process has found the same
        raise error
    counts = Counter(record.kind for record in everything)
    if everything and accelerator.is_main_process:
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        logger.warning("%d records cannot be used and are left out (%s).", len(everything), kinds)
        for record in everything[:SHOWN]:
            logger.warning("left out: %s", record)
    usable = [usable_records(args, split, bad) for split, bad in zip(splits, found, strict=True)]
    return usable, dict(counts), found


def _told(bad: Sequence[BadRecord]) -> str:
    more = [f"… and {len(bad) - SHOWN} more"] if len(bad) > SHOWN else []
    lines = [f"{len(bad)} records cannot be used:", *(f"  {record}" for record in bad[:SHOWN]), *more]
    return "\n".join([*lines, "Mend or remove them, or leave them out with --on_bad_record skip."])
