"""What `train` shows of a run while it goes on: the page in its folder, with pictures of its worst exams."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lumbarseg.report.run import Shown
    from lumbarseg.train.validate import Poor

PAGE = "index.html"
FOLDER = "worst"
"""Pictures of the worst exams of the best moment, so that a later page has them, too."""

_LIST = "exams.json"


def show(run: Path, worst: Sequence[Poor]) -> None:
    """Write the page of a run anew; worst: exams of a new best moment, none where it is the one before."""
    from lumbarseg.files import replacing
    from lumbarseg.report.run import page
    from lumbarseg.train.history import HISTORY, History, read_result

    result = read_result(run)
    if worst:
        _keep(run / FOLDER, worst, result["targets"])
    text = page(run.resolve().name, result, History.read(run / HISTORY).rows, _kept(run / FOLDER))
    with replacing(run / PAGE) as file:
        file.write(text.encode())


def _keep(folder: Path, worst: Sequence[Poor], targets: Sequence[str]) -> None:
    """Draw exams as they were found, in tissues of the targets alone, and as they were drawn by a person."""
    from lumbarseg.anatomy import STRUCTURES, classes_of
    from lumbarseg.files import replacing
    from lumbarseg.report.sheet import picture
    from lumbarseg.volume import Volume

    from .check import legend

    kinds = classes_of(targets)
    wanted = [structure for structure in STRUCTURES if not kinds or structure.kind in kinds]
    rows = []
    for number, poor in enumerate(worst, start=1):
        exam = poor.exam
        drawn = Volume(exam.labels, exam.image.affine)
        pictures = {
            "found": picture(exam.image, Volume(poor.found, exam.image.affine), wanted),
            "drawn": picture(exam.image, drawn, legend(exam.table)),
        }
        for word, data in pictures.items():
            with replacing(folder / f"{number}-{word}.jpg") as file:
                file.write(data)
        rows.append({"exam": exam.name, "dice": poor.dice, "wrong": list(poor.wrong)})
    with replacing(folder / _LIST) as file:
        file.write(json.dumps(rows, indent=1).encode())


def _kept(folder: Path) -> list[Shown]:
    """The exams that were drawn last; none where there are none, or one of the files is gone."""
    from lumbarseg.report.run import Shown

    try:
        rows = json.loads((folder / _LIST).read_text(encoding="utf-8"))
        out = []
        for number, row in enumerate(rows, start=1):
            found, drawn = ((folder / f"{number}-{word}.jpg").read_bytes() for word in ("found", "drawn"))
            out.append(Shown(row["exam"], row["dice"], row["wrong"], found, drawn))
        return out
    except (OSError, ValueError, TypeError, KeyError):
        return []
