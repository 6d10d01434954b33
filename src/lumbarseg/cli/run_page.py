"""What `train` shows of a run while it goes on: the page in its folder, with pictures of its worst exams."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumbarseg.report.training_page import WorstExam
    from lumbarseg.training.validation import WorstCase

PAGE_FILE = "index.html"
WORST_CASES_FOLDER = "worst"
"""Pictures of the worst exams of the best moment, so that a later page has them, too."""

_WORST_CASES_FILE = "exams.json"


def update_run_page(run: Path, worst: Sequence[WorstCase]) -> None:
    """Write the page of a run anew; worst: exams of a new best moment, none where it is the one before."""
    from lumbarseg.io import atomic_write
    from lumbarseg.report.training_page import render_training_page
    from lumbarseg.training.history import HISTORY_FILE, History, read_result

    result = read_result(run)
    if worst:
        _save_worst_cases(run / WORST_CASES_FOLDER, worst, result["targets"])
    text = render_training_page(
        run.resolve().name, result, History.read(run / HISTORY_FILE).rows, _load_worst_cases(run / WORST_CASES_FOLDER)
    )
    with atomic_write(run / PAGE_FILE) as file:
        file.write(text.encode())


def _save_worst_cases(folder: Path, worst: Sequence[WorstCase], targets: Sequence[str]) -> None:
    """Draw exams as they were found, in tissues of the targets alone, and as they were drawn by a person."""
    from lumbarseg.anatomy import STRUCTURES, kinds_from_names
    from lumbarseg.io import atomic_write
    from lumbarseg.report.contact_sheet import render_tile_picture
    from lumbarseg.volume import Volume

    from .check import contact_sheet_legend

    kinds = kinds_from_names(targets)
    wanted = [structure for structure in STRUCTURES if not kinds or structure.kind in kinds]
    rows = []
    for number, poor in enumerate(worst, start=1):
        exam = poor.exam
        drawn = Volume(exam.labels, exam.image.affine)
        pictures = {
            "found": render_tile_picture(exam.image, Volume(poor.prediction, exam.image.affine), wanted),
            "drawn": render_tile_picture(exam.image, drawn, contact_sheet_legend(exam.table)),
        }
        for word, data in pictures.items():
            with atomic_write(folder / f"{number}-{word}.jpg") as file:
                file.write(data)
        rows.append({"exam": exam.name, "dice": poor.dice, "wrong": list(poor.name_errors)})
    with atomic_write(folder / _WORST_CASES_FILE) as file:
        file.write(json.dumps(rows, indent=1).encode())


def _load_worst_cases(folder: Path) -> list[WorstExam]:
    """The exams that were drawn last; none where there are none, or one of the files is gone."""
    from lumbarseg.report.training_page import WorstExam

    try:
        rows = json.loads((folder / _WORST_CASES_FILE).read_text(encoding="utf-8"))
        out = []
        for number, row in enumerate(rows, start=1):
            found, drawn = ((folder / f"{number}-{word}.jpg").read_bytes() for word in ("found", "drawn"))
            out.append(WorstExam(row["exam"], row["dice"], row["wrong"], found, drawn))
        return out
    except (OSError, ValueError, TypeError, KeyError):
        return []
