"""Reads and writes volumes. What a file is, its bytes say, not its suffix; every place comes back in RAS+ mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError
from lumbarseg.volume import Volume

from . import dicom, metaimage, nifti, nrrd, zips
from .discover import find_exams, stem, within
from .disk import reading, replacing
from .nifti import write_image, write_labels
from .source import Source
from .voxels import Stored, to_image, to_labels, with_thickness

__all__ = [
    "Exam",
    "Source",
    "find_exams",
    "read_exam",
    "read_image",
    "read_labels",
    "replacing",
    "stem",
    "write_image",
    "write_labels",
]

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class Exam:
    """An exam as read. volume: float32; notes: lines a person should see; about: facts of the file for a report.

    path: the file, folder or ZIP it was read from. source: of DICOM, the images that it was read from.
    """

    volume: Volume
    notes: list[str]
    about: dict[str, Any]
    path: Path
    source: Source | None = None


def read_exam(path: Path | str, volume: int | None = None, series: str | None = None) -> Exam:
    """An exam from a file, a folder of DICOM files or a ZIP; volume: which one of a 4-D file, counted from 0.

    series: which one of a DICOM study, by its number or part of its name, where it is not to be the sagittal T2 or
    what comes next to it. FileError and GridError name the file, what is wrong and what to do.
    """
    path = Path(path)
    stored = _stored(path, volume, series)
    return Exam(to_image(path, stored), stored.notes, stored.about, path, stored.source)


def read_image(path: Path | str, volume: int | None = None) -> Volume:
    """The voxels of an exam, float32; as `read_exam`."""
    return read_exam(path, volume).volume


def read_labels(path: Path | str) -> Volume:
    """A label map, uint8; FileError when it holds grey values, and as `read_exam`."""
    path = Path(path)
    return to_labels(path, _stored(path))


def _stored(path: Path, volume: int | None = None, series: str | None = None) -> Stored:
    place = within(path)
    reader = _reader(place)
    if reader is dicom.read:
        return with_thickness(dicom.read(place, volume, series))
    if series is not None:
        raise FileError(f"{path}: no DICOM, so there is no series {series!r} in it; leave --series out")
    return with_thickness(reader(place, volume))


def _reader(path: Path) -> Callable[[Path, int | None], Stored]:
    """The format that the bytes of a file show; FileError when it is none of ours."""
    if path.is_dir() or zips.is_folder(path):
        return dicom.read
    with reading(path) as stream:
        head = stream.read(4096)
    if not head:
        raise FileError(f"{path}: empty, 0 bytes; copy or export it again")
    if head.startswith(_GZIP) or nifti.recognised(head):
        return nifti.read
    if nrrd.recognised(head):
        return nrrd.read
    if metaimage.recognised(head):
        return metaimage.read
    if dicom.recognised(head):
        return dicom.read
    raise FileError(f"{path}: neither NIfTI, MetaImage, NRRD, DICOM nor ZIP by its content; export it as .nii.gz")
