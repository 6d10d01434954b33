"""What TotalSpineSeg leaves in its output folder: input/NAME_0000.nii.gz and step2_output/NAME.nii.gz."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.datasets.schemes import encode_labels, get_scheme
from lumbarseg.volume import Volume

from .exam import InjectedFault, SyntheticExam


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams in values of step 2; with faults, every other result has a reset header."""
    del rng
    faults = []
    for number, exam in enumerate(exams):
        affine = exam.labels.affine
        if with_faults and number % 2:
            affine = np.diag([*exam.labels.grid.spacing, 1.0])
            faults.append(InjectedFault(exam.name, "label-header", "reset"))
        result = Volume(encode_labels(exam.labels.array, get_scheme("totalspineseg")), affine)
        io.write_image(exam.image, folder / "input" / f"{exam.name}_0000.nii.gz")
        io.write_labels(result, folder / "step2_output" / f"{exam.name}.nii.gz", ())
    return faults
