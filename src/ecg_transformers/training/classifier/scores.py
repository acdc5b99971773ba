"""Running a classifier over a split: every record once, in the split's order, on any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from transformers.utils import ModelOutput

from ecg_transformers.data.errors import ECGDataError
from ecg_transformers.features.protocol import Prepared
from ecg_transformers.layers.frozen import eval_mode
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.models.classification import ECGForSequenceClassification
from ecg_transformers.training.errors import Interrupted, UsageError, one_sentence
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.samples.loader import Batch, PreparedRecords, collate, uncut
from ecg_transformers.training.samples.splits import Split
from ecg_transformers.training.samples.views import View


@dataclass
class Evaluator:
    """Applies a model to the records of a split.

    Attributes:
        accelerator: devices and processes; each process takes every n-th record, and all get all results.
        split: the records.
        view: prepares records and cuts evaluation crops.
        num_crops: crops of a record.
        batch_size: records of one forward pass.
        forward_arguments: fixed keyword arguments of each forward pass (lead indices).
        cache_mb: memory for prepared records.
        stop: where given, a stop request on any process ends the evaluation on all of them.
    """

    accelerator: Accelerator
    split: Split
    view: View
    num_crops: int
    batch_size: int
    forward_arguments: dict[str, Any] = field(default_factory=dict)
    cache_mb: float = 512
    stop: StopRequest | None = None

    def __post_init__(self) -> None:
        records = self.split.records
        if self.accelerator.device.type != "cpu":
            self.view, records = uncut(self.view, records)
        self._prepared = PreparedRecords(records, self.view.prepare, self.cache_mb)

    def prepared(self, index: int) -> Prepared:
        """A record as the view prepared it."""
        return self._prepared[index]

    def apply(self, model: ECGPreTrainedModel, function: Callable[[Mapping[str, Tensor]], Tensor]) -> np.ndarray:
        """The rows of `rows`, which must be of one shape, as one array."""
        return np.stack(self.rows(model, function))

    def rows(self, model: ECGPreTrainedModel, function: Callable[[Mapping[str, Tensor]], Tensor]) -> list[np.ndarray]:
        """`function(batch)` of all records in evaluation mode: one row a record, in order, on every process.

        Raises:
            Interrupted: after a batch, when a stop was requested.
        """
        rank, count = self.accelerator.process_index, self.accelerator.num_processes
        rows: list[tuple[int, np.ndarray]] = []
        with eval_mode(model), torch.no_grad():
            for indices, batch in self._batches(list(range(rank, len(self.split), count))):
                if self.stop is not None and self.stop.exit_code:
                    break
                rows += zip(indices, function(batch).float().cpu().numpy(), strict=True)
        code = 0 if self.stop is None else self.stop.exit_code
        if count > 1:
            code = max(gather_object([code]))
            rows = gather_object(rows)
        if code:
            raise Interrupted(
                "Stopped during an evaluation; continue with --resume_from_checkpoint latest.", exit_code=code
            )
        rows.sort(key=lambda row: row[0])  # every record is in exactly one process's share: no padding to drop
        return [row for _, row in rows]

    def probabilities(self, model: ECGForSequenceClassification) -> tuple[np.ndarray, float]:
        """Mean probabilities of the crops `(N, C)`, and the mean loss of their mean logits."""

        def scores(batch: Mapping[str, Tensor]) -> Tensor:
            outputs = model(**batch, **self.forward_arguments)
            return torch.stack([outputs.logits.float(), outputs.probabilities.float()], dim=1)

        logits, probabilities = np.moveaxis(self.apply(model, scores), 1, 0)
        labels = torch.from_numpy(np.asarray(self.split.labels))
        loss = float(model.classification_loss(torch.from_numpy(logits.copy()), labels))
        return probabilities, loss

    def features(self, model: ECGForSequenceClassification, pool: Callable[[ModelOutput, int], Tensor]) -> np.ndarray:
        """What the classification head sees, averaged over the crops of a record: `(N, F)`."""

        def pooled(batch: Mapping[str, Tensor]) -> Tensor:
            inputs = dict(batch)
            crops = None
            values = inputs.get("input_values")
            if values is not None and values.ndim == 4:
                crops = values.shape[1]
                inputs["input_values"] = values = values.flatten(0, 1)
            outputs = model.base_model(**inputs, **self.forward_arguments)
            result = pool(outputs, values.shape[1] if values is not None else 1)
            return result if crops is None else result.unflatten(0, (-1, crops)).mean(dim=1)

        return self.apply(model, pooled)

    def _batches(self, own: list[int]) -> Iterator[tuple[list[int], Batch]]:
        for start in range(0, len(own), self.batch_size):
            indices = own[start : start + self.batch_size]
            try:
                samples = [self.view.evaluation_sample(self._prepared[index], self.num_crops) for index in indices]
            except (ECGDataError, ValueError) as error:
                raise UsageError(one_sentence(error)) from error
            batch = collate(samples)
            assert isinstance(batch, dict)
            yield indices, {key: value.to(self.accelerator.device) for key, value in batch.items()}
