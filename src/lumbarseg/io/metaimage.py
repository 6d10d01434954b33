"""MetaImage: .mha, and .mhd with its voxels in a file beside it. Places are LPS in mm."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from lumbarseg.errors import FileError, GridError
from lumbarseg.volume import Array, Volume

from .file_access import atomic_write, file_size, open_for_reading
from .raw_image import LPS_TO_RAS, RawImage, check_claimed_size, max_decompressed_size, read_voxels, select_volume

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
_MAX_HEADER_BYTES = 1 << 16  # bytes

Fields = dict[str, str]


def is_metaimage(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a MetaImage header."""
    return re.match(rb"\s*\w+\s*=", head) is not None and b"NDims" in head


def read(path: Path, volume_index: int | None = None) -> RawImage:
    """A MetaImage; volume: which one of a 4-D file. FileError and GridError say what is wrong with it."""
    with open_for_reading(path) as stream:
        fields = _read_fields(path, stream)
        dtype = _dtype(path, fields)
        sizes = [int(n) for n in _parse_numbers(path, fields, "DimSize", _dimension_count(path, fields))]
        while len(sizes) > 3 and sizes[-1] == 1:
            sizes.pop()
        packing = "zlib" if _is_true(fields, "CompressedData") else "raw"
        with _data(path, stream, fields) as (data, available):
            check_claimed_size(path, sizes, dtype.itemsize, max_decompressed_size(available, packing))
            chosen = select_volume(path, math.prod(sizes[3:]), volume_index)
            _skip_header(path, data, fields, math.prod(sizes) * dtype.itemsize)
            numbers = read_voxels(path, data, dtype, math.prod(sizes), packing)
    shape = (*sizes[:3], 1)[:3]
    count = math.prod(shape)
    array = numbers[chosen * count : (chosen + 1) * count].reshape(shape, order="F")
    about = {"format": "MetaImage", "voxel_type": dtype.name}
    return RawImage(array, LPS_TO_RAS @ _affine(path, fields), _notes(fields), about)


def write(volume: Volume, path: Path) -> None:
    """A volume as .mha, packed, whole or not at all; floats as float32, whole numbers as they are."""
    array = volume.array.astype(np.float32) if volume.array.dtype.kind == "f" else volume.array
    kinds = {code: name for name, code in reversed(_TYPES.items())}
    kind = kinds.get(array.dtype.str[1:])
    if kind is None or not path.name.lower().endswith(".mha"):
        raise FileError(f"{path}: cannot be written: the name must end in .mha, and voxels be numbers")
    affine, spacing = LPS_TO_RAS @ volume.affine, volume.grid.spacing
    packed = zlib.compress(array.astype(array.dtype.newbyteorder("<")).tobytes(order="F"), 1)
    header = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(packed),
        "TransformMatrix": _format_numbers((affine[:3, :3] / spacing).T.ravel()),
        "Offset": _format_numbers(affine[:3, 3]),
        "ElementSpacing": _format_numbers(spacing),
        "DimSize": _format_numbers(array.shape),
        "ElementType": kind,
        "ElementDataFile": "LOCAL",
    }
    with atomic_write(path) as stream:
        stream.write("".join(f"{name} = {value}\n" for name, value in header.items()).encode())
        stream.write(packed)


def _format_numbers(numbers: Iterable[float]) -> str:
    return " ".join(repr(float(n)) if isinstance(n, float) else str(n) for n in numbers)


def _read_fields(path: Path, stream: BinaryIO) -> Fields:
    """The header's lines as a dict; the stream then stands at the first byte after it."""
    fields: Fields = {}
    while stream.tell() < _MAX_HEADER_BYTES:
        line = stream.readline(_MAX_HEADER_BYTES).decode("latin-1")
        name, equals, value = line.partition("=")
        if not line or (line.strip() and not equals):
            break
        fields[name.strip()] = value.strip()
        if name.strip() == "ElementDataFile":
            return fields
    raise FileError(f"{path}: its header ends without ElementDataFile; it is truncated or damaged, export it again")


def _dimension_count(path: Path, fields: Fields) -> int:
    axes = int(_parse_numbers(path, fields, "NDims", 1)[0])
    if not 2 <= axes <= 4:
        raise FileError(f"{path}: {axes}-D; save it as a 3-D file")
    return axes


def _parse_numbers(path: Path, fields: Fields, name: str, count: int) -> list[float]:
    try:
        numbers = [float(word) for word in fields[name].split()]
    except KeyError as error:
        raise FileError(f"{path}: its header has no {name}; it is damaged, export it again") from error
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise FileError(f"{path}: its header says {name} = {fields[name]}; {count} numbers are needed, repair it")
    return numbers


def _is_true(fields: Fields, *names: str) -> bool:
    return any(fields.get(name, "").lower() in ("true", "1") for name in names)


def _dtype(path: Path, fields: Fields) -> np.dtype[np.generic]:
    if fields.get("ElementNumberOfChannels", "1") != "1" or "_ARRAY" in fields.get("ElementType", ""):
        raise FileError(f"{path}: several channels or colours in a voxel; convert it to grey values")
    if not _is_true(fields, "BinaryData") and "BinaryData" in fields:
        raise FileError(f"{path}: its voxels are written as text; save it in binary form")
    kind = fields.get("ElementType", "")
    if kind not in _TYPES:
        raise FileError(f"{path}: its voxel type {kind or '(none)'} is unknown; save it as MET_SHORT or MET_FLOAT")
    big = _is_true(fields, "ElementByteOrderMSB", "BinaryDataByteOrderMSB")
    return np.dtype((">" if big else "<") + _TYPES[kind])


@contextmanager
def _data(path: Path, stream: BinaryIO, fields: Fields) -> Iterator[tuple[BinaryIO, int]]:
    """The stream that holds the voxels, and how many bytes of it are left."""
    name = fields["ElementDataFile"].replace("\\", "/")
    if name.upper() == "LOCAL":
        yield stream, file_size(path) - stream.tell()
        return
    if name.upper().split()[:1] == ["LIST"] or "%" in name:
        raise FileError(f"{path}: its voxels are spread over several files; save it as one .mha file")
    beside = path.parent / name
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or ":" in name:
        raise FileError(f"{path}: its voxels lie outside its folder ({name}); put both files into one folder")
    with open_for_reading(beside) as data:
        yield data, file_size(beside)


def _skip_header(path: Path, data: BinaryIO, fields: Fields, needed: int) -> None:
    """Past what `HeaderSize` says stands before the voxels; -1 means that they end with the file."""
    skip = int(_parse_numbers(path, fields, "HeaderSize", 1)[0]) if "HeaderSize" in fields else 0
    if skip == -1:
        data.seek(-needed, 2)
    else:
        data.seek(max(skip, 0), 1)


def _first_present(fields: Fields, *names: str) -> str | None:
    return next((name for name in names if name in fields), None)


def _affine(path: Path, fields: Fields) -> Array:
    """Voxel to LPS mm. A row of TransformMatrix is the direction of an axis."""
    axes = _dimension_count(path, fields)
    used = min(axes, 3)
    directions, origin, spacing = np.eye(3), np.zeros(3), np.array([1.0, 1.0, 0.0 if axes == 2 else 1.0])
    if name := _first_present(fields, "TransformMatrix", "Rotation", "Orientation"):
        matrix = np.reshape(_parse_numbers(path, fields, name, axes * axes), (axes, axes))
        directions[:used, :used] = matrix[:used, :used].T
    if name := _first_present(fields, "Offset", "Position", "Origin"):
        origin[:used] = _parse_numbers(path, fields, name, axes)[:used]
    if name := _first_present(fields, "ElementSpacing", "ElementSize"):
        spacing[:used] = _parse_numbers(path, fields, name, axes)[:used]
        if (spacing[:used] <= 0).any():
            raise GridError(
                f"{path}: its spacing is {fields[name]} mm; every axis needs more than 0, repair its header"
            )
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = origin
    return affine


def _notes(fields: Fields) -> list[str]:
    notes = []
    if _first_present(fields, "TransformMatrix", "Rotation", "Orientation") is None:
        notes.append("no orientation in its header: axes assumed to point left, posterior and up")
    if _first_present(fields, "ElementSpacing", "ElementSize") is None:
        notes.append("no spacing in its header: 1 mm assumed")
    return notes
