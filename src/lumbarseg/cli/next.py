"""`lumbarseg next EXAM ...`: rank exams by uncertainty, to choose which one to correct next."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from lumbarseg.active_learning.pseudo_label_importer import group_exams_by_folder
from lumbarseg.active_learning.uncertainty import rank_exams
from lumbarseg.inference import Model, default_model_path

from . import console, options

_MAX_REASONS = 2  # printed for each exam

DESCRIPTION = (
    "Ranks exams by the uncertainty of their segmentation: the network is uncertain, level names are uncertain, the\n"
    "mirrored exam or a second model (--against) is segmented differently, or the anatomy is implausible."
)
EXAMPLE = "lumbarseg next studies --model app/model/lumbar_spine.onnx --cache app/learn/uncertainty.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("exams", nargs="+", type=Path, metavar="EXAM", help="files, DICOM folders, folders of exams")
    options.add_shared_options(parser, "--model", "--device")
    parser.add_argument("--against", type=Path, metavar="MODEL", help="compare with a second model, too")
    parser.add_argument("--cache", type=Path, metavar="FILE", help="keep scores, so that each exam is scored once")
    parser.add_argument("--seconds", type=float, metavar="S", help="time after which no further exam is scored")
    options.add_shared_options(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Score exams and print them, the most uncertain first."""
    exams = {name: path for group in group_exams_by_folder(args.exams).values() for name, path in group.items()}
    model = Model.load(args.model or default_model_path(), args.device, len(exams))
    second_model = Model.load(args.against, args.device, len(exams)) if args.against else None
    with console.progress_bar("exams", len(exams)) as bar:
        ranked = rank_exams(exams, model, second_model, args.cache, args.seconds, bar.advance)
    if args.json:
        scores = [asdict(score) for score in ranked.scores]
        console.print_json({"exams": scores, "not_scored": list(ranked.not_scored)})
        return console.EXIT_OK
    for score in ranked.scores:
        print(f"{score.value:.3f}  {score.name}: {'; '.join(score.reasons[:_MAX_REASONS]) or 'no reason to review it'}")
    for name in ranked.not_scored:
        print(f"    ?  {name}: not scored yet")
    return console.EXIT_OK
