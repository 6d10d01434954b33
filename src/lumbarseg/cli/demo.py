"""`lumbarseg demo`: a synthetic exam, segmented and compared with its truth."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import answers, options, outputs, say

if TYPE_CHECKING:
    from lumbarseg.phantom import Phantom
    from lumbarseg.score import Score

_VIEW, _BELOW = 270.0, 90.0  # mm of the field of view from foot to head, and of it below the middle of L5


def add(commands: options.Commands) -> None:
    """The command's words."""
    parser = options.command(
        commands,
        "demo",
        "segment a synthetic exam and show the report",
        "Draws a synthetic exam, segments it as `segment` would, compares the answer with the known truth and says\n"
        "where the report lies.",
        "lumbarseg demo -o out/demo",
    )
    parser.add_argument("-o", dest="out", type=Path, default=Path("lumbarseg-demo"), metavar="DIR", help="its folder")
    parser.add_argument("--seed", type=options.natural, default=193, metavar="S", help="another seed, another exam")
    options.engine(parser)
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Draw, segment, compare, report."""
    from lumbarseg.files import Exam, replacing, write_image, write_labels

    with ThreadPoolExecutor(1) as pool:
        model = pool.submit(answers.load, args.model, args.device, answers.Clock())
        phantom = exam(args.seed)
        files = {"exam": args.out / "demo.nii.gz", "truth": args.out / "demo_truth.nii.gz"}
        write_image(phantom.image, files["exam"])
        write_labels(phantom.labels, files["truth"])
        made = Exam(phantom.image, [], {"format": "synthetic", "seed": args.seed}, files["exam"])
        wish, clock = answers.Wish(), answers.Clock()
        found = answers.segmented(made, model.result(), wish, clock)
        given = answers.answer("demo.nii.gz", made, found, model.result(), wish, clock)
    written = outputs.paths(args.out, "demo")
    outputs.write(given, made, written)
    files |= written | {"page": args.out / "demo_report.html"}
    scores = compared(given.found.labels.array, phantom.labels.array)
    with replacing(files["page"]) as file:
        file.write(answers.page(given, scores, files["labels"].name).encode())
    told = {name: str(path) for name, path in files.items()}
    if args.json:
        say.as_json({"files": told, **answers.summary(given), "scores": [score.to_dict() for score in scores]})
    else:
        print("\n  ".join(["a synthetic exam, segmented:", *answers.told(given), *_lines(scores)]))
        print(f"report: {told['page']}\npicture: {told['picture']}\nlabels: {told['labels']}, beside their truth")
    return say.DONE


def exam(seed: int) -> Phantom:
    """A T2 exam in sagittal slices of a spine with five lumbar vertebrae, all of them and the sacrum in view."""
    from dataclasses import replace

    import numpy as np

    from lumbarseg.phantom import Ranges, draw, render

    recipe = draw(np.random.default_rng(seed), Ranges(sequences=("T2",), lumbar=(5,), isotropic=0.0))
    scanner, lowest = recipe.scanner, recipe.spine.bodies[0].centre
    corner = (scanner.corner[0], scanner.corner[1], lowest[2] - _BELOW)
    return render(replace(recipe, scanner=replace(scanner, columns=round(_VIEW / scanner.pixel), corner=corner)))


def compared(found: Any, truth: Any) -> list[Score]:
    """Scores of every structure that the phantom has."""
    from lumbarseg.score import score

    return [row for row in score(found, truth) if row.dice is not None]


def _lines(scores: Sequence[Score]) -> list[str]:
    """Mean Dice per kind of structure against the truth."""
    from lumbarseg.anatomy import Kind, by_name

    lines = []
    for kind in Kind:
        dice = [score.dice for score in scores if by_name(score.name).kind is kind and score.dice is not None]
        if dice:
            lines.append(f"{kind:7s} {len(dice):2d} in the exam, Dice {sum(dice) / len(dice):.2f} against the truth")
    return lines
