"""Number of CPUs that this process may use."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

CGROUP_FILES = ("/sys/fs/cgroup/cpu.max", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "/sys/fs/cgroup/cpu/cpu.cfs_period_us")
"""Where a container's CPU quota stands: quota and period of version 2, then of version 1 in one file each."""


def available_cpus() -> int:
    """Return how many CPUs this process may use.

    That is the number in its affinity mask, of the machine where there is no such mask, but not more than a container's
    CPU quota, rounded up.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, _cpu_quota() or count)


def inference_threads(processes: int = 1) -> int:
    """Return how many threads an engine starts in each of some processes that share the available CPUs.

    One per CPU, fewer where the user set OMP_NUM_THREADS.
    """
    count = max(1, available_cpus() // processes)
    number = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # a list has one for each nesting
    return min(count, int(number) or count) if number.isdecimal() else count


def _cpu_quota() -> int:
    """Return the CPU quota of this container in whole CPUs, rounded up; 0 for none."""
    joint, *separate = map(Path, CGROUP_FILES)
    with suppress(OSError, ValueError, ZeroDivisionError):
        numbers = joint.read_text().split() if joint.is_file() else [path.read_text() for path in separate]
        quota, period = map(int, numbers)  # "max" for no quota is no number
        return max(0, -(-quota // period))
    return 0
