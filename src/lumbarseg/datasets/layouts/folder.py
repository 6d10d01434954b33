"""Pairs NAME_image.nii.gz and NAME_labels.nii.gz in the package's own values: what `import folder` reads by default."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .exam import Exam, Planted


def write(folder: Path, exams: Iterable[Exam], rng: np.random.Generator, traps: bool) -> list[Planted]:
    """The exams as pairs; of three in a row, one's label map has a header reset and one's lies in other axes."""
    del rng
    planted = []
    for number, exam in enumerate(exams):
        labels = exam.labels
        if traps and number % 3 == 1:
            affine = exam.labels.affine.copy()
            affine[:3, 3] += 300
            labels = Volume(labels.array, affine)
            planted.append(Planted(exam.name, "label-header", "moved by 300 mm"))
        if traps and number % 3 == 2:
            labels = reorient(labels, "LPS")  # no trap: another order of the same voxels
        io.write_image(exam.image, folder / f"{exam.name}_image.nii.gz")
        io.write_labels(labels, folder / f"{exam.name}_labels.nii.gz")
    return planted
