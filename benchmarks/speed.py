"""Speed, memory and install size of the command: python -m benchmarks.speed.

The exam is a phantom on the grid of routine exams: 16 slices of 448 x 448 pixels of 0.6 mm. Each value is a complete
process, from its start until its files are written: the median of five after one warm-up. Peak memory is that which the
system reports. Beside it stand the seconds inside the network, for the command, a program, a batch and a click. Writes
benchmarks/results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from lumbarseg.io import write_image
from lumbarseg.phantom import Phantom, RecipeRanges, render_phantom, sample_recipe
from lumbarseg.volume import Volume

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "speed.json"
SHAPE, PIXEL, THICKNESS, GAP = (16, 448, 448), 0.6, 4.0, 0.4  # voxels, mm
_BELOW = 90.0  # mm of the field of view below the middle of L5


@dataclass(frozen=True)
class ProcessRun:
    """One finished process.

    seconds : from start to end
    peak : memory, bytes
    work : processor seconds, child processes included
    """

    seconds: float
    peak: float
    output: str
    work: float


def routine_exam(seed: int = 7) -> Volume:
    """Return a T2 phantom on the grid of a routine exam."""
    return routine_phantom(seed).image


def routine_phantom(seed: int, pixel: float = PIXEL, slices: int = SHAPE[0]) -> Phantom:
    """Return a T2 phantom on such a grid with pixels of `pixel` mm, L1 to the sacrum in view, and its labels.

    slices: how many cover the width of the exam; more of them are thinner.
    """
    recipe = sample_recipe(np.random.default_rng(seed), RecipeRanges(sequences=("T2",), lumbar_counts=(5,)))
    scanner = recipe.scanner
    _, rows, columns = SHAPE
    thickness, gap = (mm * SHAPE[0] / slices for mm in (THICKNESS, GAP))
    x, y, _ = scanner.corner
    wide = (scanner.slices - 1) * (scanner.thickness + scanner.gap) - (slices - 1) * (thickness + gap)
    corner = (
        x + wide / 2,
        y + (scanner.rows * scanner.pixel - rows * pixel) / 2,
        recipe.spine.bodies[0].centre[2] - _BELOW,
    )
    usual = replace(
        scanner,
        slices=slices,
        thickness=thickness,
        gap=gap,
        samples=3,
        pixel=pixel,
        rows=rows,
        columns=columns,
        corner=corner,
    )
    return render_phantom(replace(recipe, scanner=usual))


def run_process(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> ProcessRun:
    """Run a command to its end, with other variables if given; RuntimeError with its output if it fails."""
    with tempfile.TemporaryFile("w+") as output_file:
        start = time.perf_counter()
        child = subprocess.Popen(
            [str(word) for word in command], stdout=output_file, stderr=subprocess.STDOUT, env=environment
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        output_file.seek(0)
        output = output_file.read()
    if child.returncode not in (0, 3):
        raise RuntimeError(f"{command}: exit {child.returncode}: {output}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return ProcessRun(seconds, peak, output, usage.ru_utime + usage.ru_stime)


def median_run(command: Sequence[str | Path], times: int = 5) -> tuple[float, float]:
    """Return median seconds and largest peak of `times` runs after one warm-up."""
    run_process(command)
    runs = [run_process(command) for _ in range(times)]
    return statistics.median(run.seconds for run in runs), max(run.peak for run in runs)


def stage_seconds(command: Sequence[str | Path]) -> dict[str, float]:
    """Return the seconds per stage that the command reports with --timings."""
    arguments = [str(word) for word in (*command, "--timings", "--json")]
    output_file = subprocess.run(arguments, capture_output=True, text=True, check=False)
    return {name: float(seconds) for name, seconds in json.loads(output_file.stdout)["timings"].items()}


def core_install_size() -> float:
    """Return the bytes that `pip install .` brings into a fresh environment, pip included."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [Path(folder) / "bin" / "pip", "install", "-q", "-c", ROOT / "requirements" / "core.txt", ROOT]
        subprocess.run([str(word) for word in pip], check=True)
        files = (Path(folder) / "lib").rglob("site-packages/**/*")
        return float(sum(path.stat().st_size for path in files if path.is_file() and not path.is_symlink()))


def measure(program: Path, folder: Path) -> Row:
    """Measure the installed `program`; the exam and its result lie in `folder`."""
    image = folder / "routine.nii.gz"
    write_image(routine_exam(), image)
    segment = [program, "segment", image, "-o", folder / "out", "--overwrite"]
    seconds, peak = median_run(segment)
    help_seconds, _ = median_run([program, "--help"])
    return {
        "machine": machine.machine_facts(),
        "exam": {"shape": SHAPE, "pixel": PIXEL, "spacing_of_slices": THICKNESS + GAP},
        "stages": stage_seconds(segment),
        "targets": [
            target_row("`lumbarseg segment`, 16 x 448 x 448, whole process", 1.5, seconds, "s"),
            target_row("peak memory of that", 600, peak / 1e6, "MB"),
            target_row("`lumbarseg --help`", 0.3, help_seconds, "s"),
            target_row("core install, without torch", 500, core_install_size() / 1e6, "MB"),
        ],
    }


def target_row(what: str, bound: float, value: float, unit: str) -> Row:
    """Return a value that must stay under its bound."""
    return {"what": what, "target": bound, "figure": round(value, 3), "unit": unit, "pass": value <= bound}


def table(targets: Sequence[Row]) -> str:
    """Format the targets as a Markdown table."""
    lines = ["| measure | at most | result | |", "|---|--:|--:|---|"]
    for t in targets:
        value = f"{t['figure']:.2f}" if t["unit"] == "s" else f"{t['figure']:.0f}"
        verdict = "pass" if t["pass"] else "**miss**"
        lines.append(f"| {t['what']} | {t['target']:g} {t['unit']} | {value} {t['unit']} | {verdict} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.speed", description=__doc__)
    program = Path(sys.executable).parent / "lumbarseg"
    parser.add_argument("--program", type=Path, default=program, help="the installed lumbarseg command")
    parser.add_argument("--one-core", action="store_true", help="run everything on one core")
    parser.add_argument("-o", type=Path, help="output file (JSON); default: speed.json, or speed_one_core.json")
    args = parser.parse_args()
    output = args.o or RESULTS.with_name("speed_one_core.json" if args.one_core else RESULTS.name)
    if args.one_core:
        machine.stay_on_one_core()
    from benchmarks import network_share  # which imports this module

    with tempfile.TemporaryDirectory() as folder:
        result = measure(args.program, Path(folder))
        fractions = network_share.measure(Path(folder))
    result["uses"] = [fraction.to_dict() for fraction in fractions]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{machine.describe_machine(result['machine'])}\n")
    print(f"{table(result['targets'])}\n\n{network_share.table(fractions)}\n\nstages of one run, s:")
    for name, seconds in result["stages"].items():
        print(f"  {name:12s} {seconds:.3f}")
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
