"""Models of discs only, from files with the label values 6 to 9: python -m benchmarks.discs --real FOLDER -o OUT.

The discs of the SPIDER slabs (real/spider_space), which share one value there, are written with a value each, counted
upward from the lowest: 10 is L5-S1, 9 is L4-L5, ... 6 is L1-L2, 60 every disc above. The label table beside the files
explains the values. Then: import, train once from the shipped weights and once from scratch, export, and evaluate on
the validation patients. Prints what `evaluate` prints; OUT keeps everything.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmarks import speed
from benchmarks.project_page import ROWS
from lumbarseg.cli.main import main as lumbarseg
from lumbarseg.io import read_image, read_labels, write_image, write_labels
from lumbarseg.volume import Array, Volume

DISC = 2  # in the slabs' files
TAGS = (10, 9, 8, 7, 6)  # from the lowest disc upward
NAMES = {"6": "L1-L2", "7": "L2-L3", "8": "L3-L4", "9": "L4-L5", "10": "L5-S1"}
ABOVE = 60
ELSE = ["background", "body", "arch", "canal", "sacrum"]  # drawn in the slabs' files, not in these
PIECE = 0.2  # of the usual disc's size: less is a crumb of one


def number_discs(discs: Array, upward: Array) -> Array:
    """Give each disc its own value, (I, J, K) uint8.

    discs : (I, J, K) bool
    upward : mm upward for a step along each axis
    """
    pieces, count = ndimage.label(discs)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    large = [number for number in range(1, count + 1) if sizes[number - 1] > PIECE * np.median(sizes)]
    heights = {n: float(upward @ np.argwhere(pieces == n).mean(axis=0)) for n in large}
    lookup = np.zeros(count + 1, np.uint8)
    for index, number in enumerate(sorted(large, key=lambda n: heights[n])):
        lookup[number] = TAGS[index] if index < len(TAGS) else ABOVE
    return lookup[pieces]


def write_dataset(source: Path, target: Path) -> None:
    """Write the exams of a folder with numbered discs, and their label table."""
    for path in sorted(source.glob("*_labels.nii.gz")):
        labels = read_labels(path)
        write_labels(
            Volume(number_discs(labels.array == DISC, labels.affine[2, :3]), labels.affine), target / path.name, ()
        )
        image = path.name.replace("_labels", "_image")
        write_image(read_image(source / image), target / image)
    table = {"0": ELSE, str(ABOVE): ["disc"]} | {tag: [name] for tag, name in NAMES.items()}
    (target / "labels.json").write_text(json.dumps(table))


def run(*arguments: object) -> None:
    """Run one lumbarseg command; exit if it fails."""
    print(f"\nlumbarseg {' '.join(map(str, arguments))}", flush=True)
    if lumbarseg([str(word) for word in arguments]) not in (0, 3):
        sys.exit(1)


def main() -> None:
    """Write, import, train twice, evaluate twice."""
    real = Path(os.environ.get("LUMBARSEG_REAL", speed.ROOT.parent / "shared" / "real"))
    parser = argparse.ArgumentParser(prog="benchmarks.discs", description=__doc__)
    parser.add_argument("--real", type=Path, default=real, help="folder of real exams (default: LUMBARSEG_REAL)")
    parser.add_argument("-o", type=Path, required=True, metavar="OUT", help="output folder")
    parser.add_argument(
        "--minutes", type=float, nargs=2, default=(2.0, 5.0), help="from the shipped weights, from none"
    )
    args = parser.parse_args()
    for split, held in (("train", ()), ("test", ("--val-fraction", "0"))):
        pairs = args.o / "files" / split
        write_dataset(args.real / "spider_space" / split, pairs)
        run("import", "folder", pairs, args.o / split, "--table", pairs / "labels.json", *held)
    for init, minutes in zip(("shipped", "none"), args.minutes, strict=True):
        folder = args.o / init
        recipe = [*ROWS["discs-4"].train_options(init), "--minutes", minutes, "--validation-interval", 200]
        if init == "none":
            recipe += ["--crop-size", 128, "--batch-size", 6]
        run("train", args.o / "train", "-o", folder, *recipe)
        run("export", folder, "-o", folder / "discs.onnx")
        run("evaluate", folder / "discs.onnx", args.o / "test", "--no-distances")


if __name__ == "__main__":
    main()
