"""Rows of all processes, with and without gradients."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def world() -> tuple[int, int]:
    """(rank, number of processes); (0, 1) when torch.distributed is not running."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class _GatherWithGradient(torch.autograd.Function):
    """All processes' rows; the gradient of a row is the sum of what every process wants of it."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return gather_rows(tensor)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        rank, size = world()
        grad = grads[0].contiguous()
        dist.all_reduce(grad)
        return grad.chunk(size)[rank]


@torch.no_grad()
def gather_rows(tensor: Tensor) -> Tensor:
    """Concatenate `tensor (N, …)` of all processes, in order of rank, without gradient; itself on a single process.

    All processes must hold the same number of rows.
    """
    _, size = world()
    if size == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(size)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_rows_with_gradient(tensor: Tensor) -> Tensor:
    """As `gather_rows`, differentiable.

    A loss that every process computes on the gathered rows then has, after the usual averaging of gradients over
    processes, exactly the gradient of a single process that holds all rows.
    """
    if world()[1] == 1:
        return tensor
    return _GatherWithGradient.apply(tensor)
