"""How every run begins and ends, and what its processes do together or alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ecg_transformers.training.arguments import MachineArguments, RunArguments
from ecg_transformers.training.errors import (
    CheckpointWriteError,
    OutputInUseError,
    TrainingError,
    UsageError,
    one_sentence,
    usage_errors,
)
from ecg_transformers.training.process.lock import OutputLock, check_output_is_free
from ecg_transformers.training.process.signals import StopRequest, die_with_launcher
from ecg_transformers.training.process.threads import threads_given_back


@contextmanager
def started(args: RunArguments) -> Iterator[tuple[Accelerator, StopRequest]]:
    """A run between its arguments and its end: stop signals are noted, processes started, the output folder is ours.

    Raises:
        TrainingError: wrong arguments, or an output folder that is in use or holds another run.
    """
    args.check()
    with StopRequest() as stop, threads_given_back():
        accelerator = start_accelerator(args)
        with main_process_speaks(accelerator):
            lock = OutputLock(args.output_dir)
            on_main_process(accelerator, lock.acquire)
            try:
                check_output_is_free(Path(args.output_dir), args.resume_from_checkpoint)
                yield accelerator, stop
            finally:
                lock.release()


def start_accelerator(args: MachineArguments) -> Accelerator:
    """The accelerator of the run; prints processes, device and precision on the main process.

    Raises:
        UsageError: a precision that the device does not compute in.
    """
    if args.deterministic:
        make_deterministic()
    die_with_launcher()
    launched = int(os.environ.get("WORLD_SIZE", "1")) if "RANK" in os.environ else 1
    # accelerate joins processes on the CPU only where it is told to take the CPU
    cpu = args.cpu or (launched > 1 and not torch.accelerator.is_available())
    with usage_errors(RuntimeError):
        accelerator = Accelerator(mixed_precision=args.mixed_precision, cpu=cpu)
    if accelerator.num_processes < launched:
        raise UsageError(
            f"{launched} processes were started, but this kind of device ({accelerator.device.type}) takes one: start "
            "one, or pass --cpu to train on the processor with all of them."
        )
    if accelerator.mixed_precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError(
            "--mixed_precision fp16 needs a GPU: on a CPU the run would compute in float32. Leave it out, or take bf16."
        )
    if accelerator.is_main_process:
        count = accelerator.num_processes
        processes = f"{count} process{'es' if count > 1 else ''}"
        say(f"training on {processes} ({accelerator.device.type}, precision {accelerator.mixed_precision})")
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and accelerator.distributed_type != "FSDP":
            say(
                "warning: sharding (FSDP) was asked for, but accelerate does not shard on this kind of device; the model "
                "is replicated."
            )
    return accelerator


def make_deterministic() -> None:
    """Allow only deterministic kernels; an operation without one raises."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@contextmanager
def main_process_speaks(accelerator: Accelerator) -> Iterator[None]:
    """A foreseen error that all processes meet together is printed by the main process only.

    One that another process may have met alone is printed there, with its number.
    """
    try:
        yield
    except TrainingError as error:
        if accelerator.is_main_process:
            raise
        if not error.is_shared:
            say(f"error on process {accelerator.process_index}: {one_sentence(error)}")
        raise SystemExit(error.exit_code) from error


def on_main_process(accelerator: Accelerator, action: Callable[[], object]) -> None:
    """Do something on the main process; when it fails there, all processes raise instead of waiting for it."""
    failure: TrainingError | None = None
    if accelerator.is_main_process:
        try:
            action()
        except TrainingError as error:
            failure = error
    if accelerator.num_processes > 1:
        message = [None if failure is None else (type(failure).__name__, str(failure))]
        broadcast_object_list(message)
        if message[0] is not None and failure is None:
            kinds = {kind.__name__: kind for kind in (CheckpointWriteError, UsageError, OutputInUseError)}
            failure = kinds.get(message[0][0], TrainingError)(message[0][1])
    if failure is not None:
        failure.is_shared = True
        raise failure


def say(text: str) -> None:
    """A line for people, at once."""
    print(text, file=sys.stderr, flush=True)
