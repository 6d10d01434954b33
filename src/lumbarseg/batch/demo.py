"""A synthetic exam, segmented as any exam and compared with its ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Kind, structure_by_name
from lumbarseg.inference import Model, default_model_path
from lumbarseg.io import LoadedExam, atomic_write, write_image, write_json, write_labels
from lumbarseg.metrics.overlap import StructureScore, score_structures
from lumbarseg.phantom import Phantom, RecipeRanges, draw_recipe, render_phantom
from lumbarseg.report.exam_page import render_exam_page
from lumbarseg.segmentation import segment
from lumbarseg.volume import Volume

from .exam_result import SUMMARY_KEYS
from .exam_task import StageTimer, describe_segmentation
from .options import ExamOptions
from .output_formats import SegmentedExam, output_paths, write_outputs

_VIEW_MM, _BELOW_L5_MM = 270.0, 90.0  # field of view from foot to head, and its part below the middle of L5


@dataclass(frozen=True, eq=False)
class DemoResult:
    """The demo exam, its segmentation, and scores of the structures that are completely in view.

    cut_off: names of the structures that the edge of the field of view cuts off. files: written files by their kind.
    """

    segmented: SegmentedExam
    scores: Sequence[StructureScore]
    cut_off: Sequence[str]
    files: dict[str, Path]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON."""
        summary = {key: self.segmented.report[key] for key in SUMMARY_KEYS}
        files = {name: str(path) for name, path in self.files.items()}
        return {"files": files, **summary, "scores": [score.to_dict() for score in self.scores]}

    def dice_lines(self) -> list[str]:
        """Return one line of text per kind of structure: how many there are, and their mean Dice."""
        lines = []
        for kind in Kind:
            dice = [s.dice for s in self.scores if structure_by_name(s.name).kind is kind and s.dice is not None]
            if dice:
                lines.append(f"{kind:7s} {len(dice):2d} complete in the exam, mean Dice {sum(dice) / len(dice):.2f}")
        return [*lines, f"cut off by the edge, not scored: {', '.join(self.cut_off)}"] if self.cut_off else lines


def run_demo(folder: Path, seed: int, model_path: Path | None, device: str) -> DemoResult:
    """Render a synthetic exam, segment it and write exam, ground truth, results and report page to a folder."""
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(Model.load, model_path or default_model_path(), device)
        phantom = synthetic_exam(seed)
    files = {"exam": folder / "demo.nii.gz", "truth": folder / "demo_truth.nii.gz"}
    write_image(phantom.image, files["exam"])
    write_labels(phantom.labels, files["truth"])
    exam = LoadedExam(phantom.image, [], {"format": "synthetic", "seed": seed}, files["exam"])
    model = loading.result()
    segmentation = segment(exam.volume, model)
    segmented = describe_segmentation("demo.nii.gz", exam, segmentation, model, ExamOptions(), StageTimer())
    files |= output_paths(folder, "demo") | {"page": folder / "demo_report.html"}
    write_outputs(segmented, exam, {name: files[name] for name in ("labels", "picture")})
    write_json(files["report"], segmented.report)
    cut_off = _names_at_the_edge(phantom.labels)
    rows = score_structures(segmentation.labels.array, phantom.labels.array)
    scores = [row for row in rows if row.dice is not None and row.name not in cut_off]
    page = render_exam_page(
        segmented.report,
        [segmented.picture] if segmented.picture else [],
        [score.to_dict() for score in scores],
        files["labels"].name,
    )
    with atomic_write(files["page"]) as file:
        file.write(page.encode())
    return DemoResult(segmented, scores, cut_off, files)


def _names_at_the_edge(labels: Volume) -> list[str]:
    """Return the vertebrae, posterior elements and discs that reach the upper or lower edge of the field of view."""
    axis = next(index for index, code in enumerate(labels.grid.axis_codes) if code in "SI")
    edges = np.unique(np.take(labels.array, [0, -1], axis=axis))
    names = [structure.name for structure in STRUCTURES if structure.label in edges]
    return [name for name in names if structure_by_name(name).kind in (Kind.BODY, Kind.ARCH, Kind.DISC)]


def synthetic_exam(seed: int) -> Phantom:
    """Return a T2 exam in sagittal slices with five lumbar vertebrae and the sacrum in view."""
    recipe = draw_recipe(
        np.random.default_rng(seed), RecipeRanges(sequences=("T2",), lumbar_counts=(5,), isotropic_fraction=0.0)
    )
    scanner, lowest = recipe.scanner, recipe.spine.bodies[0].centre
    corner = (scanner.corner[0], scanner.corner[1], lowest[2] - _BELOW_L5_MM)
    scanner = replace(scanner, columns=round(_VIEW_MM / scanner.pixel), corner=corner)
    return render_phantom(replace(recipe, scanner=scanner))
