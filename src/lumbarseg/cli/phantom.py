"""`lumbarseg phantom DIR -n N`: make a prepared dataset of synthetic exams with exact labels."""

from __future__ import annotations

import argparse
from pathlib import Path

from lumbarseg.phantom.dataset import write_phantoms

from . import console, options

DESCRIPTION = (
    "Writes synthetic lumbar exams with exact labels into a prepared dataset. Case K of seed S is always the same\n"
    "exam, whatever -n, --start and --jobs are. A folder that already has some of the cases is completed."
)
EXAMPLE = "lumbarseg phantom data/phantoms -n 500 --seed 1 --jobs 8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder of the dataset; made if it does not exist")
    parser.add_argument("-n", type=options.positive_int, default=10, metavar="N", help="number of cases (default: 10)")
    options.add_shared_options(parser, "--seed", help="other seeds give other exams (default: %(default)s)")
    parser.add_argument(
        "--start", type=options.non_negative_int, default=0, metavar="K", help="number of the first case (default: 0)"
    )
    parser.add_argument(
        "--shapes",
        type=Path,
        metavar="DIR",
        help="real vertebrae instead of procedural ones: meshes SOURCE/L3.ply, or label maps as TotalSegmentator "
        "writes them",
    )
    options.add_shared_options(parser, "--jobs", "--json")


def run(args: argparse.Namespace) -> int:
    """Write the cases that the dataset does not have yet."""
    with console.progress_bar("phantoms") as bar:
        numbers = range(args.start, args.start + args.n)
        new, total = write_phantoms(args.folder, args.seed, numbers, args.jobs, bar.advance, args.shapes)
    if args.json:
        console.print_json({"folder": str(args.folder), "made": new, "cases": total})
    else:
        print(f"{args.folder}: {new} new cases, {total} in the dataset")
    return console.EXIT_OK
