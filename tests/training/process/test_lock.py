import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.small_runs import exit_code

from ecg_transformers.locks import LOCK_NAME
from ecg_transformers.training.errors import OutputInUseError, UsageError
from ecg_transformers.training.process.lock import OutputLock


def fork(action: Callable[[], None]) -> int:
    """Run an action in a child, which exits as the commands do; returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except OutputInUseError as error:
            os._exit(error.exit_code)
        finally:
            os._exit(1)
    return pid


def hold(folder: Path, said: int, also: Callable[[], None] = lambda: None) -> None:
    """Take the lock, do something, say so, and keep it for a minute."""
    OutputLock(folder).acquire()
    also()
    os.write(said, b"held")
    time.sleep(60)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    exit_code(pid)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for descriptor in ends:
        os.close(descriptor)


@pytest.fixture
def holder(tmp_path: Path, pipe: tuple[int, int]) -> Iterator[int]:
    pid = fork(lambda: hold(tmp_path, pipe[1]))
    assert os.read(pipe[0], 4) == b"held"
    yield pid
    try:
        end(pid)
    except ProcessLookupError:  # the test did it
        return


def test_a_second_run_is_refused_and_told_who_is_there(tmp_path: Path, holder: int) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(OutputInUseError, match=f"in use by pid {holder} on "):
        OutputLock(tmp_path).acquire()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_lock_of_a_killed_run_is_taken_over_with_a_warning(tmp_path: Path, holder: int, caplog) -> None:
    end(holder)
    with OutputLock(tmp_path):
        assert json.loads((tmp_path / LOCK_NAME).read_text())["pid"] == os.getpid()
    assert f"pid {holder}" in caplog.text
    assert not (tmp_path / LOCK_NAME).exists()


def test_workers_that_outlive_a_killed_run_do_not_keep_its_lock(tmp_path: Path, pipe: tuple[int, int]) -> None:
    def start_worker() -> None:
        os.write(pipe[1], f"{fork(lambda: time.sleep(60)):8d}".encode())

    run = fork(lambda: hold(tmp_path, pipe[1], start_worker))
    worker = int(os.read(pipe[0], 8))
    assert os.read(pipe[0], 4) == b"held"
    end(run)
    with OutputLock(tmp_path):
        os.kill(worker, 0)  # it is still there
    os.kill(worker, signal.SIGKILL)


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


def test_of_several_at_once_exactly_one_gets_the_folder(tmp_path: Path, pipe: tuple[int, int]) -> None:
    start, gate = os.pipe()

    def wait_and_hold() -> None:
        os.close(gate)
        os.read(start, 1)  # until the gate is closed
        hold(tmp_path / "out", pipe[1])

    pids = [fork(wait_and_hold) for _ in range(8)]
    os.close(gate)
    os.close(start)
    left = dict.fromkeys(pids)
    deadline = time.monotonic() + 60
    while sum(code is not None for code in left.values()) < 7 and time.monotonic() < deadline:
        for pid in [pid for pid, code in left.items() if code is None]:
            gone, status = os.waitpid(pid, os.WNOHANG)
            left[pid] = os.waitstatus_to_exitcode(status) if gone else None
        time.sleep(0.01)
    codes = sorted(map(str, left.values()))
    for pid in [pid for pid, code in left.items() if code is None]:
        end(pid)
    assert codes == ["6"] * 7 + ["None"]
    assert os.read(pipe[0], 100) == b"held"
