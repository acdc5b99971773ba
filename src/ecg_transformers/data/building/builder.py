"""The one `datasets` builder behind every corpus that is streamed from its native layout, without a build.

`datasets` no longer runs dataset scripts, but a `GeneratorBasedBuilder` subclass inside a package, instantiated
directly, streams as one did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets

from ecg_transformers.data.building.report import check_skipped
from ecg_transformers.data.corpora.base import Corpus, CorpusPlan
from ecg_transformers.data.errors import ECGDataError, EmptyRecordError
from ecg_transformers.data.options import fitting_advice
from ecg_transformers.data.record import record_features


class ECGCorpusBuilder(datasets.GeneratorBasedBuilder):
    """Rows of a corpus, in the schema of `data.record`.

    Args:
        corpus: the corpus with its options.
        plan: its plan.
        max_skipped: share of records that may fail.
    """

    VERSION = datasets.Version("1.0.0")

    def __init__(self, corpus: Corpus, plan: CorpusPlan, max_skipped: float = 0.01, **kwargs: Any) -> None:
        self.corpus = corpus
        self.plan = plan
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
        for position in positions:
            item = items[position]
            try:
                for number, row in enumerate(self.corpus.rows(item, self.plan)):
                    yield f"{split}-{position}-{number}", row
            except ECGDataError as error:
                if not isinstance(error, EmptyRecordError):
                    self._check_streamed(split, item.record_id, fitting_advice(str(error), self.corpus.options))

    def _check_streamed(self, split: str, record: str, reason: str) -> None:
        """A stream has no end to wait for: it stops as soon as too many records of the split have failed."""
        failed = self.streamed_failures.setdefault(split, {})
        failed[record] = reason
        check_skipped(list(failed.items()), len(self.plan.splits[split]), self.max_skipped, self.corpus.facts.name)
