"""Read NIfTI-1 and NIfTI-2, plain or gzipped, recognised by content. nibabel parses the header without repairing it."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from lumbarseg.errors import FileError, GridError
from lumbarseg.volume import Array

from .file_access import file_size, open_for_reading
from .raw_image import RawImage
from .voxel_data import VoxelLayout, format_sizes, max_decompressed_size, read_volume

_ABSENT: Any = None
if "nibabel" not in sys.modules and "pydicom" not in sys.modules:
    # nibabel imports pydicom for a header extension that is not used here; that would double its import time
    sys.modules["pydicom"] = _ABSENT
    try:
        import nibabel
    finally:
        del sys.modules["pydicom"]
else:
    import nibabel

GZIP_MAGIC = b"\x1f\x8b"
_MAGICS = (b"n+1\0", b"n+2\0")
_PAIR_MAGICS = (b"ni1\0", b"ni2\0")
_HEADER_BYTES = {1: 348, 2: 540}
_HEADER_SIZE_CODES = [size.to_bytes(4, order) for size in _HEADER_BYTES.values() for order in ("little", "big")]
_MAX_DISAGREEMENT = 1.0  # mm between the positions of a corner by sform and by qform

nib: Any = nibabel  # its functions have no types


def is_nifti(head: bytes) -> bool:
    """Return whether the first bytes of a file, at least 348 of them, are those of a NIfTI or Analyze header."""
    return head[:4] in _HEADER_SIZE_CODES or head[344:348] in _MAGICS + _PAIR_MAGICS


def read(path: Path, volume_index: int | None = None) -> RawImage:
    """Read a NIfTI file; volume_index: which volume of a 4-D file, counted from 0.

    Raises
    ------
    FileError, GridError
        If the file cannot be read, or its header gives no usable geometry.
    """
    with _open_decompressed(path) as (stream, available):
        header, version = _read_header(path, stream)
        layout = _layout(path, header, version)
        stream.seek(0)
        array, notes = read_volume(path, stream, layout, volume_index, available - layout.skip_bytes)
    affine, affine_notes = _affine(path, header, array.shape)
    metadata = {"format": f"NIfTI-{version}", "voxel_type": layout.dtype.name}
    return RawImage(_apply_scaling(path, array, header), affine, [*notes, *affine_notes], metadata)


@contextmanager
def _open_decompressed(path: Path) -> Iterator[tuple[BinaryIO, float]]:
    """Yield the decompressed bytes of a file that may be gzipped, and the most that there can be."""
    with open_for_reading(path) as stream:
        size = file_size(path)
        is_gzipped = stream.read(2) == GZIP_MAGIC
        stream.seek(0)
        if is_gzipped:
            yield cast("BinaryIO", gzip.GzipFile(fileobj=stream)), max_decompressed_size(size, "gzip")
        else:
            yield stream, size


def _read_header(path: Path, stream: BinaryIO) -> tuple[Any, int]:
    """Return the header as nibabel's object, without repairs, and the version of NIfTI."""
    try:
        head = stream.read(_HEADER_BYTES[2])
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"{path}: truncated or damaged gzip file; copy or export it again") from error
    magic = head[4:8] if head[4:8] in _MAGICS + _PAIR_MAGICS else head[344:348]
    if magic in _PAIR_MAGICS:
        raise FileError(f"{path}: half of a .hdr/.img pair; convert the pair to one .nii.gz file")
    if magic not in _MAGICS:
        content = "an Analyze or damaged NIfTI header" if head[:4] in _HEADER_SIZE_CODES else "no NIfTI file inside"
        raise FileError(f"{path}: {content}; export it as .nii.gz")
    version = 1 + _MAGICS.index(magic)
    if len(head) < _HEADER_BYTES[version]:
        raise FileError(f"{path}: truncated within its header; copy or export it again")
    header_class = (nib.Nifti1Header, nib.Nifti2Header)[version - 1]
    return header_class(binaryblock=head[: _HEADER_BYTES[version]], check=False), version


def _image_sizes(path: Path, header: Any) -> tuple[int, ...]:
    """Return the sizes without trailing axes of one voxel behind the third axis."""
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7:
        raise FileError(f"{path}: its header names {dimensions} axes; it is damaged, export it again")
    sizes = [int(size) for size in header["dim"][1 : dimensions + 1]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 4:
        raise FileError(
            f"{path}: {len(sizes)}-D, several numbers or colours in a voxel; save one of them as a 3-D file"
        )
    if len(sizes) == 4 and sizes[0] == 1 and min(sizes[1:]) > 1:
        raise FileError(
            f"{path}: {format_sizes(sizes)}: its first axis is not in space; remove it (array[0] in numpy) and save "
            "the rest as a 3-D file"
        )
    if len(sizes) < 2:
        raise FileError(f"{path}: {len(sizes)}-D; an exam has at least two axes")
    return tuple(sizes)


def _layout(path: Path, header: Any, version: int) -> VoxelLayout:
    sizes = _image_sizes(path, header)
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except Exception:  # nibabel raises whatever its table raises
        dtype = np.dtype([])
    if dtype.itemsize == 0:
        raise FileError(f"{path}: voxel type {int(header['datatype'])} is unknown; export it again")
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or offset < 0:
        raise FileError(f"{path}: its header places its voxels at byte {offset:g}; it is damaged, export it again")
    return VoxelLayout(sizes, [0, 1, 2][: len(sizes)], dtype, skip_bytes=max(int(offset), _HEADER_BYTES[version] + 4))


def _apply_scaling(path: Path, array: Array, header: Any) -> Array:
    """Return the numbers scaled by the header's slope and intercept, unchanged if it has none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0 or array.dtype.kind not in "iuf":
        return array
    if not np.isfinite(intercept):
        raise FileError(f"{path}: its header scales with an intercept of {intercept}; it is damaged, export it again")
    if (slope, intercept) == (1, 0):
        return array
    numbers: Array = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite values are refused later
        return numbers * slope + intercept


def _affine(path: Path, header: Any, shape: Sequence[int]) -> tuple[Array, list[str]]:
    """Return the affine to RAS+ mm, from sform, else qform, else spacing alone, and notes on what is unusual."""
    sform = header.get_sform() if header["sform_code"] > 0 else None
    try:
        qform, notes = _qform_affine(path, header) if header["qform_code"] > 0 else (None, [])
    except GridError:
        if sform is None:
            raise
        return sform, ["its qform is damaged: the sform was used"]
    if sform is not None:
        distance = 0.0 if qform is None else corner_distance(sform, qform, shape)
        if distance <= _MAX_DISAGREEMENT:
            return sform, []
        if _is_usable(sform, shape):
            return sform, [f"sform and qform disagree by up to {distance:.1f} mm: the sform was used"]
    if qform is not None:
        return qform, [*notes, "its sform is damaged: the qform was used"] if sform is not None else notes
    affine = np.diag([*_zooms(path, header) * (-1, 1, 1), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    note = "no orientation in its header (sform and qform codes are 0): axes assumed to point left, anterior and up"
    return affine, [note]


def _is_usable(affine: Array, shape: Sequence[int]) -> bool:
    """Return whether an affine is finite and not singular; an axis of one voxel may have no length."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    used = (np.array(shape) > 1) | (lengths > 0)
    if not np.isfinite(affine).all() or min(lengths[used], default=1.0) <= 1e-6:
        return False
    directions = affine[:3, :3][:, used] / lengths[used]
    return bool(np.linalg.matrix_rank(directions, tol=1e-3) == directions.shape[1])


def _zooms(path: Path, header: Any) -> Array:
    """Return the spacing in mm; raise `GridError` if it is not positive and finite where an axis has many voxels."""
    zooms = np.array(header["pixdim"][1:4], np.float64)
    axes = np.array((*header["dim"][1 : int(header["dim"][0]) + 1], 1, 1)[:3])
    if not np.isfinite(zooms).all() or (zooms < 0).any() or (zooms[axes > 1] == 0).any():
        spacing = format_sizes([f"{zoom:g}" for zoom in zooms])
        raise GridError(f"{path}: its spacing is {spacing} mm; every axis needs more than 0, repair its header")
    return zooms


def _qform_affine(path: Path, header: Any) -> tuple[Array, list[str]]:
    repaired = header.copy()
    spacing = repaired["pixdim"][1:4]
    notes = ["negative spacing in its header: its sign was ignored"] if (spacing < 0).any() else []
    repaired["pixdim"][1:4] = np.abs(spacing)
    repaired["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1  # nibabel refuses other values
    _zooms(path, repaired)
    try:
        return repaired.get_qform(), notes
    except ValueError as error:
        raise GridError(f"{path}: its qform is no rotation; repair its header, or export it again") from error


def corner_distance(first: Array, second: Array, shape: Sequence[int]) -> float:
    """Return the largest distance in mm between the corners of a grid by one affine and by another."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    difference = first - second
    return float(np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max())
