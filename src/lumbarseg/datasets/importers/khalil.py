"""Al Khalil: T2 exams with one mask file for each body of L1 to L5 and each disc between them, nine in all.

SUBJECT/SCANNER/FOLDER/*T2*.nii[.gz], the masks in Labels/ or Masks/ beside it or beside FOLDER. Which structure a mask
is, its place in the column says (`column.places`); the file's name is compared with that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lumbarseg.anatomy import CLASSES, STRUCTURES, Kind, structure_by_name
from lumbarseg.errors import DatasetError
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from ..dataset import LabelTable
from .importer import Importer, LoadedCase, SourceCase, SourceListing
from .label_grid import labels_on_image_grid
from .mask_levels import COLUMN_STRUCTURES, MaskGeometry, assign_structures, measure_mask, structure_from_file_name

CITATION = "Khalil et al., Sci Data 9:97 (2022), doi 10.1038/s41597-022-01222-8"
LICENCE = "see the data's page at the Open Science Framework; the paper is CC BY 4.0"

KNOWN_FAULTS = {
    "suffix": "a file is packed though its name ends in .nii, or plain though it ends in .gz; read by its content",
    "image-header": "the image's own header is odd; it was read as told",
    "mask-header": "a mask's header says another place than the image's; the image's was used",
    "mask-grid": "a mask lies on other voxels than the image; it was brought to the image's by its header",
    "grey-mask": "a mask holds more than one value above 0; all of them are the structure",
    "missing": "a structure was not drawn; its voxels are unknown, not background",
    "overlap": "two masks claim the same voxels; a disc keeps them against a body, else the upper structure",
    "speck": "a piece of a mask lies far from the rest of it; it was left out",
    "file-name": "a file's name says another structure than its place; its place was believed",
}

_ANNOTATED = {structure_by_name(name).label: name for name in COLUMN_STRUCTURES}
_UNANNOTATED = (
    *(str(kind) for kind in CLASSES if kind not in (Kind.BODY, Kind.DISC)),
    *(s.name for s in STRUCTURES if s.kind in (Kind.BODY, Kind.DISC) and s.name not in COLUMN_STRUCTURES),
)
LABEL_TABLE: LabelTable = {0: _UNANNOTATED, **{value: (name,) for value, name in sorted(_ANNOTATED.items())}}
"""Undrawn voxels may be anything but a lumbar body or a disc between two of them."""

_T2 = re.compile(r"t2", re.IGNORECASE)
_NO_IMAGE = re.compile(r"fat|water|label|seg|mask", re.IGNORECASE)
_MASK_FOLDER = re.compile(r"(label|mask)s?", re.IGNORECASE)
_VOLUME_SUFFIX = re.compile(r"\.nii(\.gz)?|\.gz", re.IGNORECASE)
_PATH_DEPTH = 4  # SUBJECT/SCANNER/FOLDER/FILE
_DUPLICATE_OVERLAP = 0.5  # share of the smaller of two masks that both claim: more is one structure drawn twice
_MAX_WARNINGS = 3  # warnings of one kind that are told one by one


def list_cases(source: Path) -> SourceListing:
    """The T2 images with their masks; DatasetError when there are none."""
    images = [file for file in _volume_files(source) if _T2.search(file.name) and not _NO_IMAGE.search(file.name)]
    images = [
        image for image in images if not any(_MASK_FOLDER.fullmatch(part) for part in image.relative_to(source).parts)
    ]
    if not images:
        raise DatasetError(f"{source}: not Al Khalil's layout: no file SUBJECT/SCANNER/FOLDER/*T2*.nii.gz in it")
    parts = [image.relative_to(source).parts for image in images]
    outer = 1 if min(map(len, parts)) > _PATH_DEPTH and len({part[0] for part in parts}) == 1 else 0
    raws, refused = [], []
    for image in images:
        inside = image.relative_to(source).parts[outer:]
        name = "_".join(_clean_path_part(part) for part in (*inside[:-1], _VOLUME_SUFFIX.sub("", inside[-1])))
        masks = _mask_files(image, source)
        if len(inside) == 1:
            refused.append((name, f"{image}: in no folder of a patient; SUBJECT/SCANNER/FOLDER/ is expected"))
        elif not masks:
            refused.append((name, f"{image}: no masks in a folder Labels or Masks beside it"))
        else:
            scanner = inside[1] if len(inside) > 2 else ""
            raws.append(SourceCase(name, inside[0], (image, *masks), contrast="T2", scanner=scanner))
    if not raws:
        raise DatasetError(f"{source}: not Al Khalil's layout: {refused[0][1]}")
    return SourceListing(tuple(raws), tuple(refused))


def _volume_files(folder: Path) -> Iterator[Path]:
    files = (file for file in folder.rglob("*") if not file.name.startswith(".") and not file.is_dir())
    yield from sorted(file for file in files if _VOLUME_SUFFIX.search(file.name))


def _mask_files(image: Path, source: Path) -> tuple[Path, ...]:
    """The files of the folder Labels or Masks beside the image, or else beside the image's folder."""
    for folder in (image.parent, image.parent.parent):
        if folder.is_relative_to(source) and folder != source:
            for place in sorted(folder.iterdir()):
                if _MASK_FOLDER.fullmatch(place.name) and place.is_dir():
                    return tuple(_volume_files(place))
    return ()


def _clean_path_part(part: str) -> str:
    """A part of a path as part of a case's name."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", part).strip("-.") or "x"


@dataclass(frozen=True, eq=False)
class _Mask:
    """One mask on the image's voxels. array: (I, J, K) bool; part: where it lies, for the column."""

    file_name: str
    array: Array
    geometry: MaskGeometry


def load_case(raw: SourceCase) -> LoadedCase:
    """One exam, its masks merged to the values of `TABLE`."""
    from lumbarseg import io

    path, *masks = raw.files
    exam = io.read_exam(path)
    image = exam.volume
    told = [text for file in raw.files for text in _check_suffix(file)]
    told += [f"image-header: {path.name}: {note}" for note in exam.notes]
    drawn: list[_Mask] = []
    for file in masks:
        mask, warnings = _load_mask(file, image)
        told += warnings
        if mask is not None:
            drawn.append(mask)
    if not drawn:
        raise DatasetError(f"{path}: all its masks are empty")
    _check_duplicates(drawn, masks[0].parent)
    drawn.sort(key=lambda mask: (-mask.geometry.centre[2], mask.file_name))
    names = assign_structures([mask.geometry for mask in drawn], str(masks[0].parent))
    told += [
        f"file-name: {mask.file_name} draws {name} by its place"
        for mask, name in zip(drawn, names, strict=True)
        if mask.geometry.name_in_file not in (None, name)
    ]
    labels, overlaps = _merge_masks(drawn, names)
    missing = [name for name in COLUMN_STRUCTURES if name not in names]
    told += overlaps + [f"missing: {name} is not drawn" for name in missing]
    table = {value: row for value, row in LABEL_TABLE.items() if value == 0 or row[0] not in missing}
    table[0] = (*LABEL_TABLE[0], *missing)
    return LoadedCase(image, Volume(labels, image.affine), table if missing else None, _summarize_warnings(told))


def _summarize_warnings(told: list[str]) -> tuple[str, ...]:
    """The warnings, those of one trap as one where there are many."""
    by_trap: dict[str, list[str]] = {}
    for text in told:
        by_trap.setdefault(text.partition(":")[0], []).append(text)
    short = []
    for texts in by_trap.values():
        short += texts if len(texts) <= _MAX_WARNINGS else [f"{texts[0]}; so do {len(texts) - 1} others"]
    return tuple(short)


def _check_suffix(file: Path) -> list[str]:
    with file.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
    if packed == file.name.lower().endswith(".gz"):
        return []
    return [f"suffix: {file.name} is {'packed with gzip' if packed else 'not packed'}"]


def _load_mask(file: Path, image: Volume) -> tuple[_Mask | None, list[str]]:
    """A mask on the image's voxels, None for an empty one, and what was met on the way."""
    from lumbarseg import io

    volume = io.read_image(file)
    above = volume.array[volume.array > 0]
    told = []
    if above.size and above.min() != above.max():
        told.append(f"grey-mask: {file.name} holds values from {above.min():g} to {above.max():g}")
    mask, moved = _mask_on_image_grid(Volume((volume.array > 0).astype(np.uint8), volume.affine), image, file)
    if not mask.array.any():
        return None, told
    array, part, pieces = measure_mask(
        mask.array > 0, image.grid, structure_from_file_name(_VOLUME_SUFFIX.sub("", file.name))
    )
    told += [f"speck: {file.name} has {voxels} voxels {distance:.0f} mm away" for voxels, distance in pieces]
    return _Mask(file.name, array, part), told + moved


def _mask_on_image_grid(mask: Volume, image: Volume, file: Path) -> tuple[Volume, list[str]]:
    """A mask on the image's voxels, and how it came there.

    One of the image's shape is on the image's voxels whatever its header says, as long as that does not name the very
    same voxels in another order: the published headers are wrong by so much that a structure may seem to lie elsewhere
    in the image.
    """
    turned = reorient(mask, image.grid.axis_codes)
    near = turned.grid.same_as(image.grid, 0.5 * min(image.grid.spacing))
    if mask.array.shape == image.array.shape and not near:
        return Volume(mask.array, image.affine), [f"mask-header: {file.name} lies elsewhere by its header"]
    moved, told = labels_on_image_grid(mask, image, file)
    return moved, [text.replace("label-", "mask-", 1) for text in told]


def _check_duplicates(masks: list[_Mask], folder: Path) -> None:
    """DatasetError when two files draw one structure, or there are more files than structures."""
    for i, first in enumerate(masks):
        for second in masks[:i]:
            if _count_shared(first, second) > _DUPLICATE_OVERLAP * min(first.geometry.voxels, second.geometry.voxels):
                raise DatasetError(
                    f"{folder}: {second.file_name} and {first.file_name} draw the same structure; keep one of them"
                )
    if len(masks) > len(COLUMN_STRUCTURES):
        raise DatasetError(f"{folder}: {len(masks)} masks; nine are expected, for five bodies and four discs")


def _count_shared(first: _Mask, second: _Mask) -> int:
    box = tuple(
        slice(max(a.start, b.start), max(a.start, b.start, min(a.stop, b.stop)))
        for a, b in zip(first.geometry.box, second.geometry.box, strict=True)
    )
    return int(np.count_nonzero(first.array[box] & second.array[box]))


def _merge_masks(masks: list[_Mask], names: list[str]) -> tuple[Array, list[str]]:
    """The masks, from top to bottom, as one label map, and what two of them claim."""
    told = [
        f"overlap: {upper.file_name} and {lower.file_name} share {shared} voxels"
        for i, lower in enumerate(masks)
        for upper in masks[:i]
        if (shared := _count_shared(upper, lower))
    ]
    labels = np.zeros(masks[0].array.shape, np.uint8)
    order = sorted(range(len(masks)), key=lambda i: (structure_by_name(names[i]).kind is Kind.DISC, -i))
    for i in order:  # the last one keeps what it claims
        box = masks[i].geometry.box
        labels[box][masks[i].array[box]] = structure_by_name(names[i]).label
    return labels, told


IMPORTER = Importer("khalil", LABEL_TABLE, CITATION, LICENCE, list_cases, load_case)
