"""NIfTI-1 and NIfTI-2, plain or gzipped, known by their bytes.

Reading takes the header from nibabel without its silent repairs. Writing gives sform and qform the same place, and
puts a label map's names and colours into two header extensions, both comments (code 6) that other programs skip: first
the label table in the XML of Caret, as TotalSegmentator writes and reads it, then JSON with SNOMED CT codes beside.
"""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from lumbarseg.anatomy import STRUCTURES, Structure
from lumbarseg.errors import FileError, GridError
from lumbarseg.volume import Array, Volume, count_labels

from .file_access import atomic_write, file_size, open_for_reading
from .raw_image import RawImage, check_claimed_size, max_decompressed_size, read_voxels, select_volume

_ABSENT: Any = None
if "nibabel" not in sys.modules and "pydicom" not in sys.modules:
    # nibabel loads pydicom for a header extension that is not used here, and that takes as long as all the rest of it
    sys.modules["pydicom"] = _ABSENT
    try:
        import nibabel  # noqa: F401
    finally:
        del sys.modules["pydicom"]

_GZIP_MAGIC = b"\x1f\x8b"
_MAGICS = (b"n+1\0", b"n+2\0")
_PAIR_MAGICS = (b"ni1\0", b"ni2\0")
_HEADER_BYTES = {1: 348, 2: 540}
_MAX_DISAGREEMENT = 1.0  # mm between the places that sform and qform give a corner
_MAX_SHEAR = 0.05  # mm by which a qform, which cannot shear, may miss a corner
_IMAGE_LEVEL = 1  # of gzip: noise packs hardly better at 9, in five times the time
_LABEL_LEVEL = 4  # a third of the time of the usual 9, hardly more bytes
_COMMENT = 6  # code of a header extension


def is_nifti(head: bytes) -> bool:
    """Whether the first bytes of a file, at least 348 of them, are those of a NIfTI or Analyze header."""
    return head[:4] in _header_size_codes() or head[344:348] in _MAGICS + _PAIR_MAGICS


def _header_size_codes() -> list[bytes]:
    orders: tuple[Any, ...] = ("little", "big")
    return [size.to_bytes(4, order) for size in _HEADER_BYTES.values() for order in orders]


def read(path: Path, volume_index: int | None = None) -> RawImage:
    """A NIfTI file; volume: which one of a 4-D file. FileError and GridError say what is wrong with it."""
    with _open_decompressed(path) as (stream, available):
        header, version = _read_header(path, stream)
        sizes = _image_sizes(path, header)
        dtype = _dtype(path, header)
        offset = _voxel_offset(path, header, version)
        check_claimed_size(path, sizes, dtype.itemsize, available - offset)
        chosen = select_volume(path, int(np.prod(sizes[3:], dtype=np.int64)), volume_index)
        shape = (*sizes[:3], 1, 1)[:3]
        count = int(np.prod(shape))
        _skip(path, stream, offset + chosen * count * dtype.itemsize)
        array = read_voxels(path, stream, dtype, count).reshape(shape, order="F")
    affine, notes = _affine(path, header, shape)
    about = {"format": f"NIfTI-{version}", "voxel_type": dtype.name}
    return RawImage(_apply_scaling(path, array, header), affine, notes, about)


@contextmanager
def _open_decompressed(path: Path) -> Iterator[tuple[BinaryIO, float]]:
    """The plain bytes of a file that may be gzipped, and how many there can be at most."""
    with open_for_reading(path) as stream:
        size = file_size(path)
        packed = stream.read(2) == _GZIP_MAGIC
        stream.seek(0)
        if packed:
            yield cast("BinaryIO", gzip.GzipFile(fileobj=stream)), max_decompressed_size(size, "gzip")
        else:
            yield stream, size


def _skip(path: Path, stream: BinaryIO, position: int) -> None:
    try:
        stream.seek(position)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"{path}: truncated or damaged before its voxels; copy or export it again") from error


def _read_header(path: Path, stream: BinaryIO) -> tuple[Any, int]:
    """The header as nibabel's object, nothing repaired, and the version of NIfTI."""
    import nibabel

    try:
        head = stream.read(_HEADER_BYTES[2])
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(f"{path}: truncated or damaged gzip file; copy or export it again") from error
    magic = head[4:8] if head[4:8] in _MAGICS + _PAIR_MAGICS else head[344:348]
    if magic in _PAIR_MAGICS:
        raise FileError(f"{path}: half of a .hdr/.img pair; convert the pair to one .nii.gz file")
    if magic not in _MAGICS:
        kind = "an Analyze or damaged NIfTI header" if head[:4] in _header_size_codes() else "no NIfTI file inside"
        raise FileError(f"{path}: {kind}; export it as .nii.gz")
    version = 2 if magic == _MAGICS[1] else 1
    if len(head) < _HEADER_BYTES[version]:
        raise FileError(f"{path}: truncated within its header; copy or export it again")
    nib: Any = nibabel  # its functions have no types
    kinds = {1: nib.Nifti1Header, 2: nib.Nifti2Header}
    return kinds[version](binaryblock=head[: _HEADER_BYTES[version]], check=False), version


def _image_sizes(path: Path, header: Any) -> tuple[int, ...]:
    """The sizes without trailing ones past the third axis."""
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise FileError(f"{path}: its header names {count} axes; it is damaged, export it again")
    sizes = [int(n) for n in header["dim"][1 : count + 1]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) > 4:
        raise FileError(
            f"{path}: {len(sizes)}-D, several numbers or colours in a voxel; save one of them as a 3-D file"
        )
    if len(sizes) < 2:
        raise FileError(f"{path}: {len(sizes)}-D; an exam has at least two axes")
    return tuple(sizes)


def _dtype(path: Path, header: Any) -> np.dtype[Any]:
    code = int(header["datatype"])
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except Exception as error:  # nibabel raises what its table raises
        raise FileError(f"{path}: voxel type {code} is unknown; export it again") from error
    if dtype.itemsize == 0:
        raise FileError(f"{path}: voxel type {code} is unknown; export it again")
    return dtype


def _voxel_offset(path: Path, header: Any, version: int) -> int:
    offset = float(header["vox_offset"])
    if not np.isfinite(offset) or offset < 0:
        raise FileError(f"{path}: its header says its voxels begin at byte {offset:g}; it is damaged, export it again")
    return max(int(offset), _HEADER_BYTES[version] + 4)


def _apply_scaling(path: Path, array: Array, header: Any) -> Array:
    """The numbers with the header's slope and intercept, as they are where it has none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0 or array.dtype.kind not in "iuf":
        return array
    if not np.isfinite(intercept):
        raise FileError(f"{path}: its header scales with an intercept of {intercept}; it is damaged, export it again")
    if (slope, intercept) == (1, 0):
        return array
    numbers: Any = array.astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
    return numbers * slope + intercept


def _affine(path: Path, header: Any, shape: Sequence[int]) -> tuple[Array, list[str]]:
    """The affine to RAS+, sform before qform before plain spacing, and what is odd about it."""
    sform = header.get_sform() if header["sform_code"] > 0 else None
    try:
        qform = _qform_affine(path, header) if header["qform_code"] > 0 else None
    except GridError:
        if sform is None:
            raise
        return sform, ["its qform is damaged: the sform was used"]
    if sform is not None:
        return sform, [] if qform is None else _disagreement_notes(sform, qform, shape)
    if qform is not None:
        return qform, []
    affine = np.diag([*_zooms(path, header) * (-1, 1, 1), 1.0])
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    note = "no orientation in its header (sform and qform codes are 0): axes assumed to point left, anterior and up"
    return affine, [note]


def _zooms(path: Path, header: Any) -> Array:
    zooms = np.array(header["pixdim"][1:4], np.float64)
    axes = np.array((*header["dim"][1 : int(header["dim"][0]) + 1], 1, 1)[:3])
    if not np.isfinite(zooms).all() or (zooms < 0).any() or (zooms[axes > 1] == 0).any():
        said = " x ".join(f"{zoom:g}" for zoom in zooms)
        raise GridError(f"{path}: its spacing is {said} mm; every axis needs more than 0, repair its header")
    return zooms


def _qform_affine(path: Path, header: Any) -> Array:
    from nibabel import quaternions

    nib: Any = quaternions
    zooms = _zooms(path, header)
    try:
        rotation = nib.quat2mat(header.get_qform_quaternion())
    except ValueError as error:
        raise GridError(f"{path}: its qform is no rotation; repair its header, or export it again") from error
    affine = np.eye(4)
    affine[:3, :3] = rotation * zooms
    if header["pixdim"][0] < 0:
        affine[:3, 2] *= -1
    affine[:3, 3] = [header["qoffset_x"], header["qoffset_y"], header["qoffset_z"]]
    return affine


def _corner_distance(first: Array, second: Array, shape: Sequence[int]) -> float:
    """The largest distance, in mm, between the places that two affines give the corners."""
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    difference = first - second
    return float(np.linalg.norm(corners @ difference[:3, :3].T + difference[:3, 3], axis=1).max())


def _disagreement_notes(sform: Array, qform: Array, shape: Sequence[int]) -> list[str]:
    distance = _corner_distance(sform, qform, shape)
    if distance <= _MAX_DISAGREEMENT:
        return []
    return [f"sform and qform disagree by up to {distance:.1f} mm: the sform was used"]


def write_image(volume: Volume, path: Path) -> None:
    """An image as .nii.gz or .nii, whole or not at all; floats as float32, whole numbers as they are."""
    array = volume.array
    if array.dtype.kind not in "biuf":
        raise FileError(f"{path}: cannot be written: an image holds grey values, not {array.dtype}")
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.kind == "b":
        array = array.astype(np.uint8)
    _write(array, volume.affine, path, "none", [])


def write_labels(volume: Volume, path: Path, structures: Sequence[Structure] = STRUCTURES) -> None:
    """A label map as .nii.gz or .nii, uint8, whole or not at all.

    table: what the values mean; the names and colours of those present go into the header. () writes none.
    """
    array = volume.array
    with np.errstate(invalid="ignore"):
        labels = array.astype(np.uint8, copy=False)
    if labels is not array and (labels != array).any():
        raise FileError(f"{path}: cannot be written: labels are whole numbers from 0 to 255")
    present = set(np.flatnonzero(count_labels(labels)).tolist())
    rows = sorted((s for s in structures if s.label in present), key=lambda s: s.label)
    extensions = [_caret_xml(rows), _label_json(rows)] if rows else []
    _write(labels, volume.affine, path, "label", extensions)


def _write(array: Array, affine: Array, path: Path, intent: str, extensions: list[str]) -> None:
    from nibabel import nifti1

    nib: Any = nifti1
    if not path.name.lower().endswith((".nii.gz", ".nii")):
        raise FileError(f"{path}: cannot be written: the name must end in .nii.gz or .nii")
    if max(array.shape) > np.iinfo(np.int16).max:
        raise FileError(f"{path}: cannot be written: an axis is longer than NIfTI-1 allows")
    image = nib.Nifti1Image(array, affine, dtype=array.dtype)
    _set_affine(image, affine)
    image.header.set_intent(intent)
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = b"lumbarseg label map" if intent == "label" else b"lumbarseg image"
    image.header.extensions.extend(nib.Nifti1Extension(_COMMENT, text.encode()) for text in extensions)
    with atomic_write(path) as stream:
        if path.name.lower().endswith(".gz"):
            with gzip.GzipFile(
                "", "wb", _LABEL_LEVEL if intent == "label" else _IMAGE_LEVEL, stream, mtime=0
            ) as packed:
                image.to_stream(packed)
        else:
            image.to_stream(stream)


def _set_affine(image: Any, affine: Array) -> None:
    """sform and qform with code 1, equal; a sheared grid, which no qform can hold, has the sform alone."""
    zooms = np.linalg.norm(affine[:3, :3], axis=0)
    left, _, right = np.linalg.svd(affine[:3, :3] / zooms)
    upright = affine.copy()
    upright[:3, :3] = left @ right * zooms
    sheared = _corner_distance(affine, upright, image.shape) > _MAX_SHEAR
    image.set_sform(affine, 1)
    image.set_qform(upright, 0 if sheared else 1)


def _caret_xml(rows: Sequence[Structure]) -> str:
    """The label table as Caret writes it."""
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
    """The label table as JSON."""
    table = [
        {"value": row.label, "name": row.name, "kind": str(row.kind), "colour": row.colour, "SCT": row.code}
        for row in rows
    ]
    return json.dumps({"labels": table})
