"""nnU-Net on a fold of a prepared dataset, in as many processor minutes as our training: python -m benchmarks.nnunet.

Planning, preprocessing, augmentation, network, loss, optimizer and prediction are nnU-Net's, on the CPU; without
mirroring, which would turn L1 into L5, and with the learning rate schedule fitted to the time (trainers/minutes.py).
Planning and preprocessing are not counted. The label maps of the validation exams lie in OUT/2d and OUT/3d_fullres, and
are scored like any others:

lumbarseg evaluate --labels OUT/2d DATASET --fold 1/5 --split val
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import speed
from benchmarks.importing import ENVIRONMENT, NAME, NUMBER, environment
from lumbarseg.anatomy import LUMBAR_LEVELS, structure_by_name
from lumbarseg.cli.options import parse_fold
from lumbarseg.datasets import Case, Dataset
from lumbarseg.datasets.selection import Selection, select_cases
from lumbarseg.datasets.splits import SplitSettings
from lumbarseg.io import read_labels, write_labels
from lumbarseg.volume import Volume

TRAINER = "MinutesTrainer"
# A transformer of nnU-Net's, which is not used here, wants timm, which wants a torchvision built for graphics cards.
EMPTY_MODULE = """
def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (), {})
"""


@dataclass(frozen=True)
class NnunetPaths:
    """Folders of nnU-Net's commands and files."""

    programs: Path
    folder: Path

    def run(self, command: Sequence[str | Path], minutes: float = 0.0) -> speed.ProcessRun:
        """Run one of nnU-Net's commands to its end."""
        timm = self.folder / "standins" / "timm"
        for part in ("", "layers", "models", "models/eva"):
            (timm / part).mkdir(parents=True, exist_ok=True)
            (timm / part / "__init__.py").write_text(EMPTY_MODULE if part else "")
        own = {
            "PYTHONPATH": str(timm.parent),
            "nnUNet_raw": str(self.folder / "raw"),
            "nnUNet_preprocessed": str(self.folder / "preprocessed"),
            "nnUNet_results": str(self.folder / "results"),
            "nnUNet_extTrainer": str(Path(__file__).parent / "trainers"),
            "nnUNet_n_proc_DA": "0" if minutes else "1",  # augmentation in the process whose time is counted
            "nnUNet_compile": "false",
            "LUMBARSEG_MINUTES": str(minutes),
        }
        return speed.run_process([self.programs / command[0], *command[1:]], os.environ | own)


def write_fold(paths: NnunetPaths, dataset: Dataset, fold: tuple[int, int]) -> list[Case]:
    """Write the fold as nnU-Net expects it, bodies of L1 to L5 as 1 to 5; return the validation cases."""
    held = {
        split: select_cases([dataset], Selection(split=split), SplitSettings(fold))[0].all_cases
        for split in ("train", "val")
    }
    raw = paths.folder / "raw" / NAME
    for case in (*held["train"], *held["val"]):
        (raw / "imagesTr").mkdir(parents=True, exist_ok=True)
        shutil.copy(dataset.folder / case.image, raw / "imagesTr" / f"{case.name}_0000.nii.gz")
        write_labels(_bodies(dataset, case), raw / "labelsTr" / f"{case.name}.nii.gz", ())
    labels = {"background": 0} | {name: structure_by_name(name).label for name in LUMBAR_LEVELS}
    dataset_json = {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii.gz"}
    dataset_json["numTraining"] = sum(len(cases) for cases in held.values())
    (raw / "dataset.json").write_text(json.dumps(dataset_json, indent=1))
    split = {name: [case.name for case in cases] for name, cases in held.items()}
    folder = paths.folder / "preprocessed" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "splits_final.json").write_text(json.dumps([split]))
    return list(held["val"])


def _bodies(dataset: Dataset, case: Case) -> Volume:
    """Return the bodies of L1 to L5 of a case."""
    labels = read_labels(dataset.folder / case.labels)
    lookup = np.zeros(256, np.uint8)
    for value, names in case.label_table.items():
        for name in set(names) & set(LUMBAR_LEVELS):
            lookup[value] = structure_by_name(name).label
    return Volume(lookup[labels.array], labels.affine)


def train_and_predict(paths: NnunetPaths, configuration: str, minutes: float, out: Path) -> str:
    """Train and predict the validation exams; return a description of the effort."""
    command = ["nnUNetv2_train", str(NUMBER), configuration, "0", "-tr", TRAINER, "-device", "cpu"]
    run = paths.run(command, minutes)
    folder = paths.folder / "results" / NAME / f"{TRAINER}__nnUNetPlans__{configuration}" / "fold_0" / "validation"
    out.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.nii.gz"):
        shutil.copy(file, out / file.name)
    steps = re.search(r"lumbarseg: (\d+) steps", run.output)
    return (
        f"{configuration}: {steps[1] if steps else '?'} steps; whole command {run.work / 60:.1f} processor minutes, "
        f"{run.seconds / 60:.1f} by the clock, {run.peak / 1e9:.1f} GB"
    )


def main() -> None:
    """Prepare once, then train each configuration and print how to score it."""
    parser = argparse.ArgumentParser(prog="benchmarks.nnunet", description=__doc__)
    parser.add_argument("dataset", type=Path, help="prepared dataset with vertebral bodies")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="output folder")
    parser.add_argument("--fold", type=parse_fold, default=(1, 5), metavar="K/N", help="which fold is held out (1/5)")
    parser.add_argument("--minutes", type=float, default=60.0, help="processor minutes of training (60)")
    parser.add_argument("--configurations", nargs="+", default=["2d", "3d_fullres"], help="2d 3d_fullres")
    parser.add_argument("--nnunet", type=Path, default=ENVIRONMENT, help="environment with nnU-Net, created if missing")
    args = parser.parse_args()
    paths = NnunetPaths(environment(args.nnunet).absolute(), args.o.absolute() / "nnunet")
    write_fold(paths, Dataset.open(args.dataset), args.fold)
    configurations = ["-c", *args.configurations, "-np", *["2"] * len(args.configurations)]
    paths.run(["nnUNetv2_plan_and_preprocess", "-d", str(NUMBER), *configurations])
    k, n = args.fold
    for configuration in args.configurations:
        print(train_and_predict(paths, configuration, args.minutes, args.o / configuration), flush=True)
        print(f"lumbarseg evaluate --labels {args.o / configuration} {args.dataset} --fold {k}/{n} --split val")


if __name__ == "__main__":
    sys.exit(main())
