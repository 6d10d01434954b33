"""Worker processes that may be killed: whoever dies loses the one piece it worked on, and that is tried once more."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from lumbarseg.errors import BatchError

T = TypeVar("T")
R = TypeVar("R")

MAX_ATTEMPTS = 2
"""How often a piece of work is begun whose process dies."""
_MAX_FAILED_STARTS = 3  # processes in a row that may die before they are ready


@dataclass
class _Worker(Generic[T]):
    """A process and its pipe; ready: it has started; item: what it works on, None for nothing; tries: of that item."""

    process: BaseProcess
    pipe: Connection
    ready: bool = False
    item: T | None = None
    attempts: int = 0


class _WorkerPool(Generic[T]):
    """As many workers as are wanted, those that died replaced."""

    def __init__(self, function: Callable[[T], Any], count: int) -> None:
        self.function, self.count, self.failures = function, count, 0
        self.workers: list[_Worker[T]] = []

    def start_worker(self) -> None:
        """One more process; it begins without any memory of this one."""
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_worker_loop, args=(theirs, self.function), daemon=True)
        process.start()
        theirs.close()
        self.workers.append(_Worker(process, ours))

    def remove_dead(self, worker: _Worker[T]) -> str:
        """Forget a dead worker; how it died, for a person."""
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        self.failures = 0 if worker.ready else self.failures + 1
        if self.failures >= _MAX_FAILED_STARTS:
            raise BatchError(
                f"worker processes end before they begin ({_death_cause(worker.process)}); try without --jobs"
            )
        return _death_cause(worker.process)

    def shut_down(self) -> None:
        """Let everybody finish what they are at; the closed pipe tells them to go."""
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join()


def map_unordered(
    function: Callable[[T], R], items: Iterable[T], count: int, on_lost: Callable[[T, str], R]
) -> Iterator[R]:
    """What `function`, picklable, gives for each item, as it comes, made by `count` processes.

    Items are taken when a process is free, never ahead. lost(item, how): the result of an item on which `TRIES`
    processes died. BatchError when processes do not even start. Ctrl-C is for the parent: workers finish their item.
    """
    todo, again = iter(items), deque[tuple[T, int]]()
    with _worker_pool(function, count) as crew:
        while True:
            for worker in [w for w in crew.workers if w.ready and w.item is None]:
                _assign(worker, todo, again)
            idle = [w for w in crew.workers if w.ready and w.item is None]
            if len(idle) == len(crew.workers) and not again:
                return
            for worker in _wait_for_ready(crew.workers):
                try:
                    result = worker.pipe.recv()
                except (EOFError, OSError):
                    how = crew.remove_dead(worker)
                    crew.start_worker()
                    if worker.item is not None and worker.attempts < MAX_ATTEMPTS:
                        again.append((worker.item, worker.attempts))
                    elif worker.item is not None:
                        yield on_lost(worker.item, how)
                    continue
                if not worker.ready:
                    worker.ready = True
                    continue
                worker.item = None
                yield result


def _assign(worker: _Worker[T], todo: Iterator[T], again: deque[tuple[T, int]]) -> None:
    """The next piece of work, if there is any."""
    if again:
        item, tries = again.popleft()
    else:
        fresh = next(todo, None)
        if fresh is None:
            return
        item, tries = fresh, 0
    worker.item, worker.attempts = item, tries + 1
    with suppress(OSError):  # it died while it was idle: that is heard on its pipe
        worker.pipe.send(item)


def _wait_for_ready(workers: list[_Worker[T]]) -> list[_Worker[T]]:
    """Those who have something to say, or died; waits for the first."""
    ready = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in ready]


@contextmanager
def _worker_pool(function: Callable[[T], Any], count: int) -> Iterator[_WorkerPool[T]]:
    crew: _WorkerPool[T] = _WorkerPool(function, count)
    try:
        for _ in range(count):
            crew.start_worker()
        yield crew
    finally:
        crew.shut_down()


def _worker_loop(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """A worker's life: one item after the other until nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        pipe.send(None)
        while True:
            item = pipe.recv()
            pipe.send(function(item))


def _death_cause(process: BaseProcess) -> str:
    code = process.exitcode or 0
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
