"""Pairs NAME_image.nii.gz and NAME_labels.nii.gz in the package's own values: what `import folder` reads by default."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.resampling import reorient
from lumbarseg.volume import Volume

from .exam import InjectedFault, SyntheticExam


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams as pairs; in every three, one label map has a moved header and one has other axes."""
    del rng
    faults = []
    for number, exam in enumerate(exams):
        labels = exam.labels
        if with_faults and number % 3 == 1:
            affine = exam.labels.affine.copy()
            affine[:3, 3] += 300
            labels = Volume(labels.array, affine)
            faults.append(InjectedFault(exam.name, "label-header", "moved by 300 mm"))
        if with_faults and number % 3 == 2:
            labels = reorient(labels, "LPS")  # no fault: another order of the same voxels
        io.write_image(exam.image, folder / f"{exam.name}_image.nii.gz")
        io.write_labels(labels, folder / f"{exam.name}_labels.nii.gz")
    return faults
