"""`lumbarseg demo`: a synthetic exam, segmented and compared with its truth."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lumbarseg.batch import exam_result, output_formats

from . import console, options

if TYPE_CHECKING:
    from lumbarseg.metrics.overlap import StructureScore
    from lumbarseg.phantom import Phantom

_VIEW_MM, _BELOW_L5_MM = 270.0, 90.0  # mm of the field of view from foot to head, and of it below the middle of L5


DESCRIPTION = (
    "Draws a synthetic exam, segments it as `segment` would, compares the answer with the known truth and says\n"
    "where the report lies."
)
EXAMPLE = "lumbarseg demo -o out/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Register the options."""
    parser.add_argument("-o", "--output", type=Path, default=Path("lumbarseg-demo"), metavar="DIR", help="its folder")
    parser.add_argument(
        "--seed", type=options.non_negative_int, default=193, metavar="S", help="another seed, another exam"
    )
    options.add_model_options(parser)
    options.add_json_option(parser)


def run(args: argparse.Namespace) -> int:
    """Draw, segment, compare, report."""
    from lumbarseg.io import LoadedExam, atomic_write, write_image, write_labels

    with ThreadPoolExecutor(1) as pool:
        model = pool.submit(exam_result.load_model, args.model, args.device, exam_result.StageTimer())
        phantom = synthetic_exam(args.seed)
        files = {"exam": args.output / "demo.nii.gz", "truth": args.output / "demo_truth.nii.gz"}
        write_image(phantom.image, files["exam"])
        write_labels(phantom.labels, files["truth"])
        made = LoadedExam(phantom.image, [], {"format": "synthetic", "seed": args.seed}, files["exam"])
        wish, clock = exam_result.SegmentOptions(), exam_result.StageTimer()
        found = exam_result.segment_exam(made, model.result(), wish, clock)
        given = exam_result.build_result("demo.nii.gz", made, found, model.result(), wish, clock)
    written = output_formats.output_paths(args.output, "demo")
    output_formats.write_outputs(given, made, written)
    files |= written | {"page": args.output / "demo_report.html"}
    scores = score_against_truth(given.segmentation.labels.array, phantom.labels.array)
    with atomic_write(files["page"]) as file:
        file.write(exam_result.render_report_page(given, scores, files["labels"].name).encode())
    told = {name: str(path) for name, path in files.items()}
    if args.json:
        console.print_json(
            {"files": told, **exam_result.result_summary_dict(given), "scores": [score.to_dict() for score in scores]}
        )
    else:
        print(
            "\n  ".join(
                ["a synthetic exam, segmented:", *exam_result.format_result_lines(given), *_score_lines(scores)]
            )
        )
        print(f"report: {told['page']}\npicture: {told['picture']}\nlabels: {told['labels']}, beside their truth")
    return console.EXIT_OK


def synthetic_exam(seed: int) -> Phantom:
    """A T2 exam in sagittal slices of a spine with five lumbar vertebrae, all of them and the sacrum in view."""
    from dataclasses import replace

    import numpy as np

    from lumbarseg.phantom import RecipeRanges, draw_recipe, render_phantom

    recipe = draw_recipe(
        np.random.default_rng(seed), RecipeRanges(sequences=("T2",), lumbar_counts=(5,), isotropic_fraction=0.0)
    )
    scanner, lowest = recipe.scanner, recipe.spine.bodies[0].centre
    corner = (scanner.corner[0], scanner.corner[1], lowest[2] - _BELOW_L5_MM)
    return render_phantom(
        replace(recipe, scanner=replace(scanner, columns=round(_VIEW_MM / scanner.pixel), corner=corner))
    )


def score_against_truth(found: Any, truth: Any) -> list[StructureScore]:
    """Scores of every structure that the phantom has."""
    from lumbarseg.metrics.overlap import score_structures

    return [row for row in score_structures(found, truth) if row.dice is not None]


def _score_lines(scores: Sequence[StructureScore]) -> list[str]:
    """Mean Dice per kind of structure against the truth."""
    from lumbarseg.anatomy import Kind, structure_by_name

    lines = []
    for kind in Kind:
        dice = [score.dice for score in scores if structure_by_name(score.name).kind is kind and score.dice is not None]
        if dice:
            lines.append(f"{kind:7s} {len(dice):2d} in the exam, Dice {sum(dice) / len(dice):.2f} against the truth")
    return lines
