"""Functions for workers; they are in a module so that a new process finds them by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def slow_with_pid(number: int) -> int:
    """Return the process id times 1000, plus the number."""
    time.sleep(0.05)
    return os.getpid() * 1000 + number


def kill_at_three(number: int) -> int:
    """Kill the process that works on 3, every time."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def kill_once(item: tuple[Path, int]) -> int:
    """Kill the process that works on 3, the first time; a file marks that."""
    marker, number = item
    if number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def exit_process(code: int) -> int:
    os._exit(code)


def fail_at_three(number: int) -> int:
    if number == 3:
        raise ValueError("three is too many")
    return number


def slow_at_zero(number: int) -> int:
    time.sleep(0.5 if number == 0 else 0.0)
    return number


def describe_failure(item: object, error: Exception) -> str:
    return f"{item} {error}".split("; it may need")[0]
