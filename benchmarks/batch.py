"""A batch of exams in one command: python -m benchmarks.batch.

The exams are phantoms on the grid of routine exams, 16 slices of 448 x 448 pixels; five are rendered, and each copy
has its own noise. Measured are exams per minute; the time that overlapping the stages saves compared with the same
exams with all stages in sequence (`--jobs 1`); and the peak memory of ten exams and of all. Then the same command
again, which skips all of them, and one exam of 512^3 voxels. Writes benchmarks/results/batch.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, speed
from lumbarseg.io import write_image
from lumbarseg.volume import Volume

Row = dict[str, Any]
RESULTS = speed.ROOT / "benchmarks" / "results" / "batch.json"
PROGRAM = [sys.executable, "-m", "lumbarseg", "segment"]
DISTINCT_EXAMS, FIRST = 5, 10  # phantoms that are drawn, and exams of the small batch
FINE, STEP = 512, 0.5  # voxels along each axis of the fine exam, and their mm
STAGES = ("digest", "read", "model", "segment", "measure", "picture", "write")


def write_exams(folder: Path, count: int) -> list[Path]:
    """Write different exams, and return their paths."""
    volumes = [speed.routine_exam(seed) for seed in range(min(DISTINCT_EXAMS, count))]
    paths = []
    for number in range(count):
        volume = volumes[number % len(volumes)]
        noise = np.random.default_rng(number).integers(0, 3, volume.array.shape)
        image = (np.rint(volume.array) + noise).astype(np.int16)
        paths.append(folder / f"exam{number:03d}.nii.gz")
        write_image(Volume(image, volume.affine), paths[-1])
    return paths


def write_fine_exam(path: Path) -> None:
    """Write a phantom of 512^3 voxels of half a millimetre, int16."""
    volume = speed.routine_exam()
    middle, size = np.array(volume.array.shape) / 2, np.array(volume.grid.spacing)
    indices = [
        np.rint((np.arange(FINE) - FINE / 2) * STEP / size[axis] + middle[axis]).astype(int).clip(0, n - 1)
        for axis, n in enumerate(volume.array.shape)
    ]
    affine = volume.affine.copy()
    affine[:3, :3] = volume.affine[:3, :3] / size * STEP
    affine[:3, 3] = volume.grid.to_world(np.array([index[0] for index in indices]))
    write_image(Volume(np.rint(volume.array[np.ix_(*indices)]).astype(np.int16), affine), path)


def run_batch(paths: Sequence[Path], out: Path, *more: str) -> Row:
    """Run one command, and return its seconds, peak memory and stages."""
    run = speed.run_process([*PROGRAM, *paths, "-o", out, "--json", "--timings", *more])
    result = json.loads(run.output[run.output.index("{") : run.output.rindex("}") + 1])
    assert len(result["exams"]) == len(paths)
    return {"seconds": run.seconds, "peak": run.peak, "timings": result["timings"], "exams": result["exams"]}


def measure(folder: Path, count: int, device: str) -> Row:
    """Measure everything; exams and results lie in `folder`."""
    paths = write_exams(folder, count)
    engine = ["--device", device]
    first = run_batch(paths[:FIRST], folder / "first", *engine)
    sequential = run_batch(paths, folder / "apart", "--jobs", "1", *engine)
    complete = run_batch(paths, folder / "all", *engine)
    repeated = run_batch(paths, folder / "all", *engine)
    assert all(row["skipped"] for row in repeated["exams"])
    write_fine_exam(folder / "fine.nii")
    large = run_batch([folder / "fine.nii"], folder / "large", *engine)
    stages = {name: sequential["timings"][name] for name in STAGES}
    return {
        "machine": machine.machine_facts(),
        "exams": count,
        "device": device,
        "stages": stages,
        "table": [
            {"what": "exams per minute", "figure": 60 * count / complete["seconds"], "unit": ""},
            {"what": "stages one after the other", "figure": sum(stages.values()), "unit": "s"},
            {"what": "the batch", "figure": complete["seconds"], "unit": "s"},
            {
                "what": "saved by overlapping",
                "figure": 100 * (1 - complete["seconds"] / sum(stages.values())),
                "unit": "%",
            },
            {
                "what": "on top of segmenting",
                "figure": 100 * (complete["seconds"] / stages["segment"] - 1),
                "unit": "%",
            },
            {"what": f"peak memory of the first {FIRST}", "figure": first["peak"] / 1e6, "unit": "MB"},
            {"what": f"peak memory of all {count}", "figure": complete["peak"] / 1e6, "unit": "MB"},
            {"what": "the same call again, all done", "figure": repeated["seconds"], "unit": "s"},
            {"what": "one exam of 512^3 voxels", "figure": large["seconds"], "unit": "s"},
            {"what": "peak memory of that", "figure": large["peak"] / 1e6, "unit": "MB"},
        ],
    }


def table(rows: Sequence[Row]) -> str:
    """Format the result as a Markdown table."""
    return "\n".join(["| measure | result |", "|---|--:|", *(_line(row) for row in rows)])


def _line(row: Row) -> str:
    return f"| {row['what']} | {row['figure']:.{0 if row['figure'] >= 100 else 1}f} {row['unit']} |"


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.batch", description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="how many exams")
    parser.add_argument("--device", default="cpu", help="as lumbarseg segment knows it")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), args.n, args.device)
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\n{machine.describe_machine(result['machine'])}\n\n{table(result['table'])}\n\nwritten to {args.o}")


if __name__ == "__main__":
    main()
