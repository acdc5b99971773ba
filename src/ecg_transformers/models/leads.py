"""Which row of a model's lead table every lead of an input belongs to."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ecg_transformers.layers.lead_slots import place_leads

LeadIndices = Sequence[int] | Sequence[Sequence[int]] | Tensor


def resolve_lead_indices(lead_indices: LeadIndices | None, input_values: Tensor, num_leads: int) -> Tensor:
    """Indices into the model's lead table for every lead of the input: `(L,)` or `(B, L)`, on the input's device.

    Args:
        lead_indices: one list for the batch, or one row a record; None takes the first leads of the table.
        input_values: `(B, L, T)`.
        num_leads: size of the table.

    Raises:
        ValueError: when counts disagree or an index is not in the table.
    """
    batch, count = input_values.shape[0], input_values.shape[1]
    if lead_indices is None:
        if count > num_leads:
            raise ValueError(f"The input has {count} leads, the model knows {num_leads}.")
        return torch.arange(count, device=input_values.device)
    given = torch.as_tensor(lead_indices, device=input_values.device)
    if given.is_floating_point():
        raise ValueError(f"lead_indices are whole numbers, rows of the model's lead table; got {given.tolist()}.")
    indices = given.long()
    # axis by axis: comparing whole shapes breaks the graph of torch.compile once sizes are dynamic
    fits = indices.ndim == 1 or (indices.ndim == 2 and indices.shape[0] == batch)
    if not fits or indices.shape[-1] != count:
        raise ValueError(
            f"lead_indices of shape {tuple(indices.shape)} do not fit an input of {batch} records with {count} leads: "
            f"give one list of {count} indices, or one a record."
        )
    # a check of values costs a synchronisation on accelerators, where the embedding lookup fails by itself
    readable = indices.device.type == "cpu" and indices.numel() and not torch.compiler.is_compiling()
    if readable and (int(indices.min()) < 0 or int(indices.max()) >= num_leads):
        raise ValueError(f"lead_indices must lie in 0 … {num_leads - 1}, got {indices.tolist()}.")
    return indices


def to_lead_table(lead_indices: LeadIndices | None, input_values: Tensor, num_leads: int) -> Tensor:
    """All leads of the model in the order of its table: `(B, L, T)` to `(B, num_leads, T)`, zeros where one is absent.

    Raises:
        ValueError: as `resolve_lead_indices`, and when two leads of a record are the same one of the table.
    """
    indices = resolve_lead_indices(lead_indices, input_values, num_leads)
    if lead_indices is None and input_values.shape[1] == num_leads:
        return input_values
    return place_leads(input_values, indices, num_leads)


def check_input(input_values: Tensor, ndim: int = 3) -> None:
    """Raise a ValueError unless the input is `(batch, num_leads, seq_len)`."""
    if input_values.ndim != ndim:
        raise ValueError(
            f"input_values must have {ndim} axes (batch, num_leads, seq_len), got shape {tuple(input_values.shape)}."
        )


def repeat_for_crops(lead_indices: LeadIndices | None, num_crops: int) -> LeadIndices | None:
    """One row of indices a record becomes one row a crop."""
    if lead_indices is None:
        return None
    indices = torch.as_tensor(lead_indices)
    return indices.repeat_interleave(num_crops, dim=0) if indices.ndim == 2 else indices
