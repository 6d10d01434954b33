"""`lumbarseg demo`: a synthetic exam, segmented and compared with its truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "demo",
        "segment a synthetic exam and show the report",
        "Draws a synthetic exam, segments it as `segment` would, compares the answer with the known truth and says\n"
        "where the report lies.",
        "lumbarseg demo -o out/demo",
    )
    parser.add_argument("-o", dest="out", type=Path, default=Path("lumbarseg-demo"), metavar="DIR", help="its folder")
    parser.add_argument("--seed", type=options.natural, default=3, metavar="S", help="another seed, another exam")
    options.engine(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw, segment, compare, report."""
    raise NotImplementedError(args, say)
