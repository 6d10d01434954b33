"""Import and standardisation against nnU-Net's own preprocessing, on the same files: python -m benchmarks.importing.

The files lie as nnU-Net wants them: phantoms on the grid of routine exams, pixels of 0.5 to 0.7 mm, and some real exams
where --real holds them. Ours is `import_source`, then every case as the network reads it (the trainer's own
preparation), written as arrays. Theirs is `nnUNetv2_plan_and_preprocess` for one configuration, 3d_fullres; by default
it prepares up to three. Both are whole processes with the same number of workers, run in turn, on empty folders.
A second ratio is that of processor seconds, which other work on the machine hardly changes, and a third leaves out what
nnU-Net spends on its start (--help). It gets an environment of its own in .bench/nnunet, made when it is missing.
Writes benchmarks/results/importing.json.
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
    """Write `count` exams into nnU-Net's raw folder; gives their names."""
    place = folder / NAME
    found = sorted((real / "spider_space" / "train").glob("*_image.nii.gz"))[: min(REAL, count)] if real else []
    names = []
    for path in found:
        name = f"space_{path.name.partition('_')[0]}"
        labels = read_labels(path.with_name(path.name.replace("_image.", "_labels.")))
        _write(place, name, read_image(path), labels)
        names.append(name)
    names += ProcessExecutor(jobs).map(partial(_phantom, place), range(count - len(found)))
    told = {"channel_names": {"0": "T2"}, "labels": LABELS, "numTraining": len(names), "file_ending": ".nii.gz"}
    (place / "dataset.json").write_text(json.dumps(told, indent=1))
    return names


def _phantom(place: Path, number: int) -> str:
    phantom = speed.routine_phantom(number, PIXELS[number % len(PIXELS)])
    lookup = np.zeros(256, np.uint8)
    for structure in STRUCTURES:
        lookup[structure.label] = KINDS.get(structure.kind, 0)
    labels = phantom.labels
    _write(place, f"phantom_{number:03d}", phantom.image, Volume(lookup[labels.array], labels.affine))
    return f"phantom_{number:03d}"


def _write(place: Path, name: str, image: Volume, labels: Volume) -> None:
    """As scanners and annotators give them: 16 bit, and bytes."""
    write_image(Volume(np.rint(image.array).astype(np.int16), image.affine), place / "imagesTr" / f"{name}_0000.nii.gz")
    write_labels(labels, place / "labelsTr" / f"{name}.nii.gz", ())


def import_and_preprocess(raw: Path, folder: Path, jobs: int) -> Row:
    """Import the raw files, then write every case as the network reads it; gives the seconds of both."""
    start = time.perf_counter()
    done = import_source(nnunet.make_importer(raw / NAME), raw / NAME, folder / "set", jobs)
    middle = time.perf_counter()
    out = folder / "ready"
    out.mkdir()
    codes = PartialLabelCodec.from_tables(case.label_table for case in done.dataset.cases())
    task = partial(_standardised, replace(done.dataset, all_cases=()), codes, out)
    made = sum(1 for _ in ProcessExecutor(jobs).map(task, done.dataset.cases()))
    return {"import": middle - start, "standardise": time.perf_counter() - middle, "made": made}


def _standardised(dataset: Dataset, codes: PartialLabelCodec, out: Path, case: Case) -> str:
    (stack,) = load_volumes([replace(dataset, all_cases=(case,))], case.split, codes, PreprocessingSpec())
    np.savez(out / case.name, image=stack.image, codes=stack.codes)
    return case.name


def environment(folder: Path = ENVIRONMENT) -> Path:
    """Where nnU-Net's commands are, installed into an environment of their own when they are missing."""
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


def time_ours(raw: Path, folder: Path, jobs: int) -> Row:
    """Seconds of our process, from the raw files to what the network reads, and of its two halves."""
    words = [sys.executable, "-m", "benchmarks.importing", "--ours", raw, folder, "--jobs", str(jobs)]
    run = speed.run_process(words)
    return {"whole": run.seconds, "work": run.work, **json.loads(run.output.splitlines()[-1])}


def time_nnunet(programs: Path, raw: Path, folder: Path, jobs: int) -> Row:
    """Seconds of nnU-Net's process, and how many cases it wrote."""
    os.environ.update({"nnUNet_raw": str(raw), "nnUNet_preprocessed": str(folder), "nnUNet_results": str(folder)})
    workers = ["-npfp", str(jobs), "-np", str(jobs)]
    run = speed.run_process(
        [programs / "nnUNetv2_plan_and_preprocess", "-d", str(NUMBER), "-c", "3d_fullres", *workers]
    )
    made = len(list((folder / NAME).glob("nnUNetPlans_3d_fullres/*.pkl")))
    return {"whole": run.seconds, "work": run.work, "made": made}


def rounds(programs: Path, raw: Path, count: int, times: int, jobs: int) -> Iterator[Row]:
    """Both sides in turn, each on an empty folder; who begins changes from round to round."""
    for number in range(times):
        row: Row = {"load": round(os.getloadavg()[0], 2)}
        sides = {"ours": partial(time_ours, raw), "theirs": partial(time_nnunet, programs, raw)}
        for name in list(sides) if number % 2 == 0 else reversed(list(sides)):
            with tempfile.TemporaryDirectory() as folder:
                row[name] = sides[name](Path(folder), jobs)
            if row[name]["made"] != count:
                raise RuntimeError(f"{name}: {row[name]['made']} of {count} volumes were made")
        print(f"round {number + 1}: {format_round(row)}", flush=True)
        yield row


def format_round(row: Row) -> str:
    """One round in words."""
    own, other = row["ours"], row["theirs"]
    halves = f"import {own['import']:.1f} s, standardise {own['standardise']:.1f} s"
    work = f"processors {own['work']:.1f} s and {other['work']:.1f} s"
    return f"ours {own['whole']:.1f} s ({halves}), nnU-Net {other['whole']:.1f} s; {work}; load before {row['load']}"


def nnunet_startup_time(programs: Path) -> float:
    """Processor seconds of nnU-Net's command when it is only asked for help."""
    help_of = [programs / "nnUNetv2_plan_and_preprocess", "--help"]
    return statistics.median(speed.run_process(help_of).work for _ in range(3))


def result(runs: Sequence[Row], start: float, files: Row, jobs: int) -> Row:
    """Everything as plain values for JSON."""
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
    """All figures; files lie in `folder`."""
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


def _real(given: Path | None) -> Path | None:
    """The folder of real exams, if there is one."""
    folder = given or Path(os.environ.get("LUMBARSEG_REAL", ROOT.parent / "shared" / "real"))
    return folder if (folder / "spider_space").is_dir() else None


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="benchmarks.importing", description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="volumes (20)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of either side (3)")
    parser.add_argument(
        "--jobs", type=int, default=available_cpus(), help="worker processes of either side (one per core)"
    )
    parser.add_argument("--real", type=Path, help="folder of real exams; LUMBARSEG_REAL says it too")
    parser.add_argument("--nnunet", type=Path, default=ENVIRONMENT, help="environment with nnU-Net, made when missing")
    parser.add_argument("--ours", type=Path, nargs=2, metavar=("RAW", "OUT"), help="do our side alone, once")
    parser.add_argument("-o", type=Path, default=RESULTS, help="where the JSON goes")
    args = parser.parse_args()
    if args.ours:
        print(json.dumps(import_and_preprocess(*args.ours, args.jobs)))
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # as nnU-Net advises; workers are the parallel part on both sides
    programs = environment(args.nnunet)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(programs, Path(folder), args.n, _real(args.real), args.rounds, args.jobs)
    args.o.parent.mkdir(parents=True, exist_ok=True)
    args.o.write_text(json.dumps(found, indent=1) + "\n")
    speeds, ratio = found["volumes_per_second"], found["ratio"]
    print(
        f"\n{machine.describe_machine(found['machine'])}; {found['workers']} workers, {found['files']['volumes']} volumes"
    )
    print(f"ours {speeds['ours']:.2f} volumes a second, nnU-Net {speeds['theirs']:.2f}")
    spread = ", ".join(f"{value:.1f}" for value in ratio["in_each_round"])
    print(f"ratio {ratio['seconds']:.1f} ({spread}); of processor seconds {ratio['processor_seconds']:.1f}")
    print(f"without nnU-Net's start {ratio['processor_seconds_without_their_start']:.1f}")
    print(f"written to {args.o}")


if __name__ == "__main__":
    main()
