"""Options that several commands share, and the parsers of their values."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from lumbarseg import anatomy
from lumbarseg.errors import LumbarsegError, printable_line

if TYPE_CHECKING:
    from lumbarseg.datasets.selection import Selection

    Subparsers = argparse._SubParsersAction[Any]


class CommandParser(argparse.ArgumentParser):
    """A parser that reports wrong usage in one line, with the nearest name that exists."""

    def error(self, message: str) -> NoReturn:
        """Print what is wrong with the arguments and exit with code 2."""
        if choice := re.match(r"argument (\S+): invalid choice: '(.*)' \(choose from (.*)\)", message):
            choices = choice[3].replace("'", "").split(", ")
            message = (
                f"{choice[2]!r} is not a {choice[1]}; choose from {', '.join(choices)}{_nearest(choice[2], choices)}"
            )
        elif message.startswith("unrecognized arguments: "):
            names = [name for name in message.split()[2:] if name.startswith("-")]
            hints = [_nearest(name.partition("=")[0], self._option_string_actions) for name in names]
            message = f"unknown argument {' '.join(message.split()[2:])}{''.join(hints)}"
        self.exit(2, f"lumbarseg: error: {printable_line(message)}; see {self.prog} --help\n")


def _nearest(name: str, candidates: Iterable[str]) -> str:
    """Return "; did you mean ...?" with the known name most like `name`, or "" if none is."""
    matches = difflib.get_close_matches(name.casefold(), list(candidates), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""


def add_command(
    subparsers: Subparsers, name: str, summary: str, description: str, example: str
) -> argparse.ArgumentParser:
    """Add a command, with its line on the list of commands and the text and example of its own help page."""
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(usage_error=parser.error)
    return parser


def positive_int(text: str) -> int:
    """Parse a whole number of 1 or more."""
    return int(_parse_number(text, int, lambda number: number >= 1, "1 or more"))


def non_negative_int(text: str) -> int:
    """Parse a whole number of 0 or more."""
    return int(_parse_number(text, int, lambda number: number >= 0, "0 or more"))


def positive_number(text: str) -> float:
    """Parse a number above 0."""
    return _parse_number(text, float, lambda number: 0 < number < math.inf, "above 0")


def fraction(text: str) -> float:
    """Parse a number of 0 or more, below 1."""
    return _parse_number(text, float, lambda number: 0 <= number < 1, "a fraction of 0 or more, below 1")


def memory_size_gb(text: str) -> float:
    """Parse a size in gigabytes, 0.5 or more: "8GB", "8" or "6000MB"."""
    match = re.fullmatch(r"([0-9.]+)\s*(GB?|MB?)?", text.strip(), re.IGNORECASE)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r}: write a size like 8GB or 6000MB")
    size = _parse_number(match[1], float, lambda number: number > 0, "above 0")
    size *= 1e-3 if (match[2] or "").upper().startswith("M") else 1.0
    if size < 0.5:
        raise argparse.ArgumentTypeError(f"must be half a gigabyte or more, not {text}")
    return size


def _parse_number(text: str, kind: type[float], is_valid: Callable[[float], bool], condition: str) -> float:
    """Parse an int or float that must fulfil a condition."""
    try:
        number = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a {'whole ' * (kind is int)}number") from None
    if not is_valid(number):
        raise argparse.ArgumentTypeError(f"must be {condition}, not {text}")
    return number


def parse_fold(text: str) -> tuple[int, int]:
    """Parse K/N: "2/5" is the second of five folds."""
    k, slash, n = text.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal()) or int(n) < 2 or not 1 <= int(k) <= int(n):
        raise argparse.ArgumentTypeError(f"{text!r}: write K/N with N of 2 or more and K from 1 to N, for example 1/5")
    return int(k), int(n)


def parse_pin(text: str) -> tuple[str, tuple[float, float, float]]:
    """Parse a vertebra's name and a point in RAS+ mm: "L3@12.5,-40,85"."""
    name, _, point = text.partition("@")
    try:
        x, y, z = (float(part) for part in point.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME@x,y,z in mm, for example L3@12.5,-40,85") from None
    if not all(math.isfinite(value) for value in (x, y, z)):
        raise argparse.ArgumentTypeError(f"{text!r}: the point must be finite")
    return parse_level(name), (x, y, z)


def parse_level(text: str) -> str:
    """Parse the name of a vertebra, in upper or lower case."""
    try:
        return anatomy.parse_level(text)
    except LumbarsegError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


SHARED: dict[str, dict[str, Any]] = {
    "--output": {"type": Path, "metavar": "DIR"},
    "--model": {
        "type": Path,
        "metavar": "FILE",
        "help": "a model file, or shipped for the model of the package (default: the installed one)",
    },
    "--device": {
        "type": str.lower,
        "default": "auto",
        "metavar": "NAME",
        "help": "auto (default), cpu, openvino, cuda, coreml or directml; lumbarseg info lists those of this computer",
    },
    "--volume": {"type": non_negative_int, "metavar": "N", "help": "which volume of a 4-D file, from 0"},
    "--series": {"metavar": "WHICH", "help": "series of a DICOM study: its number, or part of its description"},
    "--lowest": {
        "type": parse_level,
        "metavar": "LEVEL",
        "help": "name of the lowest complete vertebra in view, for example L5",
    },
    "--seed": {"type": non_negative_int, "default": 0, "metavar": "S"},
    "--val-fraction": {
        "type": fraction,
        "metavar": "X",
        "help": "fraction of the patients held out for validation (default: %(default)s)",
    },
    "--jobs": {"type": positive_int, "metavar": "N", "help": "worker processes (default: one per core)"},
    "--json": {"action": "store_true", "help": "print the result as JSON"},
}
"""Options that mean the same in all commands."""


def add_shared_options(parser: argparse._ActionsContainer, *names: str, **keywords: Any) -> None:
    """Add options of `SHARED` by their flags; `keywords` override their settings."""
    for name in names:
        flags = ("-o", name) if name == "--output" else (name,)
        parser.add_argument(*flags, **SHARED[name] | keywords)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that select cases of prepared datasets."""
    group = parser.add_argument_group("which cases (default: all)")
    for name, text in (
        ("structures", 'with at least one of these annotated: "L1 L2 L4-L5 disc"'),
        ("contrast", "of these contrasts, as named in the datasets: T2 STIR"),
        ("scanner", "of scanners whose name contains one of these: Siemens"),
        ("patient", "of these patients"),
    ):
        group.add_argument(f"--{name}", nargs="+", default=(), metavar=name[0].upper(), help=text)
    group.add_argument(
        "--complete",
        action="store_true",
        help="with all of the --structures annotated, or all that any case of the dataset has",
    )
    group.add_argument("--split", choices=("train", "val", "test"), help="of this split")
    group.add_argument(
        "--fold", type=parse_fold, metavar="K/N", help="split by patient: fold K of N is the validation set"
    )


def selection_from_args(args: argparse.Namespace) -> Selection:
    """Return the selection that these options describe; DatasetError for an unknown structure."""
    from lumbarseg.datasets.selection import Selection

    return Selection(
        structures=tuple(args.structures),
        contrasts=tuple(args.contrast),
        scanners=tuple(args.scanner),
        complete=args.complete,
        split=args.split,
        patients=tuple(args.patient),
    )
