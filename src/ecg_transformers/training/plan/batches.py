"""Which records an optimiser step sees: a pure function of (seed, epoch, step), whatever the number of processes.

The global batch of step `s` is a consecutive slice of the epoch's permutation. It is cut into accumulation x processes
pieces; piece `micro * processes + rank` goes to that rank. One process with batch `2b` and two with batch `b` (or one with
batch `b` and two accumulated pieces) therefore train on the same records at every step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from ecg_transformers.training.errors import UsageError
from ecg_transformers.training.plan.randomness import permutation

MOST_LANES = 64


@lru_cache(maxsize=2)
def epoch_order(num_records: int, seed: int, epoch: int) -> np.ndarray:
    """The order of the records in one epoch: int64 `(num_records,)`."""
    return permutation(num_records, seed, "order", epoch)


def near_order(groups: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch that reads records group by group: int64 `(num_records,)`.

    All groups, in random order and with their records in random order, are laid end to end and cut into lanes of equal
    length; every batch takes the next records of each lane, in the order of the lanes. So a batch is drawn from up to
    `MOST_LANES` groups, a process whose share are the lanes beside each other reads its groups once, and the order
    depends on the size of the global batch, but not on how many processes share it.

    Args:
        groups: of each record, `(num_records,)`.
    """
    number = permutation(int(groups.max()) + 1, seed, "groups", epoch)[groups]
    sequence = np.lexsort((permutation(len(groups), seed, "order", epoch), number))
    lanes = next(count for count in range(min(MOST_LANES, batch_size), 0, -1) if batch_size % count == 0)
    steps = len(sequence) // batch_size
    whole = sequence[: steps * batch_size].reshape(lanes, steps, batch_size // lanes)
    return np.concatenate([whole.transpose(1, 0, 2).reshape(-1), sequence[steps * batch_size :]])


@dataclass(frozen=True)
class MicroBatch:
    """The records of one forward pass of one process."""

    step: int
    epoch: int
    micro: int
    indices: tuple[int, ...]
    counted: bool
    """False for the filler of a process without a record of its own in an incomplete batch; its loss has weight 0."""


@dataclass(frozen=True)
class BatchPlan:
    """The division of epochs into optimiser steps, and of a step into forward passes.

    Args:
        num_records: records in the training set.
        per_device_batch_size: records of one forward pass of one process.
        accumulation: forward passes of one optimiser step.
        num_processes: processes that train together.
        seed: key of the order.
        drop_last: leave out the incomplete batch at the end of an epoch (another order each epoch, so other records
            each time).
        groups: where records are read from shards, which of them are read together, `(num_records,)`.

    Raises:
        UsageError: no step fits into an epoch, or a size is not positive.
    """

    num_records: int
    per_device_batch_size: int
    accumulation: int = 1
    num_processes: int = 1
    seed: int = 0
    drop_last: bool = True
    groups: np.ndarray | None = field(default=None, compare=False)
    _orders: dict[int, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("per_device_batch_size", "accumulation", "num_processes"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.num_records < 1:
            raise UsageError("The training set holds no record.")
        if self.steps_per_epoch < 1:
            raise UsageError(
                f"One optimiser step takes {self.global_batch_size} records, but the training set holds only "
                f"{self.num_records}: use a smaller --per_device_batch_size, or --drop_last false to train on the "
                "incomplete batch."
            )

    @property
    def global_batch_size(self) -> int:
        """Records of one optimiser step over all processes."""
        return self.per_device_batch_size * self.accumulation * self.num_processes

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        full, rest = divmod(self.num_records, self.global_batch_size)
        return full + int(rest > 0 and not self.drop_last)

    def records_in(self, total_steps: int) -> int:
        """Records that so many optimiser steps take, each as often as it comes."""
        of_epoch = min(self.num_records, self.steps_per_epoch * self.global_batch_size)
        epochs, rest = divmod(total_steps, self.steps_per_epoch)
        return epochs * of_epoch + rest * self.global_batch_size

    def length(self, total_steps: int) -> str:
        """What a run of so many optimiser steps is, in words: "60 steps of 16 records, 4.3 epochs of 229 records"."""
        epochs = total_steps / self.steps_per_epoch
        return (
            f"{total_steps:,} step{'s' * (total_steps != 1)} of {self.global_batch_size:,} records, "
            f"{epochs:.3g} epoch{'s' * (epochs != 1)} of {self.num_records:,} records"
        )

    def epoch_of(self, step: int) -> int:
        """The epoch (from 0) of an optimiser step (from 0)."""
        return step // self.steps_per_epoch

    def global_batch(self, step: int) -> np.ndarray:
        """Indices of all records of one optimiser step, in order."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.global_batch_size
        return self._order(epoch)[start : start + self.global_batch_size]

    def _order(self, epoch: int) -> np.ndarray:
        if self.groups is None:
            return epoch_order(self.num_records, self.seed, epoch)
        if epoch not in self._orders:
            self._orders.clear()
            self._orders[epoch] = near_order(self.groups, self.global_batch_size, self.seed, epoch)
        return self._orders[epoch]

    def pieces(self, step: int) -> list[np.ndarray]:
        """The global batch of a step cut into forward passes; piece `micro * num_processes + rank` is that rank's."""
        return np.array_split(self.global_batch(step), self.accumulation * self.num_processes)

    def pass_over_processes(self, step: int, micro: int) -> list[list[int]]:
        """The records of each process in one forward pass."""
        first = micro * self.num_processes
        return [[int(index) for index in piece] for piece in self.pieces(step)[first : first + self.num_processes]]

    def micro_batches(self, step: int, rank: int = 0) -> list[MicroBatch]:
        """The forward passes of one process in one optimiser step."""
        batch, pieces = self.global_batch(step), self.pieces(step)
        own = [pieces[micro * self.num_processes + rank] for micro in range(self.accumulation)]
        return [
            MicroBatch(
                step=step,
                epoch=self.epoch_of(step),
                micro=micro,
                indices=tuple(int(index) for index in (piece if len(piece) else batch[:1])),
                counted=len(piece) > 0,
            )
            for micro, piece in enumerate(own)
        ]


class StepSampler:
    """Batch sampler for `torch.utils.data.DataLoader`: yields lists of `(epoch, index)` from one step to another.

    It runs through all epochs, so that workers live as long as the run and a resumed run starts in mid-epoch at once.
    """

    def __init__(self, plan: BatchPlan, rank: int, first_step: int, last_step: int) -> None:
        self.plan, self.rank, self.first_step, self.last_step = plan, rank, first_step, last_step

    def __len__(self) -> int:
        return max(0, self.last_step - self.first_step) * self.plan.accumulation

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first_step, self.last_step):
            for micro_batch in self.plan.micro_batches(step, self.rank):
                yield [(micro_batch.epoch, index) for index in micro_batch.indices]
