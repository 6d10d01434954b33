"""`lumbarseg info [THING]`: what a model, an exam or a dataset is."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "info",
        "tell what a model, an exam or a dataset is",
        "Without THING: the card of the model in the package, its data, licences, scores, and where it fails.\n"
        "For an exam: how its file is read, and what would be done. For a prepared dataset: what is in it.",
        "lumbarseg info exam.nii.gz",
    )
    parser.add_argument("thing", nargs="?", type=Path, metavar="THING", help="a model file, an exam or a dataset")
    parser.add_argument("--volume", type=options.natural, metavar="N", help="which volume of a 4-D exam, from 0")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Find out what the thing is and tell it."""
    raise NotImplementedError(args, say)
