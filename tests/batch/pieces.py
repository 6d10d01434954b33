"""Pieces of work for processes that may die; functions are here so that a new process finds them by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def slow(number: int) -> int:
    time.sleep(0.05)
    return os.getpid() * 1000 + number


def deadly(number: int) -> int:
    """Kills the process that works on 3, every time."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def deadly_once(item: tuple[Path, int]) -> int:
    """Kills the process that works on 3, the first time; a file tells."""
    mark, number = item
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def failing(number: int) -> int:
    if number == 3:
        raise ValueError("three is too many")
    return number


def lost(item: object, how: str) -> str:
    return f"{item} {how}"
