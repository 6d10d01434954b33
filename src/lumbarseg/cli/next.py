"""`lumbarseg next EXAM ...`: which exam a person should correct next, and why."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import console, options

_MAX_REASONS = 2  # reasons per exam


DESCRIPTION = (
    "Sorts exams by doubt: the network is unsure, names are uncertain, the mirrored exam is answered otherwise,\n"
    "a second model answers otherwise (--against), or the answer shows what no person has."
)
EXAMPLE = "lumbarseg next studies --model app/model/lumbar_spine.onnx --memory app/learn/doubts.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("exams", nargs="+", type=Path, metavar="EXAM", help="files, DICOM folders, folders of exams")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the model in use (default: the shipped one)")
    parser.add_argument("--against", type=Path, metavar="FILE", help="a second model to compare with")
    parser.add_argument("--memory", type=Path, metavar="FILE", help="keep doubts here, so that each exam is seen once")
    parser.add_argument("--seconds", type=float, metavar="S", help="look at no further exam after this time")
    options.add_device_option(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Look at every exam and tell them, the most doubtful first."""
    from lumbarseg.active_learning.pseudo_label_importer import group_exams_by_folder
    from lumbarseg.active_learning.uncertainty import rank_exams
    from lumbarseg.inference import Model, default_model_path

    exams = {name: path for group in group_exams_by_folder(args.exams).values() for name, path in group.items()}
    model = Model.load(args.model or default_model_path(), args.device, len(exams))
    other = Model.load(args.against, args.device, len(exams)) if args.against else None
    with console.progress_bar("exams", len(exams)) as bar:
        found = rank_exams(exams, model, other, args.memory, args.seconds, bar.advance)
    if args.json:
        console.print_json({"exams": [one.to_dict() for one in found.scores], "waiting": list(found.not_scored)})
        return console.EXIT_OK
    for one in found.scores:
        print(f"{one.value:.3f}  {one.name}: {'; '.join(one.reasons[:_MAX_REASONS]) or 'no doubt'}")
    for name in found.not_scored:
        print(f"    ?  {name}: not looked at yet")
    return console.EXIT_OK
