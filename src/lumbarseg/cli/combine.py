"""`lumbarseg combine DATASET ... -o OUT`: several prepared datasets, or a part of one, as one."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.datasets.combine import CombineResult, CombineSettings


DESCRIPTION = (
    "Writes the union of prepared datasets with one label table. What a dataset did not draw stays unknown in its\n"
    "cases. Images are the same files under a second name, or copies; labels are renumbered exactly; the datasets\n"
    "themselves are not touched. Done again, it goes on where it stopped, and leaves what is there as it is.\n"
    "train and evaluate take several datasets by themselves: this is for those who want the files."
)
EXAMPLE = "lumbarseg combine data/khalil data/chu -o data/both --structures L1 L2 --fold 1/5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="the dataset to make or complete"
    )
    options.add_selection_options(parser)
    parser.add_argument(
        "--seed", type=options.non_negative_int, metavar="S", help="of the folds; without --fold: split anew"
    )
    parser.add_argument(
        "--val-fraction", type=options.fraction, default=0.1, metavar="X", help="share held out by --seed (0.1)"
    )
    parser.add_argument(
        "--test-fraction", type=options.fraction, default=0.0, metavar="X", help="share for tests by --seed (0)"
    )
    parser.add_argument(
        "--same-patients", action="store_true", help="a patient of one name is one person in all of the datasets"
    )
    parser.add_argument("--copy", action="store_true", help="copy images, never share one file between datasets")
    options.add_jobs_option(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Combine them."""
    from lumbarseg.datasets import Dataset
    from lumbarseg.datasets.combine import combine_datasets

    datasets = [Dataset.open(folder) for folder in args.datasets]
    with console.progress_bar("cases") as bar:
        done = combine_datasets(datasets, args.output, _combine_settings(args), args.jobs, bar.advance)
    for name, reason in done.refused.items():
        console.print_warning(f"{name}: refused: {reason}")
    _print_result(args, done)
    return console.EXIT_WARNINGS if done.refused else console.EXIT_OK


def _combine_settings(args: argparse.Namespace) -> CombineSettings:
    from lumbarseg.datasets.combine import CombineSettings
    from lumbarseg.datasets.splits import SplitSettings

    splitting = SplitSettings(args.fold, args.seed, args.val_fraction, args.test_fraction)
    return CombineSettings(options.selection_from_args(args), splitting, args.same_patients, args.copy)


def _print_result(args: argparse.Namespace, done: CombineResult) -> None:
    splits = Counter(case.split for case in done.dataset.cases())
    if args.json:
        console.print_json(
            {
                "folder": str(args.output),
                "cases": dict(splits),
                "added": list(done.added),
                "already": list(done.unchanged),
                "refused": done.refused,
                "labels": {str(value): list(names) for value, names in done.dataset.label_table.items()},
            }
        )
        return
    told = ", ".join(f"{count} {split}" for split, count in splits.items())
    counts = f"{len(done.added)} added, {len(done.unchanged)} there already, {len(done.refused)} refused"
    print(f"{args.output}: {len(done.dataset.cases())} cases ({told}); {counts}")
