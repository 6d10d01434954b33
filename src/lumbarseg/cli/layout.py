"""`lumbarseg phantom DIR --layout NAME`: synthetic exams as a published dataset lies on disk, to import."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from lumbarseg.errors import DatasetError

from . import console

if TYPE_CHECKING:
    from lumbarseg.datasets.layouts.exam import Exam

LAYOUTS = (
    "khalil",
    "chu",
    "spider",
    "mrspineseg",
    "myosegmentum",
    "ivdm3seg",
    "nnunet",
    "msd",
    "spineps",
    "totalspineseg",
    "folder",
    "monailabel",
)
_DRAWS = 30  # exams drawn for one that a layout can take, before its wish is called impossible


def run(args: argparse.Namespace) -> int:
    """Write the layout to DIR, its truth and what was planted in it to DIR-truth."""
    import numpy as np

    from lumbarseg.datasets.layouts import layout
    from lumbarseg.io import atomic_write

    folder: Path = args.folder
    truth = folder.with_name(f"{folder.name}-truth")
    for place in (folder, truth):
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise DatasetError(f"{place}: not empty; choose another folder")
    module = layout(args.layout)
    rng = np.random.default_rng([args.seed, args.start])
    names: list[str] = []
    exams = _with_truth(_exams(args, module), module, truth, names)
    planted = module.write(folder, exams, rng, args.traps)
    told = {
        "layout": args.layout,
        "traps": [asdict(trap) for trap in planted],
        "truth": {name: f"labels/{name}.nii.gz" for name in names},
    }
    with atomic_write(truth / "traps.json") as file:
        file.write(json.dumps(told, indent=1).encode())
    if args.json:
        console.print_json({"folder": str(folder), "truth": str(truth), **told})
    else:
        print(f"{folder}: {len(names)} exams, {len(planted)} traps; what they are, and the true labels, in {truth}")
    return console.EXIT_OK


def draw_exam(number: int, seed: int, sequences: tuple[str, ...]) -> Exam:
    """Exam `number` of `seed`, with five lumbar vertebrae, in one of `sequences` (one turn after the other)."""
    import numpy as np

    from lumbarseg.datasets.layouts.exam import Exam
    from lumbarseg.phantom import RecipeRanges, draw_recipe, render_phantom

    ranges = RecipeRanges(sequences=(sequences[number % len(sequences)],), lumbar_counts=(5,))
    phantom = render_phantom(draw_recipe(np.random.default_rng([seed, number]), ranges))
    return Exam(f"phantom-{seed}-{number:05d}", phantom.image, phantom.labels, phantom.ground_truth["sequence"])


def _exams(args: argparse.Namespace, module: ModuleType) -> Iterator[Exam]:
    """`args.n` exams that the layout can take, drawn side by side."""
    from lumbarseg.datasets.workers import map_in_processes

    make = partial(draw_exam, seed=args.seed, sequences=getattr(module, "SEQUENCES", ("T2",)))
    usable = getattr(module, "usable", None)
    bar = console.progress_bar("phantoms", args.n)
    done = 0
    for drawn, exam in enumerate(map_in_processes(make, count(args.start), args.jobs)):
        if usable is None or usable(exam):
            yield exam
            done += 1
            bar.advance()
        if done == args.n:
            break
        if drawn > _DRAWS * (done + 1):
            raise DatasetError(f"{args.layout}: no phantom fits this layout; choose another --seed")
    bar.close()


def _with_truth(exams: Iterator[Exam], module: ModuleType, truth: Path, names: list[str]) -> Iterator[Exam]:
    """The exams, their labels written to `truth` on the way, and how the importer will call them put into `names`."""
    from lumbarseg import io

    for number, exam in enumerate(exams):
        name = module.case_of(number) if hasattr(module, "case_of") else exam.name
        io.write_labels(exam.labels, truth / "labels" / f"{name}.nii.gz")
        names.append(name)
        yield exam
