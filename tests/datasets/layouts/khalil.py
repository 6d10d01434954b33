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
from lumbarseg.datasets.importers.mask_levels import COLUMN_STRUCTURES
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam

SCANNERS = ("Avanto", "Ingenia")
_PATIENTS, _EXAMS, _SCANNED_TWICE = 13, 17, 4  # patients and exams in a row, and how many of those patients come twice
_MIN_VOXELS = 60  # voxels of a structure
_AXES = "PIR"  # as sagittal slices are often stored
_CODES = slice(252, 256)  # qform_code and sform_code in a header of NIfTI-1

FAULTS: tuple[tuple[str, ...], ...] = (
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
"""Faults of each exam in turn, starting over when they are used up.

"numbers", "Masks" and "turned", masks named by number, another folder's name and axes in another order under a right
header, are not faults but part of the layout.
"""


@dataclass
class _ExamFiles:
    """One exam on its way to disk. masks: by structure; stems: the names of their files, without suffix."""

    case: str
    folder: Path
    image: Volume
    masks: dict[str, Array]
    stems: dict[str, str]
    affine: Array
    faults: list[InjectedFault]

    def add_fault(self, fault: str, detail: str) -> None:
        self.faults.append(InjectedFault(self.case, fault, detail))


def patient_and_scanner(number: int) -> tuple[str, str]:
    """Return patient and scanner of exam `number`, counted from 0."""
    block, rest = divmod(number, _EXAMS)
    twice = rest < 2 * _SCANNED_TWICE
    patient = block * _PATIENTS + (rest // 2 if twice else rest - _SCANNED_TWICE)
    return f"S{patient + 1:02d}", SCANNERS[rest % 2 if twice else 0]


def case_name(number: int) -> str:
    """Return the importer's name of exam `number`, counted from 0."""
    return "_".join((*patient_and_scanner(number), "sagittal", "T2-TSE"))


def is_usable(exam: SyntheticExam) -> bool:
    """Return whether all nine structures are completely in view."""
    counts = np.bincount(exam.labels.array.ravel(), minlength=256)
    labels = [structure_by_name(name).label for name in COLUMN_STRUCTURES]
    border = exam.labels.array[:, :, [0, -1]]
    return bool((counts[labels] >= _MIN_VOXELS).all() and not np.isin(border, labels).any())


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams, and beside them fat and water images that must not be imported."""
    faults: list[InjectedFault] = []
    for number, exam in enumerate(exams):
        faults += _write_exam(folder, number, exam, rng, FAULTS[number % len(FAULTS)] if with_faults else ())
    return faults


def _write_exam(
    folder: Path, number: int, exam: SyntheticExam, rng: np.random.Generator, plan: tuple[str, ...]
) -> list[InjectedFault]:
    axes = "LAS" if "no place" in plan else _AXES  # what a header without a place is read as
    image, labels = reorient(exam.image, axes), reorient(exam.labels, axes)
    masks = {name: (labels.array == structure_by_name(name).label).astype(np.float32) for name in COLUMN_STRUCTURES}
    stems = {name: name.replace("-", "_") for name in COLUMN_STRUCTURES}
    if "numbers" in plan:
        stems = {
            name: f"mask_{position}"
            for name, position in zip(COLUMN_STRUCTURES, rng.permutation(len(COLUMN_STRUCTURES)), strict=True)
        }
    patient, scanner = patient_and_scanner(number)
    out = _ExamFiles(case_name(number), folder / patient / scanner, image, masks, stems, labels.affine, [])
    _inject_mask_faults(out, plan, labels, rng)
    _write_files(out, plan, labels)
    if number % _PATIENTS == 0:
        for decoy in ("T2_TSE_fat", "T2_TSE_water", "T1_TSE"):
            io.write_image(image, out.folder / "sagittal" / f"{decoy}.nii.gz")
    return out.faults


def _inject_mask_faults(out: _ExamFiles, plan: tuple[str, ...], labels: Volume, rng: np.random.Generator) -> None:
    """Inject the faults that change the content of the masks."""
    first, last = COLUMN_STRUCTURES[2], COLUMN_STRUCTURES[6]
    if "grey" in plan:
        for name in (first, last):
            out.masks[name] *= rng.integers(1, 256, labels.array.shape)
        out.add_fault("grey-mask", f"{first} and {last}")
    if "overlap" in plan:
        disc = COLUMN_STRUCTURES[3]
        grown = _uppermost_voxels(out.masks[disc], labels)
        out.masks[first] = np.maximum(out.masks[first], grown)
        out.add_fault("overlap", f"{first} reaches {int(grown.sum())} voxels into {disc}")
    if "speck" in plan:
        out.masks[last][0, 0, :3] = 1
        out.add_fault("speck", f"3 voxels of {last} in a corner")
    if "empty" in plan:
        out.masks[COLUMN_STRUCTURES[5]][:] = 0
        out.add_fault("missing", f"{COLUMN_STRUCTURES[5]}: an empty mask")
    missing_masks = {
        "missing body": (COLUMN_STRUCTURES[4],),
        "missing disc": (COLUMN_STRUCTURES[1],),
        "missing top": (COLUMN_STRUCTURES[0],),
        "missing pair": (COLUMN_STRUCTURES[3], COLUMN_STRUCTURES[4]),
    }
    for name in (name for word in plan for name in missing_masks.get(word, ())):
        del out.masks[name]
        out.add_fault("missing", f"{name}: no file")
    if "swapped names" in plan:
        out.stems[first], out.stems[last] = out.stems[last], out.stems[first]
        out.add_fault("file-name", f"{first} and {last} exchanged")


def _uppermost_voxels(mask: Array, labels: Volume) -> Array:
    """Return the uppermost voxels of a mask."""
    upright = reorient(Volume(mask, labels.affine), "RAS")
    top = upright.array.copy()
    top[:, :, :-1] *= upright.array[:, :, 1:] == 0
    return reorient(Volume(top, upright.affine), labels.grid.axis_codes).array


def _write_files(out: _ExamFiles, plan: tuple[str, ...], labels: Volume) -> None:
    """Write the files with the faults of names and headers."""
    masks = {name: Volume(mask, out.affine) for name, mask in out.masks.items()}
    if "header" in plan:
        masks = {name: Volume(m.array, np.diag([*labels.grid.spacing, 1.0])) for name, m in masks.items()}
        out.add_fault("mask-header", "identity directions, origin 0")
    if "cropped" in plan:
        masks = _cropped(masks)
        out.add_fault("mask-grid", "only the voxels about the column")
    if "turned" in plan:
        masks = {name: reorient(mask, "RAS") for name, mask in masks.items()}
    folder_root = out.folder / ("Masks" if "Masks" in plan else "Labels")
    for name, mask in masks.items():
        complete = Volume(mask.array.astype(np.uint8), mask.affine)
        io.write_image(complete, folder_root / f"{out.stems[name]}.nii.gz")
    if "plain mask" in plan:
        path = folder_root / f"{out.stems[COLUMN_STRUCTURES[-1]]}.nii.gz"
        path.write_bytes(gzip.decompress(path.read_bytes()))
        out.add_fault("suffix", f"{path.name} is not packed")
    path = out.folder / "sagittal" / "T2_TSE.nii.gz"
    io.write_image(out.image, path)
    if "packed image" in plan:
        path.rename(path.with_suffix(""))
        out.add_fault("suffix", "the image is packed and named .nii")
    if "no place" in plan:
        content = bytearray(gzip.decompress(path.read_bytes()))
        content[_CODES] = bytes(4)
        path.write_bytes(gzip.compress(bytes(content), 1))
        out.add_fault("image-header", "qform and sform codes 0")
        out.add_fault("mask-header", "the image has no place of its own")


def _cropped(masks: dict[str, Volume]) -> dict[str, Volume]:
    """Crop the masks to the smallest box that contains them all."""
    hit = np.argwhere(np.maximum.reduce([mask.array for mask in masks.values()]) > 0)
    low, high = hit.min(axis=0), hit.max(axis=0) + 1
    out = {}
    for name, mask in masks.items():
        affine = mask.affine.copy()
        affine[:3, 3] = mask.grid.to_world(low)
        out[name] = Volume(mask.array[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], affine)
    return out
