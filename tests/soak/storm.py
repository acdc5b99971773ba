"""The long storms: runs are killed at random moments, resumed, and must end as if nothing had happened.

    python tests/soak/storm.py [--kills 50] [--seed 0] [--only NAME]        (or: make soak)

After every kill an independent checker (it knows only the rules of the manifest, and shares no code with the package)
looks at all checkpoints: each folder `step-N` must be whole, and the newest not older than the one before the kill.
"""

import argparse
import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests"))

POINTS = [
    "write model.safetensors",
    "sync model.safetensors",
    "write optimizer.safetensors",
    "write trainer_state.json",
]
POINTS += ["write manifest.json", "rename", "latest", "prune"]


def check_folder(folder: Path) -> int:
    """The step of the newest checkpoint; fails on one that is not whole."""
    newest = 0
    for path in folder.glob("step-*"):
        if not path.name.removeprefix("step-").isdigit():
            continue  # what a kill left: never named like a checkpoint
        files = json.loads((path / "manifest.json").read_text())["files"]
        assert set(files) | {"manifest.json"} == {entry.name for entry in path.iterdir()}, path
        for name, facts in files.items():
            content = (path / name).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (facts["size"], facts["sha256"]), path / name
        newest = max(newest, int(path.name.removeprefix("step-")))
    return newest


def same(run: Path, reference: Path) -> bool:
    """Log and weights are equal to the bit."""
    names = ("train_log.jsonl", "model.safetensors")
    return all((run / name).read_bytes() == (reference / name).read_bytes() for name in names)


def storm(
    name: str,
    start: Callable[[Path], int],
    run: Path,
    reference: Path,
    kills: int,
    longest: float,
    finish: Callable[[Path], int] | None = None,
) -> bool:
    """Kill a run `kills` times, then let it finish.

    Args:
        start: starts (or resumes) the run in a folder in a process group of its own and returns its pid.
        finish: the same for the last time, where `start` does not let a run live.
    """
    newest, landed = 0, 0
    for _ in range(kills):
        if (run / "model.safetensors").exists():  # it finished between two kills: begin again
            shutil.rmtree(run)
            newest = 0
        pid = start(run)
        time.sleep(random.uniform(0.005, longest))
        gone, status = os.waitpid(pid, os.WNOHANG)
        landed += not gone or os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        if not gone:
            kill_group(pid)
        found = check_folder(run / "checkpoints")
        assert found >= newest, f"{name}: step-{newest} was lost"
        newest = found
    pid = (finish or start)(run)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    good = code == 0 and same(run, reference)
    print(f"{'pass' if good else 'FAIL'}  {name}: {landed} of {kills} kills hit a live run; exit {code}", flush=True)
    return good


def kill_group(pid: int) -> None:
    """SIGKILL to a process and all its children."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return


def forked(action: Callable[[], object], log: Path) -> int:
    """Run an action in a forked child with a process group of its own (no second import: kills come fast)."""
    from support.small_runs import in_child

    def leader() -> None:
        os.setpgid(0, 0)
        action()

    pid = in_child(leader, log)
    with contextlib.suppress(PermissionError, ProcessLookupError):  # the child did it, or is gone
        os.setpgid(pid, pid)
    return pid


def at_a_point(action: Callable[[], object]) -> None:
    """Die inside a save, at a random point of a random save."""
    from ecg_transformers.training.checkpoints import folder

    point, after = random.choice(POINTS), random.randrange(6)
    passed = 0

    def die(name: str) -> None:
        nonlocal passed
        if name == point:
            passed += 1
            if passed > after:
                os.kill(os.getpid(), signal.SIGKILL)

    folder.fault_point = die
    action()


def two_processes(arguments: list[str]) -> int:
    """Start a script under torchrun."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True).pid


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills of each storm on one process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="run the storms whose name holds this text")
    options = parser.parse_args()
    random.seed(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="storm, ü "))
    os.environ.setdefault("ECG_CACHE_DIR", str(folder / "cache"))
    results = [run() for name, run in storms(folder, options.kills).items() if not options.only or options.only in name]
    shutil.rmtree(folder)
    print(f"{sum(results)} of {len(results)} storms passed")
    return 0 if all(results) else 1


def storms(folder: Path, kills: int) -> dict[str, Callable[[], bool]]:
    """All storms by name."""
    from support.small_runs import small_finetuning, small_pretraining

    from ecg_transformers.training.finetuning import finetune
    from ecg_transformers.training.pretraining import pretrain

    log = folder / "log"
    resume = {"resume_from_checkpoint": "latest", "save_steps": 1}

    def pretraining(run: Path, **changes: object) -> None:
        pretrain(small_pretraining(run, max_steps=60, **{**resume, **changes}))

    def finetuning(run: Path) -> None:
        finetune(small_finetuning(run, folder / "pretrained", seeds="0,1", max_steps=20, **resume))

    @functools.cache
    def reference(kind: str) -> Path:
        path = folder / f"reference {kind}"
        action = {"pretraining": pretraining, "finetuning": finetuning}[kind]
        if kind == "finetuning" and not (folder / "pretrained").exists():
            pretrain(small_pretraining(folder / "pretrained"))
        action(path)
        return path

    def storm_of(
        name: str,
        kind: str,
        action: Callable[[Path], object],
        longest: float = 1.2,
        last: Callable[[Path], object] | None = None,
    ) -> bool:
        def start(run: Path) -> int:
            return forked(lambda: action(run), log)

        def finish(run: Path) -> int:
            return forked(lambda: (last or action)(run), log)

        return storm(name, start, folder / name, reference(kind), kills, longest, finish)

    def two() -> bool:
        arguments = [
            str(REPOSITORY / "examples" / "pretrain.py"),
            "--method=st_mem",
            "--max_steps=60",
            "--save_steps=1",
        ]
        small = small_pretraining(folder)
        arguments += [f"--config_overrides={small.config_overrides}", f"--dataset_options={small.dataset_options}"]
        arguments += [
            "--per_device_batch_size=2",
            "--tensorboard=false",
            "--cpu=true",
            "--resume_from_checkpoint=latest",
        ]

        def start(run: Path) -> int:
            return two_processes([*arguments, f"--output_dir={run}"])

        os.waitpid(start(folder / "two, whole"), 0)
        return storm(
            "pretraining on two processes", start, folder / "two", folder / "two, whole", max(kills // 5, 2), 30
        )

    return {
        "pretraining": lambda: storm_of("pretraining", "pretraining", pretraining),
        "pretraining with workers": lambda: storm_of(
            "pretraining with workers", "pretraining", lambda run: pretraining(run, num_workers=2)
        ),
        "pretraining inside saves": lambda: storm_of(
            "pretraining inside saves", "pretraining", lambda run: at_a_point(lambda: pretraining(run)), 6, pretraining
        ),
        "finetuning": lambda: storm_of("finetuning", "finetuning", finetuning, 2.5),
        "two processes": two,
    }


if __name__ == "__main__":
    sys.exit(main())
