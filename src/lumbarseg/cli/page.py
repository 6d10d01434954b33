"""`lumbarseg page [MODEL] -o PAGE.html`: write a page that segments exams in a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from lumbarseg.inference import default_model_path
from lumbarseg.packaging.browser_page import write_page

from . import console, options

DESCRIPTION = (
    "Writes one HTML file that contains a model. Opened from disk in a current browser, it segments NIfTI files\n"
    "and DICOM studies, shows the named spine in three planes and in 3-D, lets you correct it by clicks and saves\n"
    "label map and report; no data leave the computer. This command needs Node.js and, the first time, a network:\n"
    "npm downloads the viewer, the DICOM reader and the inference engine."
)
EXAMPLE = "lumbarseg page -o lumbarseg.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "model", nargs="?", type=Path, metavar="MODEL", help="model file (default: the installed model)"
    )
    options.add_shared_options(
        parser, "--output", metavar="FILE", help="HTML file to write", default=Path("lumbarseg.html")
    )
    options.add_shared_options(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    page = write_page(args.model or default_model_path(), args.output)
    if args.json:
        console.print_json({"file": str(page.path), "bytes": page.size, "model": page.model_digest})
    else:
        print(f"{page.path}: {page.size / 1e6:.1f} MB; open it in a browser")
    return console.EXIT_OK
