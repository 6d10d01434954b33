"""Import and preprocessing compared with nnU-Net's, on the same files: python -m benchmarks.importing.

The files lie as nnU-Net expects them: phantoms on the grid of routine exams, pixels of 0.5 to 0.7 mm, and some real
exams if --real has them. Our side is `import_source`, then every case preprocessed as for training, written as arrays.
nnU-Net's side is `nnUNetv2_plan_and_preprocess` for one configuration, 3d_fullres; by default it prepares up to three.
Both are complete processes with the same number of workers, run in turn, on empty folders. A second ratio is that of
processor seconds, which other load on the machine hardly changes, and a third leaves out nnU-Net's start-up (--help).
nnU-Net gets its own environment in .bench/nnunet, created if it is missing. Writes benchmarks/results/importing.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, speed
from lumbarseg.anatomy import STRUCTURES, Kind
from lumbarseg.cpus import available_cpus
from lumbarseg.datasets import Case, Dataset
from lumbarseg.datasets.importers import nnunet
from lumbarseg.datasets.importing import import_source
from lumbarseg.executors import ProcessExecutor
from lumbarseg.io import read_image, read_labels, write_image, write_labels
from lumbarseg.preprocessing import PreprocessingSpec
from lumbarseg.training.training_volumes import PartialLabelCodec, load_volumes
from lumbarseg.volume import Volume

Row = dict[str, Any]
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "importing.json"
ENVIRONMENT = ROOT / ".bench" / "nnunet"
NNUNET = "nnunetv2==2.8.1"
CONSTRAINTS = ("torchvision==0.28.0",)  # with others pip takes a torch that is built for graphics cards
NUMBER = 501
NAME = f"Dataset{NUMBER}_Lumbar"
LABELS = {"background": 0, "vertebra": 1, "disc": 2, "spinal canal": 3}
KINDS = {Kind.BODY: 1, Kind.ARCH: 1, Kind.DISC: 2, Kind.CANAL: 3}
PIXELS = (0.5, 0.55, 0.6, 0.65, 0.7)  # mm
REAL = 8  # exams of spider_space among the volumes, where there are some
TARGET = 3.0


def write_volumes(folder: Path, count: int, real: Path | None, jobs: int) -> list[str]:
    """Write `count` exams into nnU-Net's raw folder, and return their names."""
    folder_of_dataset = folder / NAME
    real_images = sorted((real / "spider_space" / "train").glob("*_image.nii.gz"))[: min(REAL, count)] if real else []
    names = []
    for path in real_images:
        name = f"space_{path.name.partition('_')[0]}"
        labels = read_labels(path.with_name(path.name.replace("_image.", "_labels.")))
        _write(folder_of_dataset, name, read_image(path), labels)
        names.append(name)
    names += ProcessExecutor(jobs).map(partial(_phantom, folder_of_dataset), range(count - len(real_images)))
    dataset_json = {"channel_names": {"0": "T2"}, "labels": LABELS, "numTraining": len(names), "file_ending": ".nii.gz"}
    (folder_of_dataset / "dataset.json").write_text(json.dumps(dataset_json, indent=1))
    return names


def _phantom(folder_of_dataset: Path, number: int) -> str:
    phantom = speed.routine_phantom(number, PIXELS[number % len(PIXELS)])
    lookup = np.zeros(256, np.uint8)
    for structure in STRUCTURES:
        lookup[structure.label] = KINDS.get(structure.kind, 0)
    labels = phantom.labels
    _write(folder_of_dataset, f"phantom_{number:03d}", phantom.image, Volume(lookup[labels.array], labels.affine))
    return f"phantom_{number:03d}"


def _write(folder_of_dataset: Path, name: str, image: Volume, labels: Volume) -> None:
    """Write an exam as scanners and annotators give them: 16-bit image, 8-bit labels."""
    write_image(
        Volume(np.rint(image.array).astype(np.int16), image.affine),
        folder_of_dataset / "imagesTr" / f"{name}_0000.nii.gz",
    )
    write_labels(labels, folder_of_dataset / "labelsTr" / f"{name}.nii.gz", ())


def import_and_preprocess(raw: Path, folder: Path, jobs: int) -> Row:
    """Import the raw files, then write every case preprocessed; return the seconds of both."""
    start = time.perf_counter()
    done = import_source(nnunet.make_importer(raw / NAME), raw / NAME, folder / "set", jobs)
    middle = time.perf_counter()
    out = folder / "ready"
    out.mkdir()
    codes = PartialLabelCodec.from_tables(case.label_table for case in done.dataset.cases())
    task = partial(_preprocess_case, replace(done.dataset, all_cases=()), codes, out)
    case_count = sum(1 for _ in ProcessExecutor(jobs).map(task, done.dataset.cases()))
    return {"import": middle - start, "standardise": time.perf_counter() - middle, "made": case_count}


def _preprocess_case(dataset: Dataset, codes: PartialLabelCodec, out: Path, case: Case) -> str:
    (stack,) = load_volumes([replace(dataset, all_cases=(case,))], case.split, codes, PreprocessingSpec())
    np.savez(out / case.name, image=stack.image, codes=stack.codes)
    return case.name


def environment(folder: Path = ENVIRONMENT) -> Path:
    """Return the folder of nnU-Net's commands, installed into an environment of their own if they are missing."""
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    if any(programs.glob("nnUNetv2_plan_and_preprocess*")):
        return programs
    pinned = re.search(r"^torch==\S+", (ROOT / "requirements" / "test.txt").read_text(), re.MULTILINE)
    torch = pinned[0] if pinned else "torch"
    print(f"making {folder}, once: {torch}, {NNUNET}", flush=True)
    venv.create(folder, with_pip=True)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join((torch, *CONSTRAINTS)))
    pip = [str(programs / "python"), "-m", "pip"]
    subprocess.run([*pip, "install", "-q", torch], check=True)
    subprocess.run([*pip, "install", "-q", NNUNET, "-c", str(constraints)], check=True)
    subprocess.run([*pip, "uninstall", "-q", "-y", "torchvision"], check=True)
    return programs


def time_lumbarseg(raw: Path, folder: Path, jobs: int) -> Row:
    """Return the seconds of our process, from the raw files to preprocessed cases, and of its two parts."""
    command = [sys.executable, "-m", "benchmarks.importing", "--ours", raw, folder, "--jobs", str(jobs)]
    run = speed.run_process(command)
    return {"whole": run.seconds, "work": run.work, **json.loads(run.output.splitlines()[-1])}


def time_nnunet(programs: Path, raw: Path, folder: Path, jobs: int) -> Row:
    """Return the seconds of nnU-Net's process, and how many cases it wrote."""
    os.environ.update({"nnUNet_raw": str(raw), "nnUNet_preprocessed": str(folder), "nnUNet_results": str(folder)})
    workers = ["-npfp", str(jobs), "-np", str(jobs)]
    run = speed.run_process(
        [programs / "nnUNetv2_plan_and_preprocess", "-d", str(NUMBER), "-c", "3d_fullres", *workers]
    )
    case_count = len(list((folder / NAME).glob("nnUNetPlans_3d_fullres/*.pkl")))
    return {"whole": run.seconds, "work": run.work, "made": case_count}


def rounds(programs: Path, raw: Path, count: int, times: int, jobs: int) -> Iterator[Row]:
    """Run both sides in turn, each on an empty folder; the first side alternates."""
    for number in range(times):
        row: Row = {"load": round(os.getloadavg()[0], 2)}
        sides = {"ours": partial(time_lumbarseg, raw), "theirs": partial(time_nnunet, programs, raw)}
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            with tempfile.TemporaryDirectory() as folder:
                row[name] = sides[name](Path(folder), jobs)
            if row[name]["made"] != count:
                raise RuntimeError(f"{name}: {row[name]['made']} of {count} volumes were made")
        print(f"round {number + 1}: {format_round(row)}", flush=True)
        yield row


def format_round(row: Row) -> str:
    """Format one round as text."""
    own, other = row["ours"], row["theirs"]
    halves = f"import {own['import']:.1f} s, standardise {own['standardise']:.1f} s"
    work = f"processors {own['work']:.1f} s and {other['work']:.1f} s"
    return f"ours {own['whole']:.1f} s ({halves}), nnU-Net {other['whole']:.1f} s; {work}; load before {row['load']}"


def nnunet_startup_time(programs: Path) -> float:
    """Return the processor seconds of nnU-Net's command with --help."""
    help_of = [programs / "nnUNetv2_plan_and_preprocess", "--help"]
    return statistics.median(speed.run_process(help_of).work for _ in range(3))


def result(runs: Sequence[Row], start: float, files: Row, jobs: int) -> Row:
    """Return everything as values for JSON."""
    ratios = {what: [row["theirs"][what] / row["ours"][what] for row in runs] for what in ("whole", "work")}
    ratio = statistics.median(ratios["whole"])
    bare = [(row["theirs"]["work"] - start) / row["ours"]["work"] for row in runs]
    return {
        "machine": machine.machine_facts(),
        "files": files,
        "workers": jobs,
        "rounds": runs,
        "start": start,
        "volumes_per_second": {
            side: files["volumes"] / statistics.median(row[side]["whole"] for row in runs)
            for side in ("ours", "theirs")
        },
        "ratio": {
            "seconds": ratio,
            "in_each_round": ratios["whole"],
            "processor_seconds": statistics.median(ratios["work"]),
            "processor_seconds_without_their_start": statistics.median(bare),
        },
        "targets": [
            {
                "what": "import and standardise, volumes per second to those of nnU-Net's preprocessing",
                "target": TARGET,
                "figure": round(ratio, 3),
                "unit": "x",
                "pass": ratio >= TARGET,
            }
        ],
    }


def measure(programs: Path, folder: Path, count: int, real: Path | None, times: int, jobs: int) -> Row:
    """Measure everything; files lie in `folder`."""
    before = time.perf_counter()
    names = write_volumes(folder, count, real, jobs)
    size = sum(path.stat().st_size for path in folder.rglob("*.nii.gz"))
    files = {
        "volumes": len(names),
        "phantoms": sum(name.startswith("phantom") for name in names),
        "shape": speed.SHAPE,
        "pixels": PIXELS,
        "megabytes": round(size / 1e6, 1),
    }
    print(f"{len(names)} volumes, {size / 1e6:.0f} MB, written in {time.perf_counter() - before:.0f} s", flush=True)
    start = nnunet_startup_time(programs)
    return result(list(rounds(programs, folder, len(names), times, jobs)), start, files, jobs)


def _real(folder: Path | None) -> Path | None:
    """Return the folder of real exams, if there is one."""
    folder = folder or Path(os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    return folder if (folder / "spider_space").is_dir() else None


def main() -> None:
    """Measure, print and write the result."""
    parser = argparse.ArgumentParser(prog="benchmarks.importing", description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="volumes (20)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of either side (3)")
    parser.add_argument(
        "--jobs", type=int, default=available_cpus(), help="worker processes of either side (one per core)"
    )
    parser.add_argument("--real", type=Path, help="folder of real exams (default: LUMBARSEG_REAL)")
    parser.add_argument("--nnunet", type=Path, default=ENVIRONMENT, help="environment with nnU-Net, created if missing")
    parser.add_argument("--ours", type=Path, nargs=2, metavar=("RAW", "OUT"), help="do our side alone, once")
    parser.add_argument("-o", type=Path, default=RESULTS, help="output file (JSON)")
    args = parser.parse_args()
    if args.ours:
        print(json.dumps(import_and_preprocess(*args.ours, args.jobs)))
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # as nnU-Net advises; workers are the parallel part on both sides
    programs = environment(args.nnunet)
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(programs, Path(folder), args.n, _real(args.real), args.rounds, args.jobs)
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(measured, indent=1) + "\n")
    speeds, ratio = measured["volumes_per_second"], measured["ratio"]
    volumes = measured["files"]["volumes"]
    print(f"\n{machine.describe_machine(measured['machine'])}; {measured['workers']} workers, {volumes} volumes")
    print(f"ours {speeds['ours']:.2f} volumes a second, nnU-Net {speeds['theirs']:.2f}")
    spread = ", ".join(f"{value:.1f}" for value in ratio["in_each_round"])
    print(f"ratio {ratio['seconds']:.1f} ({spread}); of processor seconds {ratio['processor_seconds']:.1f}")
    print(f"without nnU-Net's start {ratio['processor_seconds_without_their_start']:.1f}")
    print(f"written to {args.o}")


if __name__ == "__main__":
    main()
