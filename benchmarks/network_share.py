"""Time inside the network beside the total: python -m benchmarks.network_share.

For the command, a program that segments a second exam with a loaded model, a batch, and a click. The exam is that of
benchmarks.speed. Each value is the median of several runs; the ratio says how much time passes for each second in the
network.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks import machine, speed
from lumbarseg.clicks import Click
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import read_image, write_image
from lumbarseg.segmentation import Segmentation, refine_with_clicks, segment
from lumbarseg.volume import Array

PROGRAM = [sys.executable, "-m", "lumbarseg", "segment"]
RUNS, BATCH = 5, 10
T = TypeVar("T")


@dataclass
class NetworkTimer:
    """Counts the seconds inside the network of a model."""

    model: Model
    seconds: float = 0.0

    def run(self, windows: Array) -> Array:
        """Run the network; add its time."""
        start = time.perf_counter()
        try:
            return self.model.run(windows)
        finally:
            self.seconds += time.perf_counter() - start


@dataclass(frozen=True)
class Share:
    """Seconds of one use, per exam or click, and those of it inside the network."""

    use: str
    total: float
    network: float

    @property
    def ratio(self) -> float:
        """Seconds that pass for each second in the network."""
        return self.total / self.network if self.network else float("inf")

    def to_dict(self) -> dict[str, str | float]:
        """Return plain values for JSON."""
        return {"use": self.use, "total": self.total, "network": self.network, "ratio": self.ratio}


def measure_command(image: Path, folder: Path) -> Share:
    """Measure the command, from its start until its files are written."""
    command = [*PROGRAM, image, "-o", folder / "out", "--overwrite"]
    stages = [speed.stage_seconds(command) for _ in range(RUNS)]
    return Share("command, whole process", *(statistics.median(s[key] for s in stages) for key in ("total", "network")))


def measure_batch(images: list[Path], folder: Path) -> Share:
    """Measure a batch; its start, that of one process, counts too."""
    stages = speed.stage_seconds([*PROGRAM, *images, "-o", folder / "batch", "--overwrite"])
    return Share(f"batch of {len(images)}", stages["total"] / len(images), stages["network"] / len(images))


def measure_calls(use: str, timer: NetworkTimer, prepare: Callable[[], T], call: Callable[[T], object]) -> Share:
    """Measure calls in this process, after one that is not counted. prepare: what precedes a call, not counted."""
    rows = []
    for _ in range(RUNS + 1):
        prepared = prepare()
        timer.seconds, start = 0.0, time.perf_counter()
        call(prepared)
        rows.append((time.perf_counter() - start, timer.seconds))
    return Share(use, *(statistics.median(column) for column in zip(*rows[1:], strict=True)))


def measure(folder: Path) -> list[Share]:
    """Measure all uses; exams and results lie in `folder`."""
    images = [folder / f"exam{number}.nii.gz" for number in range(BATCH)]
    for number, image in enumerate(images):
        write_image(speed.routine_exam(number), image)
    volume, loaded = read_image(images[0]), Model.load(bundled_model_path())
    timer = NetworkTimer(loaded)
    model = replace(loaded, run=timer.run)
    use = "program, segment(volume, model)"
    fractions = [
        measure_command(images[0], folder),
        measure_calls(use, timer, lambda: volume, lambda image: segment(image, model)),
        measure_batch(images, folder),
    ]
    if loaded.card.spec.clicks:
        level = next(level for level in segment(volume, model).levels if level.name == "L3")
        clicks = [Click(level.centre, level.name)]
        prepare, call = partial(segment, volume, model, keep_state=True), partial(_refine, model=model, clicks=clicks)
        fractions.append(measure_calls("click", timer, prepare, call))
    return fractions


def _refine(before: Segmentation, model: Model, clicks: list[Click]) -> Segmentation:
    return refine_with_clicks(before, model, clicks)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="benchmarks.network_share", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.add_argument("--one-core", action="store_true", help="run everything on one core")
    args = parser.parse_args()
    if args.one_core:
        machine.stay_on_one_core()
    with tempfile.TemporaryDirectory() as folder:
        fractions = measure(Path(folder))
    facts = machine.machine_facts()
    if args.json:
        print(json.dumps({"machine": facts, "uses": [fraction.to_dict() for fraction in fractions]}, indent=1))
        return
    print(f"{machine.describe_machine(facts)}\n\n{table(fractions)}")


def table(fractions: list[Share]) -> str:
    """Format the uses as a Markdown table."""
    rows = [f"| {s.use} | {s.total:.2f} | {s.network:.2f} | {s.ratio:.1f} |" for s in fractions]
    return "\n".join(["| use | s | s in the network | ratio |", "|---|--:|--:|--:|", *rows])


if __name__ == "__main__":
    main()
