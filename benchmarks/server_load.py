"""The annotation server, alone and under load: python -m benchmarks.server_load [--env DIR] [--clients 8].

First one annotator clicks in exams of 16 and of 39 slices, on a server with nothing else to do. Then clients in
processes of their own segment the same few exams and click in them, as annotators do; one is killed in the middle.
Prints seconds and processor seconds of a click, lost requests, latency (p50, p95) of automatic segmentations and of
clicks, and the server's memory before, during and after; writes benchmarks/results/server_load.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.injected_errors import cpu_seconds, post
from benchmarks.speed import routine_phantom
from lumbarseg.batch.demo import synthetic_exam
from lumbarseg.io import write_image
from lumbarseg.server import environment
from lumbarseg.server.launcher import ServerOptions, running_server

RESULTS = Path(__file__).resolve().parent / "results" / "server_load.json"
SEEDS = (30, 193)
SLICES = (16, 39)  # of the exams in which one annotator clicks
_CLICKS = 12
CLICKS_PER_EXAM = 4  # an annotator segments an exam, then clicks


def run_client(url: str, number: int, requests: int) -> None:
    """Send requests one after the other; print a line of JSON for each response."""
    rng = np.random.default_rng(number)
    exam, clicks = "", []
    for index in range(requests):
        if index % (CLICKS_PER_EXAM + 1) == 0:
            exam, clicks = f"exam{rng.choice(SEEDS)}", []
            address, params = f"{url}/infer/lumbar_spine?image={exam}", {}
        else:
            clicks.append([int(value) for value in rng.integers((2, 60, 60), (8, 150, 220))])
            address, params = f"{url}/infer/lumbar_deepedit?image={exam}", {"canal": clicks}
        start = time.perf_counter()
        try:
            post(address, params)
            status = 200
        except (RuntimeError, OSError) as error:
            print(error, file=sys.stderr)
            status = 0
        row = {"client": number, "click": bool(clicks), "status": status, "seconds": time.perf_counter() - start}
        print(json.dumps(row), flush=True)


def measure_clicks(url: str, pid: int, slices: int) -> dict[str, Any]:
    """Click in one exam, in another slice each time; return seconds, and processor seconds of the server."""
    exam, clicks, rows = f"routine{slices}", [], []
    post(f"{url}/infer/lumbar_deepedit?image={exam}", {})
    for number in range(_CLICKS):
        clicks.append([slices // 2 - 2 + number % 5, 200 + 6 * number, 224])
        work = cpu_seconds(pid)
        seconds, _ = post(f"{url}/infer/lumbar_deepedit?image={exam}", {"canal": clicks})
        rows.append((seconds, cpu_seconds(pid) - work))
    median, work = (round(float(value), 2) for value in np.median(rows, axis=0))
    return {"slices": slices, "median": median, "slowest": round(max(rows)[0], 2), "processor_seconds": work}


def memory_mb(pid: int) -> float:
    """Return the resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * 4096 / 1e6, 1)


def run_load(url: str, pid: int, clients: int, requests: int) -> dict[str, Any]:
    """Run all clients, kill the last one in the middle of its requests, and summarise the responses."""
    command = [sys.executable, "-m", "benchmarks.server_load", "--client", url, "--requests", str(requests)]
    before, peak = memory_mb(pid), 0.0
    start = time.perf_counter()
    processes = [
        subprocess.Popen([*command, "--number", str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(clients)
    ]
    rows: list[dict[str, Any]] = []

    def collect(process: subprocess.Popen[str], is_victim: bool) -> None:
        for count, line in enumerate(process.stdout or (), start=1):
            rows.append(json.loads(line))
            if is_victim and count == requests // 2:
                time.sleep(0.05)  # its next request is on the way
                process.kill()

    threads = [threading.Thread(target=collect, args=(p, p is processes[-1])) for p in processes]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory_mb(pid))
        time.sleep(0.2)
    for process in processes:
        process.wait()
    expected = (clients - 1) * requests + requests // 2
    seconds = {
        kind: [r["seconds"] for r in rows if r["click"] == kind and r["status"] == 200] for kind in (False, True)
    }
    return {
        "clients": clients,
        "requests": expected,
        "lost": expected - sum(row["status"] == 200 for row in rows),
        "seconds": round(time.perf_counter() - start, 1),
        "automatic_p50_p95": [round(float(np.percentile(seconds[False], q)), 2) for q in (50, 95)],
        "click_p50_p95": [round(float(np.percentile(seconds[True], q)), 2) for q in (50, 95)],
        "memory_mb": {"before": before, "peak": peak, "after": memory_mb(pid)},
    }


def main() -> None:
    """Measure, print and store; or run one client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", type=Path, default=environment.default_folder(), help="MONAI Label's environment")
    parser.add_argument("--clients", type=int, default=8, help="of which one is killed (default: %(default)s)")
    parser.add_argument("--requests", type=int, default=25, help="of each client (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions; 0: one client only (%(default)s)")
    parser.add_argument("--client", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, default=0, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client:
        run_client(args.client, args.number, args.requests)
        return
    folder = args.env.absolute()
    python = environment.ensure_installed(folder, print)
    with tempfile.TemporaryDirectory() as home:
        studies = Path(home) / "studies"
        studies.mkdir()
        for seed in SEEDS:
            write_image(synthetic_exam(seed).image, studies / f"exam{seed}.nii.gz")
        for slices in SLICES:
            write_image(routine_phantom(7, slices=slices).image, studies / f"routine{slices}.nii.gz")
        with running_server(ServerOptions(str(studies), Path(home) / "app", port=0), python, folder) as server:
            url = f"http://127.0.0.1:{server.wait_until_ready().port}"
            load = os.getloadavg()[0]
            single = [measure_clicks(url, server.process.pid, slices) for slices in SLICES]
            for seed in SEEDS:
                post(f"{url}/infer/lumbar_spine?image=exam{seed}", {})
            rounds = [run_load(url, server.process.pid, args.clients, args.requests) for _ in range(args.rounds)]
    result = {"machine": machine.machine_facts(), "load": round(load, 1), "single": single, "rounds": rounds}
    print(machine.describe_machine(result["machine"]), f"load before {load:.1f}")
    for row in (*single, *rounds):
        print(json.dumps(row))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
