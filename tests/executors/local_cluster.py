"""A dask scheduler with workers in processes of their own, reachable from this computer only."""

from __future__ import annotations

import os
import subprocess
import sys

_CODE = """
import sys, time
import dask
from distributed import LocalCluster

if __name__ == "__main__":
    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    cluster = LocalCluster(n_workers=int(sys.argv[1]), threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    print(cluster.scheduler_address, flush=True)
    time.sleep(600)
"""


def start_cluster(workers: int) -> tuple[subprocess.Popen[str], str]:
    """Start a cluster in a process group of its own; return its process and the scheduler's address."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CODE, str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert child.stdout is not None
    return child, child.stdout.readline().strip()
