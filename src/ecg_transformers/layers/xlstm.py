"""The two cells of xLSTM in plain torch: a gated recurrence with a scalar memory, and a gated linear attention.

Tokens are `(B, T, D)`. Exponential gates are kept in range by a running maximum that cancels out of the result.

Source: Beck et al., "xLSTM: Extended Long Short-Term Memory", NeurIPS 2024; the layout of the cells and of their gates is
that of specification `zoo/xecg.md`, section 4.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualScaleNorm(nn.Module):
    """LayerNorm without bias whose stored weight is the difference from 1.

    With `num_groups` each group of features is normalised for itself, token by token.
    """

    def __init__(self, size: int, num_groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_groups, self.eps = num_groups, eps
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, tokens: Tensor) -> Tensor:
        groups = tokens.unflatten(-1, (self.num_groups, -1))
        normed = F.layer_norm(groups, groups.shape[-1:], eps=self.eps).flatten(-2)
        return normed * (1.0 + self.weight)


class HeadwiseLinear(nn.Module):
    """A map of its own for each piece of the features, without bias; `weight (pieces, out, in)`."""

    def __init__(self, size: int, num_pieces: int) -> None:
        super().__init__()
        if size % num_pieces:
            raise ValueError(f"{size} features cannot be cut into {num_pieces} equal pieces.")
        self.weight = nn.Parameter(torch.empty(num_pieces, size // num_pieces, size // num_pieces))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=small_deviation(self.weight.shape[-1]))

    def forward(self, tokens: Tensor) -> Tensor:
        pieces = tokens.unflatten(-1, (self.weight.shape[0], -1))
        return torch.einsum("...ni,noi->...no", pieces, self.weight).flatten(-2)


class CausalConv(nn.Conv1d):
    """A depth-wise convolution over tokens `(B, T, D)` that sees the present and the past."""

    def __init__(self, size: int, kernel: int) -> None:
        super().__init__(size, size, kernel, groups=size)

    def forward(self, tokens: Tensor) -> Tensor:
        padded = F.pad(tokens.transpose(1, 2), (self.kernel_size[0] - 1, 0))
        return super().forward(padded).transpose(1, 2)


class ScalarMemoryCell(nn.Module):
    """sLSTM: a recurrence over tokens with one memory cell a feature and heads that mix only within themselves."""

    def __init__(self, size: int, num_heads: int, kernel: int) -> None:
        super().__init__()
        self.size, self.num_heads = size, num_heads
        head = size // num_heads
        self.conv = CausalConv(size, kernel)
        self.input_gate = HeadwiseLinear(size, num_heads)
        self.forget_gate = HeadwiseLinear(size, num_heads)
        self.cell_input = HeadwiseLinear(size, num_heads)
        self.output_gate = HeadwiseLinear(size, num_heads)
        self.recurrent = nn.Parameter(torch.zeros(num_heads, head, 4 * head))  # (head, in, slot · out)
        self.bias = nn.Parameter(torch.empty(num_heads, 4 * head))
        if self.bias.device.type != "meta":
            with torch.no_grad():
                self.bias.copy_(self.initial_bias())
        self.norm = ResidualScaleNorm(size, num_heads)

    def initial_bias(self) -> Tensor:
        """Memory that lasts longer from feature to feature of a head: `(heads, slot · out)`, slots as in `forward`."""
        bias = torch.zeros(self.num_heads, 4, self.size // self.num_heads, device="cpu")
        bias[:, 1] = torch.linspace(3.0, 6.0, bias.shape[-1], device="cpu")
        return bias.flatten(1)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed = F.silu(self.conv(tokens))
        slots = (self.input_gate(mixed), self.forget_gate(mixed), self.cell_input(tokens), self.output_gate(tokens))
        hidden = self.recurrence(torch.stack(slots, dim=2))  # (B, T, 4, D) to (B, T, D)
        return self.norm(hidden.to(tokens.dtype))

    def recurrence(self, slots: Tensor) -> Tensor:
        """Token by token, in single precision: input gate, forget gate, cell input and output gate to the output."""
        batch, length = slots.shape[:2]
        with torch.autocast(slots.device.type, enabled=False):
            recurrent = self.recurrent.float()
            pre = slots.float().unflatten(-1, (self.num_heads, -1)).permute(1, 3, 0, 2, 4).flatten(3)  # (T, N, B, 4d)
            pre = pre + self.bias.float()[None, :, None, :]
            output = pre.new_zeros(self.num_heads, batch, self.size // self.num_heads)  # (N, B, d)
            cell, normalizer, top = output, output, output
            outputs = []
            for time in range(length):
                i, f, z, o = torch.baddbmm(pre[time], output, recurrent).chunk(4, dim=-1)
                kept = top + F.logsigmoid(f)
                top = torch.maximum(i, kept) if time else i
                enter, keep = (i - top).exp(), (kept - top).exp() if time else torch.zeros_like(kept)
                cell = keep * cell + enter * z.tanh()
                normalizer = keep * normalizer + enter
                output = o.sigmoid() * cell / normalizer
                outputs.append(output)
            return torch.stack(outputs).permute(2, 0, 1, 3).flatten(2)


class MatrixMemoryCell(nn.Module):
    """mLSTM in its parallel form: causal linear attention whose scores are weighted by input and forget gates."""

    def __init__(self, size: int, inner_size: int, num_heads: int, kernel: int, num_pieces: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.up = nn.Linear(size, 2 * inner_size, bias=False)
        self.conv = CausalConv(inner_size, kernel)
        self.query = HeadwiseLinear(inner_size, num_pieces)
        self.key = HeadwiseLinear(inner_size, num_pieces)
        self.value = HeadwiseLinear(inner_size, num_pieces)
        self.input_gate = nn.Linear(3 * inner_size, num_heads)
        self.forget_gate = nn.Linear(3 * inner_size, num_heads)
        self.norm = ResidualScaleNorm(inner_size, num_heads)
        self.skip = nn.Parameter(torch.ones(inner_size))
        self.down = nn.Linear(inner_size, size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        a, z = self.up(tokens).chunk(2, dim=-1)  # (B, T, E) each
        mixed = F.silu(self.conv(a))
        query, key, value = self.query(mixed), self.key(mixed), self.value(a)
        together = torch.cat([query, key, value], dim=-1)
        gates = (self.input_gate(together), self.forget_gate(together))  # (B, T, N) each
        heads = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (query, key, value))
        hidden = gated_attention(*heads, *(gate.transpose(1, 2) for gate in gates))
        hidden = self.norm(hidden.transpose(1, 2).flatten(2).to(tokens.dtype))
        return self.down((hidden + self.skip * mixed) * F.silu(z))


def gated_attention(query: Tensor, key: Tensor, value: Tensor, input_gate: Tensor, forget_gate: Tensor) -> Tensor:
    """What the matrix memory returns, for all tokens at once.

    Args:
        query, key, value: `(B, heads, T, d)`.
        input_gate, forget_gate: `(B, heads, T)` before their exponential and sigmoid.

    Returns:
        `(B, heads, T, d)` float32.
    """
    length = query.shape[-2]
    with torch.autocast(query.device.type, enabled=False):
        query, key, value = query.float(), key.float(), value.float()
        kept = F.logsigmoid(forget_gate.float()).cumsum(dim=-1)  # S_t
        logs = kept[..., :, None] - kept[..., None, :] + input_gate.float()[..., None, :]
        causal = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        logs = logs.masked_fill(~causal, -math.inf)
        top = logs.amax(dim=-1, keepdim=True)
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1]) * (logs - top).exp()
        size = torch.maximum(scores.sum(dim=-1, keepdim=True).abs(), (-top).exp())
        return scores @ value / (size + 1e-6)


class GatedFeedForward(nn.Module):
    """`W_down(gelu(g) · u)` with `[g, u] = W_up x`, without biases."""

    def __init__(self, size: int, inner_size: int) -> None:
        super().__init__()
        self.up = nn.Linear(size, 2 * inner_size, bias=False)
        self.down = nn.Linear(inner_size, size, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        gate, up = self.up(tokens).chunk(2, dim=-1)
        return self.down(F.gelu(gate) * up)


def small_deviation(size: int) -> float:
    """Standard deviation of initial weights of a map from `size` features."""
    return math.sqrt(2.0 / (5.0 * size))
