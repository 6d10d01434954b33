"""One routine exam with three programs, complete processes: python -m benchmarks.peers.

Ours is `lumbarseg segment`, with onnxruntime and with OpenVINO. nnU-Net's is `nnUNetv2_predict` with its default
3d_fullres plan for five such exams, with mirroring as users run it, and without; its weights are random, which costs
the same. MONAI's is a SegResNet in `sliding_window_inference` at 1.5 mm, windows of 96 voxels that overlap by half,
as in the sample app of MONAI Label. The exam is that of benchmarks.speed; each program may use every core. Ours runs
before and after each of the others and counts as the median; the others, minutes long, run --rounds times.
nnU-Net gets its own environment in .bench/nnunet. Writes benchmarks/results/peers.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, speed
from benchmarks.importing import ENVIRONMENT, NAME, NUMBER, environment, write_volumes
from benchmarks.nnunet import NnunetPaths
from lumbarseg.io import write_image

Row = dict[str, Any]
RESULTS = speed.ROOT / "benchmarks" / "results" / "peers.json"
PLAN = "3d_fullres"
WITH, WITHOUT, MONAI = "nnU-Net, mirroring", "nnU-Net, no mirroring", "MONAI sliding window"
TARGETS = {("openvino", WITH): 600.0, ("openvino", WITHOUT): 95.0, ("onnxruntime", WITH): 300.0}
TARGETS[("onnxruntime", WITHOUT)] = 47.5
UNTRAINED = """
import json, sys
import torch
from pathlib import Path
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
place = Path(sys.argv[1])
plans, told = (json.loads((place / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))
plans["continue_training"] = False
trainer = nnUNetTrainer(plans, sys.argv[2], 0, told, device=torch.device("cpu"))
trainer.initialize()
trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()  # says along which axes its prediction mirrors
trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
for name, values in (("plans.json", plans), ("dataset.json", told)):
    (Path(trainer.output_folder_base) / name).write_text(json.dumps(values))
"""


def untrained(paths: NnunetPaths) -> None:
    """Plan for five routine exams, and write a checkpoint with random weights."""
    write_volumes(paths.folder / "raw", 5, None, 1)
    paths.run(["nnUNetv2_plan_and_preprocess", "-d", str(NUMBER), "-c", PLAN, "-np", "2"])
    folder = paths.folder / "preprocessed" / NAME
    summary = folder / "dataset.json"
    summary.write_text((paths.folder / "raw" / NAME / "dataset.json").read_text())
    paths.run(["python", "-c", UNTRAINED, folder, PLAN])


def monai(exam: Path, out: Path) -> None:
    """Run MONAI's sliding window on one exam, in a process of its own."""
    import torch
    from monai.inferers import sliding_window_inference
    from monai.networks.nets import SegResNet
    from monai.transforms import (
        Compose,
        EnsureChannelFirst,
        LoadImage,
        NormalizeIntensity,
        Orientation,
        SaveImage,
        Spacing,
    )

    steps = [
        LoadImage(),
        EnsureChannelFirst(),
        Orientation("RAS", labels=None),
        Spacing((1.5, 1.5, 1.5)),
        NormalizeIntensity(nonzero=True),
    ]
    image = Compose(steps)(exam)
    torch.manual_seed(0)
    network = SegResNet(init_filters=32, out_channels=20, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)).eval()
    with torch.inference_mode():
        logits = sliding_window_inference(image[None], (96, 96, 96), 1, network, overlap=0.5)
        labels = logits.argmax(1).to(torch.uint8)
    SaveImage(out, print_log=False, separate_folder=False)(labels)


def commands(paths: NnunetPaths, exam: Path, folder: Path, program: Path) -> dict[str, Callable[[], speed.ProcessRun]]:
    """Return the programs to run, by name."""
    predict = ["nnUNetv2_predict", "-i", folder / "in", "-o", folder / "nn", "-d", str(NUMBER), "-c", PLAN]
    predict += ["-f", "0", "-device", "cpu"]
    own = [program, "segment", exam, "-o", folder / "own", "--overwrite", "--device"]
    window = [sys.executable, "-m", "benchmarks.peers", "--window", exam, folder / "window"]
    return {
        "onnxruntime": lambda: speed.run_process([*own, "cpu"]),
        "openvino": lambda: speed.run_process([*own, "openvino"]),
        MONAI: lambda: speed.run_process(window),
        WITHOUT: lambda: paths.run([*predict, "--disable_tta"]),
        WITH: lambda: paths.run(predict),
    }


def rounds(runs: dict[str, Callable[[], speed.ProcessRun]], times: int) -> dict[str, list[Row]]:
    """Run every program `times` times; ours before and after each of the others."""
    runs_by_program: dict[str, list[Row]] = {name: [] for name in runs}
    own, others = [*runs][:2], [*runs][2:]

    def note(name: str) -> None:
        load = round(os.getloadavg()[0], 2)
        run = runs[name]()
        row = {"seconds": round(run.seconds, 3), "work": round(run.work, 2), "peak": run.peak, "load": load}
        runs_by_program[name].append(row)
        summary = f"{name}: {run.seconds:.2f} s, processors {run.work:.2f} s, {run.peak / 1e6:.0f} MB"
        print(f"{time.strftime('%H:%M:%S')} {summary}; load before {load}", flush=True)

    for name in own:
        runs[name]()  # the file cache warms up
    for _ in range(times):
        for other in others:
            for name in (*own, *own, other, *own):
                note(name)
    return runs_by_program


def result(runs_by_program: dict[str, list[Row]]) -> Row:
    """Return medians, and the time of each program relative to ours."""
    middle = {
        name: {key: statistics.median(row[key] for row in rows) for key in ("seconds", "work", "peak")}
        for name, rows in runs_by_program.items()
    }
    own = ("onnxruntime", "openvino")
    ratios = {
        engine: {
            other: {key: round(middle[other][key] / middle[engine][key], 1) for key in ("seconds", "work", "peak")}
            for other in middle
            if other not in own
        }
        for engine in own
    }
    targets = [
        {
            "what": f"`segment` with {engine} against {other}",
            "target": target,
            "figure": ratios[engine][other]["seconds"],
            "unit": "x",
            "pass": ratios[engine][other]["seconds"] >= target,
        }
        for (engine, other), target in TARGETS.items()
    ]
    facts = {"machine": machine.machine_facts(), "shape": speed.SHAPE, "pixel": speed.PIXEL}
    return {**facts, "median": middle, "ratios": ratios, "rounds": runs_by_program, "targets": targets}


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each of the other programs (1)")
    parser.add_argument("--program", type=Path, default=Path(sys.executable).with_name("lumbarseg"), help="ours")
    parser.add_argument("--nnunet", type=Path, default=ENVIRONMENT, help="environment with nnU-Net, created if missing")
    parser.add_argument("--window", type=Path, nargs=2, metavar=("EXAM", "OUT"), help="do MONAI's part alone, once")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
    args = parser.parse_args()
    if args.window:
        monai(*args.window)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = NnunetPaths(environment(args.nnunet).absolute(), folder / "nnunet")
        untrained(paths)
        exam = folder / "in" / "exam_0000.nii.gz"
        volume = speed.routine_exam()
        write_image(type(volume)(np.rint(volume.array).astype(np.int16), volume.affine), exam)
        runs_by_program = result(rounds(commands(paths, exam, folder, args.program), args.rounds))
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(runs_by_program, indent=1) + "\n")
    print(f"\n{machine.describe_machine(runs_by_program['machine'])}\n")
    print("| | s | processor s | MB | times onnxruntime | times OpenVINO |")
    print("|---|" + "--:|" * 5)
    for what, row in runs_by_program["median"].items():
        times = [
            str(runs_by_program["ratios"][own].get(what, {}).get("seconds", "")) for own in ("onnxruntime", "openvino")
        ]
        print(f"| {what} | {row['seconds']:.2f} | {row['work']:.2f} | {row['peak'] / 1e6:.0f} | {' | '.join(times)} |")
    print(f"\nwritten to {args.o}")


if __name__ == "__main__":
    main()
