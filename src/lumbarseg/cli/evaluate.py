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

from lumbarseg.errors import DatasetError, LumbarsegError, describe_error

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.datasets import Case
    from lumbarseg.evaluation import CasePredictor

Row = dict[str, Any]
GROUP_KEYS = ("level", "contrast", "scanner", "kind")


@dataclass(frozen=True)
class EvaluationSubject:
    """One of what is compared. name: what the user called it; about: what the JSON says of it."""

    name: str
    predictor: CasePredictor
    description: Row


DESCRIPTION = (
    "Segments every case as `segment` would and compares the answer with its labels: Dice, volume ratio and\n"
    "distance of surfaces per structure, vertebrae and discs found, names right and wrong, each with a 95 %\n"
    "bootstrap interval over patients. What a source did not annotate counts neither for nor against the model.\n"
    "With --labels FOLDER the label files of another program are scored instead of a model."
)
EXAMPLE = "lumbarseg evaluate mine.onnx data/mine --split val --against shipped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
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
    parser.add_argument(
        "--by", type=_parse_group_keys, default=(), metavar="KEYS", help=f"tables by these too: {','.join(GROUP_KEYS)}"
    )
    parser.add_argument(
        "--distances", action=argparse.BooleanOptionalAction, default=True, help="distances of surfaces (default: yes)"
    )
    options.add_selection_options(parser)
    parser.add_argument("--seed", type=options.non_negative_int, default=0, metavar="S", help="of the folds")
    options.add_device_option(parser)
    options.add_json_option(parser)
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one line per exam and structure")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="write evaluation.json and evaluation.csv")


def run(args: argparse.Namespace) -> int:
    """Score every case; one that cannot be scored does not stop the rest."""
    folders = args.what if args.labels else args.what[1:]
    if not folders:
        args.usage_error("the following arguments are required: DATASET")
    if (args.table or args.scheme != "own") and not (args.labels or (args.against and args.against.is_dir())):
        args.usage_error("--scheme and --table say what label files hold; give --labels FOLDER too")
    cases = select_cases(args, folders)
    judged = _subjects(args, len(cases))
    exams, failed = _evaluate_cases(args, cases, judged)
    result = _result_dict(args, judged, exams, failed)
    if args.output:
        _write_text(args.output / "evaluation.json", json.dumps(result, indent=1, allow_nan=False))
    for file in filter(None, (args.csv, args.output and args.output / "evaluation.csv")):
        _write_text(file, _to_csv(judged, exams))
    if args.json:
        console.print_json(result)
    else:
        print("\n".join(_format_tables(args, judged, exams)))
    if failed:
        console.print_warning(f"{len(failed)} of {len(cases)} cases could not be scored and are in no figure")
        return console.EXIT_ERROR
    return console.EXIT_WARNINGS if any(row["error"] for rows in exams for row in rows) else console.EXIT_OK


def select_cases(args: argparse.Namespace, folders: Sequence[Path]) -> list[tuple[str, Case]]:
    """The cases that the words ask for, each with the name of its dataset."""
    from lumbarseg.datasets import Dataset, selection
    from lumbarseg.datasets.splits import SplitSettings

    datasets = [Dataset.open(folder) for folder in folders]
    splitting = SplitSettings(args.fold, args.seed) if args.fold else None
    wanted = selection.select_cases(datasets, options.selection_from_args(args), splitting)
    return [(dataset.name, case) for dataset in wanted for case in dataset.cases()]


def _subjects(args: argparse.Namespace, exams: int) -> list[EvaluationSubject]:
    """What is to be judged: one thing, or two with --against."""
    first = _label_files_subject(args, args.labels) if args.labels else _model_subject(args, args.what[0], exams)
    if not args.against:
        return [first]
    return [
        first,
        _label_files_subject(args, args.against)
        if args.against.is_dir()
        else _model_subject(args, args.against, exams),
    ]


def _model_subject(args: argparse.Namespace, path: Path, exams: int) -> EvaluationSubject:
    from lumbarseg.evaluation import predictor_from_model
    from lumbarseg.inference import Model, bundled_model_path

    model = Model.load(bundled_model_path() if str(path) == "shipped" else path, args.device, exams)
    return EvaluationSubject(str(path), predictor_from_model(model), {"file": str(path), "digest": model.card.digest})


def _label_files_subject(args: argparse.Namespace, folder: Path) -> EvaluationSubject:
    from lumbarseg.evaluation import predictor_from_files, read_label_table

    table = read_label_table(args.table) if args.table else args.scheme
    return EvaluationSubject(str(folder), predictor_from_files(folder, table), {"folder": str(folder)})


def _evaluate_cases(
    args: argparse.Namespace, cases: Sequence[tuple[str, Case]], subjects: Sequence[EvaluationSubject]
) -> tuple[list[list[Row]], list[Row]]:
    """Rows of the exams for each of what is judged, in the same order, and those that could not be scored."""
    from lumbarseg.evaluation import evaluate_case

    bar = console.progress_bar("cases", len(cases))
    exams: list[list[Row]] = [[] for _ in subjects]
    failed = []
    for dataset, case in cases:
        try:
            rows = evaluate_case(dataset, case, [each.predictor for each in subjects], args.distances)
        except (LumbarsegError, OSError, MemoryError) as error:
            failed.append({"dataset": dataset, "case": case.name, "error": describe_error(error)})
            console.print_error(f"{case.name}: {failed[-1]['error']}")
        else:
            for i, row in enumerate(rows):
                exams[i].append(row)
        bar.advance(case.name)
    bar.close()
    if not exams[0]:
        raise DatasetError(f"{cases[0][1].image}: neither this case nor any other could be scored; see above")
    return exams, failed


def _result_dict(
    args: argparse.Namespace, subjects: Sequence[EvaluationSubject], exams: Sequence[list[Row]], failed: list[Row]
) -> Row:
    from lumbarseg.evaluation import compare_evaluations, evaluation_tables

    result: Row = {"model": subjects[0].description, "cases": exams[0], "failed": failed}
    result["tables"] = [table.to_dict() for table in evaluation_tables(exams[0], args.by)]
    if len(subjects) > 1:
        second = {"model": subjects[1].description, "cases": exams[1]}
        second["tables"] = [table.to_dict() for table in evaluation_tables(exams[1], args.by)]
        result["against"] = second
        result["differences"] = {
            measure: [row.to_dict() for row in rows]
            for measure, rows in compare_evaluations(exams[0], exams[1]).items()
        }
    return result


def _format_tables(
    args: argparse.Namespace, subjects: Sequence[EvaluationSubject], exams: Sequence[list[Row]]
) -> list[str]:
    from lumbarseg.evaluation import compare_evaluations, evaluation_tables, largest_deficits
    from lumbarseg.metrics import exam_rows, worst_rows

    from . import evaluation_text

    out = []
    for one, rows in zip(subjects, exams, strict=True):
        out += [
            "",
            one.name if len(subjects) > 1 else "",
            *evaluation_text.format_tables(evaluation_tables(rows, args.by)),
            *evaluation_text.format_wrong_names(rows),
        ]
        out += evaluation_text.format_worst_exams(worst_rows(exam_rows(rows), "dice"))
    if len(subjects) > 1:
        names = (subjects[0].name, subjects[1].name)
        out += evaluation_text.format_differences(names, compare_evaluations(exams[0], exams[1]))
        out += evaluation_text.format_deficits(names, largest_deficits(exams[0], exams[1]))
    return out[1:] if not out[0] else out


def _to_csv(subjects: Sequence[EvaluationSubject], exams: Sequence[list[Row]]) -> str:
    from lumbarseg.metrics import structure_rows

    rows = [
        {"model": one.name} | row for one, those in zip(subjects, exams, strict=True) for row in structure_rows(those)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["model"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write_text(path: Path, text: str) -> None:
    from lumbarseg.io import atomic_write

    with atomic_write(path) as file:
        file.write(text.encode())


def _parse_group_keys(text: str) -> tuple[str, ...]:
    """Keys of further tables, with commas between them."""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    for key in keys:
        if key not in GROUP_KEYS:
            raise argparse.ArgumentTypeError(f"{key!r} is none of {', '.join(GROUP_KEYS)}")
    return keys
