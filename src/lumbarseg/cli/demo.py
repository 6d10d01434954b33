"""`lumbarseg demo`: segment a synthetic exam and compare the result with its ground truth."""

from __future__ import annotations

import argparse
from pathlib import Path

from lumbarseg.batch.demo import run_demo

from . import console, options

DESCRIPTION = (
    "Renders a synthetic exam, segments it as `segment` would, compares the result with the known ground truth and\n"
    "prints where the report is."
)
EXAMPLE = "lumbarseg demo -o out/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    options.add_shared_options(
        parser, "--output", default=Path("lumbarseg-demo"), help="folder of the results (default: %(default)s)"
    )
    options.add_shared_options(parser, "--seed", default=193, help="another seed, another exam (default: %(default)s)")
    options.add_shared_options(parser, "--model", "--device", "--json")


def run(args: argparse.Namespace) -> int:
    """Run the demo and print its result."""
    result = run_demo(args.output, args.seed, args.model, args.device)
    if args.json:
        console.print_json(result.to_dict())
    else:
        print("\n  ".join(["a synthetic exam, segmented:", *result.segmented.text_lines(), *result.dice_lines()]))
        files = result.files
        print(
            f"report: {files['page']}\npicture: {files['picture']}\nlabels: {files['labels']}, beside the ground truth"
        )
    return console.EXIT_OK
