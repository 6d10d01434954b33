"""Words that several commands share."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from lumbarseg.anatomy import LEVELS

if TYPE_CHECKING:
    from lumbarseg.datasets.selection import Selection

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

DEVICES = ("auto", "cpu", "cuda", "coreml", "directml", "openvino")


def add_command(commands: Commands, name: str, summary: str, description: str, example: str) -> argparse.ArgumentParser:
    """A command with its one-line summary, its longer text and an example."""
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def positive_int(text: str) -> int:
    """A whole number from 1 up."""
    return _parse_int(text, 1)


def non_negative_int(text: str) -> int:
    """A whole number from 0 up."""
    return _parse_int(text, 0)


def memory_size_gb(text: str) -> float:
    """ "8GB", "8" or "6000MB", from half a gigabyte up."""
    number, unit = text.upper().removesuffix("B"), 1.0
    if number[-1:] in ("G", "M"):
        unit = 1.0 if number[-1] == "G" else 1e-3
        number = number[:-1]
    try:
        size = float(number) * unit
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a size like 8GB or 6000MB") from None
    if not 0.5 <= size < math.inf:
        raise argparse.ArgumentTypeError(f"must be half a gigabyte or more, not {text}")
    return size


def fraction(text: str) -> float:
    """A number from 0 up, below 1."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be a share from 0 up, below 1, not {text}")
    return number


def _parse_int(text: str, minimum: int) -> int:
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if number < minimum:
        raise argparse.ArgumentTypeError(f"must be {minimum} or more, not {number}")
    return number


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which model answers, and on what."""
    parser.add_argument("--model", type=Path, metavar="FILE", help="a model file (default: the installed one)")
    add_device_option(parser)


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """On what the model runs."""
    parser.add_argument("--device", choices=DEVICES, default="auto", help="what computes (default: %(default)s)")


def add_series_option(parser: argparse.ArgumentParser) -> None:
    """Which series of a DICOM study."""
    parser.add_argument(
        "--series", metavar="WHICH", help="of a DICOM study, take this one: its number, or part of its description"
    )


def parse_fold(text: str) -> tuple[int, int]:
    """ "2/5": the second of five folds."""
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal()) or int(n) < 2 or not 1 <= int(k) <= int(n):
        raise argparse.ArgumentTypeError(f"{text!r}: write K/N with N of 2 or more and K from 1 to N, for example 1/5")
    return int(k), int(n)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Which cases of prepared datasets are wanted."""
    group = parser.add_argument_group("which cases (default: all)")
    for name, text in (
        ("structures", 'in which one of these is annotated: "L1 L2 L4-L5 disc"'),
        ("contrast", "of these contrasts, as the datasets say: T2 STIR"),
        ("scanner", "of scanners whose name holds one of these: Siemens"),
        ("patient", "of these patients"),
    ):
        group.add_argument(f"--{name}", nargs="+", default=(), metavar=name[0].upper(), help=text)
    group.add_argument(
        "--complete",
        action="store_true",
        help="in which all of the --structures are annotated, or all that any case of the dataset shows",
    )
    group.add_argument("--split", choices=("train", "val", "test"), help="of this split")
    group.add_argument(
        "--fold", type=parse_fold, metavar="K/N", help="split by patient: fold K of N is val, the rest train"
    )


def selection_from_args(args: argparse.Namespace) -> Selection:
    """What the words of `selection` ask for; DatasetError on a structure that there is not."""
    from lumbarseg.datasets.selection import Selection

    return Selection(
        structures=tuple(args.structures),
        contrasts=tuple(args.contrast),
        scanners=tuple(args.scanner),
        complete=args.complete,
        split=args.split,
        patients=tuple(args.patient),
    )


def parse_pin(text: str) -> tuple[str, tuple[float, float, float]]:
    """ "L3@12.5,-40,85": the vertebra's name and the point in RAS+ mm."""
    name, _, place = text.partition("@")
    try:
        x, y, z = (float(part) for part in place.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME@x,y,z in mm, for example L3@12.5,-40,85") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise argparse.ArgumentTypeError(f"{text!r}: the point must be finite")
    return parse_level(name), (x, y, z)


def parse_level(text: str) -> str:
    """The name of a vertebra."""
    if text not in LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is no vertebra; names run from {LEVELS[0]} to {LEVELS[-1]}")
    return text
