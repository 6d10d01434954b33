"""`lumbarseg compare RUN ...`: compare training runs side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lumbarseg.evaluation.text_tables import align_columns
from lumbarseg.io import atomic_write, write_csv
from lumbarseg.report.comparison_page import render_comparison_page
from lumbarseg.training.history import HISTORY_FILE, History
from lumbarseg.training.run_comparison import ComparisonRow, compare_runs, structure_names
from lumbarseg.training.run_result import RunResult

from . import console, options

DESCRIPTION = (
    "Prints for each run its cost and the scores of its best weights on its validation exams: mean Dice before and\n"
    "after training, with the 95 % interval over patients, Dice of each structure, exams with wrong level names.\n"
    "Folds of one experiment share a row, with the means of the folds. The best weights were selected on the same\n"
    "exams, so the scores are slightly too good: evaluate scores other exams."
)
EXAMPLE = "lumbarseg compare runs/mine-fold-*"

_HEADER = (
    *("run", "method", "folds", "targets", "exams", "validation", "epochs", "minutes"),
    *("before", "mean Dice", "95 %", "wrong names"),
)
_CSV_FIELDS = (
    *("name", "method", "target_count", "training_exams", "scored_exams"),
    *("epochs", "minutes", "before", "mean_dice", "name_errors", "finished"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of the command."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of lumbarseg train")
    options.add_shared_options(parser, "--json")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the table and the curves as a page")


def run(args: argparse.Namespace) -> int:
    """Read the results of the runs and print them."""
    rows = read_rows(args.runs)
    if args.csv:
        _write_csv(args.csv, rows)
    if args.html:
        write_page(args.html, args.runs)
    if args.json:
        console.print_json({"lines": [asdict(row) for row in rows]})
    else:
        print("\n".join(format_tables(rows)))
    return console.EXIT_OK


def read_rows(runs: Sequence[Path]) -> list[ComparisonRow]:
    """Read the results of runs; folds of one experiment share a row."""
    return compare_runs([(run, RunResult.read(run)) for run in runs])


def write_page(path: Path, runs: Sequence[Path]) -> None:
    """Write the page that compares runs; there are more structures than fit side by side, so each has a row."""
    scores, *dice = _tables(read_rows(runs))
    tables = [scores, *([list(row) for row in zip(*table, strict=True)] for table in dice)]
    histories = {run.resolve().name: History.read(run / HISTORY_FILE).rows for run in runs}
    with atomic_write(path) as file:
        file.write(render_comparison_page(tables, histories).encode())


def format_tables(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the tables as lines of text."""
    scores, *dice = _tables(rows)
    return [*align_columns(scores, 2), *(line for table in dice for line in ("", *align_columns(table, 1)))]


def _tables(rows: Sequence[ComparisonRow]) -> list[list[list[str]]]:
    """Return a table of cost and scores, and one of the Dice of each structure if there is any."""
    scores = [list(_HEADER)]
    for row in rows:
        name = row.name if row.finished else f"{row.name} (not ended)"
        cost = [f"{row.training_exams:.0f}", str(row.scored_exams), f"{row.epochs:.0f}", f"{row.minutes:.1f}"]
        before, mean = ("-" if dice is None else f"{dice:.3f}" for dice in (row.before, row.mean_dice))
        interval = "-" if row.interval is None else "{:.3f} to {:.3f}".format(*row.interval)
        folds, targets = str(len(row.folds) or "-"), str(row.target_count or "all")
        scores.append([name, row.method, folds, targets, *cost, before, mean, interval, str(row.name_errors)])
    names = structure_names(rows)
    if not names:
        return [scores]
    dice = [[row.name, *(f"{row.dice[n]:.3f}" if n in row.dice else "-" for n in names)] for row in rows]
    return [scores, [["Dice", *names], *dice]]


def _write_csv(path: Path, rows: Sequence[ComparisonRow]) -> None:
    cells = [asdict(row) | {"runs": " ".join(row.runs), "folds": " ".join(row.folds)} | row.dice for row in rows]
    write_csv(path, cells, ("runs", "folds", *_CSV_FIELDS, *structure_names(rows)))
