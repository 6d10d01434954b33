"""A synthetic exam, segmented as any exam and compared with its ground truth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Kind, structure_by_name
from lumbarseg.errors import SegmentError
from lumbarseg.io import atomic_write, read_labels, write_image, write_labels
from lumbarseg.io.file_access import write_json
from lumbarseg.metrics.overlap import StructureScore, score_structures
from lumbarseg.phantom import Phantom, RecipeRanges, render_phantom, sample_recipe
from lumbarseg.report.exam_page import render_exam_page
from lumbarseg.volume import Volume

from .exam_result import ExamResult
from .options import BatchOptions
from .result_record import REPORT_KEY, content_digest
from .runner import BatchRun

_VIEW_MM, _BELOW_L5_MM = 270.0, 90.0  # field of view from foot to head, and its part below the middle of L5


@dataclass(frozen=True)
class DemoResult:
    """The result of the demo exam, and scores of the structures that are completely in view.

    cut_off: names of the structures that the edge of the field of view cuts off. files: written files by their kind.
    """

    result: ExamResult
    scores: Sequence[StructureScore]
    cut_off: Sequence[str]
    files: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values for JSON."""
        return {"files": self.files, **self.result.summary, "scores": [score.to_dict() for score in self.scores]}

    def dice_lines(self) -> list[str]:
        """Return one line of text per kind of structure: how many there are, and their mean Dice."""
        lines = []
        for kind in Kind:
            dice = [s.dice for s in self.scores if structure_by_name(s.name).kind is kind and s.dice is not None]
            if dice:
                lines.append(f"{kind:7s} {len(dice):2d} complete in the exam, mean Dice {sum(dice) / len(dice):.2f}")
        return [*lines, f"cut off by the edge, not scored: {', '.join(self.cut_off)}"] if self.cut_off else lines


def run_demo(folder: Path, seed: int, model_path: Path | None, device: str) -> DemoResult:
    """Render a synthetic exam, segment it as a batch of one, and add its scores to the report page; SegmentError."""
    phantom = synthetic_exam(seed)
    exam, truth = folder / "demo.nii.gz", folder / "demo_truth.nii.gz"
    write_image(phantom.image, exam)
    write_labels(phantom.labels, truth)
    (result,) = BatchRun(BatchOptions((exam,), folder, model=model_path, device=device, overwrite=True)).run()
    if result.error:
        raise SegmentError(result.error)
    files = {name: Path(path) for name, path in result.files.items()}
    cut_off = _names_at_the_edge(phantom.labels)
    rows = score_structures(read_labels(files["labels"]).array, phantom.labels.array)
    scores = [row for row in rows if row.dice is not None and row.name not in cut_off]
    report = json.loads(files["report"].read_text(encoding="utf-8"))
    pictures = [files["picture"].read_bytes()] if files["picture"].exists() else []
    page = render_exam_page(report, pictures, [score.to_dict() for score in scores], files["labels"].name)
    with atomic_write(files["html"]) as file:
        file.write(page.encode("utf-8", "backslashreplace"))
    digest = content_digest(files["html"])  # else the page would count as edited
    report[REPORT_KEY]["files"]["html"] = digest
    write_json(files["report"], report)
    return DemoResult(result, scores, cut_off, {"exam": str(exam), "truth": str(truth), **result.files})


def _names_at_the_edge(labels: Volume) -> list[str]:
    """Return the vertebrae, posterior elements and discs that reach the upper or lower edge of the field of view."""
    axis = next(index for index, code in enumerate(labels.grid.axis_codes) if code in "SI")
    edges = np.unique(np.take(labels.array, [0, -1], axis=axis))
    names = [structure.name for structure in STRUCTURES if structure.label in edges]
    return [name for name in names if structure_by_name(name).kind in (Kind.BODY, Kind.ARCH, Kind.DISC)]


def synthetic_exam(seed: int) -> Phantom:
    """Return a T2 exam in sagittal slices with five lumbar vertebrae and the sacrum in view."""
    recipe = sample_recipe(
        np.random.default_rng(seed), RecipeRanges(sequences=("T2",), lumbar_counts=(5,), isotropic_fraction=0.0)
    )
    scanner, lowest = recipe.scanner, recipe.spine.bodies[0].centre
    corner = (scanner.corner[0], scanner.corner[1], lowest[2] - _BELOW_L5_MM)
    scanner = replace(scanner, columns=round(_VIEW_MM / scanner.pixel), corner=corner)
    return render_phantom(replace(recipe, scanner=scanner))
