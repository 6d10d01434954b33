"""`lumbarseg next EXAM ...`: which exam a person should correct next, and why."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import options, say

_SHOWN = 2  # reasons per exam


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "next",
        "which exams a person should correct first",
        "Sorts exams by doubt: the network is unsure, names are uncertain, the mirrored exam is answered otherwise,\n"
        "a second model answers otherwise (--against), or the answer shows what no person has.",
        "lumbarseg next studies --model app/model/lumbar_spine.onnx --memory app/learn/doubts.json",
    )
    parser.add_argument("exams", nargs="+", type=Path, metavar="EXAM", help="files, DICOM folders, folders of exams")
    parser.add_argument("--model", type=Path, metavar="FILE", help="the model in use (default: the shipped one)")
    parser.add_argument("--against", type=Path, metavar="FILE", help="a second model to compare with")
    parser.add_argument("--memory", type=Path, metavar="FILE", help="keep doubts here, so that each exam is seen once")
    parser.add_argument("--seconds", type=float, metavar="S", help="look at no further exam after this time")
    options.device(parser)
    parser.add_argument("--json", action="store_true", help="print all as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look at every exam and tell them, the most doubtful first."""
    from lumbarseg.learn.order import order
    from lumbarseg.model import Model, default
    from lumbarseg.pseudo.importer import sources

    exams = {name: path for group in sources(args.exams).values() for name, path in group.items()}
    model = Model.load(args.model or default(), args.device, len(exams))
    other = Model.load(args.against, args.device, len(exams)) if args.against else None
    progress = say.Progress("exams", len(exams))
    found = order(exams, model, other, args.memory, args.seconds, lambda name, _: progress.step(name))
    progress.close()
    if args.json:
        say.as_json({"exams": [one.to_dict() for one in found.doubts], "waiting": list(found.waiting)})
        return say.DONE
    for one in found.doubts:
        print(f"{one.value:.3f}  {one.name}: {'; '.join(one.reasons[:_SHOWN]) or 'no doubt'}")
    for name in found.waiting:
        print(f"    ?  {name}: not looked at yet")
    return say.DONE
