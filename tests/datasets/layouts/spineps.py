"""A data set after SPINEPS: rawdata/sub-NNN/sub-NNN_T2w.nii.gz and its two masks in derivatives_seg/sub-NNN/."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import Kind, structure_by_name
from lumbarseg.datasets.schemes import REGULAR_VERTEBRAE, encode_labels, get_scheme
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam


def case_name(number: int) -> str:
    """Return the importer's name of exam `number`, counted from 0."""
    return f"sub-{number + 1:03d}_T2w"


def is_usable(exam: SyntheticExam) -> bool:
    """Return whether anything is labelled."""
    return bool(exam.labels.array.any())


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams with both masks; with faults, one or the other mask is missing, or counted from the top."""
    del rng
    faults: list[InjectedFault] = []
    for number, exam in enumerate(exams):
        case, fault = case_name(number), number % 4 if with_faults else 0
        subject = case.partition("_")[0]
        start = folder / "derivatives_seg" / subject / f"{subject}_mod-T2w"
        tissues = encode_labels(exam.labels.array, get_scheme("spineps_subregions"))
        vertebrae = instances(exam.labels.array)
        vertebrae = _from_top(vertebrae) if fault == 3 else vertebrae
        io.write_image(exam.image, folder / "rawdata" / subject / f"{case}.nii.gz")
        for kind, mask, left_out in (("spine", tissues, 2), ("vert", vertebrae, 1)):
            if fault != left_out:
                folder_root = start.with_name(f"{start.name}_seg-{kind}_msk.nii.gz")
                io.write_labels(Volume(mask, exam.labels.affine), folder_root, ())
        arguments = {1: "no-instances", 2: "no-subregions", 3: "unnamed"}
        faults += [InjectedFault(case, arguments[fault])] if fault else []
    return faults


def instances(labels: Array) -> Array:
    """Return a vertebra mask (all but the canal) from the package's label values."""
    canal = structure_by_name(Kind.CANAL.value).label
    return encode_labels(np.where(labels == canal, 0, labels).astype(np.uint8), get_scheme("spineps"))


def _from_top(mask: Array) -> Array:
    """Renumber vertebrae and the discs below them, counted from the highest one in view."""
    first, last = (scheme_value(level) for level in (REGULAR_VERTEBRAE[0], REGULAR_VERTEBRAE[-1]))
    above = int(min(value for value in np.unique(mask % 100) if first <= value <= last)) - 1
    lookup = np.arange(256, dtype=np.uint8)
    for value in range(above + 1, last + 1):
        lookup[[value, 100 + value]] = value - above, 100 + value - above
    return lookup[mask]


def scheme_value(level: str) -> int:
    """Return the value of a vertebra in a mask of SPINEPS."""
    return next(value for value, names in get_scheme("spineps").items() if level in names)
