"""Readouts trained by gradient descent on stored features: attention pooling, and a published linear probe."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ecg_transformers.evaluation.aggregation import probabilities
from ecg_transformers.evaluation.metrics import check_targets, per_class_auroc


class AttentionProbeHead(nn.Module):
    """The attention probe: one learned query attends to the tokens of a frozen encoder; a linear layer reads the normed
    result. (A model's own head with `head_pooling="attention"` is another network, `layers.heads.AttentionPooling`.)

    Args:
        hidden_size: width of the tokens.
        num_heads: heads of the attention; it must divide the width.
        num_classes: outputs.
    """

    def __init__(self, hidden_size: int, num_heads: int, num_classes: int) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(f"The token width {hidden_size} is not a multiple of {num_heads} attention heads.")
        self.num_heads = num_heads
        self.query = nn.Parameter(torch.randn(hidden_size) * 0.02)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.classifier = nn.Linear(hidden_size, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `(B, N, D)` to logits `(B, C)`."""
        batch, count, width = tokens.shape
        split = self.key_value(tokens).view(batch, count, 2, self.num_heads, width // self.num_heads)
        key, value = split.permute(2, 0, 3, 1, 4)  # (B, heads, N, head_dim) each
        query = self.query.view(1, self.num_heads, 1, -1).expand(batch, -1, -1, -1)
        gathered = nn.functional.scaled_dot_product_attention(query, key, value)  # (B, heads, 1, head_dim)
        return self.classifier(self.norm(gathered.reshape(batch, width)))


class AttentionProbe:
    """Attention-pooling readout on stored tokens, stopped early by the macro AUROC on validation records.

    Args:
        task_kind: `"multilabel"`/`"binary"` or `"multiclass"`.
        num_heads: heads of the query; None takes the largest of 8, 4, 2, 1 that divides the width.
        epochs, patience: passes over the training records, and how many without a better validation score end it.
        learning_rate, weight_decay, batch_size: of AdamW.
        seed: of the initial weights and the order of the records.
        device: where the head is trained.

    After `fit`: `best_epoch`, `validation_scores` (one an epoch), `head`.
    """

    def __init__(
        self,
        task_kind: str = "multilabel",
        num_heads: int | None = None,
        epochs: int = 40,
        patience: int = 8,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.05,
        batch_size: int = 32,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.task_kind, self.num_heads, self.epochs, self.patience = task_kind, num_heads, epochs, patience
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        self.batch_size, self.seed, self.device = batch_size, seed, device

    def fit(self, tokens: ArrayLike, y: ArrayLike, tokens_val: ArrayLike, y_val: ArrayLike) -> AttentionProbe:
        """Train on `tokens (records, N, D)` and multi-hot `y (records, classes)`; keep the best epoch."""
        train = np.asarray(tokens, dtype=np.float32)
        self.mean = train.mean(axis=(0, 1))
        self.scale = np.maximum(train.std(axis=(0, 1)), 1e-6)
        target = torch.as_tensor(np.asarray(y, dtype=np.float32), device=self.device)
        inputs = self._standardized(train)
        target_val = np.asarray(y_val, dtype=np.float64)
        generator = torch.Generator().manual_seed(self.seed)
        self.head = self._new_head(train.shape[-1], target.shape[1])
        optimizer = torch.optim.AdamW(self.head.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        best, self.best_epoch = copy.deepcopy(self.head.state_dict()), -1
        self.validation_scores: list[float] = []
        for epoch in range(self.epochs):
            self._train_epoch(inputs, target, optimizer, generator)
            per_class = per_class_auroc(target_val, np.asarray(self.decision_function(tokens_val)))
            score = float(np.nanmean(per_class)) if np.isfinite(per_class).any() else 0.5
            if score > max(self.validation_scores, default=-math.inf):
                best, self.best_epoch = copy.deepcopy(self.head.state_dict()), epoch
            self.validation_scores.append(score)
            if epoch - self.best_epoch >= self.patience:
                break
        self.head.load_state_dict(best)
        return self

    def decision_function(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Logits `(records, classes)`."""
        self.head.eval()
        with torch.inference_mode():
            parts = [self.head(part) for part in self._standardized(np.asarray(tokens, dtype=np.float32)).split(256)]
        return torch.cat(parts).double().cpu().numpy()

    def predict_proba(self, tokens: ArrayLike) -> NDArray[np.float64]:
        """Probabilities `(records, classes)`."""
        return probabilities(self.decision_function(tokens), self.task_kind)

    def _new_head(self, width: int, num_classes: int) -> AttentionProbeHead:
        heads = self.num_heads or next(count for count in (8, 4, 2, 1) if width % count == 0)
        with torch.random.fork_rng(devices=[]):  # the global generator stays as it was
            torch.manual_seed(self.seed)
            return AttentionProbeHead(width, heads, num_classes).to(self.device)

    def _train_epoch(
        self, inputs: Tensor, target: Tensor, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        self.head.train()
        loss_function = _loss_function(self.task_kind)
        for rows in torch.randperm(len(inputs), generator=generator).to(self.device).split(self.batch_size):
            loss = loss_function(self.head(inputs[rows]), target[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    def _standardized(self, tokens: NDArray[np.float32]) -> Tensor:
        values = np.clip((tokens - self.mean) / self.scale, -10.0, 10.0)
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


class LastEpochProbe:
    """The linear evaluation that ECG-JEPA was published with: a plain linear layer, AdamW, last epoch, no selection.

    The rate rises over `warmup_steps` updates from a tenth of `learning_rate` and falls by a cosine back to a
    tenth; it is set *after* each update, so the first two updates both use a tenth. Features are not standardised.

    Args:
        task_kind: `"multilabel"` or `"multiclass"`.
        shuffle: draw a new order each epoch from `seed`; False keeps the order given.
        initial_weight: `(classes, features)` to start from; otherwise drawn by torch's default from `seed`.
    """

    def __init__(
        self,
        task_kind: str = "multilabel",
        learning_rate: float = 0.01,
        weight_decay: float = 0.01,
        epochs: int = 10,
        batch_size: int = 16,
        warmup_steps: int = 10,
        shuffle: bool = True,
        seed: int = 0,
        initial_weight: ArrayLike | None = None,
    ) -> None:
        self.task_kind, self.learning_rate, self.weight_decay = task_kind, learning_rate, weight_decay
        self.epochs, self.batch_size, self.warmup_steps = epochs, batch_size, warmup_steps
        self.shuffle, self.seed, self.initial_weight = shuffle, seed, initial_weight

    def fit(self, x: ArrayLike, y: ArrayLike) -> LastEpochProbe:
        """Train on `x (records, features)` and multi-hot `(records, classes)` or class indices `(records,)`."""
        features = torch.as_tensor(np.asarray(x, dtype=np.float32))
        labels = np.asarray(y)
        num_classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        target = torch.as_tensor(check_targets(labels, np.zeros((len(labels), num_classes)))[0], dtype=torch.float32)
        generator = torch.Generator().manual_seed(self.seed)
        self.layer = self._new_layer(features.shape[1], num_classes)
        loss_function = _loss_function(self.task_kind)
        optimizer = torch.optim.AdamW(
            self.layer.parameters(), lr=0.1 * self.learning_rate, weight_decay=self.weight_decay
        )
        total, update = self.epochs * math.ceil(len(features) / self.batch_size), 0
        for _ in range(self.epochs):
            order = torch.randperm(len(features), generator=generator) if self.shuffle else torch.arange(len(features))
            for rows in order.split(self.batch_size):
                loss = loss_function(self.layer(features[rows]), target[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                for group in optimizer.param_groups:
                    group["lr"] = self.rate(update, total)
                update += 1
        return self

    def rate(self, step: int, total: int) -> float:
        """The rate that is set after update `step` (from 0)."""
        low = 0.1 * self.learning_rate
        if step < self.warmup_steps:
            return low + step * (self.learning_rate - low) / self.warmup_steps
        return low + 0.5 * (self.learning_rate - low) * (1 + math.cos(math.pi * step / total))

    def decision_function(self, x: ArrayLike) -> NDArray[np.float64]:
        """Logits `(records, classes)`."""
        with torch.inference_mode():
            return self.layer(torch.as_tensor(np.asarray(x, dtype=np.float32))).double().numpy()

    def predict_proba(self, x: ArrayLike) -> NDArray[np.float64]:
        """Probabilities `(records, classes)`."""
        return probabilities(self.decision_function(x), self.task_kind)

    def _new_layer(self, num_features: int, num_classes: int) -> nn.Linear:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            layer = nn.Linear(num_features, num_classes)
        if self.initial_weight is not None:
            with torch.no_grad():
                layer.weight.copy_(torch.as_tensor(np.asarray(self.initial_weight)))
                layer.bias.zero_()
        return layer


def _loss_function(task_kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    if task_kind == "multiclass":
        return lambda logits, target: nn.functional.cross_entropy(logits, target.argmax(dim=1))
    return nn.functional.binary_cross_entropy_with_logits
