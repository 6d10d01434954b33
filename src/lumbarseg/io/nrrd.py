"""NRRD: .nrrd, and .nhdr with its voxels in a file beside it. The header is read by pynrrd, the voxels here."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from lumbarseg.errors import FileError, GridError
from lumbarseg.volume import Array

from .file_access import file_size, open_for_reading
from .raw_image import RawImage, check_claimed_size, max_decompressed_size, read_voxels, select_volume

_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bz2", "bz2": "bz2"}
_VECTOR_KINDS = ("color", "vector", "complex", "matrix", "point", "normal", "gradient", "quaternion")
# signs that turn the axes of a space to RAS
_SPACE_SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}

Header = dict[str, Any]


def is_nrrd(head: bytes) -> bool:
    """Whether the first bytes of a file are those of an NRRD."""
    return head.startswith(b"NRRD")


def read(path: Path, volume_index: int | None = None) -> RawImage:
    """An NRRD file; volume: which one of a 4-D file. FileError and GridError say what is wrong with it."""
    with open_for_reading(path) as stream:
        header = _read_header(path, stream)
        sizes = [int(n) for n in header["sizes"]]
        dtype, packing = _dtype(path, header), _encoding(path, header)
        axes, spare = _split_axes(path, header, sizes)
        with _data(path, stream, header) as (data, available):
            check_claimed_size(path, [*(sizes[a] for a in axes), *(sizes[a] for a in spare)], dtype.itemsize, math.inf)
            check_claimed_size(path, sizes, dtype.itemsize, max_decompressed_size(available, packing))
            chosen = select_volume(path, math.prod(sizes[a] for a in spare), volume_index)
            _skip(path, data, header, math.prod(sizes) * dtype.itemsize)
            numbers = read_voxels(path, data, dtype, math.prod(sizes), packing)
    ordered = numbers.reshape(sizes, order="F").transpose([*axes, *spare])
    shape = (*(sizes[a] for a in axes), 1)[:3]
    array = ordered.reshape(*ordered.shape[: len(axes)], -1)[..., chosen].reshape(shape)
    affine, notes = _affine(path, header, axes)
    return RawImage(array, affine, notes, {"format": "NRRD", "voxel_type": dtype.name})


def _read_header(path: Path, stream: BinaryIO) -> Header:
    """pynrrd's header with the fields that every file has; the stream then stands behind it."""
    import nrrd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header: Header = dict(nrrd.read_header(stream))
    except (nrrd.reader.NRRDError, ValueError, IndexError, StopIteration) as error:
        raise FileError(f"{path}: its NRRD header is damaged ({str(error)[:100]}); export it again") from error
    lacking = [name for name in ("type", "dimension", "sizes", "encoding") if name not in header]
    if lacking or int(header["dimension"]) != len(header["sizes"]):
        raise FileError(f"{path}: its NRRD header lacks {', '.join(lacking) or 'some sizes'}; export it again")
    return header


def _dtype(path: Path, header: Header) -> np.dtype[np.generic]:
    name = str(header["type"]).lower()
    code = next((code for code, names in _TYPES.items() if name in names), None)
    if code is None:
        raise FileError(f"{path}: its voxel type {name!r} is unknown; save it as short or float")
    return np.dtype((">" if header.get("endian") == "big" else "<") + code)


def _encoding(path: Path, header: Header) -> str:
    encoding = str(header["encoding"]).lower()
    if encoding not in _ENCODINGS:
        raise FileError(f"{path}: its voxels are encoded as {encoding!r}; save it as raw or gzip")
    return _ENCODINGS[encoding]


def _split_axes(path: Path, header: Header, sizes: list[int]) -> tuple[list[int], list[int]]:
    """Which axes lie in space, and which do not (a list of volumes, time)."""
    rows = header.get("space directions", header.get("spacings"))
    if rows is not None and len(rows) != len(sizes):
        raise FileError(f"{path}: its NRRD header describes {len(rows)} of {len(sizes)} axes; export it again")
    every = list(range(len(sizes)))
    kinds = [str(kind).lower() for kind in header.get("kinds", ())] or ["domain"] * len(sizes)
    if rows is None:
        axes = [axis for axis in every if kinds[axis] in ("domain", "space", "???", "none")][:3]
    else:
        axes = [axis for axis in every if np.isfinite(rows[axis]).all()]
    spare = [axis for axis in every if axis not in axes]
    if any(sizes[a] > 1 and any(word in kinds[a] for word in _VECTOR_KINDS) for a in spare):
        raise FileError(f"{path}: several numbers or colours in a voxel; convert it to grey values")
    if not 2 <= len(axes) <= 3 or sum(sizes[axis] > 1 for axis in spare) > 1:
        raise FileError(f"{path}: {len(sizes)}-D with {len(axes)} axes in space; save it as a 3-D file")
    return axes, spare


@contextmanager
def _data(path: Path, stream: BinaryIO, header: Header) -> Iterator[tuple[BinaryIO, int]]:
    """The stream that holds the voxels, and how many bytes of it are left."""
    name = header.get("data file", header.get("datafile"))
    if name is None:
        yield stream, file_size(path) - stream.tell()
        return
    name = str(name).replace("\\", "/")
    if name.upper().split()[:1] == ["LIST"] or "%" in name:
        raise FileError(f"{path}: its voxels are spread over several files; save it as one .nrrd file")
    if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or ":" in name:
        raise FileError(f"{path}: its voxels lie outside its folder ({name}); put both files into one folder")
    beside = path.parent / name
    with open_for_reading(beside) as data:
        yield data, file_size(beside)


def _skip(path: Path, data: BinaryIO, header: Header, needed: int) -> None:
    """Past the lines and bytes that stand before the voxels."""
    lines = int(header.get("line skip", header.get("lineskip", 0)) or 0)
    skip = int(header.get("byte skip", header.get("byteskip", 0)) or 0)
    if lines < 0 or skip < -1 or (skip and _encoding(path, header) != "raw"):
        raise FileError(f"{path}: its header skips {lines} lines and {skip} bytes; save it again without")
    for _ in range(lines):
        data.readline()
    if skip == -1:
        data.seek(-needed, 2)
    else:
        data.seek(skip, 1)


def _affine(path: Path, header: Header, axes: list[int]) -> tuple[Array, list[str]]:
    """The affine to RAS+ mm, and what is odd about it."""
    affine, notes = np.eye(4), []
    space = str(header.get("space", "")).lower().removesuffix("-time")
    directions = header.get("space directions")
    if directions is None or np.shape(directions)[1] != 3:
        notes.append("no orientation in its header: axes assumed to point left, posterior and up")
        spacing = _axis_spacings(path, header, axes, directions)
        affine[:3, :3] = np.diag(spacing)
    else:
        if space not in _SPACE_SIGNS:
            notes.append(f"its space {space or '(none)'} is not a patient's: left-posterior-superior assumed")
        affine[:3, :3] = 0
        affine[:3, : len(axes)] = np.asarray(directions)[axes].T
        affine[:3, 3] = _origin(path, header)
    signs = np.array(_SPACE_SIGNS.get(space, _SPACE_SIGNS["lps"]), np.float64)
    return np.diag([*signs, 1.0]) @ affine, notes


def _axis_spacings(path: Path, header: Header, axes: list[int], directions: Any) -> list[float]:
    """Spacing of three axes; the third is 0 where there are two."""
    if directions is not None:
        steps = [float(np.linalg.norm(directions[axis])) for axis in axes]
    else:
        said = header.get("spacings")
        steps = [1.0 if said is None else float(said[axis]) for axis in axes]
    if min(steps) <= 0:
        raise GridError(f"{path}: its spacing is {steps} mm; every axis needs more than 0, repair its header")
    return [*steps, 0.0][:3]


def _origin(path: Path, header: Header) -> Array:
    origin = np.asarray(header.get("space origin", np.zeros(3)), np.float64)
    if origin.shape != (3,):
        raise FileError(f"{path}: its space origin has {origin.size} numbers, not 3; export it again")
    return np.nan_to_num(origin) if np.isnan(origin).all() else origin
