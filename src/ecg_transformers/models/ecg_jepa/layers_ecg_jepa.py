"""The parts of ECG-JEPA: position codes, the stack of blocks that adds them again and again, and the predictor."""

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn

from ecg_transformers.layers.attention import AttentionFunction, sdpa_attention
from ecg_transformers.layers.positions import sincos_lead_time
from ecg_transformers.layers.transformer import drop_path_rates
from ecg_transformers.models.base import ECGLayer, select_attention
from ecg_transformers.models.ecg_jepa.configuration_ecg_jepa import ECGJEPAConfig
from ecg_transformers.models.shared.cross_pattern import (
    NAME as CROSS_PATTERN,
)
from ecg_transformers.models.shared.cross_pattern import (
    cross_pattern_attention_forward,
    eager_cross_pattern_attention_forward,
)


class PositionTable(nn.Module):
    """Codes of lead and time, `(num_leads · num_patches, dim)`: a fixed table, a learned one, or none (rotary)."""

    def __init__(self, config: ECGJEPAConfig, num_leads: int, dim: int) -> None:
        super().__init__()
        self.config, self.num_leads, self.dim = config, num_leads, dim
        shape = (num_leads * config.num_patches, dim)
        self.table: Tensor | None
        if config.positions == "learnable":
            self.table = nn.Parameter(torch.zeros(shape))
        elif config.positions == "sincos":
            # not saved: the formula is checked when a checkpoint is converted, and `_init_weights` fills it on loading
            self.register_buffer("table", self.formula(), persistent=False)
        else:
            self.table = None

    def formula(self, num_patches: int | None = None) -> Tensor:
        """The sine-cosine table: time in the first half, lead in the second."""
        return sincos_lead_time(self.num_leads, num_patches or self.config.num_patches, self.dim)

    def forward(self, lead_indices: Tensor, times: Tensor, num_patches: int) -> Tensor | None:
        """Rows of leads `(L,)` or `(B, L)` at times `(n,)` or `(B, n)`: `(1 or B, L · n, dim)`.

        Args:
            num_patches: patches of the whole record, which the times count.
        """
        if self.table is None:
            return None
        rows = self.for_length(num_patches)[lead_indices[..., :, None], times[..., None, :]]
        return rows.flatten(-3, -2) if rows.ndim == 4 else rows.flatten(0, 1)[None]

    def for_length(self, num_patches: int) -> Tensor:
        """The table `(num_leads, num_patches, dim)` of a record of that length."""
        assert self.table is not None
        table = self.table.view(self.num_leads, -1, self.dim)
        if num_patches == self.config.num_patches:
            return table
        if self.config.position_length == "extended":
            return self.formula(num_patches).to(table).view(self.num_leads, -1, self.dim)
        stretched = nn.functional.interpolate(table.transpose(1, 2).float(), size=num_patches, mode="linear")
        return stretched.transpose(1, 2).to(table.dtype)


def check_length(config: ECGJEPAConfig, num_patches: int) -> None:
    """Raise a ValueError for records the positions cannot serve."""
    if num_patches == config.num_patches:
        return
    given = (
        f"The input has {num_patches} patches of {config.patch_size} samples a lead, the model was built for "
        f"{config.num_patches} (seq_len={config.seq_len})."
    )
    if config.position_length == "fixed":
        raise ValueError(f'{given} Set position_length="extended" or "interpolated" to read records of other lengths.')
    if config.position_length == "extended" and config.positions == "learnable":
        raise ValueError(f'{given} Learned positions cannot be extended; set position_length="interpolated".')


def rotary_angles(config: ECGJEPAConfig, lead_indices: Tensor, times: Tensor, num_patches: int, dim: int) -> Tensor:
    """`(1 or B, 1, L · n, dim / 2)`: one half of a head's pairs turns with time, the other with the lead."""
    if config.position_length == "interpolated":
        times = times * (config.num_patches / num_patches)
    angles = torch.stack(torch.broadcast_tensors(times[..., None, :].float(), lead_indices[..., :, None].float()), -1)
    codes = angles[..., None] * rotary_frequencies(dim // 4, times.device)  # (…, L, n, 2, dim / 4)
    flat = codes.flatten(-2).flatten(-3, -2)
    return (flat if flat.ndim == 3 else flat[None])[:, None]


def rotary_frequencies(count: int, device: torch.device) -> Tensor:
    """Turns per step of the pairs, falling from 1 to nearly 1/10000, as in the sine-cosine code."""
    return 10000.0 ** -(torch.arange(count, dtype=torch.float32, device=device) / count)


def turn(heads: Tensor, angles: Tensor) -> Tensor:
    """Rotate the pairs of `(B, heads, N, d)` by `angles (1 or B, 1, N, d / 2)`."""
    first, second = heads.float().chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1).to(heads.dtype)


def select_jepa_attention(config: ECGJEPAConfig, cross_pattern: bool) -> AttentionFunction:
    """The attention function of an encoder block (with the pattern) or of a predictor block (without)."""
    name = config._attn_implementation
    inner: AttentionFunction
    if cross_pattern and config.cross_pattern:
        if name in (None, "eager"):
            inner = eager_cross_pattern_attention_forward
        else:  # SDPA is one of its forms, and no other kernel knows the pattern
            inner = functools.partial(
                cross_pattern_attention_forward, cross_pattern_implementation=config.cross_pattern_implementation
            )
    else:
        inner = sdpa_attention if name == CROSS_PATTERN else select_attention(config)

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *args: Any,
        rotary: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None]:
        if rotary is not None:
            query, key = turn(query, rotary), turn(key, rotary)
        return inner(module, query, key, value, *args, **kwargs)

    return attend


class JEPABlocks(nn.Module):
    """Pre-norm blocks; the position code is added before each of them, as in the released code."""

    def __init__(self, config: ECGJEPAConfig, prefix: str, drop_path: float, cross_pattern: bool) -> None:
        super().__init__()
        self.add_every_layer = config.add_positions_every_layer
        depth = getattr(config, f"{prefix}num_hidden_layers")
        select = functools.partial(select_jepa_attention, config, cross_pattern)
        layers = [
            ECGLayer(
                getattr(config, f"{prefix}hidden_size"),
                getattr(config, f"{prefix}num_attention_heads"),
                getattr(config, f"{prefix}intermediate_size"),
                layer_norm_eps=config.layer_norm_eps,
                qkv_bias=config.qkv_bias,
                dropout=config.hidden_dropout_prob,
                attention_dropout=config.attention_probs_dropout_prob,
                drop_path=rate,
                select_attention=select,
            )
            for rate in drop_path_rates(drop_path, depth)
        ]
        self.layer = nn.ModuleList(layers)

    def initial_scales(self) -> dict[nn.Module, float]:
        """Factors of the standard deviation of initial weights: the branches of deeper blocks start smaller."""
        layers: Any = self.layer
        return {
            linear: 1.0 / math.sqrt(2.0 * number)
            for number, layer in enumerate(layers, start=1)
            for linear in (layer.attention.output, layer.output)
        }

    def forward(self, hidden_states: Tensor, positions: Tensor | None, **kwargs: Any) -> Tensor:
        for index, layer in enumerate(self.layer):
            if positions is not None and (index == 0 or self.add_every_layer):
                hidden_states = hidden_states + positions.to(hidden_states.dtype)
            hidden_states = layer(hidden_states, None, **kwargs)
        return hidden_states


class JEPAPredictor(nn.Module):
    """Predicts the hidden times of every lead from its visible tokens; the leads are separate sequences."""

    def __init__(self, config: ECGJEPAConfig) -> None:
        super().__init__()
        self.config = config
        width = config.predictor_hidden_size
        self.embed = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = PositionTable(config, config.num_leads if config.predictor_lead_embedding else 1, width)
        self.blocks = JEPABlocks(config, "predictor_", config.drop_path_rate, cross_pattern=False)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = nn.Linear(width, config.patch_size if config.target == "signal" else config.hidden_size)

    def forward(self, visible: Tensor, lead_indices: Tensor, order: Tensor, num_visible: int) -> Tensor:
        """Predictions at the masked times.

        Args:
            visible: `(B, L · V, D)` student tokens.
            lead_indices: `(L,)` or `(B, L)`.
            order: `(n,)` or `(B, n)` times: the visible ones ascending, then the masked ones ascending.
            num_visible: V.

        Returns:
            `(B, L · M, D)`, lead-major.
        """
        batch, num_leads, num_patches = visible.shape[0], lead_indices.shape[-1], order.shape[-1]
        hidden = self.embed(visible).unflatten(1, (num_leads, num_visible)).flatten(0, 1)  # (B·L, V, P)
        masked = self.mask_token.to(hidden.dtype).expand(batch * num_leads, num_patches - num_visible, -1)
        hidden = torch.cat([hidden, masked], dim=1)  # (B·L, n, P), in `order`
        positions, rotary = self.codes(lead_indices, order, batch)
        hidden = self.blocks(hidden, positions, rotary=rotary)[:, num_visible:]
        return self.projection(self.norm(hidden)).unflatten(0, (batch, num_leads)).flatten(1, 2)

    def codes(self, lead_indices: Tensor, order: Tensor, batch: int) -> tuple[Tensor | None, Tensor | None]:
        """Position codes and rotary angles of the `(B · L, n)` sequences, or of all alike."""
        config, num_leads, num_patches = self.config, lead_indices.shape[-1], order.shape[-1]
        leads = lead_indices if config.predictor_lead_embedding else torch.zeros_like(lead_indices)
        if config.positions == "rotary":
            width = config.predictor_hidden_size // config.predictor_num_attention_heads
            angles = rotary_angles(config, leads, order, num_patches, width)
            return None, angles.expand(batch, -1, -1, -1).reshape(batch * num_leads, 1, num_patches, -1)
        table = self.positions(leads, order, num_patches)  # (1 or B, L·n, P)
        return table.expand(batch, -1, -1).reshape(batch * num_leads, num_patches, -1), None
