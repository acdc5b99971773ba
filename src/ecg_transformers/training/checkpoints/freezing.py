"""What must not move in a run, and what moves without an optimiser."""

from __future__ import annotations

from torch import Tensor

from ecg_transformers.layers.frozen import tensors_sha256
from ecg_transformers.models.base import ECGPreTrainedModel
from ecg_transformers.training.checkpoints.tensors import model_tensors
from ecg_transformers.training.errors import FrozenParameterMoved


def freeze_encoder(model: ECGPreTrainedModel) -> None:
    """Switch off the gradients of the base model."""
    model.base_model.requires_grad_(False)


def train_head_only(model: ECGPreTrainedModel) -> None:
    """Training mode for the head; the frozen encoder stays in evaluation mode, so that its buffers do not move."""
    model.eval()
    for name, module in model.named_children():
        if name != model.base_model_prefix:
            module.train()


class FrozenGuard:
    """Remembers the content of a frozen encoder, buffers included, at the start of a run and compares it at the end."""

    def __init__(self, model: ECGPreTrainedModel) -> None:
        self._name, self._encoder = model.base_model_prefix, model.base_model
        self._before = self._hash()

    def check(self) -> None:
        """Raise `FrozenParameterMoved` when it changed."""
        if self._hash() != self._before:
            raise FrozenParameterMoved(
                f"The frozen part {self._name!r} moved during training: this is a defect, its result is not valid."
            )

    def _hash(self) -> str:
        return tensors_sha256(model_tensors(self._encoder).items())


class BeforeStep:
    """What a step changes before the optimiser does: running statistics, and, in models whose hook moves them, the
    parameters without gradient (a momentum encoder).
    """

    def __init__(self, model: ECGPreTrainedModel) -> None:
        self._watched = [
            buffer
            for module in model.modules()
            if getattr(module, "running_mean", None) is not None
            for buffer in module.buffers(recurse=False)
        ]
        if model.moves_before_step:
            self._watched += [parameter for parameter in model.parameters() if not parameter.requires_grad]
        self._copies: list[Tensor] = []

    def remember(self) -> None:
        """Copy it; called before each step."""
        self._copies = [value.detach().clone() for value in self._watched]

    def restore(self) -> None:
        """Bring it back: the model is the one before the step."""
        for value, copy in zip(self._watched, self._copies, strict=True):
            value.detach().copy_(copy)
