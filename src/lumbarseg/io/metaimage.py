"""Read MetaImage: .mha, and .mhd with its voxels in a file beside it. Positions in the file are LPS in mm."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lumbarseg.errors import FileError, GridError
from lumbarseg.volume import Array

from .raw_image import LPS_TO_RAS, RawImage, read_raw_image
from .voxel_data import VoxelLayout, decode_text

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_ORIENTATION = ("TransformMatrix", "Rotation", "Orientation")  # names of a field, the current one first
_ORIGIN = ("Offset", "Position", "Origin")
_SPACING = ("ElementSpacing", "ElementSize")
_MAX_HEADER_BYTES = 1 << 24  # SimpleITK can write all DICOM tags along

Fields = dict[str, str]


def is_metaimage(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of a MetaImage header."""
    return re.match(rb"\s*\w+\s*=", head) is not None and b"NDims" in head


def read(path: Path, volume_index: int | None = None) -> RawImage:
    """Read a MetaImage; see `read_raw_image`."""
    return read_raw_image(path, volume_index, "MetaImage", _parse_header)


def _parse_header(path: Path, stream: BinaryIO) -> tuple[VoxelLayout, Array, list[str]]:
    fields = _read_fields(path, stream)
    return _layout(path, fields), LPS_TO_RAS @ _lps_affine(path, fields), _notes(fields)


def _read_fields(path: Path, stream: BinaryIO) -> Fields:
    """Read the lines of the header; the stream is then positioned behind it."""
    fields: Fields = {}
    while stream.tell() < _MAX_HEADER_BYTES:
        line = decode_text(stream.readline(_MAX_HEADER_BYTES))
        if not line:
            break
        name, _, value = line.partition("=")
        fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            return fields
    raise FileError(f"{path}: its header ends without ElementDataFile; it is truncated or damaged, export it again")


def _layout(path: Path, fields: Fields) -> VoxelLayout:
    dtype, dimensions = _dtype(path, fields), _dimension_count(path, fields)
    skip = int(_parse_numbers(path, fields, "HeaderSize", 1)[0]) if "HeaderSize" in fields else 0
    return VoxelLayout(
        sizes=[int(size) for size in _parse_numbers(path, fields, "DimSize", dimensions)],
        axes=list(range(min(dimensions, 3))),
        dtype=dtype,
        encoding="zlib" if _is_true(fields, "CompressedData") else "raw",
        data_file=None if fields["ElementDataFile"].upper() == "LOCAL" else fields["ElementDataFile"],
        skip_bytes=max(skip, -1),
    )


def _dimension_count(path: Path, fields: Fields) -> int:
    dimensions = int(_parse_numbers(path, fields, "NDims", 1)[0])
    if not 2 <= dimensions <= 4:
        raise FileError(f"{path}: {dimensions}-D; save it as a 3-D file")
    return dimensions


def _parse_numbers(path: Path, fields: Fields, name: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in fields[name].split()]
    except KeyError as error:
        raise FileError(f"{path}: its header has no {name}; it is damaged, export it again") from error
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise FileError(f"{path}: its header has {name} = {fields[name]}; {count} numbers are needed, repair it")
    return numbers


def _is_true(fields: Fields, *names: str) -> bool:
    return any(fields.get(name, "").lower() in ("true", "1") for name in names)


def _dtype(path: Path, fields: Fields) -> np.dtype[np.generic]:
    if fields.get("ElementNumberOfChannels", "1") != "1" or "_ARRAY" in fields.get("ElementType", ""):
        raise FileError(f"{path}: several channels or colours in a voxel; convert it to grey values")
    if not _is_true(fields, "BinaryData") and "BinaryData" in fields:
        raise FileError(f"{path}: its voxels are written as text; save it in binary form")
    name = fields.get("ElementType", "")
    if name not in _TYPES:
        raise FileError(f"{path}: its voxel type {name or '(none)'} is unknown; save it as MET_SHORT or MET_FLOAT")
    big_endian = _is_true(fields, "ElementByteOrderMSB", "BinaryDataByteOrderMSB")
    return np.dtype((">" if big_endian else "<") + _TYPES[name])


def _first_present(fields: Fields, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in fields), None)


def _lps_affine(path: Path, fields: Fields) -> Array:
    """Return the affine from voxel to LPS mm. A row of TransformMatrix is the direction of an axis."""
    dimensions = _dimension_count(path, fields)
    used = min(dimensions, 3)
    directions, origin, spacing = np.eye(3), np.zeros(3), np.array([1.0, 1.0, 0.0 if dimensions == 2 else 1.0])
    if name := _first_present(fields, _ORIENTATION):
        matrix = np.reshape(_parse_numbers(path, fields, name, dimensions**2), (dimensions, dimensions))
        directions[:used, :used] = matrix[:used, :used].T
    if name := _first_present(fields, _ORIGIN):
        origin[:used] = _parse_numbers(path, fields, name, dimensions)[:used]
    if name := _first_present(fields, _SPACING):
        spacing[:used] = _parse_numbers(path, fields, name, dimensions)[:used]
        if (spacing[:used] <= 0).any():
            raise GridError(
                f"{path}: its spacing is {fields[name]} mm; every axis needs more than 0, repair its header"
            )
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions * spacing, origin
    return affine


def _notes(fields: Fields) -> list[str]:
    notes = []
    if _first_present(fields, _ORIENTATION) is None:
        notes.append("no orientation in its header: axes assumed to point left, posterior and up")
    if _first_present(fields, _SPACING) is None:
        notes.append("no spacing in its header: 1 mm assumed")
    return notes
