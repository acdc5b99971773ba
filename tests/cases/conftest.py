"""Situations that people met, replayed: a case is a folder with `make.py` (its data) and `check.py` (exit 0 = right)."""

import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 570

FRESH = ("hub-without-import",)  # what they ask depends on what was imported before


def _run(script: Path, environment: dict[str, str], log: Path, *, fresh: bool) -> int:
    """Run a script as a command would be, in a child that need not import torch again; returns its exit code."""
    with log.open("wb") as output:
        if fresh:
            command = [sys.executable, str(script)]
            done = subprocess.run(
                command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output, timeout=SECONDS
            )
            return done.returncode
        sys.stdout.flush()
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        code = 1
        try:
            signal.alarm(SECONDS)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            os.chdir(REPOSITORY)
            os.environ.update(environment)
            sys.argv = [str(script)]
            sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
            runpy.run_path(str(script), run_name="__main__")
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)


@pytest.fixture(scope="session")
def cases_dir() -> Path:
    """The folder of the cases (environment variable ECG_CASES_DIR)."""
    folder = Path(os.environ.get("ECG_CASES_DIR", REPOSITORY / ".." / "shared" / "cases")).resolve()
    if not folder.is_dir():
        pytest.skip("no situations here: set ECG_CASES_DIR to the folder with one folder a case")
    return folder


@pytest.fixture
def run_case(cases_dir: Path, tmp_path: Path) -> Callable[[str], None]:
    """Make the data of a case and run its check; what it found wrong is the message of the failure."""

    def run(name: str) -> None:
        if not (cases_dir / name).is_dir():
            pytest.skip(f"the situation {name} is not in this folder of cases")
        environment = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY / "src"),
            "CASE_DATA": str(tmp_path),
            "ECG_CACHE_DIR": str(tmp_path / "cache"),
            "ECG_REPO": str(REPOSITORY),
            "ECG_DATA_DIR": os.environ.get("ECG_DATA_DIR", str(cases_dir.parent / "ecg-data")),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
        }
        for script in ("make.py", "check.py"):
            log = tmp_path / f"{script}.log"
            code = _run(cases_dir / name / script, environment, log, fresh=name in FRESH)
            said = log.read_text(encoding="utf-8", errors="replace")
            wrong = [line for line in said.splitlines() if line.startswith("WRONG")]
            assert code == 0, "\n".join(wrong) or f"{script} ended early: {said[-2000:]}"

    return run
