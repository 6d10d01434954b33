"""Reads and writes volumes. What a file is, its bytes say, not its suffix; every place comes back in RAS+ mm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError
from lumbarseg.volume import Volume

from . import archives, metaimage, nifti, nrrd
from .dicom import reader
from .dicom.source_images import SourceImages
from .discovery import exam_name, find_exams, resolve_exam_path
from .file_access import atomic_write, file_fingerprint, open_for_reading, write_json
from .nifti import write_image, write_labels
from .raw_image import RawImage, fill_missing_thickness, to_image_volume, to_label_volume

__all__ = [
    "LoadedExam",
    "SourceImages",
    "atomic_write",
    "exam_name",
    "file_fingerprint",
    "find_exams",
    "read_exam",
    "read_image",
    "read_labels",
    "write_image",
    "write_json",
    "write_labels",
]

_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class LoadedExam:
    """An exam as read. volume: float32; notes: lines a person should see; about: facts of the file for a report.

    path: the file, folder or ZIP it was read from. source: of DICOM, the images that it was read from.
    """

    volume: Volume
    notes: list[str]
    metadata: dict[str, Any]
    path: Path
    source_images: SourceImages | None = None


def read_exam(path: Path | str, volume_index: int | None = None, series: str | None = None) -> LoadedExam:
    """An exam from a file, a folder of DICOM files or a ZIP; volume: which one of a 4-D file, counted from 0.

    series: which one of a DICOM study, by its number or part of its name, where it is not to be the sagittal T2 or
    what comes next to it. FileError and GridError name the file, what is wrong and what to do.
    """
    path = Path(path)
    stored = _read_raw(path, volume_index, series)
    return LoadedExam(to_image_volume(path, stored), stored.notes, stored.metadata, path, stored.source_images)


def read_image(path: Path | str, volume_index: int | None = None) -> Volume:
    """The voxels of an exam, float32; as `read_exam`."""
    return read_exam(path, volume_index).volume


def read_labels(path: Path | str) -> Volume:
    """A label map, uint8; FileError when it holds grey values, and as `read_exam`."""
    path = Path(path)
    return to_label_volume(path, _read_raw(path))


def _read_raw(path: Path, volume_index: int | None = None, series: str | None = None) -> RawImage:
    place = resolve_exam_path(path)
    read_file = _select_reader(place)
    if read_file is reader.read:
        return fill_missing_thickness(reader.read(place, volume_index, series))
    if series is not None:
        raise FileError(f"{path}: no DICOM, so there is no series {series!r} in it; leave --series out")
    return fill_missing_thickness(read_file(place, volume_index))


def _select_reader(path: Path) -> Callable[[Path, int | None], RawImage]:
    """The format that the bytes of a file show; FileError when it is none of ours."""
    if path.is_dir() or archives.is_archive_folder(path):
        return reader.read
    with open_for_reading(path) as stream:
        head = stream.read(4096)
    if not head:
        raise FileError(f"{path}: empty, 0 bytes; copy or export it again")
    if head.startswith(_GZIP_MAGIC) or nifti.is_nifti(head):
        return nifti.read
    if nrrd.is_nrrd(head):
        return nrrd.read
    if metaimage.is_metaimage(head):
        return metaimage.read
    if reader.is_dicom(head):
        return reader.read
    raise FileError(f"{path}: neither NIfTI, MetaImage, NRRD, DICOM nor ZIP by its content; export it as .nii.gz")
