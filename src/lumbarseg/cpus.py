"""Number of CPUs that this process may use."""

from __future__ import annotations

import os


def available_cpus() -> int:
    """Return the number of CPUs in this process's affinity mask, or of the machine where there is no such mask."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
