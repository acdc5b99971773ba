"""SIGTERM, SIGUSR1 and SIGINT end a run after the step that is under way; a later second one ends it at once.

One request often arrives twice: the terminal or the batch system signals the whole process group, the launcher passes
the signal on, and the launcher's own death is a signal, too. So what follows within `SAME_REQUEST` seconds, and the
first signal after the parent is gone, belong to the first request.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType

EXIT_CODES = {signal.SIGTERM: 143, signal.SIGUSR1: 143, signal.SIGINT: 130}
SAME_REQUEST = 2.0


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
    """For `DataLoader(worker_init_fn=…)`: a signal to the process group must not kill the workers of a run that is
    still to finish its step."""
    for number in EXIT_CODES:
        signal.signal(number, signal.SIG_IGN)
