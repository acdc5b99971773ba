"""Situations that people met, replayed: a case is a folder with `make.py` (its data) and `check.py` (exit 0 = right)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.forked import run_script

REPOSITORY = Path(__file__).resolve().parents[2]
FRESH = ("hub-without-import",)  # what they ask depends on what was imported before


def _run(script: Path, environment: dict[str, str], log: Path, *, fresh: bool) -> int:
    """Run a script in a process of its own, one that imports everything or a fork of this one; returns its exit code."""
    if not fresh:
        return run_script(script, folder=REPOSITORY, environment=environment, said=log)
    with log.open("wb") as output:
        command = [sys.executable, str(script)]
        return subprocess.run(
            command, cwd=REPOSITORY, env=environment, stdout=output, stderr=output, timeout=570
        ).returncode


@pytest.fixture(scope="session")
def _imported() -> None:
    """What most cases ask for is imported here, once, and not by every fork."""
    import datasets  # noqa: F401
    import pandas  # noqa: F401
    import scipy.io
    import scipy.signal  # noqa: F401
    import wfdb  # noqa: F401

    import ecg_transformers

    for name in ecg_transformers.__all__:
        getattr(ecg_transformers, name)


@pytest.fixture(scope="session")
def cases_dir() -> Path:
    """The folder of the cases (environment variable ECG_CASES_DIR)."""
    folder = Path(os.environ.get("ECG_CASES_DIR", REPOSITORY / ".." / "shared" / "cases")).resolve()
    if not folder.is_dir():
        pytest.skip("no situations here: set ECG_CASES_DIR to the folder with one folder a case")
    return folder


@pytest.fixture
def run_case(cases_dir: Path, _imported: None, tmp_path: Path) -> Callable[[str], None]:
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
