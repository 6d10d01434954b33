"""MyoSegmenTUM spine: NN/NN/vertebrae/ with water, fat and fat fraction and a mask for each of L1 to L5.

The published images are DICOM; here they are NIfTI, as after a conversion.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tests.io.itk import write_metaimage

from lumbarseg import io
from lumbarseg.anatomy import LUMBAR_LEVELS, structure_by_name
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam

SEQUENCES = ("GRE",)
_LEAST = 60  # voxels of a body


def case_name(number: int) -> str:
    """Return the importer's name of exam `number`, counted from 0."""
    return f"{number + 1:02d}"


def is_usable(exam: SyntheticExam) -> bool:
    """Return whether all five bodies are in view."""
    counts = np.bincount(exam.labels.array.ravel(), minlength=256)
    return bool((counts[[structure_by_name(level).label for level in LUMBAR_LEVELS]] >= _LEAST).all())


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams, a muscle mask beside each; with faults, three exams in four have one."""
    faults: list[InjectedFault] = []
    for number, exam in enumerate(exams):
        case = case_name(number)
        folder_root = folder / case / case / "vertebrae"
        masks = {
            level: (exam.labels.array == structure_by_name(level).label).astype(np.uint8) for level in LUMBAR_LEVELS
        }
        affine = exam.labels.affine.copy()
        if with_faults:
            faults += [InjectedFault(case, *fault) for fault in _inject_fault(number, masks, affine, rng)]
        low, high = float(exam.image.array.min()), float(exam.image.array.max())
        other = Volume((low + high - exam.image.array).astype(exam.image.array.dtype), exam.image.affine)
        for name, image in (("WATER", exam.image), ("FAT", other), ("FATFRACTION", other)):
            io.write_image(image, folder_root / f"{name}.nii.gz")
            io.write_image(image, folder_root.parent / "muscle" / f"{name}.nii.gz")
        for level, mask in masks.items():
            write_metaimage(Volume(mask, affine), folder_root / f"{level}_{case}.mha")
        muscle = Volume((exam.labels.array == 0).astype(np.uint8), exam.labels.affine)
        write_metaimage(muscle, folder_root.parent / "muscle" / f"psoas_left_{case}.mha")
    return faults


def _inject_fault(
    number: int, masks: dict[str, Array], affine: Array, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Change the masks or the affine of one exam; return (fault, detail) pairs."""
    upper, lower = LUMBAR_LEVELS[1:3]
    if number % 4 == 1:
        masks[upper] = masks[upper] * rng.integers(1, 256, masks[upper].shape, np.uint8)
        return [("grey-mask", upper)]
    if number % 4 == 2:
        positions = np.argwhere(masks[lower])
        taken = tuple(positions[: len(positions) // 20].T)
        masks[upper][taken] = 1
        return [("overlap", f"{upper} and {lower}")]
    if number % 4 == 3:
        affine[:3, 3] += 40
        return [("label-header", "moved by 40 mm")]
    return []
