"""Training steps per second compared with a MONAI tutorial loop, on the same data: python -m benchmarks.training.

Both sides train the same network on batches of the same shape: the planar one and SegResNet (3-D). Ours is the loop of
`lumbarseg train`. The other is that of MONAI's tutorials: CacheDataset with MONAI's transforms, a DataLoader with as
many workers as we have threads, DiceCELoss, AdamW, float32. Each is a process of its own; steps are timed once the data
are in memory and after two warm-up steps. Sides take turns, and the first side alternates. A second ratio is that of
processor seconds per step, which other load on the machine hardly changes; the workers' seconds and memory are not
counted. Writes benchmarks/results/training.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import RandomSampler

from benchmarks import machine, speed
from lumbarseg.anatomy import CLASSES, STRUCTURES
from lumbarseg.cli.main import main as lumbarseg
from lumbarseg.datasets import Dataset
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.data import load_training_data
from lumbarseg.training.memory_budget import settings_for_budget
from lumbarseg.training.networks import build_network
from lumbarseg.training.sampling import VolumeSampler, stream_batches
from lumbarseg.training.settings import TrainingSettings
from lumbarseg.training.state import create_state
from lumbarseg.training.trainer import train_step

Row = dict[str, Any]
RESULTS = speed.ROOT / "benchmarks" / "results" / "training.json"
TARGET = 2.0
WARM = 2  # steps that are not timed
SIDES = ("ours", "theirs")


def settings_of(network: str, memory: float) -> TrainingSettings:
    """Return the settings of the default planar network, or of another one that fits `memory` GB."""
    base = TrainingSettings(steps=1_000_000)
    return base if network == "planar" else settings_for_budget(base, {"network": network, "memory_gb": memory})


def time_steps(steps: Iterator[float], seconds: float) -> Row:
    """Time training steps for about `seconds`, at least three, after a warm-up."""
    for _ in range(WARM):
        next(steps)
    start, began, count = time.perf_counter(), time.process_time(), 0
    while count < 3 or time.perf_counter() - start < seconds:
        loss = next(steps)
        count += 1
    seconds_used, work = time.perf_counter() - start, time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"steps": count, "per_step": seconds_used / count, "work": work / count, "loss": loss, "peak": peak}


def our_steps(settings: TrainingSettings, folder: Path) -> Iterator[float]:
    """Yield the losses of our training loop."""
    torch.set_num_threads(os.cpu_count() or 1)
    data = load_training_data(settings, [Dataset.open(folder)], PreprocessingSpec())
    state = create_state(settings, data)
    for batch in stream_batches(VolumeSampler.from_volumes(data.train, ()), settings, 0, settings.steps):
        yield train_step(state, batch)


def monai_steps(settings: TrainingSettings, folder: Path) -> Iterator[float]:
    """Yield the losses of a loop as in MONAI's tutorials, with the same network."""
    from monai.data import CacheDataset, DataLoader
    from monai.losses import DiceCELoss

    cases = [{"image": str(case.image), "label": str(case.labels)} for case in Dataset.open(folder).cases("train")]
    data = CacheDataset(cases, transform=_transforms(settings), cache_rate=1.0, progress=False)
    endless = RandomSampler(data, replacement=True, num_samples=1_000_000)  # no new workers at each small epoch
    loader = DataLoader(data, batch_size=settings.batch_size, sampler=endless, num_workers=settings.loader_threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = build_network(settings).to(device)
    loss_function = DiceCELoss(to_onehot_y=True, softmax=True)
    optimiser = torch.optim.AdamW(network.parameters(), 1e-4)
    for rows in loader:
        images, labels = rows["image"].as_tensor().to(device), rows["label"].as_tensor().to(device)
        if not settings.depth:  # a slice with its neighbours
            images, labels = images[:, 0], labels[:, :, 2]
        optimiser.zero_grad()
        value = loss_function(network(images), labels)
        value.backward()
        optimiser.step()
        yield float(value.detach())


def _transforms(settings: TrainingSettings) -> Callable[[Any], Any]:
    """Return MONAI transforms: read, orient, resample in plane, six classes, crop, and augment."""
    from monai import transforms as t

    keys, size = ("image", "label"), (settings.depth or 5, settings.crop_size, settings.crop_size)
    values = [structure.label for structure in STRUCTURES]
    kinds = [CLASSES.index(structure.kind) for structure in STRUCTURES]
    return t.Compose(
        [
            t.LoadImaged(keys),
            t.EnsureChannelFirstd(keys),
            t.Orientationd(keys, axcodes="RAS"),
            t.Spacingd(keys, pixdim=(-1.0, 1.0, 1.0), mode=("bilinear", "nearest")),
            t.ScaleIntensityRangePercentilesd("image", 0.5, 99.7, 0, 1, clip=True),
            t.MapLabelValued("label", values, kinds),
            t.SpatialPadd(keys, size),
            t.RandCropByPosNegLabeld(keys, "label", size, pos=3, neg=1, num_samples=1, allow_smaller=False),
            t.RandAffined(
                keys,
                prob=1.0,
                rotate_range=(0.14, 0.0, 0.0),
                scale_range=(0.0, 0.16, 0.16),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            ),
            t.RandFlipd(keys, prob=0.5, spatial_axis=0),
            t.RandAdjustContrastd("image", prob=0.5, gamma=(0.65, 1.5)),
            t.RandScaleIntensityd("image", 0.2, prob=0.5),
            t.RandGaussianNoised("image", prob=0.5, std=0.08),
            t.RandGaussianSmoothd("image", prob=0.25),
            t.EnsureTyped(keys),
        ]
    )


def rounds(folder: Path, network: str, times: int, seconds: float, memory: float) -> list[Row]:
    """Run both sides in turn, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--data", folder, "--network", network]
    command += ["--seconds", str(seconds), "--memory", str(memory)]
    rows = []
    for number in range(times):
        row: Row = {"load": round(os.getloadavg()[0], 2)}
        for side in SIDES if number % 2 == 0 else reversed(SIDES):
            row[side] = json.loads(speed.run_process([*command, "--side", side]).output.splitlines()[-1])
        text = ", ".join(f"{side} {row[side]['per_step']:.2f} s a step" for side in SIDES)
        print(f"{network}, round {number + 1}: {text}; load before {row['load']}", flush=True)
        rows.append(row)
    return rows


def result(network: str, runs: Sequence[Row], settings: TrainingSettings) -> Row:
    """Return the result of one network."""
    ratios = {what: [row["theirs"][what] / row["ours"][what] for row in runs] for what in ("per_step", "work")}
    ratio = statistics.median(ratios["per_step"])
    return {
        "network": network,
        "channels": settings.channels,
        "batch": settings.batch_size,
        "block": [settings.depth or 5, settings.crop_size, settings.crop_size],
        "rounds": runs,
        "steps_per_second": {side: 1 / statistics.median(row[side]["per_step"] for row in runs) for side in SIDES},
        "peak_megabytes": {side: max(row[side]["peak"] for row in runs) / 1e6 for side in SIDES},
        "ratio": {
            "seconds": ratio,
            "in_each_round": ratios["per_step"],
            "processor_seconds": statistics.median(ratios["work"]),
        },
        "target": {
            "what": f"{network}: steps per second to those of a plain MONAI loop",
            "target": TARGET,
            "figure": round(ratio, 3),
            "unit": "x",
            "pass": ratio >= TARGET,
        },
    }


def table(rows: Sequence[Row]) -> str:
    """Format the result as a Markdown table."""
    lines = ["| network | steps/s | MONAI's loop | ratio | of processor seconds | MB | MONAI's |", "|---|" + "--:|" * 6]
    for row in rows:
        steps, peak, ratio = row["steps_per_second"], row["peak_megabytes"], row["ratio"]
        cells = [f"{steps[side]:.2f}" for side in SIDES] + [f"{ratio['seconds']:.1f}"]
        cells += [f"{ratio['processor_seconds']:.1f}", *(f"{peak[side]:.0f}" for side in SIDES)]
        lines.append(f"| {row['network']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.training", description=__doc__)
    parser.add_argument("--data", type=Path, help="a prepared dataset (default: twelve phantoms, made for it)")
    parser.add_argument("--network", action="append", help="which (planar and segresnet)")
    parser.add_argument("--rounds", type=int, default=3, help="of either side (3)")
    parser.add_argument("--seconds", type=float, default=15.0, help="that a side is timed in a round (15)")
    parser.add_argument("--memory", type=float, default=1.5, help="budget of 3-D networks, GB (1.5)")
    parser.add_argument("--side", choices=SIDES, help="do one side of one network alone, once")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
    args = parser.parse_args()
    networks = args.network or ["planar", "segresnet"]
    if args.side:
        steps = {"ours": our_steps, "theirs": monai_steps}[args.side](settings_of(networks[0], args.memory), args.data)
        print(json.dumps(time_steps(steps, args.seconds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        data = args.data or Path(folder) / "phantoms"
        if not args.data and lumbarseg(["phantom", str(data), "-n", "12", "--seed", "5"]):
            sys.exit("the phantoms could not be made")
        rows = [
            result(n, rounds(data, n, args.rounds, args.seconds, args.memory), settings_of(n, args.memory))
            for n in networks
        ]
    text = {
        "machine": machine.machine_facts() | {"torch": str(torch.__version__)},
        "networks": rows,
        "targets": [row["target"] for row in rows],
    }
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(text, indent=1) + "\n")
    print(f"\n{machine.describe_machine(text['machine'])}\n\n{table(rows)}\n\nwritten to {args.o}")


if __name__ == "__main__":
    main()
