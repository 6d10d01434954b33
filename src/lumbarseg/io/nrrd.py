"""Read NRRD: .nrrd, and .nhdr with its voxels in a file beside it. pynrrd parses the header."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import nrrd
import numpy as np

from lumbarseg.errors import FileError, GridError
from lumbarseg.volume import Array

from .raw_image import RawImage, read_raw_image
from .voxel_data import VoxelLayout, check_single_file, decode_text

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
_SPACE_SIGNS = {  # signs that turn the axes of a space to RAS
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
}

_DATA_FILE = re.compile(rb"^data ?file:[ \t]*([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_MAX_HEADER_BYTES = 1 << 16

Header = dict[str, Any]


def is_nrrd(head: bytes) -> bool:
    """Return whether the first bytes of a file are those of an NRRD header."""
    return head.startswith(b"NRRD")


def read(path: Path, volume_index: int | None = None) -> RawImage:
    """Read an NRRD file; see `read_raw_image`."""
    return read_raw_image(path, volume_index, "NRRD", _parse_header)


def _parse_header(path: Path, stream: BinaryIO) -> tuple[VoxelLayout, Array, list[str]]:
    header = _read_header(path, stream)
    layout = _layout(path, header)
    return layout, *_affine(path, header, layout.axes)


def parse_header(stream: BinaryIO) -> Header:
    """Read the header with pynrrd; the stream is then positioned behind it. ValueError if it is malformed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            header = dict(nrrd.read_header(stream))
        except (nrrd.reader.NRRDError, IndexError, StopIteration) as error:
            raise ValueError(str(error)) from error
    if "data file" in header or "datafile" in header:  # pynrrd drops all but ASCII from its name
        end = stream.tell()
        stream.seek(0)
        header["data file"] = _data_file(stream.read(end)) or header.get("data file", header.get("datafile"))
    return header


def _data_file(head: bytes) -> str | None:
    """Return the data file that the first bytes of a file name, None if there is none."""
    match = _DATA_FILE.search(head)
    return decode_text(match[1]).strip() if match else None


def _read_header(path: Path, stream: BinaryIO) -> Header:
    """Read the header and check that it has the fields that every file needs."""
    data_file = _data_file(stream.read(_MAX_HEADER_BYTES)) or ""
    stream.seek(0)
    check_single_file(path, data_file)  # pynrrd cannot parse the header of several files
    try:
        header = parse_header(stream)
    except ValueError as error:
        reason = " ".join(str(error).split())[:100]
        raise FileError(f"{path}: its NRRD header is damaged ({reason}); export it again") from error
    missing = [name for name in ("type", "dimension", "sizes", "encoding") if name not in header]
    if missing or int(header["dimension"]) != len(header["sizes"]):
        raise FileError(f"{path}: its NRRD header lacks {', '.join(missing) or 'some sizes'}; export it again")
    return header


def _layout(path: Path, header: Header) -> VoxelLayout:
    encoding = str(header["encoding"]).lower()
    if encoding not in _ENCODINGS:
        raise FileError(f"{path}: its voxels are encoded as {encoding!r}; save it as raw or gzip")
    lines = int(header.get("line skip", header.get("lineskip", 0)) or 0)
    skip = int(header.get("byte skip", header.get("byteskip", 0)) or 0)
    if lines < 0 or skip < -1 or (skip and encoding != "raw"):
        raise FileError(f"{path}: its header skips {lines} lines and {skip} bytes; save it again without")
    sizes = [int(size) for size in header["sizes"]]
    return VoxelLayout(
        sizes=sizes,
        axes=_spatial_axes(path, header, sizes),
        dtype=_dtype(path, header),
        encoding=_ENCODINGS[encoding],
        data_file=header.get("data file"),
        skip_lines=lines,
        skip_bytes=skip,
    )


def _dtype(path: Path, header: Header) -> np.dtype[np.generic]:
    name = str(header["type"]).lower()
    code = next((code for code, names in _TYPES.items() if name in names), None)
    if code is None:
        raise FileError(f"{path}: its voxel type {name!r} is unknown; save it as short or float")
    return np.dtype((">" if header.get("endian") == "big" else "<") + code)


def _spatial_axes(path: Path, header: Header, sizes: list[int]) -> list[int]:
    """Return the axes that lie in space; others hold a list of volumes or time."""
    rows = header.get("space directions", header.get("spacings"))
    kinds = [str(kind).lower() for kind in header.get("kinds", ())] or ["domain"] * len(sizes)
    for values in (rows, kinds):
        if values is not None and len(values) != len(sizes):
            raise FileError(f"{path}: its NRRD header describes {len(values)} of {len(sizes)} axes; export it again")
    if rows is None:
        axes = [axis for axis, kind in enumerate(kinds) if kind in ("domain", "space", "???", "none")][:3]
    else:
        axes = [axis for axis, row in enumerate(rows) if np.isfinite(row).all()]
    others = [axis for axis in range(len(sizes)) if axis not in axes and sizes[axis] > 1]
    if any(word in kinds[axis] for axis in others for word in _VECTOR_KINDS):
        raise FileError(f"{path}: several numbers or colours in a voxel; convert it to grey values")
    if not 2 <= len(axes) <= 3 or len(others) > 1:
        raise FileError(f"{path}: {len(sizes)}-D with {len(axes)} axes in space; save it as a 3-D file")
    return axes


def _affine(path: Path, header: Header, axes: list[int]) -> tuple[Array, list[str]]:
    """Return the affine to RAS+ mm and notes on what the header lacks."""
    affine, notes = np.eye(4), []
    space = str(header.get("space", "")).lower().removesuffix("-time")
    directions = header.get("space directions")
    if directions is None or np.shape(directions)[1] != 3:
        notes.append("no orientation in its header: axes assumed to point left, posterior and up")
        affine[:3, :3] = np.diag(_axis_spacings(path, header, axes, directions))
        if directions is None and "spacings" not in header:
            notes.append("no spacing in its header: 1 mm assumed")
    else:
        if space not in _SPACE_SIGNS:
            notes.append(f"its space {space or '(none)'} is not a patient's: left-posterior-superior assumed")
        affine[:3, :3] = 0
        affine[:3, : len(axes)] = np.asarray(directions)[axes].T
        affine[:3, 3] = _origin(path, header)
    signs = _SPACE_SIGNS.get(space, _SPACE_SIGNS["lps"])
    affine[:3] *= np.reshape(signs, (3, 1))
    return affine, notes


def _axis_spacings(path: Path, header: Header, axes: list[int], directions: Any) -> list[float]:
    """Return the spacing of three axes in mm; the third is 0 if there are two."""
    if directions is not None:
        spacings = [float(np.linalg.norm(directions[axis])) for axis in axes]
    else:
        rows = header.get("spacings")
        spacings = [1.0 if rows is None else float(rows[axis]) for axis in axes]
    if min(spacings) <= 0:
        raise GridError(f"{path}: its spacing is {spacings} mm; every axis needs more than 0, repair its header")
    return [*spacings, 0.0][:3]


def _origin(path: Path, header: Header) -> Array:
    origin = np.asarray(header.get("space origin", np.zeros(3)), np.float64)
    if origin.shape != (3,):
        raise FileError(f"{path}: its space origin has {origin.size} numbers, not 3; export it again")
    return np.nan_to_num(origin) if np.isnan(origin).all() else origin
