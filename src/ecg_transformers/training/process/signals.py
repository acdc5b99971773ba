"""SIGTERM, SIGUSR1 and SIGINT end a run after the step that is under way; a later second one ends it at once.

One request often arrives twice: the terminal or the batch system signals the whole process group, the launcher passes
the signal on, and the launcher's own death is a signal, too. So what follows within `SAME_REQUEST` seconds, and the
first signal after the parent is gone, belong to the first request.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
if hasattr(signal, "SIGUSR1"):  # Windows has none
    EXIT_CODES[signal.SIGUSR1] = 143
SAME_REQUEST = 2.0
LAST_MINUTE = 60.0
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND")
"""What torchrun and `accelerate launch` set in the environment of the processes that they start."""


class StopRequest:
    """Context manager that notes stop signals instead of dying from them.

    Nothing is saved inside the handler: the loop looks at `exit_code` between two steps, saves, and leaves with it.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self._first = 0.0
        self._parent = os.getppid()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # python allows handlers only there
            for number in EXIT_CODES:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        code = EXIT_CODES[signal.Signals(number)]
        parent, self._parent = self._parent, os.getppid()
        if self.exit_code:
            if time.monotonic() - self._first > SAME_REQUEST and self._parent == parent:
                os._exit(code)
            return
        self.exit_code, self._first = code, time.monotonic()


def ignore_stop_signals_in_worker(worker_id: int) -> None:
    """For `DataLoader(worker_init_fn=…)`: the run has still to finish its step when its group is signalled."""
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)


def die_with_launcher() -> None:
    """The processes of a launcher stop when it dies: they would train on unseen and keep the folder.

    They are asked to (SIGTERM: finish the step, save, leave), and after `LAST_MINUTE` seconds no longer asked. Linux
    only. A run that a shell started, perhaps with nohup, goes on when the shell ends.
    """
    if not sys.platform.startswith("linux") or not any(name in os.environ for name in LAUNCHERS):
        return
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
