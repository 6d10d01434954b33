"""`lumbarseg page [MODEL] -o PAGE.html`: one file that names a spine in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import console, options

DESCRIPTION = (
    "Writes one HTML file with a model inside. Opened from the disk in a current browser it takes a NIfTI file,\n"
    "shows the named spine in three planes and in 3-D and saves the label map; nothing leaves the computer.\n"
    "Making it needs Node.js, and once a network: npm fetches the viewer and the engine. Opening it needs neither."
)
EXAMPLE = "lumbarseg page -o lumbarseg.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="the model that answers (default: the one in the package)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("lumbarseg.html"), metavar="FILE", help="the HTML file to write"
    )
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    from lumbarseg.inference import default_model_path
    from lumbarseg.packaging.browser_page import write_page

    made = write_page(args.model or default_model_path(), args.output)
    if args.json:
        console.print_json({"file": str(made.path), "bytes": made.size, "model": made.model_digest})
    else:
        print(f"{made.path}: {made.size / 1e6:.1f} MB; open it in a browser")
    return console.EXIT_OK
