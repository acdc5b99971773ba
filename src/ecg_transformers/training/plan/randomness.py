"""Random numbers that are a pure function of names and counters.

No random state lives between two steps: every decision (order, crop, mask, augmentation, dropout) is drawn from a fresh
generator whose key is the hash of (seed, name of the stream, counters…). A run can therefore be resumed from two integers,
and neither the number of workers nor that of processes can change a draw.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def stream_key(*parts: int | str) -> int:
    """A 64-bit key of the named stream, e.g. `stream_key(seed, "crop", epoch, index)`; stable across platforms."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A numpy generator (Philox, counter-based) of the named stream."""
    return np.random.Generator(np.random.Philox(key=stream_key(*parts)))


def torch_generator(*parts: int | str) -> torch.Generator:
    """A CPU torch generator of the named stream."""
    generator = torch.Generator()
    generator.manual_seed(stream_key(*parts) & (2**63 - 1))
    return generator


def seed_global_generators(*parts: int | str) -> None:
    """Seed torch's own generators (CPU and every device): dropout and drop path draw from them."""
    torch.manual_seed(stream_key(*parts) & (2**63 - 1))


def permutation(length: int, *parts: int | str) -> np.ndarray:
    """A permutation of `range(length)` keyed by `parts`.

    It sorts raw Philox words, whose values numpy promises for ever (those of `Generator.permutation` it does not).
    """
    words = np.random.Philox(key=stream_key(*parts)).random_raw(length)
    return np.argsort(words, kind="stable")
