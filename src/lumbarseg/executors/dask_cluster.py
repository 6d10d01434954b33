"""The same on a cluster of dask.distributed: one started here, or any whose scheduler's address is known.

A worker that dies loses what it worked on; the scheduler gives that to another. An exam on which several died fails
alone. Workers must see the exams, the model and the folder of the answers under the paths that are named here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

from lumbarseg.cpus import available_cpus
from lumbarseg.errors import BatchError

T = TypeVar("T")
R = TypeVar("R")

LOCAL = "local"
_MIN_TASKS_AHEAD = 64  # pieces of work that the scheduler has at a time, at least: enough to keep a small cluster busy
_TASKS_PER_WORKER = 3
_SILENT_LOG_LEVEL = logging.CRITICAL + 1
_KILLED = "killed"
_ALLOWED_DEATHS = 1  # workers that may die on one piece of work before it fails


def map_unordered(
    address: str,
    function: Callable[[T], R],
    items: Iterable[T],
    on_lost: Callable[[T, str], R],
    timeout: float = 20.0,
) -> Iterator[R]:
    """What `function`, picklable, gives for each item, as it comes, made by a cluster's workers.

    address: "local", "local:4" for that many workers here, or a scheduler's, like "tcp://10.0.0.1:8786". lost(item,
    how): the result of an item that failed there. patience: seconds to reach a scheduler. BatchError when it cannot be
    reached, or vanishes.
    """
    suspects: list[T] = []
    with _connected_client(address, timeout) as (client, as_completed):
        ahead = max(_MIN_TASKS_AHEAD, _TASKS_PER_WORKER * len(client.scheduler_info()["workers"]))
        for item, result, how in _run_tasks(address, client, as_completed, function, iter(items), ahead):
            if how == _KILLED:
                suspects.append(item)
            else:
                yield on_lost(item, how) if how else result
        for item, result, how in _run_tasks(address, client, as_completed, function, iter(suspects), 1):
            yield on_lost(item, how) if how else result


def _run_tasks(
    address: str, client: Any, as_completed: Any, function: Callable[[T], R], todo: Iterator[T], ahead: int
) -> Iterator[tuple[T, Any, str]]:
    """Each item with its result, or how it failed; so many are with the scheduler at a time.

    Where a worker died, the scheduler suspects whatever was waiting there: only an item that is alone there when its
    workers die is known to be the reason.
    """
    given = {client.submit(function, item, pure=False): item for item in islice(todo, ahead)}
    if not given:
        return
    coming = as_completed(list(given), loop=client.loop)
    for future in coming:
        item = given.pop(future)
        result, how = _task_result(future)
        if client.status != "running" or future.status == "cancelled":  # not "lost": it was read, then its worker died
            raise BatchError(f"{address}: the scheduler is gone; run the same command again, it goes on")
        for fresh in islice(todo, 1):
            more = client.submit(function, fresh, pure=False)
            given[more] = fresh
            coming.add(more)
        yield item, result, how


def _task_result(future: Any) -> tuple[Any, str]:
    """What a future holds, or how it failed, for a person."""
    from distributed import KilledWorker

    try:
        return future.result(), ""
    except KilledWorker:
        return None, _KILLED
    except Exception as error:  # whatever a task raised comes back here
        return None, f"{type(error).__name__}: {error}"


@contextmanager
def _connected_client(address: str, patience: float) -> Iterator[tuple[Any, Callable[..., Any]]]:
    try:
        import dask
        import distributed as untyped
    except ImportError as error:
        raise BatchError("--cluster needs dask.distributed: pip install 'lumbarseg[cluster]'") from error
    distributed: Any = untyped
    for name in ("distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))):
        logging.getLogger(name).setLevel(_SILENT_LOG_LEVEL)
    with dask.config.set({"distributed.scheduler.allowed-failures": _ALLOWED_DEATHS}):
        cluster = _start_local_cluster(distributed, address) if address.partition(":")[0] == LOCAL else None
        try:
            try:
                client = distributed.Client(cluster or address, timeout=patience, set_as_default=False)
            except (OSError, ValueError) as error:
                reason = "no scheduler answers there; check the address, or start it again"
                raise BatchError(f"{address}: {reason} ({_first_line(error)})") from error
            try:
                yield client, distributed.as_completed
            finally:
                with suppress(Exception):  # the scheduler may be gone
                    client.close(timeout=5)
        finally:
            if cluster:
                with suppress(Exception):
                    cluster.close(timeout=20)


def local_worker_count(address: str) -> int:
    """How many processes share this computer's cores: those of "local:N", one per core of "local", else one."""
    name, _, count = address.partition(":")
    if name != LOCAL:
        return 1
    if count and not (count.isdecimal() and int(count)):
        raise BatchError(f"--cluster {address}: write local, local:N or a scheduler's address, tcp://HOST:PORT")
    return int(count) if count else available_cpus()


def _start_local_cluster(distributed: Any, address: str) -> Any:
    """A cluster on this computer that nobody else can reach."""
    return distributed.LocalCluster(
        n_workers=local_worker_count(address),
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # None still opens port 8787, and warns where that is taken
        scheduler_kwargs={"dashboard": False},
        silence_logs=_SILENT_LOG_LEVEL,
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
