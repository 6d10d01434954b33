"""`lumbarseg combine DATASET ... -o OUT`: several prepared datasets, or a part of one, as one."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from . import options, say

if TYPE_CHECKING:
    from lumbarseg.datasets.combine import Combined, Settings


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "combine",
        "make one prepared dataset of several, or of a part",
        "Writes the union of prepared datasets with one label table. What a dataset did not draw stays unknown in its\n"
        "cases. Images are the same files under a second name, or copies; labels are renumbered exactly; the datasets\n"
        "themselves are not touched. Done again, it goes on where it stopped, and leaves what is there as it is.\n"
        "train and evaluate take several datasets by themselves: this is for those who want the files.",
        "lumbarseg combine data/khalil data/chu -o data/both --structures L1 L2 --fold 1/5",
    )
    parser.add_argument("datasets", nargs="+", type=Path, metavar="DATASET", help="folders with a dataset.json")
    parser.add_argument(
        "-o", dest="out", type=Path, required=True, metavar="OUT", help="the dataset to make or complete"
    )
    options.selection(parser)
    parser.add_argument("--seed", type=options.natural, metavar="S", help="of the folds; without --fold: split anew")
    parser.add_argument("--val", type=options.share, default=0.1, metavar="X", help="share held out by --seed (0.1)")
    parser.add_argument("--test", type=options.share, default=0.0, metavar="X", help="share for tests by --seed (0)")
    parser.add_argument(
        "--same-patients", action="store_true", help="a patient of one name is one person in all of the datasets"
    )
    parser.add_argument("--copy", action="store_true", help="copy images, never share one file between datasets")
    parser.add_argument("--jobs", type=options.positive, metavar="J", help="processes (default: one per core)")
    parser.add_argument("--json", action="store_true", help="print what was combined as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Combine them."""
    from lumbarseg.datasets import Dataset
    from lumbarseg.datasets.combine import combine

    progress: list[say.Progress] = []

    def step(name: str, total: int) -> None:
        if not progress:
            progress.append(say.Progress("cases", total))
        progress[0].step(name)

    datasets = [Dataset.open(folder) for folder in args.datasets]
    done = combine(datasets, args.out, _settings(args), args.jobs, step)
    for bar in progress:
        bar.close()
    for name, reason in done.refused.items():
        say.warning(f"{name}: refused: {reason}")
    _tell(args, done)
    return say.WARNED if done.refused else say.DONE


def _settings(args: argparse.Namespace) -> Settings:
    from lumbarseg.datasets.combine import Settings
    from lumbarseg.datasets.splits import Splitting

    splitting = Splitting(args.fold, args.seed, args.val, args.test)
    return Settings(options.selected(args), splitting, args.same_patients, args.copy)


def _tell(args: argparse.Namespace, done: Combined) -> None:
    splits = Counter(case.split for case in done.dataset.cases())
    if args.json:
        say.as_json(
            {
                "folder": str(args.out),
                "cases": dict(splits),
                "added": list(done.added),
                "already": list(done.already),
                "refused": done.refused,
                "labels": {str(value): list(names) for value, names in done.dataset.table.items()},
            }
        )
        return
    told = ", ".join(f"{count} {split}" for split, count in splits.items())
    counts = f"{len(done.added)} added, {len(done.already)} there already, {len(done.refused)} refused"
    print(f"{args.out}: {len(done.dataset.cases())} cases ({told}); {counts}")
