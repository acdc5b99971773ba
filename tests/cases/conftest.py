"""Situations that people met, replayed: a case is a folder with `make.py` (its data) and `check.py` (exit 0 = right)."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SECONDS = 570


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
            done = subprocess.run(
                [sys.executable, cases_dir / name / script],
                cwd=REPOSITORY,
                env=environment,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SECONDS,
            )
            wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
            assert done.returncode == 0, "\n".join(wrong) or f"{script} ended early: {done.stderr[-2000:]}"

    return run
