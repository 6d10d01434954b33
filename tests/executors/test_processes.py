"""Worker processes: everything is done once, whoever dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.batch import pieces

from lumbarseg.executors.processes import map_unordered


def test_every_piece_is_done_once() -> None:
    assert sorted(map_unordered(pieces.square, range(20), 2, pieces.lost)) == [n * n for n in range(20)]


def test_nothing_to_do_is_done() -> None:
    assert list(map_unordered(pieces.square, [], 1, pieces.lost)) == []


def test_a_piece_that_kills_every_process_fails_alone() -> None:
    told = list(map_unordered(pieces.deadly, range(8), 2, pieces.lost))
    assert sorted(map(str, told)) == sorted([*(str(n) for n in range(8) if n != 3), "3 killed by SIGKILL"])


def test_a_piece_whose_process_is_killed_is_done_by_another(tmp_path: Path) -> None:
    items = [(tmp_path / "mark", n) for n in range(8)]
    assert sorted(map_unordered(pieces.deadly_once, items, 2, pieces.lost)) == list(range(8))


def test_a_worker_killed_from_outside_costs_nothing() -> None:
    done = []
    for result in map_unordered(pieces.slow, range(30), 2, pieces.lost):
        done.append(result % 1000)
        if len(done) == 5:
            os.kill(result // 1000, signal.SIGKILL)
    assert sorted(done) == list(range(30))


def test_items_are_taken_only_when_a_process_is_free() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    for done, _ in enumerate(map_unordered(pieces.slow, items(), 2, pieces.lost), start=1):
        assert len(taken) <= done + 2


def test_an_error_of_the_caller_ends_the_workers() -> None:
    def stop() -> None:
        for result in map_unordered(pieces.slow, range(1000), 2, pieces.lost):
            pids.append(result // 1000)
            raise KeyboardInterrupt

    pids: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
