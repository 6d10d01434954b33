"""Write NIfTI-1 with equal sform and qform.

The names and colours of a label map are stored in two header extensions, both comments (code 6), which other programs
skip: the label table in the XML of Caret, as TotalSegmentator writes and reads it, then JSON with SNOMED CT codes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Structure
from lumbarseg.errors import FileError
from lumbarseg.volume import Array, Volume, count_labels

from .file_access import atomic_write
from .nifti import corner_distance, nib

_MAX_SHEAR = 0.05  # mm that a qform, which cannot store shear, may displace a corner
_IMAGE_LEVEL = 1  # of gzip: noise is hardly smaller at 9, in five times the time
_LABEL_LEVEL = 4  # a third of the time of the usual 9, hardly more bytes
_COMMENT = 6  # code of a header extension


def write_image(volume: Volume, path: Path) -> None:
    """Write an image as .nii.gz or .nii; floats become float32, booleans uint8, integers keep their type.

    Raises
    ------
    FileError
        If the values are not grey values, the suffix is another, or the file cannot be written.
    """
    array = volume.array
    if array.dtype.kind not in "biuf":
        raise FileError(f"{path}: cannot be written: an image holds grey values, not {array.dtype}")
    if array.dtype.kind in "bf":
        array = array.astype(np.float32 if array.dtype.kind == "f" else np.uint8, copy=False)
    _write(array, volume.affine, path)


def write_labels(volume: Volume, path: Path, structures: Sequence[Structure] = STRUCTURES) -> None:
    """Write a label map as uint8 .nii.gz or .nii.

    Parameters
    ----------
    structures
        The meaning of the values; names and colours of those that occur are stored in the header. () stores none.

    Raises
    ------
    FileError
        If the values are not integers from 0 to 255, the suffix is another, or the file cannot be written.
    """
    array = volume.array
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.uint8, copy=False)
    if labels is not array and (labels != array).any():
        raise FileError(f"{path}: cannot be written: labels are whole numbers from 0 to 255")
    present = set(np.flatnonzero(count_labels(labels)).tolist())
    rows = sorted((s for s in structures if s.label in present), key=lambda s: s.label)
    _write(labels, volume.affine, path, "label", [caret_xml(rows), _label_json(rows)] if rows else [])


def _write(array: Array, affine: Array, path: Path, intent: str = "none", extensions: Sequence[str] = ()) -> None:
    if not path.name.lower().endswith((".nii.gz", ".nii")):
        raise FileError(f"{path}: cannot be written: the name must end in .nii.gz or .nii")
    if max(array.shape) > np.iinfo(np.int16).max:
        raise FileError(f"{path}: cannot be written: an axis is longer than NIfTI-1 allows")
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    _set_affine(image, affine)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"lumbarseg label map" if intent == "label" else b"lumbarseg image"
    image.header.extensions.extend(nib.nifti1.Nifti1Extension(_COMMENT, text.encode()) for text in extensions)
    level = _LABEL_LEVEL if intent == "label" else _IMAGE_LEVEL
    with atomic_write(path) as stream:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile("", "wb", level, stream, mtime=0) as compressed:
                image.to_stream(compressed)
        else:
            image.to_stream(stream)


def _set_affine(image: Any, affine: Array) -> None:
    """Set equal sform and qform with code 1; for a sheared grid, which no qform can store, the sform alone."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / zooms)
    without_shear = affine.copy()
    without_shear[:3, :3] = left @ right * zooms
    is_sheared = corner_distance(affine, without_shear, image.shape) > _MAX_SHEAR
    image.set_sform(affine, 1)
    image.set_qform(without_shear, 0 if is_sheared else 1)


def caret_xml(rows: Sequence[Structure]) -> str:
    """Return the label table as Caret writes it."""
    labels = "".join(
        f'<Label Key="{row.label}" Red="{row.colour[0] / 255:.4f}" Green="{row.colour[1] / 255:.4f}" '
        f'Blue="{row.colour[2] / 255:.4f}" Alpha="1"><![CDATA[{row.name}]]></Label>\n'
        for row in rows
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<CaretExtension><VolumeInformation Index="0">\n'
        f"<LabelTable>\n{labels}</LabelTable>\n"
        "<VolumeType><![CDATA[Label]]></VolumeType></VolumeInformation></CaretExtension>\n"
    )


def _label_json(rows: Sequence[Structure]) -> str:
    """Return the label table as JSON."""
    table = [
        {"value": row.label, "name": row.name, "kind": str(row.kind), "colour": row.colour, "SCT": row.code}
        for row in rows
    ]
    return json.dumps({"labels": table})
