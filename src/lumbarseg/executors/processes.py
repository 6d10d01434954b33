"""Worker processes of this computer. A worker that dies loses only the item it works on, which is tried once more."""

from __future__ import annotations

import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from lumbarseg.errors import BatchError, WorkerDiedError

from .executor import raise_failure

T = TypeVar("T")
R = TypeVar("R")

MAX_ATTEMPTS = 2
"""How often an item is started whose worker dies."""
_MAX_FAILED_STARTS = 3  # workers in a row that may die before they are ready
_LOOKAHEAD = 3  # items per worker that may be started before the oldest is finished, where results come in order
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@dataclass
class _Task(Generic[T]):
    """One item. index: its place among all items; attempts: how often it was started."""

    index: int
    item: T
    attempts: int = 0


@dataclass
class _Worker(Generic[T]):
    """A process and its pipe. is_ready: it has started; task: what it works on, None while it is idle."""

    process: BaseProcess
    pipe: Connection
    is_ready: bool = False
    task: _Task[T] | None = None


@dataclass(frozen=True)
class ProcessExecutor:
    """Applies a function to items in `count` worker processes.

    in_order: results come in the order of the items, and few items are started ahead of the oldest unfinished one, so
    that memory does not grow with their number; else each result comes as soon as it is there. Ctrl-C is left to the
    parent process; workers finish the item they work on.
    """

    count: int
    in_order: bool = True

    def map(
        self, function: Callable[[T], R], items: Iterable[T], on_failure: Callable[[T, Exception], R] = raise_failure
    ) -> Iterator[R]:
        """Yield the results; BatchError when workers cannot even start."""
        results = self._map_unordered(function, items, on_failure)
        if not self.in_order:
            yield from (result for _, result in results)
            return
        waiting: dict[int, R] = {}
        next_index = 0
        for index, result in results:
            waiting[index] = result
            while next_index in waiting:
                yield waiting.pop(next_index)
                next_index += 1

    def _map_unordered(
        self, function: Callable[[T], R], items: Iterable[T], on_failure: Callable[[T, Exception], R]
    ) -> Iterator[tuple[int, R]]:
        """Yield (index, result) as soon as a result is there."""
        new_tasks = (_Task(index, item) for index, item in enumerate(items))
        retries: deque[_Task[T]] = deque()
        with _worker_pool(function, self.count) as pool:
            while True:
                self._assign_tasks(pool, new_tasks, retries)
                if not any(worker.task or not worker.is_ready for worker in pool.workers):
                    return
                for worker in pool.wait():
                    task, worker.task = worker.task, None
                    try:
                        message = worker.pipe.recv()
                    except (EOFError, OSError):
                        cause = pool.replace(worker)
                        if task and task.attempts < MAX_ATTEMPTS:
                            retries.append(task)
                        elif task:
                            yield task.index, on_failure(task.item, WorkerDiedError(cause))
                        continue
                    worker.is_ready = True
                    if task:
                        result, error = message
                        yield task.index, on_failure(task.item, error) if error else result

    def _assign_tasks(self, pool: _WorkerPool[T], new_tasks: Iterator[_Task[T]], retries: deque[_Task[T]]) -> None:
        """Give each idle worker an item: first those whose worker died, then new ones."""
        for worker in pool.workers:
            if not worker.is_ready or worker.task:
                continue
            running = [other.task.index for other in pool.workers if other.task]
            if retries:
                worker.task = retries.popleft()
            elif not self.in_order or pool.started - min(running, default=pool.started) < _LOOKAHEAD * self.count:
                worker.task = next(new_tasks, None)
            if worker.task:
                pool.started = max(pool.started, worker.task.index + 1)
                worker.task.attempts += 1
                with suppress(OSError):  # it died while it was idle: its pipe says so
                    worker.pipe.send(worker.task.item)


class _WorkerPool(Generic[T]):
    """A fixed number of workers; those that died are replaced. started: number of items that were started."""

    def __init__(self, function: Callable[[T], Any]) -> None:
        self.function, self.started, self.failed_starts = function, 0, 0
        self.workers: list[_Worker[T]] = []

    def start_worker(self) -> None:
        """Start one more process, which inherits no memory of this one."""
        context = multiprocessing.get_context("spawn")
        parent_end, child_end = context.Pipe()
        process = context.Process(target=_worker_loop, args=(child_end, self.function), daemon=True)
        with _environment(_ONE_THREAD):  # rounding, and so every voxel, is then the same for any number of workers
            process.start()
        child_end.close()
        self.workers.append(_Worker(process, parent_end))

    def wait(self) -> list[_Worker[T]]:
        """Wait for the first workers that sent something or died; return them."""
        ready = wait([worker.pipe for worker in self.workers])
        return [worker for worker in self.workers if worker.pipe in ready]

    def replace(self, worker: _Worker[T]) -> str:
        """Replace a dead worker; return how it died."""
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        code = worker.process.exitcode or 0
        cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.failed_starts = 0 if worker.is_ready else self.failed_starts + 1
        if self.failed_starts >= _MAX_FAILED_STARTS:
            raise BatchError(f"worker processes end before they are ready ({cause}); try without --jobs")
        self.start_worker()
        return cause

    def shut_down(self) -> None:
        """Let all workers finish the item they work on; the closed pipe ends them."""
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join()


@contextmanager
def _worker_pool(function: Callable[[T], Any], count: int) -> Iterator[_WorkerPool[T]]:
    pool = _WorkerPool(function)
    try:
        for _ in range(count):
            pool.start_worker()
        yield pool
    finally:
        pool.shut_down()


def _worker_loop(pipe: Connection, function: Callable[[Any], Any]) -> None:
    """Process items until the pipe closes; send (result, None) or (None, error) for each."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):
        pipe.send("ready")
        while True:
            item = pipe.recv()
            try:
                message: tuple[Any, Exception | None] = (function(item), None)
            except Exception as error:
                error.add_note(traceback.format_exc())
                message = (None, error)
            pipe.send(message)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
