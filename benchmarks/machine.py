"""The machine that a result was measured on."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")


def machine_facts() -> dict[str, str | int]:
    """Return processor, instruction sets, cores, system, versions and date."""
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instruction_sets": " ".join(name for name in _INSTRUCTION_SETS if name in _cpuinfo("flags").split()),
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
    sets = f" ({values['instruction_sets']})" if values.get("instruction_sets") else ""
    return (
        f"{values['processor']}{sets}, {values['cores']} cores, no GPU used, Python {values['python']}, "
        f"onnxruntime {values['onnxruntime']}, {values['date']}"
    )


def stay_on_one_core() -> None:
    """Keep this process, and all that it starts, on its first core."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _cpuinfo(key: str) -> str:
    """Return the first value of a key in /proc/cpuinfo, "" where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _installed() -> bool:
    try:
        version("lumbarseg")
    except ModuleNotFoundError:
        return False
    return sys.prefix != ""
