"""`lumbarseg evaluate MODEL DATASET ...`: score a model on prepared datasets."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from lumbarseg.datasets import Case, Dataset, selection
from lumbarseg.datasets.label_table import read_label_table
from lumbarseg.datasets.splits import SplitSettings
from lumbarseg.errors import DatasetError
from lumbarseg.evaluation.evaluate import CaseFailure, Evaluation, evaluate_cases, result_to_csv, result_to_dict
from lumbarseg.evaluation.predictors import CasePredictor, predictor_from_files, predictor_from_model
from lumbarseg.evaluation.tables import GROUP_KEYS
from lumbarseg.evaluation.text_tables import format_evaluations
from lumbarseg.inference import Model, bundled_model_path
from lumbarseg.io import atomic_write

from . import console, options

DESCRIPTION = (
    "Segments every case as `segment` would and compares the prediction with its labels: Dice, volume ratio and\n"
    "surface distances per structure, detected vertebrae and discs, right and wrong names, each with a 95 %\n"
    "bootstrap interval over patients. Structures that a source did not annotate are ignored.\n"
    "With --labels FOLDER the label files of another program are scored instead of a model."
)
EXAMPLE = "lumbarseg evaluate mine.onnx data/mine --split val --against shipped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="MODEL DATASET",
        help="a model file or `shipped` (none with --labels), then folders with a dataset.json",
    )
    parser.add_argument("--labels", type=Path, metavar="FOLDER", help="score FOLDER/NAME.nii.gz instead of a model")
    values = parser.add_mutually_exclusive_group()
    values.add_argument(
        "--scheme",
        choices=("default", "dataset"),
        default="default",
        help="label values in the files: those of lumbarseg (default), or of each dataset's label table",
    )
    values.add_argument("--table", type=Path, metavar="FILE", help='JSON: {"0": ["background"], "1": ["L1"], ...}')
    parser.add_argument("--against", type=Path, metavar="MODEL", help="another model, or a folder of label files")
    parser.add_argument(
        "--by", type=_parse_group_keys, default=(), metavar="KEYS", help=f"more tables, by {','.join(GROUP_KEYS)}"
    )
    parser.add_argument(
        "--distances", action=argparse.BooleanOptionalAction, default=True, help="surface distances (default: yes)"
    )
    options.add_selection_options(parser)
    options.add_shared_options(parser, "--seed", help="seed of the folds (default: %(default)s)")
    options.add_shared_options(parser, "--device", "--json")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write one line per exam and structure")
    options.add_shared_options(parser, "--output", metavar="DIR", help="write evaluation.json and evaluation.csv")


def run(args: argparse.Namespace) -> int:
    """Score every case; a case that cannot be scored does not stop the others."""
    folders = args.paths if args.labels else args.paths[1:]
    if not folders:
        args.usage_error("the following arguments are required: DATASET")
    if (args.table or args.scheme != "default") and not (args.labels or (args.against and args.against.is_dir())):
        args.usage_error("--scheme and --table describe label files; give --labels FOLDER too")
    cases = _select_cases(args, folders)
    sources = [path for path in (args.labels or args.paths[0], args.against) if path]
    predictors, descriptions = zip(*(_predictor(args, path, len(cases)) for path in sources), strict=True)
    with console.progress_bar("cases", len(cases)) as bar:

        def report(name: str, failure: CaseFailure | None) -> None:
            if failure:
                console.print_error(f"{name}: {failure.error}")
            bar.advance(name)

        results, failures = evaluate_cases(cases, predictors, args.distances, report)
    if not results[0]:
        raise DatasetError(f"{cases[0][1].image}: neither this case nor any other could be scored; see above")
    evaluations = [Evaluation(str(path), *rest) for path, *rest in zip(sources, descriptions, results, strict=True)]
    _write_result(args, evaluations, failures)
    if failures:
        console.print_warning(f"{len(failures)} of {len(cases)} cases could not be scored and are left out")
        return console.EXIT_ERROR
    return console.EXIT_WARNINGS if any(row["error"] for rows in results for row in rows) else console.EXIT_OK


def _select_cases(args: argparse.Namespace, folders: Sequence[Path]) -> list[tuple[str, Case]]:
    """Return the cases that the options select, each with the name of its dataset."""
    datasets = [Dataset.open(folder) for folder in folders]
    splitting = SplitSettings(args.fold, args.seed) if args.fold else None
    selected = selection.select_cases(datasets, options.selection_from_args(args), splitting)
    return [(dataset.name, case) for dataset in selected for case in dataset.cases()]


def _predictor(args: argparse.Namespace, path: Path, case_count: int) -> tuple[CasePredictor, dict[str, str]]:
    """Return the predictor of a model file or a folder of label files, and what identifies it in JSON."""
    if path.is_dir() or path == args.labels:
        table = read_label_table(args.table, ["background"]) if args.table else args.scheme
        return predictor_from_files(path, table), {"folder": str(path)}
    model = Model.load(bundled_model_path() if str(path) == "shipped" else path, args.device, case_count)
    return predictor_from_model(model), {"file": str(path), "digest": model.card.digest}


def _write_result(args: argparse.Namespace, evaluations: Sequence[Evaluation], failures: Sequence[CaseFailure]) -> None:
    """Write the files that the options ask for, and print the result."""
    result = result_to_dict(evaluations, failures, args.by)
    files = {args.csv: result_to_csv(evaluations)} if args.csv else {}
    if args.output:
        files[args.output / "evaluation.json"] = json.dumps(result, indent=1, allow_nan=False)
        files[args.output / "evaluation.csv"] = result_to_csv(evaluations)
    for path, text in files.items():
        with atomic_write(path) as file:
            file.write(text.encode())
    if args.json:
        console.print_json(result)
    else:
        print("\n".join(format_evaluations(evaluations, args.by)))


def _parse_group_keys(text: str) -> tuple[str, ...]:
    """Parse keys of further tables, separated by commas."""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    for key in keys:
        if key not in GROUP_KEYS:
            raise argparse.ArgumentTypeError(f"{key!r} is none of {', '.join(GROUP_KEYS)}")
    return keys
