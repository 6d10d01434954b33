"""Processes that work side by side, one thread of arithmetic each, with few pieces of work on their way at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TypeVar

from lumbarseg.cpus import available_cpus
from lumbarseg.errors import DatasetError

T = TypeVar("T")
R = TypeVar("R")

_ITEMS_PER_PROCESS = 3  # pieces of work on their way per process: one is worked on, the others are ready when it ends


def map_in_processes(function: Callable[[T], R], items: Iterable[T], jobs: int | None = None) -> Iterator[R]:
    """What `function`, picklable, gives for each item, in the items' order, made by `jobs` processes (one per core).

    Never more than three items per process are taken ahead of the one that is waited for, so memory does not grow with
    their number. Whatever `function` raises is raised here; DatasetError when the system ended a process.
    """
    todo = iter(items)
    jobs = jobs or available_cpus()
    with _process_pool(jobs) as pool:
        waiting: deque[Future[R]] = deque(
            pool.submit(function, item) for item in islice(todo, _ITEMS_PER_PROCESS * jobs)
        )
        while waiting:
            try:
                result = waiting.popleft().result()
                waiting.extend(pool.submit(function, item) for item in islice(todo, 1))
            except BrokenProcessPool as error:
                reason = "a worker was ended by the system, which may be short of memory"
                raise DatasetError(f"{reason}; run it again with fewer --jobs, it goes on") from error
            yield result


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """DatasetError when another import or combination writes into the same folder; where the system can tell."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:
        yield
        return
    place = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatasetError(f"{folder}: another program is writing here; wait until it is done") from None
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        with suppress(OSError):
            os.close(place)


@contextmanager
def _process_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes of one thread each: rounding, and so every voxel, is then the same for any number of them."""
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    before = {name: os.environ.get(name) for name in alone}
    os.environ.update(alone)
    pool = ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_initialize_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _initialize_worker() -> None:
    """Ctrl-C is for the parent, which lets its workers finish their case; without a parent a worker ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
