"""Small runs for the tests of training: arguments for every method, and children that can be killed."""

import json
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecg_transformers.models.registry import get_method
from ecg_transformers.training.arguments import FinetuningArguments, PretrainingArguments


def overrides(values: dict[str, Any]) -> str:
    """A dict in the language of `--config_overrides`."""
    return ",".join(f"{key}={json.dumps(value)}" for key, value in values.items())


def small_pretraining(output_dir: Path, method: str = "st_mem", **changes: Any) -> PretrainingArguments:
    """Eight steps (ten of a batch of four would be an epoch) of the smallest network of a method."""
    settings: dict[str, Any] = {
        "method": method,
        "dataset_options": "num_records=60",
        "config_overrides": overrides(dict(get_method(method).tiny_config if method else {})),
        "max_steps": 8,
        "per_device_batch_size": 4,
        "save_steps": 2,
        "tensorboard": False,
        "cpu": True,
    }
    return PretrainingArguments(output_dir=str(output_dir), **{**settings, **changes})


def small_finetuning(output_dir: Path, source: Path | str, **changes: Any) -> FinetuningArguments:
    """Eight steps of fine-tuning on the synthetic records."""
    settings: dict[str, Any] = {
        "model_name_or_path": str(source),
        "dataset_options": "num_records=60",
        "recipe": "tiny",
        "max_steps": 8,
        "per_device_batch_size": 4,
        "num_crops": 2,
        "save_steps": 2,
        "n_boot": 50,
        "tensorboard": False,
        "cpu": True,
    }
    return FinetuningArguments(output_dir=str(output_dir), **{**settings, **changes})


def in_child(action: Callable[[], object], log: Path, **environment: str) -> int:
    """Run an action in a forked child as the scripts would run it; returns its pid."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))  # pytest has its own
        os.environ.update(environment)
        from ecg_transformers.training.errors import run_command

        code = run_command(action)
    except SystemExit as error:  # a process that leaves the sentence to the main one
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def in_children(count: int, action: Callable[[], object], log: Path) -> list[int]:
    """Run an action as `count` processes of one run, with the environment that torchrun gives them; returns their pids.

    They are forked, so that nobody imports torch again; what they inherit of an earlier run in this process is reset.
    """

    def of_a_run_of_its_own() -> None:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        action()

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    size = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    return [in_child(of_a_run_of_its_own, log, **address, **size, **rank) for rank in ranks]


def on_two(action: Callable[[], object], log: Path) -> None:
    """Do something on two processes of one run, to its end."""
    codes = [exit_code(pid) for pid in in_children(2, action, log)]
    assert codes == [0, 0], log.read_text()


def exit_code(pid: int) -> int:
    """Wait for a child; minus the signal when one killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_files(folder: Path) -> dict[str, bytes]:
    """What must be identical in two runs that are one: the log and the weights."""
    return {name: (folder / name).read_bytes() for name in ("train_log.jsonl", "model.safetensors")}
