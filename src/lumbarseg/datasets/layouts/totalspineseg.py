"""What TotalSpineSeg leaves in its output folder: input/NAME_0000.nii.gz and step2_output/NAME.nii.gz."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.volume import Volume

from ..schemes import encode_labels, get_scheme
from .exam import Exam, Planted


def write(folder: Path, exams: Iterable[Exam], rng: np.random.Generator, traps: bool) -> list[Planted]:
    """The exams in values of step 2; with traps every other result lies on a header that was reset."""
    del rng
    planted = []
    for number, exam in enumerate(exams):
        affine = exam.labels.affine
        if traps and number % 2:
            affine = np.diag([*exam.labels.grid.spacing, 1.0])
            planted.append(Planted(exam.name, "label-header", "reset"))
        found = Volume(encode_labels(exam.labels.array, get_scheme("totalspineseg")), affine)
        io.write_image(exam.image, folder / "input" / f"{exam.name}_0000.nii.gz")
        io.write_labels(found, folder / "step2_output" / f"{exam.name}.nii.gz", ())
    return planted
