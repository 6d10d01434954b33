"""`lumbarseg pseudo-label MODEL ... EXAM ... -o DATASET`: exams that nobody drew, labelled by several models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.active_learning.pseudo_label_importer import PseudoLabelOptions
    from lumbarseg.datasets import Case
    from lumbarseg.datasets.importing import ImportResult

_MAX_PRINTED = 20  # flagged exams that are told one by one


DESCRIPTION = (
    "Writes a prepared dataset of exams that nobody drew. Models may be made for different structures: each is\n"
    "heard on its own, the surer one more where they share one; names follow the order of the column. Voxels on\n"
    "which models disagree strongly are unknown, and what no model was made for is undrawn. Exams to look at are\n"
    "told, and marked in dataset.json: models that disagree, uncertain names, gaps, sizes that no person has.\n"
    "Done again, it goes on where it stopped and changes nothing that is there. Exit code 3: some are flagged."
)
EXAMPLE = "lumbarseg pseudo-label bodies.onnx discs.onnx exams/ -o data/pseudo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument(
        "what",
        nargs="+",
        type=Path,
        metavar="MODEL EXAM",
        help="model files (.onnx) or the word shipped, then exams: files, DICOM folders or folders of exams",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DATASET", help="the dataset to make")
    parser.add_argument(
        "--lowest", type=options.parse_level, metavar="LEVEL", help="lowest whole vertebra of every exam"
    )
    parser.add_argument(
        "--agree", type=options.fraction, default=0.8, metavar="DICE", help="flag structures below this (default: 0.8)"
    )
    parser.add_argument("--patient", metavar="REGEX", help="what is the patient in a name (default: all of it)")
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the exams")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to name the source of the exams")
    parser.add_argument("--jobs", type=options.positive_int, default=1, metavar="J", help="processes (default: 1)")
    options.add_device_option(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Label every exam; one that is refused does not stop the rest."""
    from lumbarseg.active_learning.pseudo_label_importer import create_importer, group_exams_by_folder
    from lumbarseg.datasets.importing import import_source

    wish = _pseudo_label_options(args)
    exams = [path for path in args.what if not _is_model(path)]
    if not wish.models or not exams:
        args.usage_error("the following arguments are required: MODEL and EXAM")
    groups = group_exams_by_folder(exams)
    done = []
    with console.progress_bar("exams", sum(map(len, groups.values()))) as bar:
        for folder, group in groups.items():
            importer = create_importer(wish, group, args.output)
            done.append(
                import_source(importer, folder, args.output, args.jobs, val_fraction=0.0, on_case_done=bar.advance)
            )
    refused = {name: reason for one in done for name, reason in one.refused.items()}
    for name, reason in refused.items():
        console.print_warning(f"{name}: refused: {reason}")
    flagged = _print_result(args, done, refused)
    return console.EXIT_WARNINGS if refused or flagged else console.EXIT_OK


def _is_model(path: Path) -> bool:
    return path.suffix.lower() == ".onnx" or (str(path) == "shipped" and not path.exists())


def _pseudo_label_options(args: argparse.Namespace) -> PseudoLabelOptions:
    from lumbarseg.active_learning.pseudo_label_importer import PseudoLabelOptions
    from lumbarseg.inference import bundled_model_path

    models = tuple(bundled_model_path() if str(path) == "shipped" else path for path in args.what if _is_model(path))
    return PseudoLabelOptions(models, args.lowest, args.agree, args.device, args.patient, args.licence, args.citation)


def _print_result(args: argparse.Namespace, done: list[ImportResult], refused: dict[str, str]) -> bool:
    """What came of it; whether some exam is flagged."""
    mine = {name for one in done for name in (*one.added, *one.unchanged)}
    cases = [case for case in done[-1].dataset.cases() if case.name in mine]
    flagged = sorted((case for case in cases if case.metadata.get("review")), key=lambda case: -len(case.warnings))
    added = sum(len(one.added) for one in done)
    if args.json:
        rows = [_case_dict(case) for case in cases]
        counts = {"added": added, "already": len(mine) - added, "refused": refused}
        console.print_json({"folder": str(args.output), **counts, "cases": rows})
        return bool(flagged)
    for case in flagged[:_MAX_PRINTED]:
        print(f"look at {case.name}:", *case.warnings, sep="\n  ")
    if len(flagged) > _MAX_PRINTED:
        print(f"and at {len(flagged) - _MAX_PRINTED} more: see warnings in {args.output / 'dataset.json'}")
    told = f"{added} added, {len(mine) - added} there already, {len(refused)} refused"
    print(f"{args.output}: {len(cases)} exams labelled ({told}); {len(flagged)} of them to look at")
    return bool(flagged)


def _case_dict(case: Case) -> dict[str, object]:
    told = {key: case.metadata["pseudo"][key] for key in ("names", "confidence", "agreement")}
    return {"case": case.name, "review": case.metadata["review"], "warnings": list(case.warnings), **told}
