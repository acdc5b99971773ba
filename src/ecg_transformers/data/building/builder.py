"""The one `datasets` builder behind every corpus.

`datasets` no longer runs dataset scripts, but a `GeneratorBasedBuilder` subclass inside a package, instantiated
directly, works fully: Arrow and parquet files, several processes, streaming. This one turns any `Corpus` into rows and
keeps a list of what it had to skip.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from ecg_transformers.data.building.report import check_skipped
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.errors import ECGDataError, EmptyRecordError
from ecg_transformers.data.record import record_features


class ECGCorpusBuilder(datasets.GeneratorBasedBuilder):
    """Rows of a corpus, in the schema of `data.record`.

    Args:
        corpus: the corpus with its options.
        plan: its plan.
        failures_dir: folder into which each process writes what it skipped; None (streaming) raises at the end
            instead.
        max_skipped: share of records that may fail when streaming.
    """

    VERSION = datasets.Version("1.0.0")
    DEFAULT_WRITER_BATCH_SIZE = 64  # keeps memory flat; long records make large batches otherwise

    def __init__(
        self,
        corpus: Corpus,
        plan: CorpusPlan,
        failures_dir: Path | None = None,
        max_skipped: float = 0.01,
        **kwargs: Any,
    ) -> None:
        self.corpus = corpus
        self.plan = plan
        self.failures_dir = failures_dir
        self.max_skipped = max_skipped
        self.streamed_failures: dict[str, dict[str, str]] = {}
        super().__init__(dataset_name=corpus.facts.name, config_name=corpus.facts.name, **kwargs)

    def _info(self) -> datasets.DatasetInfo:
        facts = self.corpus.facts
        return datasets.DatasetInfo(
            description=f"{facts.title}: {facts.summary}.",
            citation=facts.citation,
            homepage=facts.homepage,
            license=facts.licence,
            features=record_features(self.plan.label_names),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return [
            datasets.SplitGenerator(name=name, gen_kwargs={"split": name, "positions": list(range(len(items)))})
            for name, items in self.plan.splits.items()
            if items
        ]

    def _generate_examples(self, split: str, positions: list[int]) -> Iterator[tuple[str, dict[str, Any]]]:
        items = self.plan.splits[split]
        failures: list[dict[str, str]] = []
        for position in positions:
            item = items[position]
            try:
                for number, row in enumerate(self.corpus.rows(item, self.plan)):
                    yield f"{split}-{position}-{number}", row
            except ECGDataError as error:
                failures.append({"record": item.record_id, "kind": type(error).__name__, "reason": str(error)})
                if self.failures_dir is None and not isinstance(error, EmptyRecordError):
                    self._check_streamed(split, item.record_id, str(error))
        if failures and self.failures_dir is not None:
            path = Path(self.failures_dir) / f"{split}-{uuid.uuid4().hex}.jsonl"
            path.write_text("".join(json.dumps(failure) + "\n" for failure in failures), encoding="utf-8")

    def _check_streamed(self, split: str, record: str, reason: str) -> None:
        """A stream has no end to wait for: it stops as soon as too many records of the split have failed."""
        failed = self.streamed_failures.setdefault(split, {})
        failed[record] = reason
        check_skipped(list(failed.items()), len(self.plan.splits[split]), self.max_skipped, self.corpus.facts.name)
