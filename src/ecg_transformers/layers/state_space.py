"""Structured state spaces (S4): a long convolution whose kernel is the impulse response of a linear system.

Each feature owns a system `x' = A x + B u, y = C x` of `state_size` dimensions. `A` is the HiPPO-LegS matrix, written
as a diagonal minus a rank-one term (NPLR); its eigenvalues come in conjugate pairs and only one of each pair is
stored. Over time the same numbers can be used in two ways that give the same result: as one convolution of the whole
sequence through the FFT (`S4Layer.forward`), or sample by sample (`S4Layer.step`).

Source: Gu, Goel and Ré, "Efficiently Modeling Long Sequences with Structured State Spaces", ICLR 2022.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OddLength = Literal["exact", "official"]


class S4Recurrence(NamedTuple):
    """A system in discrete time: `x_t = transition x_{t-1} + input u_t`, `y_t = Re(output · x_t)`; complex64."""

    transition: Tensor  # (H, N, N)
    input: Tensor  # (H, N)
    output: Tensor  # (H, N)


class S4Layer(nn.Module):
    """S4 convolution + skip, GELU, pointwise gated linear unit, dropout, residual and LayerNorm after the sum.

    Takes and returns `(B, T, H)`. `max_length` is the length for which the system is written down (see `S4Kernel`);
    shorter and longer sequences work. `tie_dropout` drops a feature for all times at once.
    """

    def __init__(
        self,
        hidden_size: int,
        state_size: int,
        max_length: int,
        *,
        bidirectional: bool = False,
        dropout: float = 0.0,
        tie_dropout: bool = True,
        layer_norm_eps: float = 1e-5,
        odd_length: OddLength = "exact",
    ) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        self.kernel = S4Kernel(hidden_size, state_size, max_length, num_directions=directions, odd_length=odd_length)
        self.skip = nn.Parameter(torch.randn(1, hidden_size))
        self.output = nn.Linear(hidden_size, 2 * hidden_size)
        self.dropout = nn.Dropout1d(dropout) if tie_dropout else nn.Dropout(dropout)
        self.norm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)

    def forward(self, hidden_states: Tensor) -> Tensor:
        u = hidden_states.transpose(1, 2)  # (B, H, T)
        y = long_convolution(u, self.kernel(u.shape[-1]))
        y = self.dropout(F.gelu(y + self.skip.transpose(0, 1) * u))
        y = F.glu(self.output(y.transpose(1, 2)), dim=-1)  # (B, T, H)
        y = self.dropout(y.transpose(1, 2)).transpose(1, 2)
        return self.norm(hidden_states + y)

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first sample: complex zeros `(B, H, N)`."""
        shape = (batch_size, self.kernel.hidden_size, self.kernel.state_size)
        return torch.zeros(shape, dtype=torch.complex64, device=self.skip.device)

    def step(self, u: Tensor, state: Tensor, recurrence: S4Recurrence) -> tuple[Tensor, Tensor]:
        """One sample `u (B, H)` -> `(y (B, H), new state)`; `recurrence` is `layer.kernel.recurrence()`, made once.

        The output equals the one of `forward` at that time (in eval mode). Causal layers only.
        """
        state = torch.einsum("hmn,bhn->bhm", recurrence.transition, state) + recurrence.input * u[..., None]
        y = (recurrence.output * state).sum(-1).real
        y = F.glu(self.output(F.gelu(y + self.skip * u)), dim=-1)
        return self.norm(u + y), state


class S4Kernel(nn.Module):
    """The impulse response `(directions, H, length)` of `hidden_size` independent systems.

    Trainable is `C` alone; `B, P, Q, w, log_dt` are buffers that are saved with the weights. Complex numbers are
    stored as real pairs in a last axis of two. `C` is stored with the factor `(I - Ā^max_length)` already in it, which
    is what makes the frequency-domain formula a finite sum; it is therefore tied to `max_length`, and a kernel for
    longer inputs is computed from an adjusted copy of `C` (the parameter itself is never rewritten).

    `odd_length="official"` keeps what the published code does for an odd `max_length`: the inverse transform is taken
    one sample short. `"exact"` returns the true response. For even lengths the two are the same.
    """

    C: nn.Parameter
    B: Tensor
    P: Tensor
    Q: Tensor
    w: Tensor
    log_dt: Tensor

    def __init__(
        self,
        hidden_size: int,
        state_size: int,
        max_length: int,
        *,
        num_directions: int = 1,
        dt_range: tuple[float, float] = (1e-3, 1e-1),
        odd_length: OddLength = "exact",
    ) -> None:
        super().__init__()
        if state_size < 2 or state_size % 2:
            raise ValueError(f"state_size is {state_size}; conjugate pairs need an even number of at least 2.")
        if max_length < 2:
            raise ValueError(f"max_length is {max_length}; a kernel needs at least 2 samples.")
        self.hidden_size, self.state_size, self.max_length = hidden_size, state_size, max_length
        self.num_directions, self.dt_range, self.odd_length = num_directions, dt_range, odd_length
        half = state_size // 2
        self.C = nn.Parameter(torch.empty(num_directions, hidden_size, half, 2))
        for name in ("B", "P", "Q"):
            self.register_buffer(name, torch.empty(1, hidden_size, half, 2))
        self.register_buffer("w", torch.empty(hidden_size, half, 2))
        self.register_buffer("log_dt", torch.empty(hidden_size))
        if self.C.device.type != "meta":
            with torch.no_grad():
                for name, value in self.initial_values().items():
                    getattr(self, name).copy_(value)

    def initial_values(self) -> dict[str, Tensor]:
        """Fresh values of `C, B, P, Q, w, log_dt` (float32, CPU): HiPPO-LegS, log-uniform steps, normal outputs."""
        w, p, b = hippo_legs(self.state_size)
        low, high = (math.log(value) for value in self.dt_range)
        log_dt = torch.rand(self.hidden_size, device="cpu", dtype=torch.float32) * (high - low) + low
        shape = (self.num_directions, self.hidden_size, self.state_size // 2, 2)
        c = torch.view_as_complex(torch.randn(shape, device="cpu", dtype=torch.float32) * math.sqrt(0.5))
        rows = {"B": b, "P": p, "Q": p.conj()}
        values = {k: v.expand(1, self.hidden_size, -1) for k, v in rows.items()}
        w = w.expand(self.hidden_size, -1)
        transition, _ = _discretise(w, values["P"], values["Q"], values["B"], log_dt)
        values["C"] = c - _apply_output(torch.linalg.matrix_power(transition, self.max_length), c)
        pairs = {k: torch.view_as_real(v.to(torch.complex64).resolve_conj().contiguous()) for k, v in values.items()}
        return pairs | {"w": torch.view_as_real(w.to(torch.complex64).contiguous()), "log_dt": log_dt}

    def forward(self, length: int) -> Tensor:
        """`(directions, H, length)` float32; one sample less where `odd_length="official"` loses it."""
        with torch.autocast(self.C.device.type, enabled=False):
            c, built = _complex(self.C), self.max_length
            if length > built:
                c, built = self._extend(c, length)
            return self._response(c, built)[..., :length]

    def _response(self, c: Tensor, length: int) -> Tensor:
        """Evaluate the transfer function at the roots of unity and transform back.

        With ω a root, `a = (1 + ω) / 2` and `q(x, y) = dt Σ x y / ((1 - ω) - a dt w)` over all conjugate pairs, the
        response is `q(B, C) - a q(B, Q) q(P, C) / (1 + a q(P, Q))`. This is the published `2 / (1 + ω) · [...]` with
        the factor multiplied out, so that the highest frequency (ω = -1) needs no special case.
        """
        angle = -2 * math.pi / length * torch.arange(length // 2 + 1, dtype=torch.float64, device="cpu")
        omega = torch.polar(torch.ones_like(angle), angle)
        a, one_minus = (((1 + omega) / 2).to(c), (1 - omega).to(c))  # (F,)
        b, p, q, w = (_complex(x) for x in (self.B, self.P, self.Q, self.w))
        dt = self.log_dt.float().exp()
        poles = _paired(w * dt[:, None])[..., None]  # (H, N, 1)
        cauchy = dt[:, None, None] / (one_minus - a * poles)  # (H, N, F)
        products = torch.cat([b * c, p * c, b * q, p * q]).transpose(0, 1)  # (H, 2 directions + 2, N / 2)
        sums = (_paired(products) @ cauchy).transpose(0, 1)  # (2 directions + 2, H, F)
        bc, pc, bq, pq = sums.split([c.shape[0], c.shape[0], 1, 1])
        response = bc - a * bq * pc / (1 + a * pq)
        return torch.fft.irfft(response, n=length if self.odd_length == "exact" else 2 * (length // 2))

    def _extend(self, c: Tensor, length: int) -> tuple[Tensor, int]:
        """`C` for the first doubling of `max_length` that holds `length`: (I - Ā^2L) = (I + Ā^L)(I - Ā^L)."""
        transition, _ = self._system()
        built, power = self.max_length, torch.linalg.matrix_power(transition, self.max_length)
        while built < length:
            c = c + _apply_output(power, c)
            built, power = 2 * built, power @ power
        return c.to(torch.complex64), built

    def recurrence(self) -> S4Recurrence:
        """The same system as matrices of one time step, for `S4Layer.step`. Raises for a bidirectional kernel."""
        if self.num_directions != 1:
            raise ValueError("A bidirectional kernel looks ahead and has no step-by-step form; build it causal.")
        transition, b = self._system()
        power = torch.linalg.matrix_power(transition, self.max_length)
        factor = torch.eye(self.state_size, dtype=power.dtype, device=power.device) - power
        c = _paired(_complex(self.C)[0]).to(power.dtype)
        c = torch.linalg.solve(factor.transpose(-1, -2), c[..., None])[..., 0]
        return S4Recurrence(*(x.to(torch.complex64) for x in (transition, b, c)))

    def _system(self) -> tuple[Tensor, Tensor]:
        w, p, q, b = (_complex(x) for x in (self.w, self.P, self.Q, self.B))
        return _discretise(w, p, q, b, self.log_dt)

    def extra_repr(self) -> str:
        return f"{self.hidden_size}, state_size={self.state_size}, max_length={self.max_length}"


def long_convolution(u: Tensor, kernel: Tensor) -> Tensor:
    """Convolve `u (B, H, T)` with `kernel (1 or 2, H, <= T)` through a zero-padded FFT of length 2 T; float32 inside.

    One row is causal. With two rows the second one runs backwards in time: row 0 carries the past and the present,
    row 1 the future.
    """
    length = u.shape[-1]
    with torch.autocast(u.device.type, enabled=False):
        rows = kernel.float()
        taps = rows[0]
        if rows.shape[0] == 2:
            taps = F.pad(rows[0], (0, length)) + F.pad(rows[1].flip(-1), (length, 0))
        spectrum = torch.fft.rfft(u.float(), n=2 * length) * torch.fft.rfft(taps, n=2 * length)
        return torch.fft.irfft(spectrum, n=2 * length)[..., :length].to(u.dtype)


def hippo_legs(state_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """HiPPO-LegS as eigenvalues `w`, low-rank term `P` and input `B`, each complex128 `(state_size / 2,)`.

    `A_nk = -sqrt((2n + 1)(2k + 1))` below the diagonal and `-(n + 1)` on it; `A + p pᵀ` with `p_n = sqrt(n + 1/2)` is
    normal: -1/2 plus a skew-symmetric part, whose eigenvectors are the basis here. Of each conjugate pair the one with
    the positive imaginary part is kept.
    """
    n = torch.arange(state_size, dtype=torch.float64, device="cpu")
    root = torch.sqrt(2 * n + 1)
    a = -(torch.tril(torch.outer(root, root), -1) + torch.diag(n + 1))
    p = torch.sqrt(n + 0.5)
    skew = a + torch.outer(p, p) + 0.5 * torch.eye(state_size, dtype=torch.float64, device="cpu")
    imaginary, basis = torch.linalg.eigh(-1j * skew.to(torch.complex128))  # ascending
    keep = slice(state_size // 2, None)
    project = basis[:, keep].conj().transpose(0, 1)
    w = torch.complex(torch.full_like(imaginary[keep], -0.5), imaginary[keep])
    return w, project @ p.to(project.dtype), project @ root.to(project.dtype)


def _discretise(w: Tensor, p: Tensor, q: Tensor, b: Tensor, log_dt: Tensor) -> tuple[Tensor, Tensor]:
    """The bilinear rule on `A = diag(w) - P Qᵀ` over all pairs: `Ā (H, N, N)`, `B̄ (H, N)`, complex128."""
    w, p, q, b = (_paired(x.to(torch.complex128)) for x in (w, p[0], q[0], b[0]))
    step = log_dt.double().exp()[:, None, None]
    a = torch.diag_embed(w) - p[..., :, None] * q[..., None, :]
    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    implicit = eye - step / 2 * a
    forward = torch.linalg.solve(implicit, eye + step / 2 * a)
    return forward, torch.linalg.solve(implicit, step * b[..., None])[..., 0]


def _apply_output(power: Tensor, c: Tensor) -> Tensor:
    """`powerᵀ C` for `C (directions, H, N / 2)`, keeping one of each conjugate pair."""
    full = torch.einsum("hmn,rhm->rhn", power, _paired(c).to(power.dtype))
    return full[..., : c.shape[-1]]


def _paired(x: Tensor) -> Tensor:
    return torch.cat([x, x.conj()], dim=-1)


def _complex(x: Tensor) -> Tensor:
    """Stored real pairs as complex64, whatever the storage type."""
    return torch.view_as_complex(x.float().contiguous())
