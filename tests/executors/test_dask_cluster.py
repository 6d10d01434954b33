"""The same on a cluster of dask.distributed, started here."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest
from tests.batch import pieces

from lumbarseg.errors import BatchError
from lumbarseg.executors.dask_cluster import local_worker_count, map_unordered

pytest.importorskip("distributed")


@pytest.fixture
def scheduler() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A scheduler of its own with one worker."""
    code = (
        "import time\nfrom distributed import LocalCluster\n"
        "if __name__ == '__main__':\n"
        "    cluster = LocalCluster(n_workers=1, threads_per_worker=1, host='127.0.0.1', dashboard_address=None)\n"
        "    print(cluster.scheduler_address, flush=True)\n    time.sleep(600)\n"
    )
    path = os.pathsep.join(sys.path)
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
    assert child.stdout is not None
    yield child.stdout.readline().strip(), child
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_one_piece_that_kills_its_workers_and_one_that_fails_fail_alone() -> None:
    told = list(map_unordered("local:2", pieces.deadly, range(6), pieces.lost))
    assert sorted(map(str, told)) == ["0", "1", "2", "3 killed", "4", "5"]


def test_a_second_cluster_beside_another_says_nothing_of_ports(recwarn: pytest.WarningsRecorder) -> None:
    with socket.socket() as other:
        with suppress(OSError):  # taken already
            other.bind(("127.0.0.1", 8787))
            other.listen()
        assert sorted(map_unordered("local:1", pieces.square, range(3), pieces.lost)) == [0, 1, 4]
    assert not [str(warning.message) for warning in recwarn if "8787" in str(warning.message)]


def test_a_killed_worker_costs_nothing_and_any_scheduler_will_do(scheduler: tuple[str, subprocess.Popen[str]]) -> None:
    address, _ = scheduler
    done = []
    for result in map_unordered(address, pieces.slow, range(40), pieces.lost):
        done.append(result % 1000)
        if len(done) == 5:
            os.kill(result // 1000, signal.SIGKILL)
    assert sorted(done) == list(range(40))
    told = list(map_unordered(address, pieces.failing, range(5), pieces.lost))
    assert sorted(map(str, told)) == ["0", "1", "2", "3 ValueError: three is too many", "4"]


def test_a_scheduler_that_vanishes_is_one_line(scheduler: tuple[str, subprocess.Popen[str]]) -> None:
    address, child = scheduler

    def work() -> None:
        for done, _ in enumerate(map_unordered(address, pieces.slow, range(400), pieces.lost)):
            if done == 3:
                os.killpg(child.pid, signal.SIGKILL)

    with pytest.raises(BatchError, match=f"^{re.escape(address)}: the scheduler is gone; .*goes on$"):
        work()


def test_no_scheduler_there_is_one_line() -> None:
    with pytest.raises(BatchError, match=r"no scheduler answers there"):
        list(map_unordered("tcp://127.0.0.1:9", pieces.square, range(3), pieces.lost, 2))
    with pytest.raises(BatchError, match=r"local, local:N or a scheduler's address"):
        list(map_unordered("local:two", pieces.square, range(3), pieces.lost))


def test_the_cores_are_shared_among_workers_of_this_computer() -> None:
    assert local_worker_count("local:3") == 3
    assert local_worker_count("local") >= 1
    assert local_worker_count("tcp://10.0.0.1:8786") == 1
