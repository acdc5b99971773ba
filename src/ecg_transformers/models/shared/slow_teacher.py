"""What joint-embedding predictive methods share: a student, a teacher that follows it slowly, and the output."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from transformers.utils import ModelOutput

from ecg_transformers.layers.collapse import record_figures, token_figures
from ecg_transformers.layers.momentum import copy_state, ema_update, linear_momentum
from ecg_transformers.models.base import ECGPreTrainedModel


@dataclass
class PredictedTargetsOutput(ModelOutput):
    """Output of pre-training against a teacher.

    Attributes:
        loss: distance of the predictions from the targets, mean over everything.
        predictions, targets: `(B, K, D)` hidden tokens, as the method orders them.
        mask: as given or drawn, 1 = hidden.
        last_hidden_state: `(B, V, D)` tokens of the student.
    """

    loss: torch.Tensor | None = None
    predictions: torch.Tensor | None = None
    targets: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class SlowTeacher(ECGPreTrainedModel):
    """Two encoders alike, of which one is the base model and the other its copy at the start.

    A method names the copy (`copy_name`), says which is student and which teacher, and calls
    `update_target` in the hook that its published code updates in. After an encoder-only checkpoint is loaded both are
    equal again. The teacher gets no gradient.
    """

    copy_name: ClassVar[str]

    def student_and_teacher(self) -> tuple[ECGPreTrainedModel, ECGPreTrainedModel]:
        """The two encoders."""
        raise NotImplementedError

    def post_init(self) -> None:
        super().post_init()
        self.sync_encoders()

    def freeze_fixed(self) -> None:
        self.student_and_teacher()[1].requires_grad_(False)

    def after_loading(self, missing_keys: set[str]) -> None:
        if any(key.startswith(f"{self.copy_name}.") for key in missing_keys):
            self.sync_encoders()

    def sync_encoders(self) -> None:
        """Make the copy equal to the base model."""
        copy_state(self.get_submodule(self.copy_name), self.base_model)

    def update_target(self, momentum: float) -> None:
        """One step of the moving average: teacher = momentum · teacher + (1 - momentum) · student."""
        student, teacher = self.student_and_teacher()
        ema_update(teacher, student, momentum)

    def target_momentum(self, step: int, total_steps: int) -> float:
        """Momentum of optimiser step `step` (counted from 0) of `total_steps`, linear in the step as published."""
        return linear_momentum(step, total_steps, self.config.momentum_start, self.config.momentum_end)

    def monitor(self, outputs: ModelOutput) -> dict[str, float]:
        """Figures of the targets: of tokens, to show a collapse onto positions, and of records (their mean token)."""
        mask = outputs.mask.to(torch.uint8)  # (n,) or (B, n)
        num_patches, num_masked = mask.shape[-1], int(mask.reshape(-1, mask.shape[-1])[0].sum())
        times = mask.argsort(dim=-1, stable=True, descending=True)[..., :num_masked]
        leads = torch.arange(outputs.targets.shape[1] // num_masked, device=times.device)
        positions = leads[:, None] * num_patches + times[..., None, :]  # (L, M) or (B, L, M), one row without leads
        figures = token_figures(outputs.targets, positions.flatten(-2))
        return {**figures, **record_figures(outputs.targets.mean(dim=1))}
