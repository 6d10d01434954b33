"""Voxels as a file stores them: the header's claims, checked before they are believed, and the numbers made ours."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from lumbarseg.errors import FileError, GridError
from lumbarseg.volume import Array, Grid, Volume

from .dicom.source_images import SourceImages

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ASSUMED_THICKNESS = 4.0  # mm, of a single slice that says nothing; the usual distance of sagittal slices
_MOST_VOXELS = 2**30  # an isotropic 512^3 exam has 2**27
_MOST_DEFLATED = 1032  # no byte of deflate makes more than that
_LARGEST_EXTENT = 3000.0  # mm
_FINEST_SPACING = 0.01  # mm
_INTEGER_TOLERANCE = 1e-3  # how far from a whole number a label may lie that was stored with a scale


@dataclass(frozen=True, eq=False)
class RawImage:
    """What a format gives. array: (I, J, K) in the file's own number type; affine: (4, 4) voxel to RAS+ mm.

    source: of DICOM, the images that it was read from.
    """

    array: Array
    affine: Array
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    source_images: SourceImages | None = None


def check_claimed_size(path: Path, sizes: Sequence[int], itemsize: int, available: float) -> None:
    """FileError when a header names no voxels, absurdly many, or more bytes than the `available` ones."""
    if not sizes or min(sizes) < 1:
        raise FileError(f"{path}: its header names no voxels (sizes {_format_sizes(sizes)}); export it again")
    count = math.prod(sizes)
    claim = f"{_format_sizes(sizes)} voxels, {count * itemsize / 1e6:,.1f} MB"
    if math.prod(sizes[:3]) > _MOST_VOXELS:
        raise FileError(f"{path}: its header claims {claim}: too large for an exam, or damaged; export it again")
    if count * itemsize > available:
        raise FileError(f"{path}: truncated: its header claims {claim}, the file holds less; copy or export it again")


def max_decompressed_size(size: int, encoding: str) -> float:
    """The most bytes that `size` bytes on disk can become."""
    return {"raw": size, "bz2": math.inf}.get(encoding, size * _MOST_DEFLATED + 1024)


def decompress(stream: BinaryIO, encoding: str, max_bytes: int) -> BinaryIO:
    """A stream of plain bytes from one that is packed as "raw", "gzip", "bz2" or "zlib"."""
    if encoding == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    if encoding == "bz2":
        return cast("BinaryIO", bz2.BZ2File(stream))
    if encoding == "zlib":
        return io.BytesIO(zlib.decompressobj().decompress(stream.read(), max_bytes))
    return stream


def read_voxels(path: Path, stream: BinaryIO, dtype: np.dtype[Any], count: int, encoding: str = "raw") -> Array:
    """The next `count` numbers of a stream, (count,); FileError when they are not all there or damaged."""
    needed = count * dtype.itemsize
    buffer = bytearray(needed)
    view, have = memoryview(buffer), 0
    try:
        plain = decompress(stream, encoding, needed)
        while have < needed:
            got = plain.readinto(view[have:])  # type: ignore[attr-defined]
            if not got:
                break
            have += got
        if encoding == "gzip" or isinstance(stream, gzip.GzipFile):
            plain.read(1)  # at its end gzip compares its checksum
    except EOFError:
        have = min(have, needed - 1)
    except (zlib.error, gzip.BadGzipFile, OSError, ValueError) as error:
        raise FileError(
            f"{path}: damaged: its compressed voxels cannot be unpacked; copy or export it again"
        ) from error
    if have < needed:
        raise FileError(f"{path}: truncated: {needed:,} bytes of voxels expected, fewer found; copy or export it again")
    return np.frombuffer(buffer, dtype)


def select_volume(path: Path, count: int, requested: int | None) -> int:
    """Which of `count` volumes to read; FileError when there are several and none, or a wrong one, is chosen."""
    if requested is None and count > 1:
        raise FileError(f"{path}: 4-D, {count} volumes; choose one with --volume 0 to {count - 1}")
    chosen = requested or 0
    if not 0 <= chosen < count:
        raise FileError(f"{path}: no volume {chosen}; it holds {count}, counted from 0")
    return chosen


def to_image_volume(path: Path, raw: RawImage) -> Volume:
    """The voxels as an image, float32; FileError on colour, complex numbers, NaN or infinity."""
    _check_numbers(path, raw.array)
    with np.errstate(over="ignore", invalid="ignore"):
        array = raw.array.astype(np.float32, order="K", copy=False)
    if raw.array.dtype.kind == "f":
        _check_finite(path, array)
    return _checked_volume(path, array, raw)


def to_label_volume(path: Path, raw: RawImage) -> Volume:
    """The voxels as labels, uint8; FileError unless all are whole numbers from 0 to 255."""
    array = raw.array
    _check_numbers(path, array)
    if array.dtype.kind == "f":
        _check_finite(path, array)
    low, high = array.min(), array.max()
    if low < -_INTEGER_TOLERANCE or high > 255 + _INTEGER_TOLERANCE:
        raise FileError(
            f"{path}: holds grey values, not labels: {low:g} to {high:g}; labels are whole numbers from 0 to 255"
        )
    whole = (np.rint(array) if array.dtype.kind == "f" else array).astype(np.uint8, order="K", copy=False)
    if array.dtype.kind == "f" and (np.abs(whole - array) > _INTEGER_TOLERANCE).any():
        raise FileError(
            f"{path}: holds grey values, not labels: fractions between whole numbers; was it resized with "
            "interpolation? Make it again with nearest neighbour"
        )
    return _checked_volume(path, whole, raw)


def _check_numbers(path: Path, array: Array) -> None:
    if array.dtype.kind == "c":
        raise FileError(f"{path}: holds complex numbers; save their magnitude and give that")
    if array.dtype.kind not in "biuf":
        raise FileError(f"{path}: holds colours, not grey values; convert it to grey values")


def _check_finite(path: Path, array: Array) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        bad = int(finite.size - np.count_nonzero(finite))
        raise FileError(f"{path}: holds NaN or infinite values in {bad:,} voxels; replace them, or export it again")


def _checked_volume(path: Path, array: Array, raw: RawImage) -> Volume:
    affine, shape = raw.affine, (array.shape[0], array.shape[1], array.shape[2])
    try:
        spacing = Grid(shape, affine).spacing
    except GridError as error:
        raise GridError(f"{path}: {error}; repair its header, or export it again") from error
    extent = max(size * step for size, step in zip(shape, spacing, strict=True))
    if min(spacing) < _FINEST_SPACING or extent > _LARGEST_EXTENT:
        raise GridError(
            f"{path}: {_format_sizes(shape)} voxels of {_format_sizes(f'{s:.4g}' for s in spacing)} mm cannot be an exam of a person; "
            "repair the spacing in its header"
        )
    return Volume(array, affine)


def fill_missing_thickness(raw: RawImage) -> RawImage:
    """The same with an axis of one voxel that has no length made `ASSUMED_THICKNESS` long, upright on the others."""
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


def _format_sizes(values: Any) -> str:
    return " x ".join(str(value) for value in values)
