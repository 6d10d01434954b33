"""`lumbarseg info [THING]`: describe a model, an exam or a dataset."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lumbarseg.description import describe
from lumbarseg.errors import printable_line
from lumbarseg.terminology import slicer_terminology

from . import console, options

DESCRIPTION = (
    "Without THING: the card of the installed model, with its training data, licences, scores and limits, and the\n"
    "devices that --device accepts on this computer.\n"
    "For an exam: how its file is read, and the grid that the network gets. For a prepared dataset: its contents."
)
EXAMPLE = "lumbarseg info exam.nii.gz"
_LONG_VALUE = 20  # characters from which on the values of a list get lines of their own


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("thing", nargs="?", type=Path, metavar="THING", help="a model file, an exam or a dataset")
    what.add_argument(
        "--terminology", action="store_true", help="print names, codes and colours as a terminology of 3D Slicer"
    )
    what.add_argument("--report-schema", action="store_true", help="print the JSON schema of NAME_report.json")
    options.add_shared_options(parser, "--volume", "--series", "--json")


def run(args: argparse.Namespace) -> int:
    """Print the description."""
    if args.terminology:
        console.print_json(slicer_terminology())
        return console.EXIT_OK
    if args.report_schema:
        from lumbarseg.report import (
            report_schema,
        )  # the libraries of measurements: 0.3 s that the rest need not wait for

        console.print_json(report_schema())
        return console.EXIT_OK
    description = describe(args.thing, args.volume, args.series)
    if args.json:
        console.print_json(description)
    else:
        print("\n".join(_format_lines(description)))
    return console.EXIT_OK


def _format_lines(values: dict[str, Any], indent: str = "") -> list[str]:
    """Format plain values as lines: short lists on one line, long ones and nested values under their name."""
    lines = []
    for name, value in values.items():
        title = f"{indent}{str(name).replace('_', ' ')}:"
        if isinstance(value, dict) and value:
            lines += [title, *_format_lines(value, indent + "  ")]
        elif isinstance(value, list) and any(len(_format_value(part)) > _LONG_VALUE for part in value):
            lines += [title, *(f"{indent}  - {_format_value(part)}" for part in value)]
        else:
            lines.append(f"{title} {_format_value(value) or '-'}")
    return lines


def _format_value(value: Any) -> str:
    """Format a value as one line, "" for nothing."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_format_value(part)}" for name, part in value.items())
    return ", ".join(_format_value(part) for part in value) if isinstance(value, list) else printable_line(value)
