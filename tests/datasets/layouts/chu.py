"""CHU as Zenodo gives it: Img_NN.nii and Img_NN_Labels.nii, one tag, and a header that says RAS of LPS voxels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, levels_upward, structure_by_name
from lumbarseg.components import connected_components
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam

SEQUENCES = ("T2",)
_BODIES = levels_upward(LUMBAR_LEVELS[-1], 7)
FAULTS = ("axis", "touching", "right", "speck", "six", "label-header")
"""Fault of each exam in turn: "right" means a correct header, "six" that a body is missing."""

_LONELY = 90  # number of the image without a mask
_SHIFT = 6.0  # mm by which a mask's header is off


def is_usable(exam: SyntheticExam) -> bool:
    """Return whether T11 to L5 are completely in view, each in one piece and apart, and there is no L6."""
    array = reorient(exam.labels, "RAS").array
    present = set(np.flatnonzero(np.bincount(array.ravel())).tolist())
    expected, sixth = {structure_by_name(level).label for level in _BODIES}, structure_by_name(LEVELS[-1]).label
    ends = set(np.unique(array[..., [0, -1]]).tolist())
    if not expected <= present or expected & ends or sixth in present:
        return False
    together = connected_components(np.isin(array, sorted(expected)), "corners").count
    return together == len(expected) == sum(connected_components(array == label).count for label in expected)


def case_name(number: int) -> str:
    """Return the importer's name of exam `number`."""
    return f"Img_{number + 1:02d}"


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams with a header that reverses front and back; with faults, one of `FAULTS` in turn."""
    faults: list[InjectedFault] = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, exam in enumerate(exams):
        fault = FAULTS[number % len(FAULTS)] if with_faults else "axis"
        name = case_name(number)
        image, labels = reorient(exam.image, "LPS"), reorient(exam.labels, "LPS")
        tag = np.isin(labels.array, [structure_by_name(level).label for level in _BODIES]).astype(np.uint8)
        affine = labels.affine if fault == "right" else np.diag([*labels.grid.spacing, 1.0])
        tag, arguments = _with_fault(tag, labels.array, fault, rng)
        result = [InjectedFault(name, word, detail) for word, detail in arguments]
        if fault not in ("right", "six"):
            result.append(InjectedFault(name, "axis", "front and back reversed"))
        if fault == "six" and number < len(FAULTS):
            io.write_image(Volume(image.array, affine), folder / f"Img_{_LONELY}.nii")
            result.append(InjectedFault(f"Img_{_LONELY}", "refused", "no mask"))
        io.write_image(Volume(image.array, affine), folder / f"{name}.nii")
        io.write_labels(Volume(tag, _shifted_affine(affine, fault)), folder / f"{name}_Labels.nii", structures=())
        faults += result
    return faults


def _shifted_affine(affine: Array, fault: str) -> Array:
    shifted = affine.copy()
    shifted[2, 3] += _SHIFT if fault == "label-header" else 0
    return shifted


def _with_fault(tag: Array, labels: Array, fault: str, rng: np.random.Generator) -> tuple[Array, list[tuple[str, str]]]:
    """Return the tag (LPS axes) with a fault in it, and the (fault, detail) pairs."""
    out = tag.copy()
    if fault == "touching":
        upper = int(rng.integers(1, len(_BODIES)))
        names = _BODIES[upper], _BODIES[upper - 1]
        out[_bridge(labels, *(structure_by_name(name).label for name in names))] = 1
        return out, [(fault, " and ".join(names))]
    if fault == "speck":
        out[1, 2:4, 2:5] = 1
        return out, [(fault, "6 voxels in a corner")]
    if fault == "six":
        highest = _BODIES[-1]
        out[labels == structure_by_name(highest).label] = 0
        return out, [("refused", f"{highest} not drawn")]
    return out, [(fault, f"{_SHIFT} mm")] if fault == "label-header" else []


def _bridge(labels: Array, upper: int, lower: int) -> tuple[Array, ...]:
    """Return the voxels of the most anterior line that joins two bodies, as an osteophyte does."""
    both = (labels == upper).any(axis=2) & (labels == lower).any(axis=2)
    positions = np.argwhere(both)
    i = int(np.median(positions[:, 0]))
    j = int(positions[positions[:, 0] == i, 1].min())
    bottom = int(np.flatnonzero(labels[i, j] == upper)[0])
    top = int(np.flatnonzero(labels[i, j] == lower)[-1])
    k = np.arange(top + 1, bottom)
    return np.full_like(k, i), np.full_like(k, j), k
