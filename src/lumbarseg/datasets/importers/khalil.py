"""Al Khalil: T2 exams with one mask file for each body from L1 to L5 and each disc between them, nine in all.

SUBJECT/SCANNER/FOLDER/*T2*.nii[.gz], the masks in Labels/ or Masks/ beside it or beside FOLDER. The structure of a mask
follows from its position in the column (`mask_levels`); the file name is compared with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from lumbarseg import io
from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from ..label_table import LabelTable
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .mask_levels import COLUMN_STRUCTURES, MaskGeometry, assign_structures, measure_mask, structure_from_file_name
from .source_labels import labels_on_image_grid

CITATION = "Khalil et al., Sci Data 9:97 (2022), doi 10.1038/s41597-022-01222-8"
LICENCE = "see the data's page at the Open Science Framework; the paper is CC BY 4.0"

KNOWN_FAULTS = {
    "suffix": "a file is compressed though its name ends in .nii, or plain though it ends in .gz; read by its content",
    "image-header": "the image's own header is unusual; it was read as it says",
    "mask-header": "a mask's header gives another position than the image's; the image's was used",
    "mask-grid": "a mask has other voxels than the image; it was resampled to the image's grid",
    "grey-mask": "a mask holds more than one value above 0; all of them are the structure",
    "missing": "a structure is not annotated; its voxels are unknown, not background",
    "overlap": "two masks share voxels; a disc keeps them against a body, else the upper structure",
    "speck": "a component of a mask lies far from the rest of it; it was left out",
    "file-name": "a file name says another structure than its position; the position was used",
}

_UNANNOTATED = (
    *(str(kind) for kind in CLASSES if kind not in (Kind.BODY, Kind.DISC)),
    *(s.name for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC) and s.name not in COLUMN_STRUCTURES),
)
LABEL_TABLE: LabelTable = {
    0: _UNANNOTATED,
    **dict(sorted((structure_by_name(name).label, (name,)) for name in COLUMN_STRUCTURES)),
}
"""Unlabelled voxels may be anything but a lumbar body or a disc between two of them."""

_T2 = re.compile(r"t2", re.IGNORECASE)
_NO_IMAGE = re.compile(r"fat|water|label|seg|mask", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"(label|mask)s?", re.IGNORECASE)
_VOLUME_SUFFIX = re.compile(r"\.nii(\.gz)?|\.gz", re.IGNORECASE)
_PATH_DEPTH = 4  # SUBJECT/SCANNER/FOLDER/FILE
_DUPLICATE_OVERLAP = 0.5  # share of the smaller of two masks: more is one structure annotated twice


def list_cases(source: Path) -> SourceListing:
    """List the T2 images with their masks; DatasetError when there are none."""
    images = [file for file in _volume_files(source) if _T2.search(file.name) and not _NO_IMAGE.search(file.name)]
    images = [file for file in images if not any(map(_MASK_FOLDER.fullmatch, file.relative_to(source).parts))]
    if not images:
        raise DatasetError(f"{source}: not Al Khalil's layout: no file SUBJECT/SCANNER/FOLDER/*T2*.nii.gz in it")
    parts = [image.relative_to(source).parts for image in images]
    has_outer_folder = min(map(len, parts)) > _PATH_DEPTH and len({part[0] for part in parts}) == 1
    cases, refused = [], []
    for image in images:
        inside = image.relative_to(source).parts[has_outer_folder:]
        name = "_".join(map(_clean_path_part, (*inside[:-1], _VOLUME_SUFFIX.sub("", inside[-1]))))
        masks = _mask_files(image, source)
        if len(inside) == 1:
            refused.append((name, f"{image}: in no folder of a patient; SUBJECT/SCANNER/FOLDER/ is expected"))
        elif not masks:
            refused.append((name, f"{image}: no masks in a folder Labels or Masks beside it"))
        else:
            scanner = inside[1] if len(inside) > 2 else ""
            cases.append(SourceCase(name, inside[0], (image, *masks), "T2", scanner))
    if not cases:
        raise DatasetError(f"{source}: not Al Khalil's layout: {refused[0][1]}")
    return SourceListing(tuple(cases), tuple(refused))


def _volume_files(folder: Path) -> Iterator[Path]:
    files = (file for file in folder.rglob("*") if not file.name.startswith(".") and not file.is_dir())
    yield from sorted(file for file in files if _VOLUME_SUFFIX.search(file.name))


def _mask_files(image: Path, source: Path) -> tuple[Path, ...]:
    """Return the files of the folder Labels or Masks beside the image, or else beside the image's folder."""
    for folder in (image.parent, image.parent.parent):
        if folder.is_relative_to(source) and folder != source:
            for path in sorted(folder.iterdir()):
                if _MASK_FOLDER.fullmatch(path.name) and path.is_dir():
                    return tuple(_volume_files(path))
    return ()


def _clean_path_part(part: str) -> str:
    """Replace all but letters, digits, dots and hyphens, so that a part of a path can stand in a case's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-.") or "x"


@dataclass(frozen=True, eq=False)
class _Mask:
    """One mask on the image's voxels; array: (I, J, K) bool."""

    file_name: str
    array: Array
    geometry: MaskGeometry


def load_case(case: SourceCase) -> LoadedCase:
    """Load one exam, its masks merged to the values of `LABEL_TABLE`."""
    path, *files = case.files
    folder = files[0].parent
    exam = io.read_exam(path)
    image = exam.volume
    warnings = [text for file in case.files for text in _check_suffix(file)]
    warnings += [f"image-header: {path.name}: {note}" for note in exam.notes]
    masks: list[_Mask] = []
    for file in files:
        mask, mask_warnings = _load_mask_on_grid(file, image)
        warnings += mask_warnings
        masks += [mask] if mask else []
    if not masks:
        raise DatasetError(f"{path}: all its masks are empty")
    _check_duplicates(masks, folder)
    masks.sort(key=lambda mask: (-mask.geometry.center[2], mask.file_name))
    names = assign_structures([mask.geometry for mask in masks], str(folder))
    for mask, name in zip(masks, names, strict=True):
        if mask.geometry.name_in_file not in (None, name):
            warnings.append(f"file-name: {mask.file_name} is {name} by its position")
    labels, overlaps = _merge_masks(masks, names)
    missing = [name for name in COLUMN_STRUCTURES if name not in names]
    warnings += overlaps + [f"missing: {name} is not annotated" for name in missing]
    table = {value: row for value, row in LABEL_TABLE.items() if value == 0 or row[0] not in missing}
    table[0] = (*_UNANNOTATED, *missing)
    return LoadedCase(image, Volume(labels, image.affine), table, tuple(warnings))


def _check_suffix(file: Path) -> list[str]:
    with file.open("rb") as stream:
        is_compressed = stream.read(2) == b"\x1f\x8b"
    if is_compressed == file.name.lower().endswith(".gz"):
        return []
    return [f"suffix: {file.name} is {'compressed with gzip' if is_compressed else 'not compressed'}"]


def _load_mask_on_grid(file: Path, image: Volume) -> tuple[_Mask | None, list[str]]:
    """Return a mask on the image's voxels, None for an empty one; and warnings."""
    volume = io.read_image(file)
    positive = volume.array[volume.array > 0]
    warnings = []
    if positive.size and positive.min() != positive.max():
        warnings.append(f"grey-mask: {file.name} holds values from {positive.min():g} to {positive.max():g}")
    mask, grid_warnings = _mask_on_image_grid(Volume((volume.array > 0).astype(np.uint8), volume.affine), image, file)
    if not mask.array.any():
        return None, warnings
    name = structure_from_file_name(_VOLUME_SUFFIX.sub("", file.name))
    array, geometry, specks = measure_mask(mask.array > 0, image.grid, name)
    warnings += [f"speck: {file.name} has {voxels} voxels {distance:.0f} mm away" for voxels, distance in specks]
    return _Mask(file.name, array, geometry), warnings + grid_warnings


def _mask_on_image_grid(mask: Volume, image: Volume, file: Path) -> tuple[Volume, list[str]]:
    """Return a mask on the image's voxels, and warnings.

    A mask of the image's shape is on the image's voxels whatever its header says, unless that means the same voxels in
    another order: the published headers are so wrong that a structure may seem to lie elsewhere in the image.
    """
    reordered = reorient(mask, image.grid.axis_codes)
    is_near = reordered.grid.same_as(image.grid, 0.5 * min(image.grid.spacing))
    if mask.array.shape == image.array.shape and not is_near:
        return Volume(mask.array, image.affine), [f"mask-header: {file.name} lies elsewhere by its header"]
    on_grid, warnings = labels_on_image_grid(mask, image, file)
    return on_grid, [text.replace("label-", "mask-", 1) for text in warnings]


def _check_duplicates(masks: list[_Mask], folder: Path) -> None:
    """Raise DatasetError when two files annotate one structure, or there are more files than structures."""
    for first, second in combinations(masks, 2):
        smaller = min(first.geometry.voxels, second.geometry.voxels)
        if _count_shared(first, second) > _DUPLICATE_OVERLAP * smaller:
            names = f"{first.file_name} and {second.file_name}"
            raise DatasetError(f"{folder}: {names} annotate the same structure; keep one of them")
    if len(masks) > len(COLUMN_STRUCTURES):
        raise DatasetError(f"{folder}: {len(masks)} masks; nine are expected, for five bodies and four discs")


def _count_shared(first: _Mask, second: _Mask) -> int:
    return int(np.count_nonzero(first.array & second.array))


def _merge_masks(masks: list[_Mask], names: list[str]) -> tuple[Array, list[str]]:
    """Return masks, from top to bottom, as one label map, and warnings of overlaps."""
    warnings = [
        f"overlap: {upper.file_name} and {lower.file_name} share {shared} voxels"
        for upper, lower in combinations(masks, 2)
        if (shared := _count_shared(upper, lower))
    ]
    labels = np.zeros(masks[0].array.shape, np.uint8)
    upward = list(zip(masks, map(structure_by_name, names), strict=True))[::-1]
    for mask, structure in sorted(upward, key=lambda pair: pair[1].kind is Kind.DISC):  # the last one keeps its voxels
        labels[mask.array] = structure.label
    return labels, warnings


IMPORTER = Importer("khalil", LABEL_TABLE, CITATION, LICENCE, list_cases, load_case, KNOWN_FAULTS)
