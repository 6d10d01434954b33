"""`lumbarseg evaluate MODEL DATASET ...`: how good a model is on prepared datasets."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.errors import DatasetError, LumbarsegError

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.datasets import Case
    from lumbarseg.evaluate import Answerer

Row = dict[str, Any]
BY = ("level", "contrast", "scanner", "kind")


@dataclass(frozen=True)
class Judged:
    """One of what is compared. name: what the user called it; about: what the JSON says of it."""

    name: str
    answer: Answerer
    about: Row


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "evaluate",
        "score a model on prepared datasets, alone or against another",
        "Segments every case as `segment` would and compares the answer with its labels: Dice, volume ratio and\n"
        "distance of surfaces per structure, vertebrae and discs found, names right and wrong, each with a 95 %\n"
        "bootstrap interval over patients. What a source did not annotate counts neither for nor against the model.\n"
        "With --labels FOLDER the label files of another program are scored instead of a model.",
        "lumbarseg evaluate mine.onnx data/mine --split val --against shipped",
    )
    parser.add_argument(
        "what",
        nargs="+",
        type=Path,
        metavar="MODEL DATASET",
        help="a model file or the word shipped (none with --labels), then folders with a dataset.json",
    )
    parser.add_argument("--labels", type=Path, metavar="FOLDER", help="score FOLDER/NAME.nii.gz instead of a model")
    values = parser.add_mutually_exclusive_group()
    values.add_argument(
        "--scheme",
        choices=("own", "dataset"),
        default="own",
        help="values of label files: this program's (default), or those of each dataset's own table",
    )
    values.add_argument("--table", type=Path, metavar="FILE", help='JSON: {"0": ["background"], "1": ["L1"], ...}')
    parser.add_argument("--against", type=Path, metavar="MODEL", help="another model, or a folder of label files")
    parser.add_argument("--by", type=_keys, default=(), metavar="KEYS", help=f"tables by these too: {','.join(BY)}")
    parser.add_argument(
        "--distances", action=argparse.BooleanOptionalAction, default=True, help="distances of surfaces (default: yes)"
    )
    options.selection(parser)
    parser.add_argument("--seed", type=options.natural, default=0, metavar="S", help="of the folds")
    options.device(parser)
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one line per exam and structure")
    parser.add_argument("-o", dest="out", type=Path, metavar="DIR", help="write evaluation.json and evaluation.csv")
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Score every case; one that cannot be scored does not stop the rest."""
    folders = args.what if args.labels else args.what[1:]
    if not folders:
        args.refuse("the following arguments are required: DATASET")
    if (args.table or args.scheme != "own") and not (args.labels or (args.against and args.against.is_dir())):
        args.refuse("--scheme and --table say what label files hold; give --labels FOLDER too")
    cases = chosen(args, folders)
    judged = _judged(args, len(cases))
    exams, failed = _examined(args, cases, judged)
    result = _result(args, judged, exams, failed)
    if args.out:
        _write(args.out / "evaluation.json", json.dumps(result, indent=1, allow_nan=False))
    for file in filter(None, (args.csv, args.out and args.out / "evaluation.csv")):
        _write(file, _csv(judged, exams))
    if args.json:
        say.as_json(result)
    else:
        print("\n".join(_told(args, judged, exams)))
    if failed:
        say.warning(f"{len(failed)} of {len(cases)} cases could not be scored and are in no figure")
        return say.FAILED
    return say.WARNED if any(row["error"] for rows in exams for row in rows) else say.DONE


def chosen(args: argparse.Namespace, folders: Sequence[Path]) -> list[tuple[str, Case]]:
    """The cases that the words ask for, each with the name of its dataset."""
    from lumbarseg.datasets import Dataset, select
    from lumbarseg.datasets.splits import Splitting

    datasets = [Dataset.open(folder) for folder in folders]
    splitting = Splitting(args.fold, args.seed) if args.fold else None
    wanted = select.chosen(datasets, options.selected(args), splitting)
    return [(dataset.name, case) for dataset in wanted for case in dataset.cases()]


def _judged(args: argparse.Namespace, exams: int) -> list[Judged]:
    """What is to be judged: one thing, or two with --against."""
    first = _files(args, args.labels) if args.labels else _model(args, args.what[0], exams)
    if not args.against:
        return [first]
    return [first, _files(args, args.against) if args.against.is_dir() else _model(args, args.against, exams)]


def _model(args: argparse.Namespace, path: Path, exams: int) -> Judged:
    from lumbarseg.evaluate import modelled
    from lumbarseg.model import Model, shipped

    model = Model.load(shipped() if str(path) == "shipped" else path, args.device, exams)
    return Judged(str(path), modelled(model), {"file": str(path), "digest": model.card.digest})


def _files(args: argparse.Namespace, folder: Path) -> Judged:
    from lumbarseg.evaluate import read_table, stored

    table = read_table(args.table) if args.table else args.scheme
    return Judged(str(folder), stored(folder, table), {"folder": str(folder)})


def _examined(
    args: argparse.Namespace, cases: Sequence[tuple[str, Case]], judged: Sequence[Judged]
) -> tuple[list[list[Row]], list[Row]]:
    """Rows of the exams for each of what is judged, in the same order, and those that could not be scored."""
    from lumbarseg.evaluate import examine

    progress = say.Progress("cases", len(cases))
    exams: list[list[Row]] = [[] for _ in judged]
    failed = []
    for dataset, case in cases:
        try:
            rows = examine(dataset, case, [each.answer for each in judged], args.distances)
        except (LumbarsegError, OSError, MemoryError) as error:
            failed.append({"dataset": dataset, "case": case.name, "error": say.reason(error)})
            say.error(f"{case.name}: {failed[-1]['error']}")
        else:
            for i, row in enumerate(rows):
                exams[i].append(row)
        progress.step(case.name)
    progress.close()
    if not exams[0]:
        raise DatasetError(f"{cases[0][1].image}: neither this case nor any other could be scored; see above")
    return exams, failed


def _result(args: argparse.Namespace, judged: Sequence[Judged], exams: Sequence[list[Row]], failed: list[Row]) -> Row:
    from lumbarseg.evaluate import compared, tables

    result: Row = {"model": judged[0].about, "cases": exams[0], "failed": failed}
    result["tables"] = [table.to_dict() for table in tables(exams[0], args.by)]
    if len(judged) > 1:
        second = {"model": judged[1].about, "cases": exams[1]}
        second["tables"] = [table.to_dict() for table in tables(exams[1], args.by)]
        result["against"] = second
        result["differences"] = {
            measure: [row.to_dict() for row in rows] for measure, rows in compared(exams[0], exams[1]).items()
        }
    return result


def _told(args: argparse.Namespace, judged: Sequence[Judged], exams: Sequence[list[Row]]) -> list[str]:
    from lumbarseg.evaluate import compared, gaps, tables
    from lumbarseg.score import exam_rows, worst

    from . import scores

    out = []
    for one, rows in zip(judged, exams, strict=True):
        out += ["", one.name if len(judged) > 1 else "", *scores.tables(tables(rows, args.by)), *scores.names(rows)]
        out += scores.worst(worst(exam_rows(rows), "dice"))
    if len(judged) > 1:
        names = (judged[0].name, judged[1].name)
        out += scores.differences(names, compared(exams[0], exams[1]))
        out += scores.gaps(names, gaps(exams[0], exams[1]))
    return out[1:] if not out[0] else out


def _csv(judged: Sequence[Judged], exams: Sequence[list[Row]]) -> str:
    from lumbarseg.score import structure_rows

    rows = [
        {"model": one.name} | row for one, those in zip(judged, exams, strict=True) for row in structure_rows(those)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["model"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(path: Path, text: str) -> None:
    from lumbarseg.files import replacing

    with replacing(path) as file:
        file.write(text.encode())


def _keys(text: str) -> tuple[str, ...]:
    """Keys of further tables, with commas between them."""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    for key in keys:
        if key not in BY:
            raise argparse.ArgumentTypeError(f"{key!r} is none of {', '.join(BY)}")
    return keys
