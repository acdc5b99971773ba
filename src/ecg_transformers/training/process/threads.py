"""How many threads of torch a run uses. Fixed before its first step and kept: sums over threads depend on their number."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator

from ecg_transformers.training.arguments import MachineArguments

POLICY = "OMP_WAIT_POLICY"


def fix_threads(args: MachineArguments, accelerator: Accelerator, before: Mapping[str, Any] | None = None) -> None:
    """Set the number of threads of each process, and say it.

    Args:
        args: `--threads` comes first.
        before: state of the checkpoint that the run goes on from; its `threads` come next. Without either torch keeps
            the number that it has.
    """
    known = (before or {}).get("threads")
    count = args.threads or known or torch.get_num_threads()
    if count != torch.get_num_threads():
        torch.set_num_threads(count)
    if accelerator.is_main_process:
        each = " in each process" if accelerator.num_processes > 1 else ""
        print(f"{count} thread{'s' if count > 1 else ''}{each}{_origin(args, known)}{_waiting(count)}", file=sys.stderr)


@contextmanager
def threads_given_back() -> Iterator[None]:
    """Torch has as many threads after a run as before it."""
    count = torch.get_num_threads()
    try:
        yield
    finally:
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)


def threads_wait_passively() -> bool:
    """Whether the OpenMP library was told not to spin; it reads that once, when torch is loaded."""
    return os.environ.get(POLICY, "").lower() == "passive"


def _origin(args: MachineArguments, known: int | None) -> str:
    if args.threads and known and args.threads != known:
        return f" (the run before had {known}: the last digits may differ from an uninterrupted run)"
    return ", as before" if known and not args.threads else ""


def _waiting(count: int) -> str:
    if count == 1:
        return ""
    if threads_wait_passively():
        return "; they sleep while they wait"
    return (
        f"; they spin while they wait, which is slow beside other programs: set {POLICY}=passive before Python starts "
        "to avoid it"
    )
