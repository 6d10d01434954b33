"""Training killed at random moments, some while a checkpoint is written, and resumed: python -m benchmarks.resume

Two runs on small phantoms: a small network from scratch, and one from the shipped weights with validation exams,
best.pt and early stopping. Each is trained once without interruption, and once killed with SIGKILL --kills times;
then all files of both are compared bit for bit. Exit code 1 if anything differs. Writes
benchmarks/results/resume.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from lumbarseg import phantom
from lumbarseg.anatomy import STRUCTURES
from lumbarseg.datasets import create_dataset, write_case
from lumbarseg.inference import bundled_model_path
from lumbarseg.training.checkpoint import BEST_FILE, CHECKPOINT_FILE, Checkpoint
from lumbarseg.training.history import History
from lumbarseg.training.initial_weights import InitialWeights
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.volume import Volume

RESULTS = Path(__file__).resolve().parent / "results" / "resume.json"
BASE: dict[str, Any] = {
    "batch_size": 2,
    "crop_size": 64,
    "threads": 1,
    "precision": "float32",
    "checkpoint_seconds": 0.0,
}
NOWHERE = -1
Row = dict[str, Any]

WORKER = """
import io, json, os, signal, sys
import torch
from lumbarseg.datasets import Dataset
from lumbarseg.training import trainer
from lumbarseg.training.settings import TrainingSettings

settings, folder, out, init, at, share = sys.argv[1:]
train_step, save, saves = trainer.train_step, torch.save, 0

def printing_step(state, batch):
    loss = train_step(state, batch)
    print(state.step, flush=True)
    return loss

def interrupted_save(values, file):
    global saves
    saves += 1
    if saves != int(at):
        return save(values, file)
    complete = io.BytesIO()
    save(values, complete)
    file.write(complete.getvalue()[: int(float(share) * complete.tell())])
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

trainer.train_step, torch.save = printing_step, interrupted_save
resume = os.path.exists(os.path.join(out, "checkpoint.pt"))
init = None if resume else init or None
trainer.train(TrainingSettings.from_dict(json.loads(settings)), [Dataset.open(folder)], out, resume, init)
"""


def dataset(folder: Path, held_out: int) -> Path:
    """Write three phantoms with coarse voxels, some of them for validation."""
    create_dataset(folder, "phantoms", {0: ("background",), **{s.label: (s.name,) for s in STRUCTURES}})
    for number in range(3):
        recipe = phantom.sample_recipe(
            np.random.default_rng([7, number]), phantom.RecipeRanges(sequences=("T2",), isotropic_fraction=0.0)
        )
        exam = phantom.render_phantom(recipe)
        split = "val" if number < held_out else "train"
        image = Volume(exam.image.array.astype(np.float32), exam.image.affine)
        write_case(folder, f"case-{number}", image, exam.labels, {"patient": str(number), "split": split})
    return folder


@dataclass(frozen=True)
class Plan:
    """What is trained; init: initial weights, "" for random ones."""

    settings: TrainingSettings
    data: Path
    init: str


class TrainingProcess:
    """A training process that kills itself in save `at`, after the fraction `share` of the file."""

    def __init__(self, plan: Plan, out: Path, at: int = NOWHERE, share: float = 0) -> None:
        arguments = [json.dumps(plan.settings.to_dict()), str(plan.data), str(out), plan.init, str(at), str(share)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def steps(self, count: int) -> bool:
        """Wait for `count` steps, and return whether they were taken."""
        assert self.process.stdout is not None
        return all(self.process.stdout.readline() for _ in range(count))

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        self.process.communicate()
        return self.process.returncode


def run_interrupted(plan: Plan, out: Path, kills: int, rng: np.random.Generator) -> list[str]:
    """Kill and resume a run to its end; return the moments, every third one while a checkpoint is written."""
    moments = []
    for kill in range(kills):
        count, share, wait = int(rng.integers(1, 5)), float(rng.random()), float(rng.uniform(0, 0.3))
        writing = kill % 3 == 2
        child = TrainingProcess(plan, out, count if writing else NOWHERE, share)
        if not writing:
            if child.steps(count):
                time.sleep(wait)
            child.process.kill()
        if child.end() != -signal.SIGKILL:
            raise SystemExit(f"the run ended, or failed, before kill {kill + 1}")
        moments.append(f"in save {count} after {share:.0%} of it" if writing else f"{wait:.2f} s after {count} steps")
    if TrainingProcess(plan, out).end() != 0:
        raise SystemExit("the run fails when it is resumed")
    return moments


def is_equal(a: object, b: object) -> bool:
    """Return whether two nested values are equal to the last bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(is_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(is_equal, a, b))
    return a == b


def compare_runs(first: Path, second: Path) -> dict[str, bool]:
    """Return which results of two runs are equal; times are left out."""
    out: dict[str, bool] = {}
    for name in (CHECKPOINT_FILE, BEST_FILE):
        if (first / name).exists() or (second / name).exists():
            both = [Checkpoint.load(folder / name) for folder in (first, second)]
            for part in ("step", "weights", "ema_weights", "optimizer", "rng_state"):
                out[f"{name}: {part}"] = is_equal(*(getattr(each, part) for each in both))
    tables = [History.read(folder / "history.csv").rows for folder in (first, second)]
    out["history.csv"] = is_equal(
        *([{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in tables)
    )
    return out


def run_trial(name: str, settings: TrainingSettings, init: str, kills: int, folder: Path, seed: int) -> Row:
    """Train one run with and without interruptions."""
    data = dataset(folder / name / "data", held_out=1 if init else 0)
    uninterrupted, interrupted = folder / name / "whole", folder / name / "broken"
    plan = Plan(settings, data, init)
    if TrainingProcess(plan, uninterrupted).end() != 0:
        raise SystemExit(f"{name}: the run without breaks failed")
    moments = run_interrupted(plan, interrupted, kills, np.random.default_rng(seed))
    equal = compare_runs(uninterrupted, interrupted)
    steps = Checkpoint.load(uninterrupted / CHECKPOINT_FILE).step
    print(f"{name}: {steps} steps of {settings.steps}, killed {len(moments)} times")
    print("\n".join(f"  {moment}" for moment in moments))
    print(
        "\n".join(f"  {what:24} {'equal' if all_equal else 'DIFFERENT'}" for what, all_equal in equal.items()),
        flush=True,
    )
    return {"run": name, "steps": steps, "kills": moments, "equal": equal}


def main() -> int:
    """Run both trials; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    args = parser.parse_args()
    start = InitialWeights.load(bundled_model_path())
    small = TrainingSettings(**BASE, steps=400, channels=(8, 12, 16), validation_interval=1000, image_interval=1000)
    tuned = TrainingSettings(
        **BASE,
        steps=400,
        channels=start.channels,
        learning_rate=1e-4,
        validation_interval=6,
        patience=4,
        image_interval=1000,
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            run_trial("from nothing", small, "", args.kills, Path(folder), args.seed),
            run_trial("from the shipped weights", tuned, "shipped", args.kills, Path(folder), args.seed + 1),
        ]
    all_equal = all(all(row["equal"].values()) for row in rows)
    RESULTS.write_text(
        json.dumps({"machine": machine.machine_facts(), "runs": rows}, indent=1) + "\n", encoding="utf-8"
    )
    print("everything is equal" if all_equal else "NOT everything is equal")
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
