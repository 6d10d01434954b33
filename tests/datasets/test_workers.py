from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lumbarseg.datasets.workers import exclusive_folder, map_in_processes
from lumbarseg.errors import DatasetError


def doubled(number: int) -> int:
    return 2 * number


def ended(number: int) -> int:
    os._exit(number)


def test_results_come_in_order_and_few_items_are_taken_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(40):
            taken.append(number)
            yield number

    found = []
    for result in map_in_processes(doubled, items(), jobs=2):
        found.append(result)
        assert len(taken) - len(found) <= 6
    assert found == [2 * number for number in range(40)]


def test_a_worker_that_the_system_ends_is_told() -> None:
    with pytest.raises(DatasetError, match="a worker was ended by the system"):
        list(map_in_processes(ended, [1], jobs=1))


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    with exclusive_folder(tmp_path / "new"):
        with pytest.raises(DatasetError, match="is writing here"), exclusive_folder(tmp_path / "new"):
            pass
        with exclusive_folder(tmp_path / "other"):
            pass
    with exclusive_folder(tmp_path / "new"):
        pass
