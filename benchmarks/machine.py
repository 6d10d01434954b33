"""The machine that a result was measured on."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def machine_facts() -> dict[str, str | int]:
    """Return processor, cores, system, versions and date."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "system": platform.system(),
        "python": platform.python_version(),
        "lumbarseg": version("lumbarseg") if _installed() else "source",
        "numpy": version("numpy"),
        "onnxruntime": version("onnxruntime"),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def describe_machine(values: dict[str, str | int]) -> str:
    """Describe the machine in one line."""
    return (
        f"{values['processor']}, {values['cores']} cores, no GPU used, Python {values['python']}, "
        f"onnxruntime {values['onnxruntime']}, {values['date']}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _installed() -> bool:
    try:
        version("lumbarseg")
    except ModuleNotFoundError:
        return False
    return sys.prefix != ""
