"""`lumbarseg compare RUN ...`: training runs side by side, and beside the founding page's figures."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.train.comparison import Line


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "compare",
        "training runs side by side",
        "Prints for each run what it cost and what its best weights reach on its held-out exams: mean Dice, Dice of\n"
        "each structure, exams with mixed-up names. Folds of one preset share a line, with the means of the folds. A\n"
        "preset that repeats a row of the page this project began from has that row's figure beside it. The best\n"
        "weights were chosen on the same exams, which flatters them a little: evaluate scores others.",
        "lumbarseg compare runs/chu-5-fold-*",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of lumbarseg train")
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Read what the runs left, and tell it."""
    from lumbarseg.train.comparison import lines
    from lumbarseg.train.history import read_result

    table = lines([(path, read_result(path)) for path in args.runs])
    if args.csv:
        _write(args.csv, table)
    if args.json:
        say.as_json({"lines": [line.to_dict() for line in table]})
    else:
        print("\n".join(_told(table)))
    return say.DONE


_HEAD = ("run", "method", "folds", "tags", "exams", "held out", "epochs", "minutes", "mean Dice", "mixed up", "page")


def _told(table: Sequence[Line]) -> list[str]:
    """Both tables as text, and what is to be known of them."""
    from lumbarseg.train.comparison import structures

    from .scores import aligned

    rows = [list(_HEAD)]
    for line in table:
        name = line.name if line.finished else f"{line.name} (not ended)"
        tags = str(line.tags) if line.tags else "all"
        cost = [f"{line.train:.0f}", str(line.held_out), f"{line.epochs:.0f}", f"{line.minutes:.1f}"]
        mean = "-" if line.mean is None else f"{line.mean:.3f}"
        page = f"{line.founding.dice:.2f}" if line.founding else "-"
        rows.append([name, line.method, str(len(line.folds) or "-"), tags, *cost, mean, str(line.mixed), page])
    out = [*aligned(rows, 2), ""]
    names = structures(table)
    if names:
        parts = [["Dice", *names]]
        parts += [[line.name, *(f"{line.dice[n]:.3f}" if n in line.dice else "-" for n in names)] for line in table]
        out += [*aligned(parts, 1), ""]
    notes = {line.name: line.founding for line in table if line.founding}
    for name, founding in notes.items():
        remark = f", {founding.remark}" if founding.remark else ""
        out.append(f"the founding page on {name}: {founding.dice:.2f} after {founding.effort}{remark}")
    return out if notes else out[:-1]


def _write(path: Path, table: Sequence[Line]) -> None:
    from lumbarseg.files import replacing
    from lumbarseg.train.comparison import structures

    names = structures(table)
    plain = ("name", "method", "tags", "train", "held_out", "epochs", "minutes", "mean", "mixed", "finished")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["runs", "folds", *plain, "founding_page", *names])
    for line in table:
        values = line.to_dict()
        page = line.founding.dice if line.founding else None
        own = [" ".join(line.runs), " ".join(line.folds), *(values[name] for name in plain)]
        writer.writerow([*own, page, *(line.dice.get(name) for name in names)])
    with replacing(path) as file:
        file.write(text.getvalue().encode())
