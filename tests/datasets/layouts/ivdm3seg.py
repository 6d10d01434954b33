"""IVDM3Seg: NN/NN_inn.nii, NN_opp.nii, NN_wat.nii, NN_fat.nii and NN_Labels.nii with one tag for all discs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import ndimage

from lumbarseg import io
from lumbarseg.anatomy import Kind, labels_of_kind, structure_by_name
from lumbarseg.datasets.importers.ivdm3seg import CONTRASTS, MIN_DISCS
from lumbarseg.datasets.schemes import regular_structures
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam

SEQUENCES = ("GRE",)
_LEAST = 0.2  # of the usual disc's voxels


def case_name(number: int) -> str:
    """Return the importer's name of exam `number`, counted from 0."""
    return f"{number + 1:02d}"


def is_usable(exam: SyntheticExam) -> bool:
    """Return whether the lowest seven discs are in view and every disc is one isolated component of normal size."""
    discs = np.isin(exam.labels.array, labels_of_kind(Kind.DISC))
    counts = np.bincount(exam.labels.array.ravel(), minlength=256)
    lowest = counts[[structure_by_name(name).label for name in regular_structures(Kind.DISC)[-MIN_DISCS:]]]
    shown = counts[list(labels_of_kind(Kind.DISC))]
    shown = shown[shown > 0]
    pieces = ndimage.label(discs, np.ones((3, 3, 3)))[1]
    return bool(lowest.min() > 0 and pieces == len(shown) and shown.min() > _LEAST * np.median(lowest))


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams; with faults, in every three one has a header with wrong axes and one has specks."""
    del rng
    faults: list[InjectedFault] = []
    for number, exam in enumerate(exams):
        case = case_name(number)
        faults += [InjectedFault(case, "counted"), InjectedFault(case, "patients")]
        image, labels = reorient(exam.image, "LPS"), reorient(exam.labels, "LPS")
        tag = np.isin(labels.array, labels_of_kind(Kind.DISC)).astype(np.uint8)
        affine = image.affine
        if with_faults and number % 3 == 1:
            affine = np.diag([*image.grid.spacing, 1.0])
            faults.append(InjectedFault(case, "axis", "left, posterior, up under a header of right, anterior, up"))
        if with_faults and number % 3 == 2:
            faults.append(InjectedFault(case, "speck", f"{_speck(tag)} voxels"))
        for part, array in zip(CONTRASTS, _dixon(image.array), strict=True):
            io.write_image(Volume(array, affine), folder / case / f"{case}_{part}.nii")
        io.write_labels(Volume(tag, affine), folder / case / f"{case}_Labels.nii", ())
    return faults


def _dixon(image: Array) -> tuple[Array, Array, Array, Array]:
    """Return four distinguishable images: in phase, opposed phase, water, fat."""
    return image, (image * 0.75).astype(image.dtype), (image * 0.5).astype(image.dtype), image.max() - image


def _speck(tag: Array) -> int:
    """Label a few background voxels and return their number."""
    corner = (slice(0, 1), slice(0, 1), slice(0, 3))
    tag[corner] = 1
    return tag[corner].size
