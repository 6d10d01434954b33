"""A batch on a cluster whose workers are killed: python -m benchmarks.killed_workers.

`lumbarseg segment --cluster ADDRESS` (of a dask scheduler started here; --jobs: worker processes instead) segments
routine exams (those of benchmarks.batch) while a worker process is killed with SIGKILL after each tenth of the
results. Every exam must have one result, with complete files. Prints the kills, and how often each exam was reported;
exit code 1 if one is missing, reported twice or refused.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.executors.local_cluster import start_cluster

from benchmarks import batch, machine
from lumbarseg.io import read_labels

PROGRAM = [sys.executable, "-m", "lumbarseg", "segment"]
KILLS = 9


def worker_pids(parent: int) -> list[int]:
    """Return the process numbers of the workers of a cluster, by their command lines in /proc."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            above = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
        except (OSError, ValueError):  # it has ended
            continue
        if above == parent and "spawn_main" in command:
            pids.append(int(folder.name))
    return sorted(pids)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a JSON lines file."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def run(paths: Sequence[Path], out: Path, executor: list[str], parent: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the lines of the batch, and after how many results a worker was killed.

    parent: process of the workers; 0: the command's own
    """
    lines = out / "batch.jsonl"
    out.mkdir()
    child = subprocess.Popen([*PROGRAM, *paths, "-o", out, *executor, "--jsonl", lines], stdout=subprocess.DEVNULL)
    kills: list[int] = []
    while child.poll() is None:
        done = len(read_lines(lines))
        if len(kills) < KILLS and done >= (len(kills) + 1) * len(paths) / (KILLS + 1):
            alive = worker_pids(parent or child.pid)
            if alive:
                os.kill(alive[len(kills) % len(alive)], signal.SIGKILL)
                kills.append(done)
        time.sleep(0.05)
    return read_lines(lines), kills


def main() -> int:
    """Run and print; return 1 if an exam does not have exactly one result."""
    parser = argparse.ArgumentParser(prog="benchmarks.killed_workers", description=__doc__)
    parser.add_argument("-n", type=int, default=200, help="how many exams")
    parser.add_argument("--workers", type=int, default=2, help="of the cluster")
    parser.add_argument("--jobs", action="store_true", help="worker processes instead of a cluster")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        paths = batch.write_exams(Path(folder), args.n)
        executor, parent = ["--jobs", str(args.workers)], 0
        if not args.jobs:
            cluster, address = start_cluster(args.workers)
            stack.callback(os.killpg, cluster.pid, signal.SIGKILL)
            executor, parent = ["--cluster", address], cluster.pid
        start = time.monotonic()
        lines, kills = run(paths, Path(folder) / "out", executor, parent)
        seconds = time.monotonic() - start
        times = Counter(Path(line["exam"]).name for line in lines)
        once = sum(times[path.name] == 1 for path in paths)
        complete_maps = sum(
            read_labels(Path(folder) / "out" / f"{path.name[:-7]}_labels.nii.gz").array.any() for path in paths
        )
    refused = sum(bool(line.get("error")) for line in lines)
    print(machine.describe_machine(machine.machine_facts()))
    print(f"{args.n} exams, {args.workers} workers, {seconds:.0f} s; killed after {', '.join(map(str, kills))} results")
    print(f"reported once: {once}; refused: {refused}; complete label maps: {complete_maps}")
    return int(not kills or once != args.n or refused > 0 or complete_maps != args.n)


if __name__ == "__main__":
    sys.exit(main())
