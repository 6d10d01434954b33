"""A cluster of dask.distributed whose scheduler's address is known.

A worker that dies loses the item it works on; the scheduler gives that to another. Workers must see all files under the
paths that items name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from lumbarseg.errors import BatchError, WorkerDiedError

from .executor import raise_failure

T = TypeVar("T")
R = TypeVar("R")

_MIN_TASKS_AHEAD = 64  # items that the scheduler has at a time, at least: enough to keep a small cluster busy
_TASKS_PER_WORKER = 3
_SILENT_LOG_LEVEL = logging.CRITICAL + 1


@dataclass(frozen=True)
class DaskExecutor:
    """Applies a function to items on the workers of a cluster; each result comes as soon as it is there.

    address: of the scheduler, like "tcp://10.0.0.1:8786"; timeout: seconds to reach it.
    """

    address: str
    timeout: float = 20.0

    def map(
        self, function: Callable[[T], R], items: Iterable[T], on_failure: Callable[[T, Exception], R] = raise_failure
    ) -> Iterator[R]:
        """Yield the results; BatchError when the scheduler cannot be reached, or vanishes."""
        suspects: list[T] = []
        with self._connect() as (client, as_completed):
            ahead = max(_MIN_TASKS_AHEAD, _TASKS_PER_WORKER * len(client.scheduler_info()["workers"]))
            for item, result, error in self._run(client, as_completed, function, iter(items), ahead):
                if isinstance(error, WorkerDiedError):
                    suspects.append(item)
                else:
                    yield on_failure(item, error) if error else result
            # Where a worker died the scheduler suspects whatever waited there: each of those runs once more, alone.
            for item, result, error in self._run(client, as_completed, function, iter(suspects), 1):
                yield on_failure(item, error) if error else result

    def _run(
        self, client: Any, as_completed: Any, function: Callable[[T], R], items: Iterator[T], ahead: int
    ) -> Iterator[tuple[T, Any, Exception | None]]:
        """Yield (item, result, error) as completed, with `ahead` items at the scheduler at a time."""
        running = {client.submit(function, item, pure=False): item for item in islice(items, ahead)}
        if not running:
            return
        completed = as_completed(list(running), loop=client.loop)
        for future in completed:
            item = running.pop(future)
            result, error = _result_or_error(future)
            if client.status != "running" or future.status == "cancelled":  # "lost" is fine: it has been read
                raise BatchError(f"{self.address}: the scheduler is gone; run the same command again, it goes on")
            for new_item in islice(items, 1):
                new = client.submit(function, new_item, pure=False)
                running[new] = new_item
                completed.add(new)
            yield item, result, error

    @contextmanager
    def _connect(self) -> Iterator[tuple[Any, Callable[..., Any]]]:
        """Connect to the scheduler; yield the client and dask's `as_completed`."""
        if "://" not in self.address:
            raise BatchError(
                f"--cluster {self.address}: write a scheduler's address, tcp://HOST:PORT; "
                "--jobs N starts N processes on this computer"
            )
        try:
            import distributed as untyped
        except ImportError as error:
            raise BatchError("--cluster needs dask.distributed: pip install 'lumbarseg[cluster]'") from error
        distributed: Any = untyped
        loggers = [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]
        for name in ("distributed", *loggers):
            logging.getLogger(name).setLevel(_SILENT_LOG_LEVEL)
        try:
            client = distributed.Client(self.address, timeout=self.timeout, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = "no scheduler answers there; check the address, or start it again"
            raise BatchError(f"{self.address}: {reason} ({_first_line(error)})") from error
        try:
            yield client, distributed.as_completed
        finally:
            with suppress(Exception):  # the scheduler may be gone
                client.close(timeout=5)


def _result_or_error(future: Any) -> tuple[Any, Exception | None]:
    from distributed import KilledWorker

    try:
        return future.result(), None
    except KilledWorker:
        return None, WorkerDiedError("killed")
    except Exception as error:  # whatever the function raised
        return None, error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
