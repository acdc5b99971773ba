"""Builds that are killed: which records were read, and by whom, is written down beside them."""

import json
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ecg_transformers.data.building.build import build_corpus
from ecg_transformers.data.building.shards import FACTS
from ecg_transformers.data.corpora.synthetic import SyntheticCorpus


def finished_records(folder: Path) -> set[str]:
    """The records of the shards that count as finished."""
    import pyarrow.parquet as pq

    files = [json.loads(path.read_text())["file"] for path in (folder / FACTS).glob("*.parquet.json")]
    return {name for file in files for name in pq.read_table(folder / file, columns=["record_id"])[0].to_pylist()}


def build_and_log(folder: Path, log: Path, on_read: Callable[[int], None] = lambda count: None, **options: Any) -> None:
    """Build the synthetic corpus; the id of each record is written to `log` when it is read."""
    rows = SyntheticCorpus.rows
    count = 0

    def logged(self: Any, item: Any, plan: Any) -> Any:
        nonlocal count
        with open(log, "a") as file:
            file.write(f"{item.record_id}\n")
        count += 1
        on_read(count)
        return rows(self, item, plan)

    SyntheticCorpus.rows = logged  # type: ignore[method-assign]
    build_corpus("synthetic", None, folder, **options)


def forked(action: Callable[[], object]) -> int:
    """The pid of a child that does something and exits with 0, or 1 after an error."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        action()
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill_at(number: int) -> Callable[[int], None]:
    """SIGKILL to the own process at the n-th record."""

    def at(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def ended(pid: int) -> int:
    """Wait for a child: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
