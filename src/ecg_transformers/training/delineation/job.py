"""A fine-tuning run whose labels are wave marks: its view, its head, how it is validated and judged."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from ecg_transformers.evaluation.delineation import macro_f1, pool, score_record
from ecg_transformers.features.wave_labels import marked_waves, sample_map, window_places
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.signal.waves import CLASSES, IGNORED, PEAK_SYMBOLS, Wave, delineate
from ecg_transformers.training.arguments import FinetuningArguments
from ecg_transformers.training.classifier.job import Job
from ecg_transformers.training.classifier.network import ClassifierPlan, HeadKind
from ecg_transformers.training.classifier.results import describe_data
from ecg_transformers.training.classifier.scores import Evaluator
from ecg_transformers.training.delineation.results import metrics_of_seeds, write_waves
from ecg_transformers.training.delineation.view import WavesView
from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.process.signals import StopRequest
from ecg_transformers.training.samples.splits import Split, load_split
from ecg_transformers.training.samples.views import Augmentation

MOVE_TIME = ("shift", "circular_shift", "randaugment")
Delineation = list[dict[str, list[Wave]]]
"""A record's waves by lead, for all records of a split."""


class DelineationJob(Job):
    """Learns where P, QRS and T begin and end, in every lead on its own.

    Leads are standardised one by one unless `--preprocessing_overrides normalize=…` says otherwise: the corpora with wave
    marks do not all hold real millivolts. Half of the passes see a part of the leads only, so that a model of twelve leads
    can be given one.
    """

    head: ClassVar[HeadKind] = HeadKind(
        "token_classification", "delineation", {"normalize": "per_lead"}, {"lead_subset_prob": 0.5}
    )
    headline: ClassVar[str] = "macro_f1"

    @classmethod
    def load(cls, args: FinetuningArguments, name: str) -> Split:
        if args.mode not in ("finetune", "scratch"):
            raise UsageError(f"A delineating model is trained in mode finetune or scratch, not {args.mode}.")
        return dataclasses.replace(load_split(args, name, task=args.task), label_names=list(CLASSES))

    @staticmethod
    def class_table(split: Split) -> np.ndarray:
        """How many places are marked as each class in each record; "none" in every one."""
        rows = []
        for index in range(len(split)):
            annotations = split.records[index].annotations or {}
            symbols = [PEAK_SYMBOLS.get(str(symbol)) for symbol in annotations.get("wave_symbols", ())]
            rows.append([1, *(symbols.count(wave) for wave in CLASSES[1:])])
        return np.asarray(rows)

    @staticmethod
    def view_of(classifier: ClassifierPlan, augmentation: Augmentation | None = None) -> WavesView:
        name = classifier.settings.hyper.augmentation
        if name in MOVE_TIME:
            raise UsageError(f"The augmentation {name} moves signals in time, and their wave marks would not follow.")
        config = classifier.config
        patch_size = config.patch_size if config.label_resolution == "patches" else 1
        return WavesView(classifier.extractor, augmentation, patch_size)

    @property
    def criterion(self) -> str:
        return "loss" if self.args.selection_metric == "loss" else "macro_f1"

    def evaluator(self, split: Split, stop: StopRequest | None = None) -> Evaluator:
        """One record at a time: its windows are the batch."""
        whole = super().evaluator(split, stop)
        return dataclasses.replace(whole, batch_size=1)

    def tell_untrained(self) -> None:
        """Every record with marks teaches something; nothing to tell."""

    def validate(self, evaluator: Evaluator, model: ECGPreTrainedModel) -> dict[str, float | None]:
        waves, loss = self._delineate(evaluator, model)
        pairs = zip(self._marks(self.validation), waves, strict=True)
        scores = [score for marks, found in pairs for score in score_record(marks, found).values()]
        return {"macro_f1": macro_f1(pool(scores)), "loss": loss}

    def settle(self, evaluator: Evaluator, model: ECGPreTrainedModel) -> dict[str, Any]:
        return {"validation": self.validate(evaluator, model)}

    def predict(self, evaluator: Evaluator, model: ECGPreTrainedModel) -> Delineation:
        return self._delineate(evaluator, model)[0]

    def judge(
        self, test: Split, answers: Mapping[int, Delineation], selections: Mapping[int, Mapping[str, Any]]
    ) -> dict[str, Any]:
        return {
            "test": metrics_of_seeds(test, self._marks(test), answers, self.args.n_boot),
            "data": describe_data([self.train, self.validation, test], self.class_table),
        }

    def write_predictions(self, path: Path, test: Split, answers: Mapping[int, Delineation]) -> None:
        write_waves(path, test, self._marks(test), answers)

    def _marks(self, split: Split) -> Delineation:
        records = (split.records[index] for index in range(len(split)))
        return [marked_waves(record.annotations, float(record.sampling_rate)) for record in records]

    def _delineate(self, evaluator: Evaluator, model: ECGPreTrainedModel) -> tuple[Delineation, float]:
        """The waves of all records, and the mean loss over the judged places of their leads."""
        view = cast("WavesView", evaluator.view)

        def answers(batch: Mapping[str, Tensor]) -> Tensor:
            windows = batch["input_values"][0]  # (k, L, T)
            logits = model(windows, **evaluator.forward_arguments).logits
            probabilities = logits.float().softmax(dim=-1).repeat_interleave(view.patch_size, dim=2)
            return torch.cat([probabilities, windows[..., None]], dim=-1)[None]  # (1, k, L, T, C + 1)

        found, loss_sum, count = [], 0.0, 0
        for index, rows in enumerate(evaluator.rows(model, answers)):
            record, prepared = evaluator.split.records[index], evaluator.prepared(index)
            rate = float(record.sampling_rate)
            places = sample_map(view.crops, record.num_samples, rate)
            last_s = (record.num_samples - 1) / rate
            starts, stretch = window_places(view.crops, record.num_samples, rate, view.starts(prepared))
            where = (starts, places.length, places.scale * rate, places.shift, last_s, stretch)
            waves, voted = delineate(rows[..., :-1], rows[..., -1], *where)
            found.append(dict(zip(view.crops.lead_names or (), waves, strict=True)))
            classes = np.maximum(prepared.labels, 0).astype(np.int64)[..., None]
            judged = np.take_along_axis(voted, classes, axis=-1)[..., 0][prepared.labels != IGNORED]
            loss_sum -= float(np.log(np.maximum(judged, 1e-12)).sum())
            count += judged.size
        return found, loss_sum / max(count, 1)
