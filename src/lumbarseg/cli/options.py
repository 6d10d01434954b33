"""Words that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from lumbarseg.anatomy import LEVELS

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DEVICES = ("auto", "cpu", "openvino")


def command(commands: Commands, name: str, summary: str, text: str, example: str) -> argparse.ArgumentParser:
    """A command with its one-line summary, its longer text and an example."""
    return commands.add_parser(
        name,
        help=summary,
        description=text,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive(text: str) -> int:
    """A whole number from 1 up."""
    return _whole(text, 1)


def natural(text: str) -> int:
    """A whole number from 0 up."""
    return _whole(text, 0)


def share(text: str) -> float:
    """A number from 0 up, below 1."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 up, below 1, not {text}")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < least:
        raise argparse.ArgumentTypeError(f"must be {least} or more, not {number}")
    return number


def engine(parser: argparse.ArgumentParser) -> None:
    """Which model answers, and on what."""
    parser.add_argument("--model", type=Path, metavar="FILE", help="a model file (default: the one in the package)")
    device(parser)


def device(parser: argparse.ArgumentParser) -> None:
    """On what the model runs."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="what computes (default: %(default)s)")


def pin(text: str) -> tuple[str, tuple[float, float, float]]:
    """ "L3@12.5,-40,85": the vertebra's name and the point in RAS+ mm."""
    name, _, place = text.partition("@")
    try:
        x, y, z = (float(part) for part in place.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME@x,y,z in mm, for example L3@12.5,-40,85") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise argparse.ArgumentTypeError(f"{text!r}: the point must be finite")
    return level(name), (x, y, z)


def level(text: str) -> str:
    """The name of a vertebra."""
    if text not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is no vertebra; names run from {LEVELS[0]} to {LEVELS[-1]}")
    return text
