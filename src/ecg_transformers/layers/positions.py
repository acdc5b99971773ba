"""Fixed sine-cosine position tables, exactly as the published codes build them."""

import math

import torch
from torch import Tensor


def sincos_1d(num_positions: int, dim: int, temperature: float = 10000.0) -> Tensor:
    """Table `(num_positions, dim)`, float32: all sines first, then all cosines (ST-MEM, MTAE, MLAE).

    Rows count from position 0; separator and class tokens have zero rows of their own, which are not part of it.

    Raises:
        ValueError: for an odd `dim`.
    """
    if dim % 2:
        raise ValueError(f"A sine-cosine table needs an even width, got {dim}.")
    # float32 throughout, on the CPU: the released tables are float32 results of float32 steps
    exponents = torch.arange(dim // 2, dtype=torch.float32, device="cpu") / (dim / 2)
    frequencies = 1.0 / temperature**exponents
    angles = torch.arange(num_positions, dtype=torch.float32, device="cpu")[:, None] * frequencies[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_lead_time(num_leads: int, num_patches: int, dim: int, temperature: float = 10000.0) -> Tensor:
    """Table `(num_leads · num_patches, dim)`, float32 of a float64 computation, lead-major (ECG-JEPA).

    The first half of a row codes time `[sin | cos]`, the second half the lead `[sin | cos]`, both counted from 0.

    Raises:
        ValueError: when `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"A lead-and-time table needs a width divisible by 4, got {dim}.")
    quarter = dim // 4
    exponents = torch.arange(quarter, dtype=torch.float64, device="cpu") / quarter
    frequencies = 1.0 / temperature**exponents

    def code(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64, device="cpu")[:, None] * frequencies[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    time = code(num_patches)[None].expand(num_leads, -1, -1)
    lead = code(num_leads)[:, None].expand(-1, num_patches, -1)
    return torch.cat([time, lead], dim=-1).flatten(0, 1).to(torch.float32)


def sincos_interleaved(num_positions: int, dim: int, temperature: float = 10000.0) -> Tensor:
    """Table `(num_positions, dim)`, float32: sine and cosine of one frequency side by side, positions from 0.

    Raises:
        ValueError: for an odd `dim`.
    """
    if dim % 2:
        raise ValueError(f"A sine-cosine table needs an even width, got {dim}.")
    exponents = torch.arange(0, dim, 2, dtype=torch.float32, device="cpu") * (-math.log(temperature) / dim)
    positions = torch.arange(num_positions, dtype=torch.float32, device="cpu")
    angles = positions[:, None] * exponents.exp()[None, :]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def sinusoidal_values(values: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """Sine-cosine code of arbitrary real positions: `(…)` to `(…, dim)`, sines first."""
    exponents = torch.arange(dim // 2, dtype=torch.float32, device=values.device) / (dim / 2)
    angles = values.to(torch.float32)[..., None] / temperature**exponents
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
