"""Read the voxels that a header describes: size checks, encodings, and data files stored beside the header."""

from __future__ import annotations

import bz2
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import numpy as np

from lumbarseg.errors import FileError, VolumeChoiceError
from lumbarseg.volume import Array

from .file_access import file_size, open_for_reading, to_file_error

_MAX_VOXELS = 2**30  # an isotropic exam of 512^3 voxels has 2**27
_SEVERAL_FILES = re.compile(r"^\s*LIST(\s+\d+D?)?\s*$|%\d*d.*\s-?\d+\s+-?\d+\s+-?\d+", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:/")
_TRAILING_BYTES = "bytes after its voxels were ignored"
_MAX_DEFLATE_RATIO = 1032  # the highest compression ratio that deflate can reach


@dataclass(frozen=True)
class VoxelLayout:
    """How a header says that its voxels are stored.

    sizes: along each axis, the fastest axis first. axes: those of `sizes` that are spatial. encoding: "raw", "gzip",
    "bz2" or "zlib". data_file: name of the file beside the header, None if the voxels follow the header. skip_lines,
    skip_bytes: what precedes the voxels; -1 bytes: the voxels are at the end of the file.
    """

    sizes: Sequence[int]
    axes: list[int]
    dtype: np.dtype[Any]
    encoding: str = "raw"
    data_file: str | None = None
    skip_lines: int = 0
    skip_bytes: int = 0


def read_volume(
    path: Path, stream: BinaryIO, layout: VoxelLayout, requested: int | None, available: float | None = None
) -> tuple[Array, list[str]]:
    """Read one volume from a stream positioned behind the header of `path`.

    Parameters
    ----------
    requested
        Which volume of a file with a non-spatial axis, counted from 0; None if there is only one.
    available
        The most bytes that the stream can still hold; None to find out from the size of the file.

    Returns
    -------
    (I, J, K) array of `layout.dtype`, K is 1 if only two axes are spatial, and notes on what is unusual.
    """
    axes, itemsize = list(layout.axes), layout.dtype.itemsize
    with _open_data(path, stream, layout.data_file) as (data, remaining):
        limit = max_decompressed_size(remaining, layout.encoding) if available is None else available
        check_claimed_size(path, layout.sizes, itemsize, limit, axes)
        volume_size, total = math.prod(layout.sizes[axis] for axis in axes), math.prod(layout.sizes)
        number = volume_number(path, total // volume_size, requested)
        for _ in range(layout.skip_lines):
            data.readline()
        is_contiguous = axes == list(range(len(axes))) and layout.encoding == "raw"
        start = number * volume_size * itemsize if is_contiguous else 0
        try:
            data.seek(*((start - total * itemsize, 2) if layout.skip_bytes == -1 else (start + layout.skip_bytes, 1)))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise FileError(f"{path}: truncated or damaged before its voxels; copy or export it again") from error
        if is_contiguous:  # read one volume alone
            volume, has_rest = decode_voxels(path, data, layout.dtype, volume_size)
            is_last = (number + 1) * volume_size == total
            notes = [_TRAILING_BYTES] if has_rest and is_last else []
            return volume.reshape((*layout.sizes[: len(axes)], 1)[:3], order="F"), notes
        voxels, _ = decode_voxels(path, data, layout.dtype, total, layout.encoding)
    voxels = voxels.reshape(layout.sizes, order="F")
    others = [axis for axis in range(voxels.ndim) if axis not in axes]
    volumes = voxels.transpose([*axes, *others])
    volume = volumes.reshape(*volumes.shape[: len(axes)], -1)[..., number]
    return (volume if volume.ndim == 3 else volume[..., None]), []


@contextmanager
def _open_data(path: Path, stream: BinaryIO, data_file: str | None) -> Iterator[tuple[BinaryIO, int]]:
    """Yield the stream that holds the voxels and the number of bytes left in it."""
    if data_file is None:
        yield stream, file_size(path) - stream.tell()
        return
    check_single_file(path, data_file)
    name = data_file.replace("\\", "/")
    is_absolute = PurePosixPath(name).is_absolute() or _DRIVE.match(name) or Path(name).drive
    if not name.isprintable():
        raise FileError(f"{path}: its header names a data file with control characters; repair it, or export it again")
    if not name or is_absolute or ".." in PurePosixPath(name).parts:
        raise FileError(f"{path}: its voxels lie outside its folder ({name}); put both files into one folder")
    try:
        size = file_size(path.parent / name)
    except OSError as error:
        raise FileError(f"{path}: its data file: {to_file_error(path.parent / name, error)}") from error
    with open_for_reading(path.parent / name) as data:
        yield data, size


def check_single_file(path: Path, data_file: str) -> None:
    """Raise `FileError` if a header names several data files, as a list or as a pattern with a range of numbers."""
    if _SEVERAL_FILES.search(data_file):
        raise FileError(f"{path}: its voxels are spread over several files; save it as one .mha or .nrrd file")


def decode_text(content: bytes) -> str:
    """Return the text of a header: UTF-8, else Latin-1."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def check_claimed_size(
    path: Path, sizes: Sequence[int], itemsize: int, available: float, axes: Sequence[int] = (0, 1, 2)
) -> None:
    """Raise `FileError` if a header claims no voxels, implausibly many, or more bytes than are `available`."""
    size = math.prod(sizes) * itemsize
    if min(sizes, default=0) < 1:
        problem = "its header names no voxels ({}); export it again"
    elif math.prod(sizes[axis] for axis in axes if axis < len(sizes)) > _MAX_VOXELS:
        problem = "its header claims {}: too large for an exam, or damaged; export it again"
    elif size > available:
        problem = "truncated: its header claims {}, the file holds less; copy or export it again"
    else:
        return
    raise FileError(f"{path}: {problem.format(f'{format_sizes(sizes)} voxels, {size / 1e6:,.1f} MB')}")


def max_decompressed_size(size: int, encoding: str) -> float:
    """Return the largest number of bytes that `size` encoded bytes can expand to."""
    return {"raw": size, "bz2": math.inf}.get(encoding, size * _MAX_DEFLATE_RATIO + 1024)


def decode_voxels(
    path: Path, stream: BinaryIO, dtype: np.dtype[Any], count: int, encoding: str = "raw"
) -> tuple[Array, bool]:
    """Read the next `count` numbers of a stream.

    Returns
    -------
    (count,) array, and whether a gzip stream has more bytes than these.

    Raises
    ------
    FileError
        If the data are truncated or damaged.
    """
    needed = count * dtype.itemsize
    buffer = bytearray(needed)
    view, filled = memoryview(buffer), 0
    try:
        plain = stream if encoding == "raw" else _decompressed(stream, encoding, needed)
        while filled < needed and (size := plain.readinto(view[filled:])):  # type: ignore[attr-defined]
            filled += size
        has_rest = isinstance(plain, gzip.GzipFile) and _has_more_bytes(plain)
    except EOFError:
        filled = min(filled, needed - 1)
    except (zlib.error, gzip.BadGzipFile, OSError, ValueError) as error:
        raise FileError(f"{path}: damaged: its voxels cannot be decompressed; copy or export it again") from error
    if filled < needed:
        raise FileError(f"{path}: truncated: {needed:,} bytes of voxels expected, fewer found; copy or export it again")
    return np.frombuffer(buffer, dtype), has_rest


def _has_more_bytes(stream: gzip.GzipFile) -> bool:
    """Return whether more bytes follow, compressed or not; at its end, gzip verifies its checksum."""
    try:
        return bool(stream.read(1))
    except gzip.BadGzipFile as error:
        if str(error).startswith("Not a gzipped file"):  # the checksum is right, but other bytes follow
            return True
        raise


def _decompressed(stream: BinaryIO, encoding: str, max_bytes: int) -> BinaryIO:
    if encoding == "gzip":
        return cast("BinaryIO", gzip.GzipFile(fileobj=stream))
    if encoding == "bz2":
        return cast("BinaryIO", bz2.BZ2File(stream))
    return io.BytesIO(zlib.decompressobj().decompress(stream.read(), max_bytes))


def volume_number(path: Path, count: int, requested: int | None) -> int:
    """Return which of `count` volumes to read; raise `FileError` if `requested` is missing or out of range."""
    if requested is None and count > 1:
        raise VolumeChoiceError(f"{path}: 4-D, {count} volumes; choose one with --volume 0 to {count - 1}")
    number = requested or 0
    if not 0 <= number < count:
        raise FileError(f"{path}: no volume {number}; it holds {count}, counted from 0")
    return number


def format_sizes(sizes: Sequence[Any]) -> str:
    """Return sizes as text, for example "320 x 320 x 15"."""
    return " x ".join(str(size) for size in sizes)
