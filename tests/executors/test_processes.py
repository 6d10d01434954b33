"""Worker processes: each item is done once, whatever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.executors import tasks

from lumbarseg.errors import WorkerDiedError
from lumbarseg.executors import ProcessExecutor, SerialExecutor

TWO = ProcessExecutor(2, in_order=False)


@pytest.mark.parametrize("executor", [SerialExecutor(), ProcessExecutor(1), ProcessExecutor(2)])
def test_results_come_in_the_order_of_the_items(executor: SerialExecutor | ProcessExecutor) -> None:
    assert list(executor.map(tasks.slow_at_zero, range(20))) == list(range(20))
    assert list(executor.map(tasks.square, [])) == []


def test_results_come_as_soon_as_they_are_there() -> None:
    results = list(TWO.map(tasks.slow_at_zero, range(10)))
    assert sorted(results) == list(range(10))
    assert results[-1] == 0


@pytest.mark.parametrize("executor", [SerialExecutor(), TWO])
def test_an_error_is_raised_or_becomes_a_result(executor: SerialExecutor | ProcessExecutor) -> None:
    with pytest.raises(ValueError, match="three is too many"):
        list(executor.map(tasks.fail_at_three, range(5)))
    results = executor.map(tasks.fail_at_three, range(5), tasks.describe_failure)
    assert sorted(map(str, results)) == ["0", "1", "2", "3 three is too many", "4"]


def test_an_item_that_kills_every_worker_fails_alone() -> None:
    results = list(TWO.map(tasks.kill_at_three, range(8), tasks.describe_failure))
    assert sorted(map(str, results)) == sorted(
        [*(str(n) for n in range(8) if n != 3), "3 the processes that worked on it died (killed by SIGKILL)"]
    )
    with pytest.raises(WorkerDiedError, match=r"died \(exit code 1\); .* fewer --jobs"):
        list(ProcessExecutor(1).map(tasks.exit_process, [1]))


def test_an_item_whose_worker_is_killed_is_done_by_another(tmp_path: Path) -> None:
    items = [(tmp_path / "marker", n) for n in range(8)]
    assert list(ProcessExecutor(2).map(tasks.kill_once, items)) == list(range(8))


def test_a_worker_killed_from_outside_loses_nothing() -> None:
    done = []
    for result in TWO.map(tasks.slow_with_pid, range(30)):
        done.append(result % 1000)
        if len(done) == 5:
            os.kill(result // 1000, signal.SIGKILL)
    assert sorted(done) == list(range(30))


@pytest.mark.parametrize(("executor", "ahead"), [(TWO, 2), (ProcessExecutor(2), 6)])
def test_few_items_are_taken_ahead(executor: ProcessExecutor, ahead: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    for done, _ in enumerate(executor.map(tasks.slow_at_zero, items()), start=1):
        assert len(taken) <= done + ahead


def test_an_error_of_the_caller_ends_the_workers() -> None:
    pids: list[int] = []

    def stop() -> None:
        for result in TWO.map(tasks.slow_with_pid, range(1000)):
            pids.append(result // 1000)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
