"""Images as read from a file, and their conversion to images and label maps of checked type and geometry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lumbarseg.errors import FileError, GridError
from lumbarseg.fill_values import replace_fill
from lumbarseg.volume import Array, Grid, Volume

from .file_access import open_for_reading
from .voxel_data import VoxelLayout, format_sizes, read_volume

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ASSUMED_THICKNESS = 4.0  # mm, of a single slice whose header names none; the usual distance of sagittal slices
_LARGEST_EXTENT = 3000.0  # mm
_FINEST_SPACING = 0.01  # mm
Metadata = Mapping[str, str | float | list[str]]
"""Facts about an image file, for the report: format, voxel type, and for DICOM series, sequence and scanner."""
_INTEGER_TOLERANCE = 1e-3  # how far labels that are stored with a scale may be from an integer


@dataclass(frozen=True, eq=False, repr=False)
class SourceImages:
    """One image for each slice of a volume, in the order of its last axis.

    datasets: pydicom data sets without pixels and private attributes, the same one repeated for frames of one file.
    They identify the patient and are passed on only into DICOM objects. frame_numbers: of each slice in its file,
    from 1.
    """

    datasets: tuple[Any, ...]
    frame_numbers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class RawImage:
    """An image as read from a file.

    array: (I, J, K) in the file's number type. affine: (4, 4) voxel to RAS+ mm. notes: what is unusual, for the user.
    metadata: facts for the report. source_images: for DICOM, the images it was read from.
    """

    array: Array
    affine: Array
    notes: list[str] = field(default_factory=list)
    metadata: Metadata = field(default_factory=dict)
    source_images: SourceImages | None = None


def read_raw_image(
    path: Path,
    volume_index: int | None,
    format_name: str,
    parse_header: Callable[[Path, BinaryIO], tuple[VoxelLayout, Array, list[str]]],
) -> RawImage:
    """Read a file that consists of a header and voxels.

    Parameters
    ----------
    volume_index
        Which volume of a 4-D file, counted from 0.
    parse_header
        Reads the header from a stream and returns the layout of the voxels, the affine to RAS+ mm, and notes.

    Raises
    ------
    FileError, GridError
        If the file cannot be read, or its header gives no usable geometry.
    """
    with open_for_reading(path) as stream:
        layout, affine, notes = parse_header(path, stream)
        array, voxel_notes = read_volume(path, stream, layout, volume_index)
    return RawImage(array, affine, voxel_notes + notes, {"format": format_name, "voxel_type": layout.dtype.name})


def to_image_volume(path: Path, raw: RawImage) -> Volume:
    """Return the image as float32; raise `FileError` for colours, complex numbers, NaN or infinite values."""
    _check_grey_values(path, raw.array)
    with np.errstate(over="ignore", invalid="ignore"):
        array = raw.array.astype(np.float32, order="K", copy=False)
    if raw.array.dtype.kind == "f":
        if np.isnan(array).any():  # NaN outside of a resampled field of view; other fill is left to preprocessing
            array, note = replace_fill(array)
            raw.notes.extend([note] if note else [])
        _check_finite(path, array)
    return _checked_volume(path, array, raw.affine)


def to_label_volume(path: Path, raw: RawImage) -> Volume:
    """Return the image as a uint8 label map; raise `FileError` unless all values are integers from 0 to 255."""
    array = raw.array
    _check_grey_values(path, array)
    is_float = array.dtype.kind == "f"
    if is_float:
        _check_finite(path, array)
    low, high = array.min(), array.max()
    if low < -_INTEGER_TOLERANCE or high > 255 + _INTEGER_TOLERANCE:
        raise FileError(
            f"{path}: holds grey values, not labels: {low:g} to {high:g}; labels are whole numbers from 0 to 255"
        )
    labels = (np.rint(array) if is_float else array).astype(np.uint8, order="K", copy=False)
    if is_float and (np.abs(labels - array) > _INTEGER_TOLERANCE).any():
        raise FileError(
            f"{path}: holds grey values, not labels: fractions between whole numbers; was it resized with "
            "interpolation? Make it again with nearest neighbour"
        )
    return _checked_volume(path, labels, raw.affine)


def _check_grey_values(path: Path, array: Array) -> None:
    if array.dtype.kind == "c":
        raise FileError(f"{path}: holds complex numbers; save their magnitude and give that")
    if array.dtype.kind not in "biuf":
        raise FileError(f"{path}: holds colours, not grey values; convert it to grey values")


def _check_finite(path: Path, array: Array) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        count = finite.size - np.count_nonzero(finite)
        raise FileError(f"{path}: holds NaN or infinite values in {count:,} voxels; replace them, or export it again")


def _checked_volume(path: Path, array: Array, affine: Array) -> Volume:
    shape = (array.shape[0], array.shape[1], array.shape[2])
    try:
        spacing = Grid(shape, affine).spacing
    except GridError as error:
        raise GridError(f"{path}: {error}; repair its header, or export it again") from error
    if min(spacing) < _FINEST_SPACING or np.multiply(shape, spacing).max() > _LARGEST_EXTENT:
        raise GridError(
            f"{path}: {format_sizes(shape)} voxels of {format_sizes([f'{step:.4g}' for step in spacing])} mm "
            "cannot be an exam of a person; repair the spacing in its header"
        )
    return Volume(array, affine)


def fill_missing_thickness(raw: RawImage) -> RawImage:
    """Return the image with `ASSUMED_THICKNESS` for an axis of one voxel that has no length, normal to the others."""
    steps, shape = raw.affine[:3, :3], raw.array.shape
    lengths = np.linalg.norm(steps, axis=0)
    empty = [axis for axis in range(3) if shape[axis] == 1 and lengths[axis] == 0]
    if len(empty) != 1:
        return raw
    axis = empty[0]
    normal = np.cross(steps[:, (axis + 1) % 3], steps[:, (axis + 2) % 3])
    affine = raw.affine.copy()
    affine[:3, axis] = normal / max(float(np.linalg.norm(normal)), 1e-12) * ASSUMED_THICKNESS
    note = f"one slice without a thickness in its header: {ASSUMED_THICKNESS:g} mm assumed"
    return replace(raw, affine=affine, notes=[*raw.notes, note])
