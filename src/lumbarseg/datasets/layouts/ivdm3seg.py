"""IVDM3Seg: NN/NN_inn.nii, NN_opp.nii, NN_wat.nii, NN_fat.nii and NN_Labels.nii with one tag for all discs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy import ndimage

from lumbarseg import io
from lumbarseg.anatomy import Kind, labels_of_kind, structure_by_name
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from ..importers.ivdm3seg import CONTRASTS, MIN_DISCS
from ..schemes import regular_structures
from .exam import Exam, Planted

SEQUENCES = ("GRE",)
_LEAST = 0.2  # of the usual disc's voxels


def case_of(number: int) -> str:
    """How the importer calls exam `number`, from 0."""
    return f"{number + 1:02d}"


def usable(exam: Exam) -> bool:
    """Whether the lowest seven discs are in view, and every disc is one piece that touches no other and is no speck."""
    discs = np.isin(exam.labels.array, labels_of_kind(Kind.DISC))
    counts = np.bincount(exam.labels.array.ravel(), minlength=256)
    lowest = counts[[structure_by_name(name).label for name in regular_structures(Kind.DISC)[-MIN_DISCS:]]]
    shown = counts[list(labels_of_kind(Kind.DISC))]
    shown = shown[shown > 0]
    pieces = ndimage.label(discs, np.ones((3, 3, 3)))[1]
    return bool(lowest.min() > 0 and pieces == len(shown) and shown.min() > _LEAST * np.median(lowest))


def write(folder: Path, exams: Iterable[Exam], rng: np.random.Generator, traps: bool) -> list[Planted]:
    """The exams; with traps, of three in a row one has a header that hides its axes and one has specks."""
    del rng
    planted: list[Planted] = []
    for number, exam in enumerate(exams):
        case = case_of(number)
        planted += [Planted(case, "counted"), Planted(case, "patients")]
        image, labels = reorient(exam.image, "LPS"), reorient(exam.labels, "LPS")
        tag = np.isin(labels.array, labels_of_kind(Kind.DISC)).astype(np.uint8)
        affine = image.affine
        if traps and number % 3 == 1:
            affine = np.diag([*image.grid.spacing, 1.0])
            planted.append(Planted(case, "axis", "left, posterior, up under a header of right, anterior, up"))
        if traps and number % 3 == 2:
            planted.append(Planted(case, "speck", f"{_speck(tag)} voxels"))
        for part, array in zip(CONTRASTS, _dixon(image.array), strict=True):
            io.write_image(Volume(array, affine), folder / case / f"{case}_{part}.nii")
        io.write_labels(Volume(tag, affine), folder / case / f"{case}_Labels.nii", ())
    return planted


def _dixon(image: Array) -> tuple[Array, Array, Array, Array]:
    """Four images of one kind each: good enough to see which one is read."""
    return image, (image * 0.75).astype(image.dtype), (image * 0.5).astype(image.dtype), image.max() - image


def _speck(tag: Array) -> int:
    """Draw a few voxels where nothing is; how many."""
    corner = (slice(0, 1), slice(0, 1), slice(0, 3))
    tag[corner] = 1
    return tag[corner].size
