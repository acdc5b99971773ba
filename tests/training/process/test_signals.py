"""Stop requests, launchers that die, and errors of several processes, all without a launcher."""

import os
import select
import signal
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ecg_transformers.training.errors import Interrupted, OutputInUseError, UsageError
from ecg_transformers.training.process import signals, start
from ecg_transformers.training.process.signals import StopRequest, die_with_launcher
from ecg_transformers.training.process.start import on_main_process


def worker_of_a_dead_launcher(work: Callable[[StopRequest, int], None]) -> bytes:
    """Fork a launcher that forks a worker, kill the launcher, and return what the worker wrote until it was gone."""
    reading, writing = os.pipe()
    launcher = os.fork()
    if launcher == 0:
        if os.fork() == 0:
            with StopRequest() as stop:
                die_with_launcher()
                os.write(writing, b"ready ")
                work(stop, writing)
            os._exit(0)
        os.close(writing)
        time.sleep(60)
        os._exit(0)
    os.close(writing)
    said = b""
    while True:
        assert select.select([reading], [], [], 20)[0], f"the worker outlives its launcher; it said {said!r}"
        piece = os.read(reading, 100)
        if not piece:
            os.close(reading)
            return said
        said += piece
        if said == b"ready ":
            os.kill(launcher, signal.SIGKILL)
            os.waitpid(launcher, 0)


def finish_the_step(stop: StopRequest, writing: int) -> None:
    while not stop.exit_code:
        time.sleep(0.01)
    os.write(writing, f"saved {stop.exit_code}".encode())


def hang(stop: StopRequest, writing: int) -> None:
    time.sleep(60)
    os.write(writing, b"still here")


@pytest.fixture(params=["TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND"])
def launched(monkeypatch, request: pytest.FixtureRequest) -> None:
    """Started by torchrun, or by `accelerate launch` on one process."""
    monkeypatch.setenv(request.param, "test")


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="the death of a parent is a signal on Linux only")
def test_a_worker_whose_launcher_is_killed_finishes_its_step(launched: None) -> None:
    assert worker_of_a_dead_launcher(finish_the_step) == b"ready saved 143"


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="the death of a parent is a signal on Linux only")
def test_a_worker_that_hangs_does_not_outlive_its_launcher_for_long(launched: None, monkeypatch) -> None:
    monkeypatch.setattr(signals, "LAST_MINUTE", 0.2)
    assert worker_of_a_dead_launcher(hang) == b"ready "


@pytest.mark.parametrize(("pause", "expected"), [(0.0, 0), (0.2, 143)])
def test_a_request_that_arrives_twice_at_once_is_one(monkeypatch, pause: float, expected: int) -> None:
    monkeypatch.setattr(signals, "SAME_REQUEST", 0.1)
    pid = os.fork()
    if pid == 0:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == expected


def other_process() -> SimpleNamespace:
    return SimpleNamespace(is_main_process=False, num_processes=2, process_index=1)


def test_a_folder_in_use_is_that_on_every_process(monkeypatch) -> None:
    def receive(message: list) -> None:
        message[0] = ("OutputInUseError", "in use")

    monkeypatch.setattr(start, "broadcast_object_list", receive)
    with pytest.raises(OutputInUseError, match="in use") as caught:
        on_main_process(other_process(), lambda: None)
    assert caught.value.is_shared


def test_an_error_of_one_process_is_printed_with_its_number(capsys) -> None:
    with pytest.raises(SystemExit) as caught, start.main_process_speaks(other_process()):
        raise UsageError("This record is bad.")
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error on process 1: This record is bad.\n"


def test_an_error_of_all_processes_is_printed_by_the_main_one_only(capsys) -> None:
    with pytest.raises(SystemExit), start.main_process_speaks(other_process()):
        raise Interrupted("Stopped.", exit_code=143)
    assert capsys.readouterr().err == ""
