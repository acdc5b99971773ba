"""Leads as input features of a convolution: each lead of the input goes to its own slot, absent leads stay zero."""

from __future__ import annotations

import torch
from torch import Tensor


def place_leads(values: Tensor, indices: Tensor, num_leads: int) -> Tensor:
    """Put the leads of `values (B, L, T)` into the slots `indices`, `(L,)` or `(B, L)`, of zeros `(B, num_leads, T)`.

    Raises:
        ValueError: when two leads of a record are sent to one slot.
    """
    batch, count, length = values.shape
    rows = indices.expand(batch, count)
    if rows.device.type == "cpu" and not torch.compiler.is_compiling():
        ordered = rows.sort(dim=1).values
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise ValueError(f"lead_indices must be different within a record, got {indices.tolist()}.")
    slots = values.new_zeros(batch, num_leads, length)
    return slots.scatter(1, rows[..., None].expand(-1, -1, length), values)
