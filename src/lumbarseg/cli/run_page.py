"""The page of a run (index.html), with pictures of its worst validation exams; `train` updates it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lumbarseg.anatomy import STRUCTURES, kinds_from_names
from lumbarseg.io import atomic_write, write_json
from lumbarseg.report.contact_sheet import render_tile_picture
from lumbarseg.report.training_page import WorstExam, render_training_page
from lumbarseg.training.history import HISTORY_FILE, History
from lumbarseg.training.run_result import RunResult
from lumbarseg.training.validation import WorstCase
from lumbarseg.volume import Volume

from .check import contact_sheet_structures

PAGE_FILE = "index.html"
WORST_CASES_FOLDER = "worst"
"""Pictures of the worst exams at the best validation, so that later pages show them as well."""
_WORST_CASES_FILE = "exams.json"
_PICTURES = ("found", "drawn")
"""Ends of the names of the pictures: of the prediction, and of the reference."""


def update_run_page(run_folder: Path, worst: Sequence[WorstCase]) -> None:
    """Write the page of a run; worst: exams of a new best validation, empty if the best is an earlier one."""
    result = RunResult.read(run_folder)
    if worst:
        _save_worst_cases(run_folder / WORST_CASES_FOLDER, worst, result.targets)
    history = History.read(run_folder / HISTORY_FILE)
    worst_exams = _load_worst_cases(run_folder / WORST_CASES_FOLDER)
    with atomic_write(run_folder / PAGE_FILE) as file:
        file.write(
            render_training_page(run_folder.resolve().name, result.to_dict(), history.rows, worst_exams).encode()
        )


def _save_worst_cases(folder: Path, worst: Sequence[WorstCase], targets: Sequence[str]) -> None:
    """Save pictures of the predictions, with the tissues of the targets only, and of the references."""
    kinds = kinds_from_names(targets)
    structures = [structure for structure in STRUCTURES if not kinds or structure.kind in kinds]
    rows = []
    for number, case in enumerate(worst, start=1):
        exam = case.exam
        prediction, reference = (Volume(labels, exam.image.affine) for labels in (case.prediction, exam.labels))
        pictures = (
            render_tile_picture(exam.image, prediction, structures),
            render_tile_picture(exam.image, reference, contact_sheet_structures(exam.table)),
        )
        for suffix, data in zip(_PICTURES, pictures, strict=True):
            with atomic_write(folder / f"{number}-{suffix}.jpg") as file:
                file.write(data)
        rows.append({"exam": exam.name, "dice": case.dice, "wrong": list(case.name_errors)})
    write_json(folder / _WORST_CASES_FILE, rows)


def _load_worst_cases(folder: Path) -> list[WorstExam]:
    """Load the exams that were saved last; none if there are none, or if a file is missing."""
    try:
        rows = json.loads((folder / _WORST_CASES_FILE).read_text(encoding="utf-8"))
        exams = []
        for number, row in enumerate(rows, start=1):
            pictures = ((folder / f"{number}-{suffix}.jpg").read_bytes() for suffix in _PICTURES)
            exams.append(WorstExam(row["exam"], row["dice"], row["wrong"], *pictures))
        return exams
    except (OSError, ValueError, TypeError, KeyError):
        return []
