"""MRSpineSeg as its organisers give it: train/MR/Case{n}.nii.gz with train/Mask/mask_case{n}.nii.gz."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.datasets.schemes import SCHEMES, UNNAMED_VERTEBRA, encode_labels
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam
from .spider import is_usable

__all__ = ["FAULTS", "SEQUENCES", "case_name", "is_usable", "write"]

SEQUENCES = ("T2",)
FAULTS = ("", "label-header", "unknown value", "alone", "upper not drawn")
"""Fault of each exam in turn; missing upper vertebrae are usual, not a fault."""

_ROWS = SCHEMES["mrspineseg"]
_SHIFT = 6.0  # mm by which a mask's header is off


def case_name(number: int) -> str:
    """Return the importer's name of exam `number`."""
    return f"Case{number + 1}"


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams; with faults, one of `FAULTS` in turn."""
    faults: list[InjectedFault] = []
    for number, exam in enumerate(exams):
        fault = FAULTS[number % len(FAULTS)] if with_faults else ""
        mask, affine = _with_fault(encode_labels(exam.labels.array, _ROWS), fault), exam.labels.affine.copy()
        if fault == "label-header":
            affine[2, 3] += _SHIFT
            faults.append(InjectedFault(case_name(number), fault, f"{_SHIFT} mm"))
        if fault in ("unknown value", "alone"):
            faults.append(InjectedFault(case_name(number), "refused", fault))
        io.write_image(exam.image, folder / "train" / "MR" / f"Case{number + 1}.nii.gz")
        if fault != "alone":
            path = folder / "train" / "Mask" / f"mask_case{number + 1}.nii.gz"
            io.write_labels(Volume(mask, affine), path, structures=())
    return faults


def _with_fault(mask: Array, fault: str) -> Array:
    """Return the mask with a fault in it."""
    out, highest = mask.copy(), max(_ROWS)
    if fault == "unknown value":
        out[0, 0, 0] = highest + 1
    if fault == "upper not drawn":
        vertebrae = [value for value, names in _ROWS.items() if value and len(names) == len(UNNAMED_VERTEBRA)]
        out[np.isin(out, [*vertebrae[-2:], highest - 1, highest])] = 0
    return out
