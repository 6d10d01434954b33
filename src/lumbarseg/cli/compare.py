"""`lumbarseg compare RUN ...`: training runs side by side, and beside the founding page's figures."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.training.run_comparison import ComparisonRow


DESCRIPTION = (
    "Prints for each run what it cost and what its best weights reach on its held-out exams: mean Dice, Dice of\n"
    "each structure, exams with mixed-up names. Folds of one preset share a line, with the means of the folds. A\n"
    "preset that repeats a row of the page this project began from has that row's figure beside it. The best\n"
    "weights were chosen on the same exams, which flatters them a little: evaluate scores others."
)
EXAMPLE = "lumbarseg compare runs/chu-5-fold-*"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of lumbarseg train")
    options.add_json_option(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV")


def run(args: argparse.Namespace) -> int:
    """Read what the runs left, and tell it."""
    from lumbarseg.training.history import read_result
    from lumbarseg.training.run_comparison import compare_runs

    table = compare_runs([(path, read_result(path)) for path in args.runs])
    if args.csv:
        _write_csv(args.csv, table)
    if args.json:
        console.print_json({"lines": [line.to_dict() for line in table]})
    else:
        print("\n".join(_format_tables(table)))
    return console.EXIT_OK


_COLUMNS = ("run", "method", "folds", "tags", "exams", "held out", "epochs", "minutes", "mean Dice", "mixed up", "page")


def _format_tables(table: Sequence[ComparisonRow]) -> list[str]:
    """Both tables as text, and what is to be known of them."""
    from lumbarseg.evaluation.text_tables import align_columns
    from lumbarseg.training.run_comparison import structure_names

    rows = [list(_COLUMNS)]
    for line in table:
        name = line.name if line.finished else f"{line.name} (not ended)"
        tags = str(line.target_count) if line.target_count else "all"
        cost = [f"{line.training_exams:.0f}", str(line.scored_exams), f"{line.epochs:.0f}", f"{line.minutes:.1f}"]
        mean = "-" if line.mean_dice is None else f"{line.mean_dice:.3f}"
        page = f"{line.founding.dice:.2f}" if line.founding else "-"
        rows.append([name, line.method, str(len(line.folds) or "-"), tags, *cost, mean, str(line.name_errors), page])
    out = [*align_columns(rows, 2), ""]
    names = structure_names(table)
    if names:
        parts = [["Dice", *names]]
        parts += [[line.name, *(f"{line.dice[n]:.3f}" if n in line.dice else "-" for n in names)] for line in table]
        out += [*align_columns(parts, 1), ""]
    notes = {line.name: line.founding for line in table if line.founding}
    for name, founding in notes.items():
        remark = f", {founding.remark}" if founding.remark else ""
        out.append(f"the founding page on {name}: {founding.dice:.2f} after {founding.effort}{remark}")
    return out if notes else out[:-1]


def _write_csv(path: Path, table: Sequence[ComparisonRow]) -> None:
    from lumbarseg.io import atomic_write
    from lumbarseg.training.run_comparison import structure_names

    names = structure_names(table)
    plain = (
        *("name", "method", "target_count", "training_exams", "scored_exams"),
        *("epochs", "minutes", "mean_dice", "name_errors", "finished"),
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["runs", "folds", *plain, "founding_page", *names])
    for line in table:
        values = line.to_dict()
        page = line.founding.dice if line.founding else None
        own = [" ".join(line.runs), " ".join(line.folds), *(values[name] for name in plain)]
        writer.writerow([*own, page, *(line.dice.get(name) for name in names)])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
