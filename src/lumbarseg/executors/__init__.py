"""Apply a function to many items: in this process, in worker processes, or on a dask cluster. One interface for all."""

from lumbarseg.cpus import available_cpus

from .dask_cluster import DaskExecutor
from .executor import Executor, SerialExecutor, raise_failure
from .processes import ProcessExecutor

__all__ = [
    "DaskExecutor",
    "Executor",
    "ProcessExecutor",
    "SerialExecutor",
    "local_executor",
    "raise_failure",
]


def local_executor(jobs: int | None, item_count: int) -> Executor:
    """Return the executor for `jobs` processes of this computer (None: one per core), at most one per item."""
    processes = min(jobs or available_cpus(), item_count)
    return ProcessExecutor(processes) if processes > 1 else SerialExecutor()
