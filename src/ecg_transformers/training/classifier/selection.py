"""Choosing the best state of a run by the validation split."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ecg_transformers.training.checkpoints.folder import Checkpoint
from ecg_transformers.training.checkpoints.tensors import model_tensors
from ecg_transformers.training.classifier.results import selection_score

if TYPE_CHECKING:
    import torch

BEST = "best.safetensors"


@dataclass
class Best:
    """The best state of a seed so far, by the validation split."""

    criterion: str
    score: float = float("-inf")
    step: int = 0
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)

    def note(self, done: int, figures: dict[str, Any], model: Any) -> None:
        """Remember the model when it is better than all before."""
        self.history.append({"step": done, **figures})
        score = selection_score(figures, self.criterion)
        if score > self.score or not self.tensors:
            self.score, self.step = score, done
            self.tensors = {name: value.to("cpu", copy=True) for name, value in model_tensors(model).items()}

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


def evaluation_steps(total_steps: int, count: int) -> set[int]:
    """`count` evenly spaced numbers of steps; the last is the end of the run."""
    return {max(1, round(total_steps * part / count)) for part in range(1, count + 1)}
