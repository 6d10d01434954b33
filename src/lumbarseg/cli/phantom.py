"""`lumbarseg phantom DIR -n N`: synthetic exams with exact labels, as a prepared dataset."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from lumbarseg.errors import DatasetError

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.datasets import Case, Dataset

_SAVE_INTERVAL_S = 20.0  # seconds between two entries of finished cases in dataset.json


DESCRIPTION = (
    "Draws and renders synthetic lumbar exams into a prepared dataset. Case K of seed S is always the same exam,\n"
    "whatever N, START and JOBS are. A folder that holds some of the cases already is completed."
)
EXAMPLE = "lumbarseg phantom data/phantoms -n 500 --seed 1 --jobs 8"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the dataset; made where it is missing")
    parser.add_argument("-n", type=options.positive_int, default=10, metavar="N", help="how many cases (default: 10)")
    parser.add_argument(
        "--seed", type=options.non_negative_int, default=0, metavar="S", help="another seed, other exams"
    )
    parser.add_argument(
        "--start", type=options.non_negative_int, default=0, metavar="K", help="number of the first case"
    )
    options.add_jobs_option(parser)
    options.add_json_option(parser)


def case_name(seed: int, number: int) -> str:
    """How case `number` of `seed` is called."""
    return f"phantom-{seed}-{number:05d}"


def run(args: argparse.Namespace) -> int:
    """Make the cases that are missing."""
    from lumbarseg.datasets import Dataset, add_cases

    dataset = _open_or_create_dataset(args.folder)
    there = {case.name for case in dataset.cases()}
    numbers = [k for k in range(args.start, args.start + args.n) if case_name(args.seed, k) not in there]
    made: list[Case] = []
    entered = time.monotonic()
    try:
        for case in _make_cases(args.folder, args.seed, numbers, args.jobs):
            made.append(case)
            if time.monotonic() - entered > _SAVE_INTERVAL_S:
                add_cases(args.folder, made)
                made, entered = [], time.monotonic()
    finally:
        if made:
            add_cases(args.folder, made)
    dataset = Dataset.open(args.folder)
    if args.json:
        console.print_json({"folder": str(args.folder), "made": len(numbers), "cases": len(dataset.cases())})
    else:
        print(f"{args.folder}: {len(numbers)} cases made, {len(dataset.cases())} in the dataset")
    return console.EXIT_OK


def make_case(folder: Path, seed: int, number: int) -> Case:
    """Draw, render and store case `number` of `seed`, without entering it in `dataset.json`."""
    import numpy as np

    from lumbarseg.datasets import Dataset, write_case_files
    from lumbarseg.io import atomic_write
    from lumbarseg.phantom import draw_recipe, render_phantom
    from lumbarseg.volume import Volume

    name = case_name(seed, number)
    recipe = draw_recipe(np.random.default_rng([seed, number]))
    phantom = render_phantom(recipe)
    with atomic_write(folder / "recipes" / f"{name}.json") as file:
        file.write(json.dumps(recipe.to_dict()).encode())
    about = {
        "patient": name,
        "contrast": phantom.ground_truth["sequence"],
        "source": "lumbarseg phantom",
        "licence": "none needed: synthetic",
        "recipe": f"recipes/{name}.json",
        "truth": phantom.ground_truth,
    }
    whole = np.rint(phantom.image.array).clip(0, np.iinfo(np.int16).max).astype(np.int16)  # as scanners store them
    return write_case_files(Dataset.open(folder), name, Volume(whole, phantom.image.affine), phantom.labels, about)


def _open_or_create_dataset(folder: Path) -> Dataset:
    """The dataset to complete, or a new one."""
    from lumbarseg.datasets import Dataset, create_dataset
    from lumbarseg.datasets.schemes import SCHEMES

    if not (folder / "dataset.json").exists():
        return create_dataset(folder, folder.name or "phantoms", SCHEMES["default"])
    dataset = Dataset.open(folder)
    if dataset.label_table != SCHEMES["default"]:
        raise DatasetError(f"{folder}: a dataset with another label table; choose another folder for phantoms")
    return dataset


def _make_cases(folder: Path, seed: int, numbers: list[int], jobs: int | None) -> Iterator[Case]:
    """The cases as they are finished, made by `jobs` processes."""
    from lumbarseg.cpus import available_cpus
    from lumbarseg.datasets.workers import map_in_processes

    if not numbers:
        return
    bar = console.progress_bar("phantoms", len(numbers))
    for case in map_in_processes(
        partial(make_case, folder, seed), numbers, min(jobs or available_cpus(), len(numbers))
    ):
        yield case
        bar.advance()
    bar.close()
