"""Choosing the best state of a run by the validation split: when it is looked at, by what figure, and what is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ecg_transformers.evaluation.metrics import macro_auroc
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.tensors import model_tensors
from ecg_transformers.training.samples.splits import Split

BEST = "best.safetensors"


def evaluation_steps(total_steps: int, count: int) -> set[int]:
    """`count` evenly spaced numbers of steps; the last is the end of the run."""
    return {max(1, round(total_steps * part / count)) for part in range(1, count + 1)}


def validation_figures(split: Split, probabilities: np.ndarray, loss: float) -> dict[str, float | None]:
    """Macro AUROC (None where no class is defined) and loss on the validation split."""
    target = split.multi_hot()
    defined = bool(((target.sum(axis=0) > 0) & (target.sum(axis=0) < len(target))).any())
    auroc = macro_auroc(target, probabilities)["value"] if defined and np.isfinite(probabilities).all() else None
    return {"macro_auroc": auroc, "loss": loss if math.isfinite(loss) else None}


def selection_score(figures: Mapping[str, float | None], criterion: str) -> float:
    """Higher is better; where the figure is not defined the loss decides."""
    value, loss = figures[criterion], figures["loss"]
    if criterion != "loss" and value is not None:
        return float(value)
    return -float(loss) if loss is not None else -math.inf


@dataclass
class Best:
    """The best state of a seed so far, by one of the validation figures ("loss": the least)."""

    criterion: str
    score: float = -math.inf
    step: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def note(self, done: int, figures: Mapping[str, float | None], model: ECGPreTrainedModel) -> None:
        """Remember the model when it is better than all before."""
        self.history.append({"step": done, **figures})
        score = selection_score(figures, self.criterion)
        if score > self.score or not self.tensors:
            self.score, self.step = score, done
            self.tensors = {name: value.to("cpu", copy=True) for name, value in model_tensors(model).items()}

    def files(self) -> dict[str, dict[str, Tensor]]:
        """What a checkpoint keeps of it: tensors by file name."""
        return {BEST: self.tensors} if self.tensors else {}

    def facts(self) -> dict[str, Any]:
        """What a checkpoint keeps beside the tensors."""
        return {"best": {"step": self.step, "history": self.history}}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        saved = checkpoint.json()["best"]
        self.history, self.step = saved["history"], saved["step"]
        if self.history:
            self.tensors = checkpoint.tensors(BEST)
            self.score = max(selection_score(figures, self.criterion) for figures in self.history)
