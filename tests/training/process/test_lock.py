import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ecg_transformers.training.errors import OutputInUseError, UsageError
from ecg_transformers.training.process.lock import LOCK_NAME, OutputLock

HOLDER = """
import sys, time
from ecg_transformers.training.process.lock import OutputLock
OutputLock(sys.argv[1]).acquire()
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path: Path, holder: subprocess.Popen) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OutputInUseError, match=f"in use by pid {holder.pid} on "):
        OutputLock(tmp_path).acquire()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_lock_of_a_killed_run_is_taken_over_with_a_warning(
    tmp_path: Path, holder: subprocess.Popen, caplog
) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with OutputLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert f"pid {holder.pid}" in caplog.text
    assert not (tmp_path / LOCK_NAME).exists()


def test_workers_that_outlive_a_killed_run_do_not_keep_its_lock(tmp_path: Path) -> None:
    script = HOLDER.replace('print("held"', 'import os\nif os.fork() == 0:\n    time.sleep(20)\nprint("held"')
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.kill()
    process.wait()
    with OutputLock(tmp_path):
        pass


def test_the_same_process_cannot_take_a_folder_twice(tmp_path: Path) -> None:
    with OutputLock(tmp_path), pytest.raises(OutputInUseError):
        OutputLock(tmp_path).acquire()


def test_a_folder_made_for_nothing_disappears(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with OutputLock(folder):
        assert folder.is_dir()
    assert not (tmp_path / "a").exists()
    with OutputLock(folder):
        (folder / "result").write_text("1")
    assert folder.is_dir()


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"file.*cannot be written"):
        OutputLock(tmp_path / "file").acquire()


def test_of_several_at_once_exactly_one_gets_the_folder(tmp_path: Path) -> None:
    script = HOLDER.replace(
        "OutputLock(sys.argv[1]).acquire()",
        "from ecg_transformers.training.errors import OutputInUseError\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "try:\n    OutputLock(sys.argv[1]).acquire()\nexcept OutputInUseError:\n    sys.exit(6)",
    )
    start = str(time.time() + 2)
    processes = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "out"), start], stdout=subprocess.PIPE)
        for _ in range(4)
    ]
    try:
        deadline = time.time() + 120
        while sum(process.poll() == 6 for process in processes) < 3 and time.time() < deadline:
            time.sleep(0.05)
        assert sorted(str(process.poll()) for process in processes) == ["6", "6", "6", "None"]
    finally:
        for process in processes:
            process.kill()
            process.wait()
