"""`lumbarseg import KIND SOURCE TARGET`: somebody's data as a prepared dataset."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.datasets.importers.raw import Importer
    from lumbarseg.datasets.importing import Imported

PRESETS = ("spider_space", "spider_t2", "default")

SOURCES = {
    "khalil": ("Al Khalil: T2 exams with nine masks each", "lumbarseg import khalil 'Lumbar Spine' data/khalil"),
    "chu": ("Chu: T2 exams with one tag for seven bodies", "lumbarseg import chu zenodo-22304 data/chu"),
    "spider": ("SPIDER: images/ and masks/ as .mha", "lumbarseg import spider zenodo-10159290 data/spider"),
    "mrspineseg": ("MRSpineSeg: MR/ and Mask/", "lumbarseg import mrspineseg train data/mrspineseg"),
    "myosegmentum": ("MyoSegmenTUM: water and fat exams", "lumbarseg import myosegmentum osf-3j54b data/myosegmentum"),
    "ivdm3seg": ("IVDM3Seg: Dixon exams with one tag for discs", "lumbarseg import ivdm3seg training data/ivdm3seg"),
}
"""Sources that need no options of their own: what they are, and an example."""


def add(commands: options.Commands) -> None:
    """The command's words."""
    text = (
        "Copies exams and labels into a prepared dataset: canonical axes, native spacing, a table of label values.\n"
        "An import that was interrupted goes on where it stopped; what is there already is left as it is."
    )
    sources = options.command(
        commands, "import", "make a prepared dataset from exams and labels", text, SOURCES["khalil"][1]
    )
    kinds = sources.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, (summary, example) in SOURCES.items():
        _words(kinds, name, summary, f"Imports {summary}. docs/datasets.md tells the layout that is expected.", example)
    _folder(kinds)


def _words(kinds: options.Commands, name: str, summary: str, text: str, example: str) -> argparse.ArgumentParser:
    """A kind of source with the words that all of them have."""
    parser = options.command(kinds, name, summary, text, example)
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the folder as it was downloaded and unpacked")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the dataset; made, or completed")
    parser.add_argument(
        "--held-out", type=options.share, default=0.1, metavar="SHARE", help="patients for validation (default: 0.1)"
    )
    parser.add_argument("--seed", type=options.natural, default=0, metavar="S", help="another seed, other patients")
    parser.add_argument("--jobs", type=options.positive, metavar="J", help="processes (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print what was imported as JSON")
    parser.set_defaults(run=run, importer=_plain)
    return parser


def _plain(args: argparse.Namespace) -> Importer:
    """The importer of a source without options."""
    from lumbarseg.datasets.importers import importer

    return importer(args.kind)


def run(args: argparse.Namespace) -> int:
    """Import one source."""
    from lumbarseg.datasets.importing import import_source

    progress: list[say.Progress] = []

    def step(name: str, total: int) -> None:
        if not progress:
            progress.append(say.Progress("exams", total))
        progress[0].step(name)

    done = import_source(
        args.importer(args), args.source, args.target, jobs=args.jobs, seed=args.seed, held_out=args.held_out, step=step
    )
    for bar in progress:
        bar.close()
    for name, reason in done.refused.items():
        say.warning(f"{name}: refused: {reason}")
    if args.json:
        say.as_json(_facts(args, done))
    else:
        _tell(args, done)
    return say.WARNED if done.refused else say.DONE


def _facts(args: argparse.Namespace, done: Imported) -> dict[str, object]:
    return {
        "folder": str(args.target),
        "cases": dict(Counter(case.split for case in done.dataset.cases())),
        "added": list(done.added),
        "already": list(done.already),
        "refused": done.refused,
        "warnings": done.warnings,
    }


def _tell(args: argparse.Namespace, done: Imported) -> None:
    """What came of it: traps that were met, by word, then one line of counts."""
    from lumbarseg.datasets.importers import traps

    meaning = traps(args.kind)
    for trap, names in done.traps().items():
        few = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        many = "1 case" if len(names) == 1 else f"{len(names)} cases"
        print(f"{trap}: {many} ({few}): {meaning.get(trap, 'see warnings in dataset.json')}")
    splits = Counter(case.split for case in done.dataset.cases())
    told = ", ".join(f"{count} {split}" for split, count in splits.items())
    counts = f"{len(done.added)} added, {len(done.already)} there already, {len(done.refused)} refused"
    print(f"{args.target}: {len(done.dataset.cases())} cases ({told}); {counts}")


def _folder(kinds: options.Commands) -> None:
    """Pairs of files in one folder, with their own table."""
    example = "lumbarseg import folder spider_space/train data/space --preset spider_space"
    parser = options.command(
        kinds,
        "folder",
        "pairs NAME_image.nii.gz and NAME_labels.nii.gz in one folder",
        "Imports all pairs NAME_image.nii.gz and NAME_labels.nii.gz of one folder. What stands before the first\n"
        "underscore of a name is the patient; every tenth patient is held out for validation.",
        example,
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="the folder with the pairs")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the dataset to make")
    table = parser.add_mutually_exclusive_group(required=True)
    table.add_argument("--preset", choices=PRESETS, help="the label table of a known source")
    table.add_argument("--table", type=Path, metavar="FILE", help='JSON: {"0": ["background"], "1": ["body", "arch"]}')
    parser.add_argument("--licence", default="", metavar="TEXT", help="the data's licence; goes into the model's card")
    parser.add_argument("--citation", default="", metavar="TEXT", help="how to name the source")
    parser.add_argument("--held-out", type=options.natural, default=10, metavar="N", help="every Nth patient; 0: none")
    parser.add_argument("--json", action="store_true", help="print what was imported as JSON")
    parser.set_defaults(run=_run_folder)


def _run_folder(args: argparse.Namespace) -> int:
    """Import one folder of pairs."""
    from lumbarseg.datasets.importers.folder import import_folder

    table = args.preset or args.table
    dataset = import_folder(args.source, args.target, table, args.licence, args.citation, args.held_out)
    splits = Counter(case.split for case in dataset.cases())
    warnings = [f"{case.name}: {text}" for case in dataset.cases() for text in case.warnings]
    for text in warnings:
        say.warning(text)
    if args.json:
        say.as_json({"folder": str(args.target), "cases": dict(splits), "warnings": warnings})
    else:
        told = ", ".join(f"{count} {split}" for split, count in splits.items())
        print(f"{args.target}: {len(dataset.cases())} cases ({told})")
    return say.WARNED if warnings else say.DONE
