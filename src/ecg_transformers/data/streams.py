"""The stream of a prepared corpus: in shares for many nodes, shuffled, and resumed without loss."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np

from ecg_transformers.data.errors import OptionError


class ShardStream(datasets.IterableDataset):
    """The stream of a prepared corpus: as `datasets` gives it, but a shuffled one also resumes exactly.

    `datasets`' own shuffle buffer is filled anew after `load_state_dict`, and what was in it is lost. Here records are
    shuffled window by window, so a resumed stream reads the window it was in again and goes on behind the last record.
    Shuffle first, then split by node.

    Example:
        >>> stream = load_ecg_dataset("s3://bucket/mimic", split="train", streaming=True)  # doctest: +SKIP
        >>> stream = split_dataset_by_node(stream.shuffle(seed=0, buffer_size=2048), rank=3, world_size=64)  # doctest: +SKIP
    """

    @classmethod
    def of(cls, stream: datasets.IterableDataset) -> ShardStream:
        """The same stream, as this class."""
        return cls(
            stream._ex_iterable,
            info=stream._info.copy(),
            split=stream._split,
            formatting=stream._formatting,
            distributed=stream._distributed,
        )

    def shuffle(  # type: ignore[override]
        self, seed: int | None = None, generator: Any = None, buffer_size: int = 1000, **options: Any
    ) -> datasets.IterableDataset:
        """Shuffle the shards, and the records within windows of `buffer_size`; several shards fill a window."""
        if seed is None and generator is None:
            raise OptionError(
                "shuffle needs seed=…: the nodes of a run must agree on the order, and a resumed run too."
            )
        seed = int(generator.integers(2**63)) if seed is None else seed
        shards = super().shuffle(seed=seed, buffer_size=1, **options)
        shards._ex_iterable = shards._ex_iterable.ex_iterable  # without the buffer, which forgets what it holds
        return shards.map(
            _Permute(seed), batched=True, batch_size=buffer_size, with_indices=True, features=self.features
        )


class _Permute:
    """The rows of a window in another order, which depends on the seed and the place of the window alone."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, window: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        order = np.random.default_rng([self.seed, indices[0]]).permutation(len(indices))
        return {name: [values[row] for row in order] for name, values in window.items()}
