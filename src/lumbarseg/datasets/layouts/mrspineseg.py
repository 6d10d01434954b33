"""MRSpineSeg as its organisers give it: train/MR/Case{n}.nii.gz with train/Mask/mask_case{n}.nii.gz."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.volume import Array, Volume

from ..schemes import SCHEMES, UNNAMED_VERTEBRA, encode_labels
from .exam import Exam, Planted
from .spider import usable

__all__ = ["PLAN", "SEQUENCES", "case_of", "usable", "write"]

SEQUENCES = ("T2",)
PLAN = ("", "label-header", "unknown value", "alone", "upper not drawn")
"""What is planted in one exam after the other; that upper vertebrae lack is usual and no trap."""

_ROWS = SCHEMES["mrspineseg"]
_SHIFT = 6.0  # mm by which a mask's header is off


def case_of(number: int) -> str:
    """The name under which the importer gives exam `number`."""
    return f"Case{number + 1}"


def write(folder: Path, exams: Iterable[Exam], rng: np.random.Generator, traps: bool) -> list[Planted]:  # noqa: ARG001
    """The exams in MRSpineSeg's layout, with `traps` as `PLAN` says."""
    planted: list[Planted] = []
    for number, exam in enumerate(exams):
        trap = PLAN[number % len(PLAN)] if traps else ""
        mask, affine = _spoilt(encode_labels(exam.labels.array, _ROWS), trap), exam.labels.affine.copy()
        if trap == "label-header":
            affine[2, 3] += _SHIFT
            planted.append(Planted(case_of(number), trap, f"{_SHIFT} mm"))
        if trap in ("unknown value", "alone"):
            planted.append(Planted(case_of(number), "refused", trap))
        io.write_image(exam.image, folder / "train" / "MR" / f"Case{number + 1}.nii.gz")
        if trap != "alone":
            path = folder / "train" / "Mask" / f"mask_case{number + 1}.nii.gz"
            io.write_labels(Volume(mask, affine), path, structures=())
    return planted


def _spoilt(mask: Array, trap: str) -> Array:
    """The mask with a trap in it."""
    out, highest = mask.copy(), max(_ROWS)
    if trap == "unknown value":
        out[0, 0, 0] = highest + 1
    if trap == "upper not drawn":
        vertebrae = [value for value, names in _ROWS.items() if value and len(names) == len(UNNAMED_VERTEBRA)]
        out[np.isin(out, [*vertebrae[-2:], highest - 1, highest])] = 0
    return out
