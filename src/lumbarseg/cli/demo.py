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
    demo = run_demo(args.output, args.seed, args.model, args.device)
    if args.json:
        console.print_json(demo.to_dict())
        return console.EXIT_OK
    print("\n  ".join(["a synthetic exam, segmented:", *demo.result.text_lines, *demo.dice_lines()]))
    print(f"report: {demo.files['html']}\npicture: {demo.files['picture']}")
    print(f"labels: {demo.files['labels']}, beside the ground truth")
    return console.EXIT_OK
