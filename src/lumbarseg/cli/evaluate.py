"""`lumbarseg evaluate MODEL DATASET ...`: how good a model is on prepared datasets."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "evaluate",
        "score a model on prepared datasets",
        "Segments every case as `segment` would and compares the answer with its labels: Dice and volume ratio per\n"
        "structure, names right and wrong. What a source did not annotate counts neither for nor against the model.",
        "lumbarseg evaluate mine.onnx data/mine --split val",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model file, or `shipped`")
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument("--split", choices=("train", "val", "test"), help="only these cases (default: all)")
    options.device(parser)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Score every case."""
    raise NotImplementedError(args, say)
