"""CHU as Zenodo gives it: Img_NN.nii and Img_NN_Labels.nii, one tag, and a header that says RAS of LPS voxels."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, levels_upward, structure_by_name
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .exam import Exam, Planted

SEQUENCES = ("T2",)
_BODIES = levels_upward(LUMBAR_LEVELS[-1], 7)
PLAN = ("axis", "touching", "right", "speck", "six", "label-header")
"""What is planted in one exam after the other: "right" has a header that is right, "six" lacks a body."""

_LONELY = 90  # number of the image without a mask
_SHIFT = 6.0  # mm by which a mask's header is off


def usable(exam: Exam) -> bool:
    """Whether T11 to L5, and no L6, are whole in view."""
    array = reorient(exam.labels, "RAS").array
    present = set(np.flatnonzero(np.bincount(array.ravel())).tolist())
    wanted, sixth = {structure_by_name(level).label for level in _BODIES}, structure_by_name(LEVELS[-1]).label
    ends = set(np.unique(array[..., [0, -1]]).tolist())
    return wanted <= present and not wanted & ends and sixth not in present


def case_of(number: int) -> str:
    """The name under which the importer gives exam `number`."""
    return f"Img_{number + 1:02d}"


def write(folder: Path, exams: Iterable[Exam], rng: np.random.Generator, traps: bool) -> list[Planted]:
    """The exams, each under the header that reverses front and back; with `traps`, one of `PLAN` in turn."""
    planted: list[Planted] = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, exam in enumerate(exams):
        trap = PLAN[number % len(PLAN)] if traps else "axis"
        name = case_of(number)
        image, labels = reorient(exam.image, "LPS"), reorient(exam.labels, "LPS")
        tag = np.isin(labels.array, [structure_by_name(level).label for level in _BODIES]).astype(np.uint8)
        affine = labels.affine if trap == "right" else np.diag([*labels.grid.spacing, 1.0])
        tag, words = _spoilt(tag, labels.array, trap, rng)
        found = [Planted(name, word, detail) for word, detail in words]
        if trap not in ("right", "six"):
            found.append(Planted(name, "axis", "front and back reversed"))
        if trap == "six" and number < len(PLAN):
            io.write_image(Volume(image.array, affine), folder / f"Img_{_LONELY}.nii")
            found.append(Planted(f"Img_{_LONELY}", "refused", "no mask"))
        io.write_image(Volume(image.array, affine), folder / f"{name}.nii")
        io.write_labels(Volume(tag, _moved(affine, trap)), folder / f"{name}_Labels.nii", structures=())
        planted += found
    return planted


def _moved(affine: Array, trap: str) -> Array:
    moved = affine.copy()
    moved[2, 3] += _SHIFT if trap == "label-header" else 0
    return moved


def _spoilt(tag: Array, labels: Array, trap: str, rng: np.random.Generator) -> tuple[Array, list[tuple[str, str]]]:
    """The tag with a trap in it, and what it is called with its detail; axes are LPS."""
    out = tag.copy()
    if trap == "touching":
        upper = int(rng.integers(1, len(_BODIES)))
        names = _BODIES[upper], _BODIES[upper - 1]
        out[_bridge(labels, *(structure_by_name(name).label for name in names))] = 1
        return out, [(trap, " and ".join(names))]
    if trap == "speck":
        out[1, 2:4, 2:5] = 1
        return out, [(trap, "6 voxels in a corner")]
    if trap == "six":
        highest = _BODIES[-1]
        out[labels == structure_by_name(highest).label] = 0
        return out, [("refused", f"{highest} not drawn")]
    return out, [(trap, f"{_SHIFT} mm")] if trap == "label-header" else []


def _bridge(labels: Array, upper: int, lower: int) -> tuple[Array, ...]:
    """Voxels of a column, the foremost of the middle slice, that joins two bodies as an osteophyte does."""
    both = (labels == upper).any(axis=2) & (labels == lower).any(axis=2)
    places = np.argwhere(both)
    i = int(np.median(places[:, 0]))
    j = int(places[places[:, 0] == i, 1].min())
    bottom = int(np.flatnonzero(labels[i, j] == upper)[0])
    top = int(np.flatnonzero(labels[i, j] == lower)[-1])
    k = np.arange(top + 1, bottom)
    return np.full_like(k, i), np.full_like(k, j), k
