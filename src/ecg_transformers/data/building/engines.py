"""Who does the jobs of a build: this process, several, or the machines of a Ray cluster."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from types import ModuleType
from typing import Any, Literal, TypeVar

from ecg_transformers.data.errors import ECGDataError, MissingDependencyError
from ecg_transformers.words import check_choice

Engine = Literal["local", "ray"]
Job = TypeVar("Job")
Result = TypeVar("Result")
_WAITING = 2  # jobs a worker, so that none waits for work and few lie ready
_RETRIES = 5  # of a Ray task whose machine or worker died


def run_jobs(
    work: Callable[[Job], Result], jobs: Iterable[Job], *, engine: Engine = "local", num_proc: int | None = None
) -> Iterator[Result]:
    """The results of all jobs, as they are finished, in no order.

    Args:
        work: a function of a module, so that other processes find it.
        jobs: picklable; they are taken one by one.
        engine: "local", or "ray": tasks of the cluster that `RAY_ADDRESS` names or that runs here, else of a new one
            on this machine. A machine that dies costs its unfinished jobs, which others repeat.
        num_proc: processes (local), or tasks at once (ray, default: as many as the cluster has CPUs).

    Raises:
        ECGDataError: a worker died; or what `work` raises.
        MissingDependencyError: Ray is not installed.
    """
    check_choice("engine", engine, ("local", "ray"), ECGDataError)
    if engine == "ray":
        yield from _on_ray(work, jobs, num_proc)
    elif num_proc is None or num_proc < 2:
        yield from map(work, jobs)
    else:
        yield from _in_processes(work, jobs, num_proc)


def _in_processes(work: Callable[[Job], Result], jobs: Iterable[Job], num_proc: int) -> Iterator[Result]:
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(num_proc, mp_context=context, initializer=_end_with_parent) as pool:
        running: set[Future[Result]] = set()
        try:
            for job in jobs:
                running.add(pool.submit(work, job))
                if len(running) >= _WAITING * num_proc:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise ECGDataError(
                "a worker process died (killed, or out of memory); what is finished is kept: the same command goes on, "
                "perhaps with a smaller num_proc."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A worker ends when its parent is killed: it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)


def _on_ray(work: Callable[[Job], Result], jobs: Iterable[Job], most: int | None) -> Iterator[Result]:
    ray = start_ray()
    task = ray.remote(max_retries=_RETRIES)(work)
    most = most or max(1, _WAITING * int(ray.cluster_resources().get("CPU", 1)))
    running: list[Any] = []
    try:
        for job in jobs:
            running.append(task.remote(job))
            if len(running) >= most:
                done, running = ray.wait(running)
                yield from map(ray.get, done)
        while running:
            done, running = ray.wait(running)
            yield from map(ray.get, done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, ECGDataError) else error from error
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
        raise ECGDataError(f"a Ray worker died {_RETRIES + 1} times over one shard ({error}).") from error
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def start_ray() -> ModuleType:
    """The module ray, joined to a cluster.

    Raises:
        MissingDependencyError: it is not installed.
        ECGDataError: the cluster cannot be reached.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError('the engine ray needs Ray: pip install "ecg_transformers[ray]".') from error
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        try:
            ray.init(log_to_driver=False)
        except (ConnectionError, RuntimeError) as error:
            raise ECGDataError(f"the Ray cluster cannot be reached ({error}).") from error
    return ray
