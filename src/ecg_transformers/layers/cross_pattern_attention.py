"""Cross-Pattern Attention (CroPA): a token sees its own lead and its own time, and nothing else; exact and fast.

Tokens lie on a grid of leads and times, token = lead · n + time. Token (l, i) attends to (l', j) if and only if l = l'
or i = j: one softmax over the n + L - 1 tokens of its row and its column, its own counted once (ECG-JEPA, arXiv
2410.08559).
Nothing here knows of the electrocardiogram: EEG, EMG or any other array of sensors has the same grid.

The structured forms never build the (L·n)² scores. A row is ordinary attention inside one lead, a column is an L × L
problem at one time. With row scores r, column scores c (own token left out of c) and
`Z = logaddexp(logsumexp r, logsumexp c)` the output is `exp(lse_r - Z) · rows + Σ exp(c - Z) v`.
"""

import functools
import math
from typing import Any

import torch
from torch import Tensor
from torch.jit._trace import is_tracing
from torch.nn.functional import dropout, scaled_dot_product_attention

IMPLEMENTATIONS = ("auto", "structured", "dense", "sdpa")

# Number of tokens from which "auto" leaves masked SDPA. On one CPU thread the forms break even between 136 and 184
# tokens; elsewhere the structured form has many small products, and nobody has measured where it starts to gain.
STRUCTURED_FROM_CPU = 161
STRUCTURED_FROM_ELSEWHERE = 513

_MASK_CACHE_TOKENS = 2048  # larger masks are built when needed: a cache must not hold hundreds of megabytes


def cross_pattern_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_leads: int,
    *,
    implementation: str = "auto",
    scale: float | None = None,
    attention_mask: Tensor | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Attention of every token over its row (same lead) and its column (same time) of a lead-by-time grid.

    Args:
        query, key, value: `(B, heads, L · n, head_dim)`, token = lead · n + time. Any rectangular grid will do: the
            visible patches of all leads when the same times are hidden in each, or some of the leads only.
        num_leads: L; n follows.
        implementation: "structured" (never builds the (L·n)² scores), "dense" (the published way, for reference),
            "sdpa" (torch's fused attention with a mask), or "auto": the fastest of them for size, dtype and device.
            All give the same numbers.
        scale: of the scores; `head_dim ** -0.5` when not given.
        attention_mask: bool, broadcastable to `(B, heads, L · n, L · n)`, True where attention is allowed: a further
            restriction for grids with holes. A row without any True gives NaN. Not with "structured".
        dropout_p: dropout of the attention weights; 0 in evaluation is the caller's business.

    Returns:
        `(B, heads, L · n, head_dim)`.

    Raises:
        ValueError: when shapes do not make a grid, for an unknown `implementation`, and for `attention_mask` with
            "structured".

    Example:
        >>> query = key = value = torch.randn(2, 4, 8 * 50, 16)      # 8 leads, 50 patches
        >>> cross_pattern_attention(query, key, value, num_leads=8).shape
        torch.Size([2, 4, 400, 16])
    """
    num_patches = _grid(query, key, value, num_leads)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if implementation == "auto":
        implementation = choose_implementation(query, num_leads, attention_mask is not None)
    if implementation == "structured":
        if attention_mask is not None:
            raise ValueError('attention_mask cannot be used with implementation="structured"; take "sdpa" or "dense".')
        if dropout_p == 0.0 and fused_rows_available(query):
            grid = (tensor.contiguous() for tensor in (query, key, value))
            output: Tensor = _FusedRows.apply(*grid, num_leads, scale)
            return output
        return _joined(query, key, value, num_leads, scale, dropout_p)
    if implementation == "dense":
        return dense_cross_pattern_attention(query, key, value, num_leads, scale, attention_mask, dropout_p)[0]
    if implementation == "sdpa":
        # with one lead or one time the pattern is complete, and no mask is needed
        complete = num_leads == 1 or num_patches == 1
        mask = attention_mask if complete else _score_mask(num_leads, num_patches, query, attention_mask)
        return scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout_p, scale=scale)
    raise ValueError(f"implementation must be one of {', '.join(IMPLEMENTATIONS)}; got {implementation!r}.")


def cross_pattern_mask(num_leads: int, num_patches: int, device: torch.device | str | None = None) -> Tensor:
    """Bool `(L · n, L · n)`, True where token (l, i) may attend to (l', j): l = l' or i = j.

    Example:
        >>> cross_pattern_mask(2, 2).int()
        tensor([[1, 1, 1, 0],
                [1, 1, 0, 1],
                [1, 0, 1, 1],
                [0, 1, 1, 1]], dtype=torch.int32)
    """
    token = torch.arange(num_leads * num_patches, device=device)
    lead, time = token // num_patches, token % num_patches
    return (lead[:, None] == lead[None, :]) | (time[:, None] == time[None, :])


def choose_implementation(query: Tensor, num_leads: int, has_mask: bool = False) -> str:
    """What "auto" takes: "sdpa" for small grids, one lead, one time or a further mask, "structured" above."""
    num_tokens = query.shape[2]
    if has_mask or num_leads == 1 or num_leads == num_tokens:
        return "sdpa"
    limit = STRUCTURED_FROM_CPU if query.device.type == "cpu" else STRUCTURED_FROM_ELSEWHERE
    return "structured" if num_tokens >= limit else "sdpa"


def fused_rows_available(query: Tensor) -> bool:
    """Whether the structured form can take its rows from torch's fused CPU attention, which also returns log-sum-exp.

    That operator is private to torch; without it, on other devices and in traced graphs the form is written in public
    operations. Empty tensors go there too: the operator divides by their size.
    """
    return query.device.type == "cpu" and not _is_traced() and hasattr(torch.ops.aten, _FUSED) and query.numel() > 0


def dense_cross_pattern_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    num_leads: int,
    scale: float | None = None,
    attention_mask: Tensor | None = None,
    dropout_p: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """The published form with all scores: output `(B, heads, L · n, head_dim)` and weights `(B, heads, L · n, L · n)`.

    The weights are exactly 0 outside the pattern; they are those before dropout.
    """
    num_patches = _grid(query, key, value, num_leads)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = torch.matmul(query, key.transpose(-1, -2)) * scale + _score_mask(
        num_leads, num_patches, query, attention_mask
    )
    weights = scores.softmax(dim=-1)
    return torch.matmul(dropout(weights, dropout_p) if dropout_p else weights, value), weights


def _joined(query: Tensor, key: Tensor, value: Tensor, num_leads: int, scale: float, dropout_p: float = 0.0) -> Tensor:
    """Row and column scores side by side under one softmax; plain autograd, any device, differentiable twice."""
    grid = (num_leads, query.shape[2] // num_leads)
    row_q, row_k, row_v = (tensor.unflatten(2, grid) for tensor in (query, key, value))  # (B, H, L, n, d)
    col_q, col_k, col_v = (tensor.transpose(2, 3) for tensor in (row_q, row_k, row_v))  # (B, H, n, L, d)
    rows = torch.matmul(row_q, row_k.transpose(-1, -2)) * scale  # (B, H, L, n, n)
    columns = torch.matmul(col_q, col_k.transpose(-1, -2)) * scale  # (B, H, n, L, L)
    own = torch.eye(num_leads, dtype=torch.bool, device=query.device)
    columns = columns.masked_fill(own, -math.inf)  # the own token is counted in the row
    weights = torch.cat([rows, columns.transpose(2, 3)], dim=-1).softmax(dim=-1)  # (B, H, L, n, n + L)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    row_weights, column_weights = weights.split([grid[1], num_leads], dim=-1)
    from_columns = torch.matmul(column_weights.transpose(2, 3), col_v).transpose(2, 3)
    return (torch.matmul(row_weights, row_v) + from_columns).flatten(2, 3)


_FUSED = "_scaled_dot_product_flash_attention_for_cpu"


class _FusedRows(torch.autograd.Function):
    """Rows by the fused kernel with its log-sum-exp, columns by small products, merged by `logaddexp`.

    The kernel's log-sum-exp has no gradient, hence the own backward. A fused backward recomputes
    `P = exp(score - lse)` and uses `D = rowsum(dO · O)`: given the *merged* output and the *merged* Z it returns
    exactly the row part of the joint gradient; the column part is the same formula on L × L blocks.
    Kept for backward: q, k, v, output, Z and the column weights.

    Inputs are contiguous `(B, H, L · n, d)`. With G = B · H the leads stand in the kernel's axis of heads for rows,
    and columns are a batch of G · n problems.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, num_leads: int, scale: float) -> Tensor:
        batch, heads, tokens, dim = query.shape
        grid = (batch * heads, num_leads, tokens // num_leads, dim)
        q, k, v = (tensor.view(grid) for tensor in (query, key, value))  # (G, L, n, d)
        with torch.autocast("cpu", enabled=False):
            rows, lse_rows = getattr(torch.ops.aten, _FUSED)(q, k, v, 0.0, False, scale=scale)
            scores = torch.bmm(_columns(q), _columns_transposed(k, scale)).to(lse_rows.dtype)  # (G n, L, L)
            scores.diagonal(dim1=1, dim2=2).fill_(-math.inf)  # the own token is counted in the row
            lse_columns = scores.logsumexp(dim=-1).view(grid[0], grid[2], num_leads).transpose(1, 2)
            lse = torch.logaddexp(lse_rows, lse_columns).contiguous()  # Z, (G, L, n)
            weights = scores.sub_(_columns(lse.unsqueeze(-1))).exp_().to(q.dtype)
            from_columns = _rows(torch.bmm(weights, _columns(v)), grid)
            share = (lse_rows - lse).exp_().to(q.dtype).unsqueeze(-1)
            output = torch.addcmul(from_columns, rows, share, out=torch.empty_like(q))
        output = output.view(batch, heads, tokens, dim)
        ctx.save_for_backward(query, key, value, output, lse, weights)
        ctx.num_leads, ctx.scale = num_leads, scale
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lse, weights = ctx.saved_tensors
        grad = grad_outputs[0]
        if torch.is_grad_enabled():  # the gradient is to be differentiated again
            return (*_joined_gradients(ctx, query, key, value, grad), None, None)
        grid = (lse.shape[0], ctx.num_leads, lse.shape[2], query.shape[-1])
        q, k, v, out, g = (tensor.contiguous().view(grid) for tensor in (query, key, value, output, grad))
        with torch.autocast("cpu", enabled=False):
            backward = getattr(torch.ops.aten, f"{_FUSED}_backward")
            grads = backward(g, q, k, v, out, lse, 0.0, False, scale=ctx.scale)
            grad_q, grad_k, grad_v = (_columns(tensor) for tensor in grads)  # (G n, L, d)
            col_g = _columns(g)
            own = _columns((g * out).sum(dim=-1, keepdim=True))  # D, (G n, L, 1)
            slope = torch.bmm(col_g, _columns_transposed(v)).sub_(own).mul_(weights).mul_(ctx.scale)
            grad_q.baddbmm_(slope, _columns(k))
            grad_k.baddbmm_(slope.transpose(1, 2), _columns(q))
            grad_v.baddbmm_(weights.transpose(1, 2), col_g)
        return (*(_rows(tensor, grid).reshape(query.shape) for tensor in (grad_q, grad_k, grad_v)), None, None)


def _columns(tensor: Tensor) -> Tensor:
    """`(G, L, n, d)` to contiguous `(G · n, L, d)`: one problem per time."""
    return tensor.transpose(1, 2).contiguous().flatten(0, 1)


def _columns_transposed(tensor: Tensor, scale: float = 1.0) -> Tensor:
    """`(G, L, n, d)` to contiguous `(G · n, d, L)`: small products are two to three times faster so."""
    groups, leads, patches, dim = tensor.shape
    result = tensor.new_empty(groups, patches, dim, leads)
    torch.mul(tensor.permute(0, 2, 3, 1), scale, out=result)
    return result.flatten(0, 1)


def _rows(tensor: Tensor, grid: tuple[int, int, int, int]) -> Tensor:
    """`(G · n, L, d)` as a `(G, L, n, d)` view."""
    groups, leads, patches, dim = grid
    return tensor.view(groups, patches, leads, dim).transpose(1, 2)


def _joined_gradients(ctx: Any, query: Tensor, key: Tensor, value: Tensor, grad: Tensor) -> list[Tensor | None]:
    """Gradients with a graph of their own, through the form in public operations."""
    # views keep the three apart even when one tensor was given for all
    inputs = [tensor.view_as(tensor) for tensor in (query, key, value)]
    output = _joined(inputs[0], inputs[1], inputs[2], ctx.num_leads, ctx.scale)
    needed = ctx.needs_input_grad[:3]
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad(output, wanted, grad, create_graph=True))
    return [next(found) if need else None for need in needed]


def _grid(query: Tensor, key: Tensor, value: Tensor, num_leads: int) -> int:
    """Times per lead, after checking that the tensors are a grid."""
    if query.ndim != 4 or query.shape != key.shape or query.shape != value.shape:
        raise ValueError(
            "query, key and value must have one shape (batch, heads, tokens, head_dim); got "
            f"{tuple(query.shape)}, {tuple(key.shape)}, {tuple(value.shape)}."
        )
    num_tokens = query.shape[2]
    if num_leads < 1 or num_tokens % num_leads:
        raise ValueError(f"{num_tokens} tokens are no grid of {num_leads} leads with equally many patches.")
    return num_tokens // num_leads


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or is_tracing()


def _score_mask(num_leads: int, num_patches: int, query: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """0 where attention is allowed, -inf elsewhere; to be added to the scores."""
    small = num_leads * num_patches <= _MASK_CACHE_TOKENS
    build = _cached_pattern if small and not _is_traced() else _pattern
    mask = build(num_leads, num_patches, query.dtype, query.device)
    return mask if attention_mask is None else mask.masked_fill(~attention_mask, -math.inf)


def _pattern(num_leads: int, num_patches: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    # outside inference mode, or autograd could not keep a mask that was first built there
    with torch.inference_mode(False):
        allowed = cross_pattern_mask(num_leads, num_patches, device)
        return torch.zeros(allowed.shape, dtype=dtype, device=device).masked_fill_(~allowed, -math.inf)


_cached_pattern = functools.lru_cache(maxsize=8)(_pattern)
