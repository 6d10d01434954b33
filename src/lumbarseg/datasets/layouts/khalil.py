"""Al Khalil's layout: SUBJECT/SCANNER/FOLDER/*T2*.nii.gz, nine masks in Labels/ or Masks/ beside FOLDER.

As published, 51 exams are of 39 patients: of 17 exams in a row, eight are of four patients on two scanners.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import structure_by_name
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from ..importers.mask_levels import COLUMN_STRUCTURES
from .exam import Exam, Planted

SCANNERS = ("Avanto", "Ingenia")
_PATIENTS, _EXAMS, _TWICE = 13, 17, 4  # patients and exams in a row, and how many of those patients come twice
_LEAST = 60  # voxels of a structure
_AXES = "PIR"  # as sagittal slices are often stored
_CODES = slice(252, 256)  # qform_code and sform_code in a header of NIfTI-1

PLAN: tuple[tuple[str, ...], ...] = (
    ("packed image",),
    (),
    ("header",),
    ("grey",),
    ("missing body", "numbers"),
    ("overlap",),
    ("cropped", "Masks"),
    (),
    ("speck",),
    ("swapped names",),
    ("missing disc", "plain mask"),
    ("turned",),
    ("no place",),
    ("empty", "numbers"),
    ("missing top", "grey"),
    ("numbers", "Masks"),
    ("overlap", "header", "Masks"),
    (),
    ("missing pair", "speck"),
)
"""What is planted in one exam after the other, from the first on again when they are used up.

"numbers", "Masks" and "turned", masks named by number, another folder's name and axes in another order under a right
header, are no traps but part of the layout.
"""


@dataclass
class _Written:
    """One exam on its way to disk. masks: by structure; stems: the names of their files, without suffix."""

    case: str
    folder: Path
    image: Volume
    masks: dict[str, Array]
    stems: dict[str, str]
    affine: Array
    traps: list[Planted]

    def planted(self, trap: str, detail: str) -> None:
        self.traps.append(Planted(self.case, trap, detail))


def place_of(number: int) -> tuple[str, str]:
    """Patient and scanner of exam `number`, from 0."""
    block, rest = divmod(number, _EXAMS)
    twice = rest < 2 * _TWICE
    patient = block * _PATIENTS + (rest // 2 if twice else rest - _TWICE)
    return f"S{patient + 1:02d}", SCANNERS[rest % 2 if twice else 0]


def case_of(number: int) -> str:
    """How the importer calls exam `number`, from 0."""
    return "_".join((*place_of(number), "sagittal", "T2-TSE"))


def usable(exam: Exam) -> bool:
    """Whether all nine structures are wholly in view."""
    counts = np.bincount(exam.labels.array.ravel(), minlength=256)
    labels = [structure_by_name(name).label for name in COLUMN_STRUCTURES]
    border = exam.labels.array[:, :, [0, -1]]
    return bool((counts[labels] >= _LEAST).all() and not np.isin(border, labels).any())


def write(folder: Path, exams: Iterable[Exam], rng: np.random.Generator, traps: bool) -> list[Planted]:
    """The exams in Al Khalil's layout, with fat and water images beside that are not to be imported."""
    planted: list[Planted] = []
    for number, exam in enumerate(exams):
        planted += _one(folder, number, exam, rng, PLAN[number % len(PLAN)] if traps else ())
    return planted


def _one(folder: Path, number: int, exam: Exam, rng: np.random.Generator, plan: tuple[str, ...]) -> list[Planted]:
    axes = "LAS" if "no place" in plan else _AXES  # what a header without a place is read as
    image, labels = reorient(exam.image, axes), reorient(exam.labels, axes)
    masks = {name: (labels.array == structure_by_name(name).label).astype(np.float32) for name in COLUMN_STRUCTURES}
    stems = {name: name.replace("-", "_") for name in COLUMN_STRUCTURES}
    if "numbers" in plan:
        stems = {
            name: f"mask_{place}"
            for name, place in zip(COLUMN_STRUCTURES, rng.permutation(len(COLUMN_STRUCTURES)), strict=True)
        }
    patient, scanner = place_of(number)
    out = _Written(case_of(number), folder / patient / scanner, image, masks, stems, labels.affine, [])
    _change(out, plan, labels, rng)
    _store(out, plan, labels)
    if number % _PATIENTS == 0:
        for decoy in ("T2_TSE_fat", "T2_TSE_water", "T1_TSE"):
            io.write_image(image, out.folder / "sagittal" / f"{decoy}.nii.gz")
    return out.traps


def _change(out: _Written, plan: tuple[str, ...], labels: Volume, rng: np.random.Generator) -> None:
    """The traps that lie in what the masks hold."""
    first, last = COLUMN_STRUCTURES[2], COLUMN_STRUCTURES[6]
    if "grey" in plan:
        for name in (first, last):
            out.masks[name] *= rng.integers(1, 256, labels.array.shape)
        out.planted("grey-mask", f"{first} and {last}")
    if "overlap" in plan:
        disc = COLUMN_STRUCTURES[3]
        grown = _top(out.masks[disc], labels)
        out.masks[first] = np.maximum(out.masks[first], grown)
        out.planted("overlap", f"{first} reaches {int(grown.sum())} voxels into {disc}")
    if "speck" in plan:
        out.masks[last][0, 0, :3] = 1
        out.planted("speck", f"3 voxels of {last} in a corner")
    if "empty" in plan:
        out.masks[COLUMN_STRUCTURES[5]][:] = 0
        out.planted("missing", f"{COLUMN_STRUCTURES[5]}: an empty mask")
    gone = {
        "missing body": (COLUMN_STRUCTURES[4],),
        "missing disc": (COLUMN_STRUCTURES[1],),
        "missing top": (COLUMN_STRUCTURES[0],),
        "missing pair": (COLUMN_STRUCTURES[3], COLUMN_STRUCTURES[4]),
    }
    for name in (name for word in plan for name in gone.get(word, ())):
        del out.masks[name]
        out.planted("missing", f"{name}: no file")
    if "swapped names" in plan:
        out.stems[first], out.stems[last] = out.stems[last], out.stems[first]
        out.planted("file-name", f"{first} and {last} exchanged")


def _top(mask: Array, labels: Volume) -> Array:
    """The voxels of a mask above which there is none of it."""
    upright = reorient(Volume(mask, labels.affine), "RAS")
    top = upright.array.copy()
    top[:, :, :-1] *= upright.array[:, :, 1:] == 0
    return reorient(Volume(top, upright.affine), labels.grid.axis_codes).array


def _store(out: _Written, plan: tuple[str, ...], labels: Volume) -> None:
    """The files, with the traps that lie in names and headers."""
    masks = {name: Volume(mask, out.affine) for name, mask in out.masks.items()}
    if "header" in plan:
        masks = {name: Volume(m.array, np.diag([*labels.grid.spacing, 1.0])) for name, m in masks.items()}
        out.planted("mask-header", "identity directions, origin 0")
    if "cropped" in plan:
        masks = _cropped(masks)
        out.planted("mask-grid", "only the voxels about the column")
    if "turned" in plan:
        masks = {name: reorient(mask, "RAS") for name, mask in masks.items()}
    place = out.folder / ("Masks" if "Masks" in plan else "Labels")
    for name, mask in masks.items():
        whole = Volume(mask.array.astype(np.uint8), mask.affine)
        io.write_image(whole, place / f"{out.stems[name]}.nii.gz")
    if "plain mask" in plan:
        path = place / f"{out.stems[COLUMN_STRUCTURES[-1]]}.nii.gz"
        path.write_bytes(gzip.decompress(path.read_bytes()))
        out.planted("suffix", f"{path.name} is not packed")
    path = out.folder / "sagittal" / "T2_TSE.nii.gz"
    io.write_image(out.image, path)
    if "packed image" in plan:
        path.rename(path.with_suffix(""))
        out.planted("suffix", "the image is packed and named .nii")
    if "no place" in plan:
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[_CODES] = bytes(4)
        path.write_bytes(gzip.compress(bytes(content), 1))
        out.planted("image-header", "qform and sform codes 0")
        out.planted("mask-header", "the image has no place of its own")


def _cropped(masks: dict[str, Volume]) -> dict[str, Volume]:
    """The masks on the smallest box that holds them all, with the header of that box."""
    hit = np.argwhere(np.maximum.reduce([mask.array for mask in masks.values()]) > 0)
    low, high = hit.min(axis=0), hit.max(axis=0) + 1
    out = {}
    for name, mask in masks.items():
        affine = mask.affine.copy()
        affine[:3, 3] = mask.grid.to_world(low)
        out[name] = Volume(mask.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], affine)
    return out
