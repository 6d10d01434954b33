"""A cluster of dask.distributed, started here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest
from tests.executors import tasks
from tests.executors.local_cluster import start_cluster

from lumbarseg.errors import BatchError
from lumbarseg.executors import DaskExecutor

pytest.importorskip("distributed")


@pytest.fixture
def scheduler() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a scheduler with two workers, and its process."""
    child, address = start_cluster(2)
    yield address, child
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def test_only_items_that_kill_or_fail_become_failures(scheduler: tuple[str, subprocess.Popen[str]]) -> None:
    executor = DaskExecutor(scheduler[0])
    results = list(executor.map(tasks.kill_at_three, range(6), tasks.describe_failure))
    assert sorted(map(str, results)) == ["0", "1", "2", "3 the processes that worked on it died (killed)", "4", "5"]
    results = list(executor.map(tasks.fail_at_three, range(5), tasks.describe_failure))
    assert sorted(map(str, results)) == ["0", "1", "2", "3 three is too many", "4"]
    with pytest.raises(ValueError, match="three is too many"):
        list(executor.map(tasks.fail_at_three, range(5)))


def test_a_killed_worker_loses_nothing(scheduler: tuple[str, subprocess.Popen[str]]) -> None:
    done = []
    for result in DaskExecutor(scheduler[0]).map(tasks.slow_with_pid, range(40)):
        done.append(result % 1000)
        if len(done) == 5:
            os.kill(result // 1000, signal.SIGKILL)
    assert sorted(done) == list(range(40))


def test_a_scheduler_that_vanishes_is_one_line(scheduler: tuple[str, subprocess.Popen[str]]) -> None:
    address, child = scheduler

    def work() -> None:
        for done, _ in enumerate(DaskExecutor(address).map(tasks.slow_with_pid, range(400))):
            if done == 3:
                os.killpg(child.pid, signal.SIGKILL)

    with pytest.raises(BatchError, match=f"^{re.escape(address)}: the scheduler is gone; .*goes on$"):
        work()


def test_no_scheduler_there_is_one_line() -> None:
    with pytest.raises(BatchError, match=r"no scheduler answers there"):
        list(DaskExecutor("tcp://127.0.0.1:9", timeout=2).map(tasks.square, range(3)))
    with pytest.raises(BatchError, match=r"a scheduler's address, tcp://HOST:PORT; --jobs N starts"):
        list(DaskExecutor("local:2").map(tasks.square, range(3)))
