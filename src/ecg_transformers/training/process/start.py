"""Starting Accelerate, and saying honestly on how many processes a run trains."""

from __future__ import annotations

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_transformers.training.arguments import RunArguments
from ecg_transformers.training.errors import TrainingError, one_sentence, usage_errors

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

logger = logging.getLogger(__name__)

LAST_MINUTE = 60.0


def start_accelerator(args: RunArguments) -> Accelerator:
    """The accelerator of the run; prints processes, device and precision on the main process."""
    if args.deterministic:
        make_deterministic()
    die_with_launcher()
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    with usage_errors(RuntimeError):
        accelerator = Accelerator(
            mixed_precision=args.mixed_precision, cpu=args.cpu, kwargs_handlers=[DistributedDataParallelKwargs()]
        )
    if accelerator.is_main_process:
        count = accelerator.num_processes
        print(
            f"training on {count} process{'es' if count > 1 else ''} ({accelerator.device.type}, precision "
            f"{accelerator.mixed_precision})",
            file=sys.stderr,
            flush=True,
        )
        if os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true" and accelerator.distributed_type != "FSDP":
            print(
                "warning: sharding (FSDP) was asked for, but accelerate does not shard on this kind of device; "
                "the model is replicated.",
                file=sys.stderr,
                flush=True,
            )
        asked = processes_asked_for()
        if asked is not None and asked > count:
            print(
                f"warning: accelerate launch was asked for {asked} processes but runs {count}; on CPUs start with "
                f"'torchrun --nproc_per_node {asked}' instead.",
                file=sys.stderr,
                flush=True,
            )
    return accelerator


def make_deterministic() -> None:
    """Allow only deterministic kernels; an operation without one raises."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def die_with_launcher() -> None:
    """Processes of a launcher (torchrun, accelerate launch) stop when it dies: they would train on unseen and keep the
    folder.

    They are asked to (SIGTERM: finish the step, save, leave), and after `LAST_MINUTE` seconds no longer asked. Linux
    only. A run that a shell started, perhaps with nohup, goes on when the shell ends.
    """
    if not sys.platform.startswith("linux") or not ("TORCHELASTIC_RUN_ID" in os.environ or _launcher_words()):
        return
    import ctypes

    set_death_signal = 1
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(set_death_signal, signal.SIGTERM)
    if os.getppid() != parent:  # it died in between, and nothing was trained yet
        os._exit(128 + signal.SIGTERM)
    threading.Thread(target=_leave_after, args=(parent,), name="launcher-watch", daemon=True).start()


def _leave_after(launcher: int) -> None:
    """End this process when it is still there `LAST_MINUTE` seconds after its launcher."""
    while os.getppid() == launcher:
        time.sleep(min(1.0, LAST_MINUTE))
    time.sleep(LAST_MINUTE)
    os._exit(128 + signal.SIGTERM)


def _launcher_words() -> list[str]:
    """The command line of the `accelerate launch` above us; empty when there is none."""
    try:
        words = Path(f"/proc/{os.getppid()}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []
    named = any("accelerate" in Path(word).name for word in words[:3])
    is_launcher = named and any(word == "launch" or word.endswith("commands.launch") for word in words[:5])
    return words if is_launcher else []


def processes_asked_for() -> int | None:
    """The number of processes in the command line (or its config file) of the `accelerate launch` above us, if there
    is one."""
    words = _launcher_words()
    options = dict(_options(words))
    count = options.get("num_processes")
    if count is None and "config_file" in options:
        try:
            match = re.search(
                r"^num_processes:\s*(\d+)", Path(options["config_file"]).read_text(encoding="utf-8"), re.MULTILINE
            )
        except OSError:
            return None
        count = match[1] if match else None
    return int(count) if count is not None and count.isdigit() else None


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    for position, word in enumerate(words):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name.replace("-", "_"), value if equals else "".join(words[position + 1 : position + 2])


def with_sync_batch_norm(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model with batch norm over all processes, where it has batch norm and runs on several GPUs."""
    from torch import nn

    if accelerator.num_processes == 1 or accelerator.device.type != "cuda":
        return model
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return converted


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that take statistics of a batch, synchronised over processes or not."""
    from torch.nn.modules.batchnorm import _BatchNorm

    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def main_process_speaks(accelerator: Accelerator) -> Iterator[None]:
    """A foreseen error that all processes meet together is printed by the main process only; one that another process
    may have met alone is printed there, with its number."""
    try:
        yield
    except TrainingError as error:
        if not accelerator.is_main_process:
            if not error.is_shared:
                print(
                    f"error on process {accelerator.process_index}: {one_sentence(error)}", file=sys.stderr, flush=True
                )
            raise SystemExit(error.exit_code) from error
        raise
