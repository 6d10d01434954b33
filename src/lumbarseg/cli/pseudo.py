"""`lumbarseg pseudo-label MODEL ... EXAM ... -o DATASET`: exams that nobody drew, labelled by several models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.datasets import Case
    from lumbarseg.datasets.importing import Imported
    from lumbarseg.pseudo.importer import Wish

_MOST = 20  # flagged exams that are told one by one


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "pseudo-label",
        "label exams with several models, and flag what to look at",
        "Writes a prepared dataset of exams that nobody drew. Models may be made for different structures: each is\n"
        "heard on its own, the surer one more where they share one; names follow the order of the column. Voxels on\n"
        "which models disagree strongly are unknown, and what no model was made for is undrawn. Exams to look at are\n"
        "told, and marked in dataset.json: models that disagree, uncertain names, gaps, sizes that no person has.\n"
        "Done again, it goes on where it stopped and changes nothing that is there. Exit code 3: some are flagged.",
        "lumbarseg pseudo-label bodies.onnx discs.onnx exams/ -o data/pseudo",
    )
    parser.add_argument(
        "what",
        nargs="+",
        type=Path,
        metavar="MODEL EXAM",
        help="model files (.onnx) or the word shipped, then exams: files, DICOM folders or folders of exams",
    )
    parser.add_argument("-o", dest="out", type=Path, required=True, metavar="DATASET", help="the dataset to make")
    parser.add_argument("--lowest", type=options.level, metavar="LEVEL", help="lowest whole vertebra of every exam")
    parser.add_argument(
        "--agree", type=options.share, default=0.8, metavar="DICE", help="flag structures below this (default: 0.8)"
    )
    parser.add_argument("--patient", metavar="REGEX", help="what is the patient in a name (default: all of it)")
    parser.add_argument("--licence", default="", metavar="TEXT", help="of the exams")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to name the source of the exams")
    parser.add_argument("--jobs", type=options.positive, default=1, metavar="J", help="processes (default: 1)")
    options.device(parser)
    parser.add_argument("--json", action="store_true", help="print what was labelled as JSON")
    parser.set_defaults(run=run, refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Label every exam; one that is refused does not stop the rest."""
    from lumbarseg.datasets.importing import import_source
    from lumbarseg.pseudo.importer import importer, sources

    wish = _wish(args)
    exams = [path for path in args.what if not _is_model(path)]
    if not wish.models or not exams:
        args.refuse("the following arguments are required: MODEL and EXAM")
    groups = sources(exams)
    progress = say.Progress("exams", sum(map(len, groups.values())))
    done = [
        import_source(
            importer(wish, group, args.out),
            folder,
            args.out,
            args.jobs,
            held_out=0.0,
            step=lambda name, _: progress.step(name),
        )
        for folder, group in groups.items()
    ]
    progress.close()
    refused = {name: reason for one in done for name, reason in one.refused.items()}
    for name, reason in refused.items():
        say.warning(f"{name}: refused: {reason}")
    flagged = _tell(args, done, refused)
    return say.WARNED if refused or flagged else say.DONE


def _is_model(path: Path) -> bool:
    return path.suffix.lower() == ".onnx" or (str(path) == "shipped" and not path.exists())


def _wish(args: argparse.Namespace) -> Wish:
    from lumbarseg.model import shipped
    from lumbarseg.pseudo.importer import Wish

    models = tuple(shipped() if str(path) == "shipped" else path for path in args.what if _is_model(path))
    return Wish(models, args.lowest, args.agree, args.device, args.patient, args.licence, args.citation)


def _tell(args: argparse.Namespace, done: list[Imported], refused: dict[str, str]) -> bool:
    """What came of it; whether some exam is flagged."""
    mine = {name for one in done for name in (*one.added, *one.already)}
    cases = [case for case in done[-1].dataset.cases() if case.name in mine]
    flagged = sorted((case for case in cases if case.about.get("review")), key=lambda case: -len(case.warnings))
    added = sum(len(one.added) for one in done)
    if args.json:
        rows = [_row(case) for case in cases]
        counts = {"added": added, "already": len(mine) - added, "refused": refused}
        say.as_json({"folder": str(args.out), **counts, "cases": rows})
        return bool(flagged)
    for case in flagged[:_MOST]:
        print(f"look at {case.name}:", *case.warnings, sep="\n  ")
    if len(flagged) > _MOST:
        print(f"and at {len(flagged) - _MOST} more: see warnings in {args.out / 'dataset.json'}")
    told = f"{added} added, {len(mine) - added} there already, {len(refused)} refused"
    print(f"{args.out}: {len(cases)} exams labelled ({told}); {len(flagged)} of them to look at")
    return bool(flagged)


def _row(case: Case) -> dict[str, object]:
    told = {key: case.about["pseudo"][key] for key in ("names", "confidence", "agreement")}
    return {"case": case.name, "review": case.about["review"], "warnings": list(case.warnings), **told}
