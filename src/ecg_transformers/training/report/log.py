"""What a run says about itself step by step: the JSON-lines log, TensorBoard, the progress bar."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from ecg_transformers.analysis.plots import plot_loss_curve
from ecg_transformers.files import write_text
from ecg_transformers.training.errors import write_errors
from ecg_transformers.training.process.lock import TRAIN_LOG

logger = logging.getLogger(__name__)

PERFORMANCE_LOG = "performance_log.jsonl"
# where there is no terminal: lines at even steps, and one after so many seconds
LINES_OF_A_RUN, FIRST_SILENCE, LONGEST_SILENCE = 20, 5.0, 20.0


class JsonLinesLog:
    """One JSON object a line, flushed line by line, so that a crash costs at most the line under way.

    Args:
        path: the file; appended to.
        steps_done: rows of later steps (and a half-written last line) are cut off first: a resumed run continues the
            log of the uninterrupted one, digit by digit. None keeps the file as it is.
    """

    def __init__(self, path: Path, steps_done: int | None = None) -> None:
        self.path = path
        if steps_done is not None and path.exists():
            with write_errors("the log", path):
                write_text(path, "".join(_rows_until(path, steps_done)))
        with write_errors("the log", path):
            self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one object."""
        with write_errors("the log", self.path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Flush to the disk (before a checkpoint that continues from here)."""
        with write_errors("the log", self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; a line that could not be written was reported when it was written."""
        try:
            self._file.close()
        except OSError as error:
            logger.warning("%s could not be closed: %s", self.path, error)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _rows_until(path: Path, steps_done: int) -> list[str]:
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            step = json.loads(line)["step"]
        except (ValueError, KeyError, TypeError):
            break  # the line that the crash cut in two
        if step > steps_done:
            break
        rows.append(line + "\n")
    return rows


class Reporter:
    """Progress bar, train log, performance log and TensorBoard of the main process; the others say nothing.

    Figures that repeat exactly when a run is repeated go to `train_log.jsonl`; those of the clock (samples per second)
    to `performance_log.jsonl` and TensorBoard.
    """

    def __init__(
        self,
        output_dir: Path,
        first_step: int,
        total_steps: int,
        title: str = "training",
        is_main: bool = True,
        tensorboard: bool = True,
    ) -> None:
        self._output_dir, self._is_main, self._tensorboard, self._title = output_dir, is_main, tensorboard, title
        self._log: JsonLinesLog | None = None
        self._performance: JsonLinesLog | None = None
        self._writer: Any = None
        self._bar: Any = None
        self._validation = ""
        self._start = self._last_time = self._last_line = time.perf_counter()
        self._silence = FIRST_SILENCE
        self._last_cpu = time.process_time()
        self._first_step = first_step
        self.total_steps = total_steps

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> None:
        """Called at the first step: a run that fails before it leaves no file behind."""
        self._log = JsonLinesLog(self._output_dir / TRAIN_LOG, self._first_step)
        self._performance = JsonLinesLog(self._output_dir / PERFORMANCE_LOG, self._first_step)
        if self._tensorboard:
            self._writer = _tensorboard_writer(self._output_dir / "tensorboard", self._first_step)
        show = sys.stderr.isatty()
        self._bar = tqdm(
            total=self.total_steps,
            initial=self._first_step,
            desc=self._title,
            unit="step",
            disable=not show,
            dynamic_ncols=True,
        )
        self._announce_every = 0 if show else max(1, self.total_steps // LINES_OF_A_RUN)

    def step(self, row: Mapping[str, Any], samples: int) -> None:
        """Report one optimiser step. `row["step"]` counts from 1; `samples` are those of all processes."""
        if not self._is_main:
            return
        if self._log is None:
            self._open()
        assert self._log is not None
        assert self._performance is not None
        now = time.perf_counter()
        rate = samples / max(now - self._last_time, 1e-9)
        self._last_time = now
        self._log.write(row)
        cpu, self._last_cpu = time.process_time() - self._last_cpu, time.process_time()
        cost = {"samples_per_second": round(rate, 3), "cpu_seconds": round(cpu, 4)}
        self._performance.write({"step": row["step"], **cost})
        self.scalars(row["step"], {f"train/{name}": value for name, value in row.items() if name != "step"})
        self.scalars(row["step"], {"performance/samples_per_second": rate})
        state = f"loss {row['loss']:.4f}  lr {row['lr']:.2e}  {rate:.0f} samples/s"
        seed = f"seed {row['seed']}  " if "seed" in row else ""
        self._bar.set_postfix_str(f"{seed}{state}{self._validation}", refresh=False)
        self._bar.update(1)
        if self._announce_every and (
            row["step"] % self._announce_every == 0
            or row["step"] == self.total_steps
            or now - self._last_line > self._silence
        ):
            self._last_line, self._silence = now, LONGEST_SILENCE
            left = (now - self._start) / max(row["step"] - self._first_step, 1) * (self.total_steps - row["step"])
            line = f"step {row['step']}/{self.total_steps}  {seed}{state}{self._validation}  {time_in_words(left)} left"
            print(line, file=sys.stderr, flush=True)

    def validation(self, step: int, figures: Mapping[str, float | None]) -> None:
        """The figures of a check on the validation split: to TensorBoard, and in bar and lines from here on."""
        known = {name: value for name, value in figures.items() if value is not None}
        self.scalars(step, {f"validation/{name}": value for name, value in known.items()})
        self._validation = "".join(f"  validation {name} {value:.3f}" for name, value in known.items())

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Figures of a step (those of validation are not in the train log) to TensorBoard."""
        try:
            for name, value in values.items():
                if self._writer is not None and isinstance(value, (int, float)):
                    self._writer.add_scalar(name, value, step)
        except (OSError, RuntimeError, ValueError) as error:
            self._writer = None
            _say_tensorboard_is_dropped(error)

    def skip_time(self) -> None:
        """What just passed (a checkpoint, an evaluation) does not count for samples per second."""
        self._last_time = time.perf_counter()

    def sync(self) -> None:
        """Bring the train log to the disk."""
        if self._log is not None:
            self._log.sync()

    def close(self) -> None:
        """Close bar, logs and writer; what fails here is said, and hides no error of the run."""
        for part in (self._bar, self._log, self._performance):
            if part is not None:
                part.close()
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except (OSError, RuntimeError, ValueError) as error:
                _say_tensorboard_is_dropped(error)


def time_in_words(seconds: float) -> str:
    """A duration as people say it: "40 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _tensorboard_writer(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        logger.warning("tensorboard is not installed; the figures are in %s only.", TRAIN_LOG)
        return None
    try:
        return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
    except (OSError, RuntimeError, ValueError) as error:
        _say_tensorboard_is_dropped(error)
        return None


def _say_tensorboard_is_dropped(error: Exception) -> None:
    """The JSON log is the record of a run; TensorBoard is a view of it that a run can do without."""
    logger.warning("TensorBoard gets no further figures (%s); all of them are in %s.", error, TRAIN_LOG)


def cpu_seconds(output_dir: Path) -> float | None:
    """Processor time of the main process up to the last step, over all sessions of a run; None where it is not known."""
    try:
        rows = read_log(output_dir / PERFORMANCE_LOG)
    except OSError:
        return None
    return round(sum(row["cpu_seconds"] for row in rows), 1) if all("cpu_seconds" in row for row in rows) else None


def save_loss_curve(output_dir: Path) -> None:
    """Draw `loss_curve.png` from the train log; without the plotting library the log alone remains."""
    try:
        with write_errors("the loss curve", output_dir):
            plot_loss_curve(read_log(output_dir / TRAIN_LOG), output_dir / "loss_curve.png")
    except ImportError as error:
        logger.warning("No loss curve was drawn: %s", error)
