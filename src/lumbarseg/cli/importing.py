"""`lumbarseg import SOURCE-KIND SOURCE TARGET`: somebody's data as a prepared dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say

PRESETS = ("spider_space", "spider_t2", "default")


def add(commands: options.Commands) -> None:
    """The command's words."""
    example = "lumbarseg import folder spider_space/train data/space --preset spider_space"
    text = (
        "Copies exams and labels into a prepared dataset: canonical axes, native spacing, a table of what labels mean."
    )
    sources = options.command(commands, "import", "make a prepared dataset from exams and labels", text, example)
    kinds = sources.add_subparsers(dest="kind", metavar="KIND", required=True)
    parser = options.command(
        kinds,
        "folder",
        "pairs NAME_image.nii.gz and NAME_labels.nii.gz in one folder",
        "Imports all pairs NAME_image.nii.gz and NAME_labels.nii.gz of one folder. What stands before the first\n"
        "underscore of a name is the patient; every tenth patient is held out for validation.",
        example,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the folder with the pairs")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the dataset to make")
    table = parser.add_mutually_exclusive_group(required=True)
    table.add_argument("--preset", choices=PRESETS, help="the label table of a known source")
    table.add_argument("--table", type=Path, metavar="FILE", help='JSON: {"0": ["background"], "1": ["body", "arch"]}')
    parser.add_argument("--licence", default="", metavar="TEXT", help="the data's licence; goes into the model's card")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to name the source")
    parser.add_argument("--held-out", type=options.natural, default=10, metavar="N", help="every Nth patient; 0: none")
    parser.add_argument("--json", action="store_true", help="print what was imported as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import one folder."""
    from collections import Counter

    from lumbarseg.datasets.importers import import_folder

    table = args.preset or args.table
    dataset = import_folder(args.source, args.target, table, args.licence, args.citation, args.held_out)
    splits = Counter(case.split for case in dataset.cases())
    warnings = [f"{case.name}: {text}" for case in dataset.cases() for text in case.warnings]
    for text in warnings:
        say.warning(text)
    if args.json:
        say.as_json({"folder": str(args.target), "cases": dict(splits), "warnings": warnings})
    else:
        told = ", ".join(f"{count} {split}" for split, count in splits.items())
        print(f"{args.target}: {len(dataset.cases())} cases ({told})")
    return say.WARNED if warnings else say.DONE
