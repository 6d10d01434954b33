"""`lumbarseg pseudo-label MODEL ... EXAM ... -o DATASET`: label exams with models, or complete annotations."""

from __future__ import annotations

import argparse
from pathlib import Path

from lumbarseg.active_learning.pseudo_label_importer import PseudoLabelOptions, PseudoLabelResult, create_pseudo_labels
from lumbarseg.datasets import Case
from lumbarseg.inference import bundled_model_path

from . import console, options

_MAX_PRINTED = 20  # flagged exams that are printed

DESCRIPTION = (
    "Writes a prepared dataset of exams that nobody annotated. Models may be trained on different structures: each is\n"
    "used for its own, the more confident one more where they share one. Voxels on which models disagree strongly get\n"
    "the value unknown, and structures that no model was trained on count as not annotated. Exams to review are\n"
    "listed, and marked in dataset.json: disagreement of models, uncertain names, gaps, implausible sizes.\n"
    "Of a prepared dataset it fills what annotators left open, where the models agree; annotated voxels stay as they\n"
    "are, and so do its exams for validation and test. Each model also predicts the mirrored exam.\n"
    "Repeated, the command continues where it stopped. Exit code 3: some exams are to be reviewed."
)
EXAMPLE = "lumbarseg pseudo-label bodies.onnx discs.onnx exams/ -o data/pseudo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="MODEL EXAM",
        help="model files (.onnx) or the word shipped, then exams: files, DICOM folders, folders of exams or prepared "
        "datasets",
    )
    options.add_shared_options(parser, "--output", metavar="DATASET", help="the dataset to make", required=True)
    parser.add_argument("--lowest", type=options.parse_level, metavar="LEVEL", help="lowest complete vertebra of all")
    parser.add_argument(
        "--min-agreement",
        type=options.fraction,
        default=0.8,
        metavar="DICE",
        help="flag a structure on which two models agree less (default: %(default)s)",
    )
    parser.add_argument(
        "--patient", metavar="REGEX", help="finds the patient in a name (default: all of it); a dataset states its own"
    )
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the exams; a dataset states its own")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to name the source of the exams")
    options.add_shared_options(parser, "--jobs", help="worker processes (default: 1)")
    options.add_shared_options(parser, "--device", "--json")


def run(args: argparse.Namespace) -> int:
    """Label every exam and list those to review."""
    models = tuple(bundled_model_path() if str(path) == "shipped" else path for path in args.inputs if _is_model(path))
    exams = [path for path in args.inputs if not _is_model(path)]
    if not models or not exams:
        args.usage_error("the following arguments are required: MODEL and EXAM")
    labelling = PseudoLabelOptions(
        models, args.lowest, args.min_agreement, args.device, args.patient, args.licence, args.citation
    )
    with console.progress_bar("exams") as bar:
        result = create_pseudo_labels(labelling, exams, args.output, args.jobs or 1, bar.advance)
    for name, reason in result.refused.items():
        console.print_warning(f"{name}: not labelled: {reason}")
    if args.json:
        counts = {"added": result.added, "already": result.unchanged, "refused": result.refused}
        console.print_json({"folder": str(args.output), **counts, "cases": [_case_dict(c) for c in result.cases]})
    else:
        _print_result(result, args.output)
    return console.EXIT_WARNINGS if result.refused or result.flagged else console.EXIT_OK


def _is_model(path: Path) -> bool:
    return path.suffix.lower() == ".onnx" or (str(path) == "shipped" and not path.exists())


def _print_result(result: PseudoLabelResult, folder: Path) -> None:
    for case in result.flagged[:_MAX_PRINTED]:
        print(f"review {case.name}:", *case.warnings, sep="\n  ")
    if len(result.flagged) > _MAX_PRINTED:
        print(f"and {len(result.flagged) - _MAX_PRINTED} more: see warnings in {folder / 'dataset.json'}")
    counts = f"{result.added} added, {result.unchanged} existing, {len(result.refused)} not labelled"
    exams = f"{len(result.cases)} exam{'s' * (len(result.cases) != 1)}"
    print(f"{folder}: {exams} labelled ({counts}); {len(result.flagged)} of them to review")


def _case_dict(case: Case) -> dict[str, object]:
    info = {key: case.metadata["pseudo"][key] for key in ("names", "confidence", "agreement")}
    return {"case": case.name, "review": case.metadata["review"], "warnings": list(case.warnings), **info}
