"""`lumbarseg combine DATASET ... -o OUT`: make one prepared dataset of several, or of a part."""

from __future__ import annotations

import argparse
from pathlib import Path

from lumbarseg.datasets import Dataset
from lumbarseg.datasets.combine import CombineSettings, combine_datasets
from lumbarseg.datasets.label_table import label_table_to_json
from lumbarseg.datasets.splits import SplitSettings

from . import console, options

DESCRIPTION = (
    "Writes the union of prepared datasets with one label table. What is not annotated in a dataset stays unknown in\n"
    "its cases. Images are the same files under a second name, or copies; labels are renumbered exactly; the datasets\n"
    "themselves do not change. Repeated, it continues where it stopped, and leaves existing cases as they are.\n"
    "train and evaluate accept several datasets: use combine when you need the files."
)
EXAMPLE = "lumbarseg combine data/khalil data/chu -o data/both --structures L1 L2 --fold 1/5"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    options.add_shared_options(parser, "--output", metavar="OUT", help="the dataset to create or extend", required=True)
    options.add_selection_options(parser)
    parser.add_argument(
        "--seed", type=options.non_negative_int, metavar="S", help="of the folds; without --fold: make new splits"
    )
    options.add_shared_options(parser, "--val-fraction", default=0.1)
    parser.add_argument(
        "--test-fraction", type=options.fraction, default=0.0, metavar="X", help="test patients of --seed (default: 0)"
    )
    parser.add_argument(
        "--same-patients", action="store_true", help="patients of one name are one person in all datasets"
    )
    parser.add_argument("--copy", action="store_true", help="copy images instead of sharing files between datasets")
    options.add_shared_options(parser, "--jobs", "--json")


def run(args: argparse.Namespace) -> int:
    """Combine the datasets into one at --output; return the exit code."""
    split_settings = SplitSettings(args.fold, args.seed, args.val_fraction, args.test_fraction)
    settings = CombineSettings(options.selection_from_args(args), split_settings, args.same_patients, args.copy)
    datasets = [Dataset.open(folder) for folder in args.datasets]
    with console.progress_bar("cases") as bar:
        result = combine_datasets(datasets, args.output, settings, args.jobs, bar.advance)
    for name, reason in result.refused.items():
        console.print_warning(f"{name}: refused: {reason}")
    if args.json:
        console.print_json(result.to_dict() | {"labels": label_table_to_json(result.dataset.label_table)})
    else:
        print(f"{args.output}: {result.summary()}")
    return console.EXIT_WARNINGS if result.refused else console.EXIT_OK
