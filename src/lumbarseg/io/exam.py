"""Read an exam or a label map from a file of any supported format, a folder of DICOM files, or a ZIP archive."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError, VolumeChoiceError
from lumbarseg.volume import Volume

from . import archives, metaimage, nifti, nrrd
from .dicom.files import is_dicom
from .discovery import resolve_exam_path
from .file_access import is_pointer, open_for_reading
from .raw_image import Metadata, RawImage, SourceImages, fill_missing_thickness, to_image_volume, to_label_volume


@dataclass(frozen=True, eq=False)
class LoadedExam:
    """An exam as read.

    volume: float32. notes: lines for the user. metadata: facts about the file, for the report. path: the file, folder
    or ZIP archive it was read from. source_images: for DICOM, the images it was read from.
    """

    volume: Volume
    notes: list[str]
    metadata: Metadata
    path: Path
    source_images: SourceImages | None = None

    @property
    def modality(self) -> str | None:
        """Modality in a DICOM header, for example "MR"; None for other formats."""
        return str(self.metadata.get("modality", "")) or None


def read_exam(path: Path | str, volume_index: int | None = None, series: str | None = None) -> LoadedExam:
    """Read an exam.

    Parameters
    ----------
    path
        A file, a folder of DICOM files or a ZIP archive.
    volume_index
        Which volume of a 4-D file, counted from 0.
    series
        Which series of a DICOM study, by its number or part of its name; default: the sagittal T2 series, or the one
        that ranks next.

    Raises
    ------
    FileError, GridError
        If the exam cannot be read; the message names the file, the fault and a remedy.
    """
    path = Path(path)
    raw = _read_raw(path, volume_index, series)
    return LoadedExam(to_image_volume(path, raw), raw.notes, raw.metadata, path, raw.source_images)


def read_image(path: Path | str, volume_index: int | None = None) -> Volume:
    """Read the voxels of an exam as float32; see `read_exam`."""
    return read_exam(path, volume_index).volume


def read_labels(path: Path | str) -> Volume:
    """Read a label map as uint8; raise `FileError` if it holds grey values, and as `read_exam` does."""
    path = Path(path)
    try:
        raw = _read_raw(path)
    except VolumeChoiceError as error:
        raise FileError(
            f"{path}: 4-D, but a label map has one volume; combine one-hot channels (numpy: argmax over the channels) "
            "or layers of segments (3D Slicer: export the segments to a labelmap) and save a 3-D file"
        ) from error
    return to_label_volume(path, raw)


def _read_raw(path: Path, volume_index: int | None = None, series: str | None = None) -> RawImage:
    resolved = resolve_exam_path(path)
    is_folder = resolved.is_dir() or archives.is_archive_folder(resolved)
    file_format = None if is_folder else _detect_format(resolved)
    if file_format is None:
        from .dicom import reader  # six modules that exams of other formats do not need

        raw = reader.read(resolved, volume_index, series)
    elif series is not None:
        raise FileError(f"{path}: not DICOM, so it has no series {series!r}; leave out --series")
    else:
        raw = file_format.read(resolved, volume_index)
    return fill_missing_thickness(raw)


def _detect_format(path: Path) -> Any:
    """Return the module that reads the format of a file, by the first bytes of its content; None for DICOM."""
    with open_for_reading(path) as stream:
        head = stream.read(4096)
    if not head:
        raise FileError(f"{path}: empty, 0 bytes; copy or export it again")
    if head.startswith(nifti.GZIP_MAGIC) or nifti.is_nifti(head):
        return nifti
    if nrrd.is_nrrd(head):
        return nrrd
    if metaimage.is_metaimage(head):
        return metaimage
    if is_dicom(head):
        return None
    if is_pointer(head):
        raise FileError(f"{path}: a pointer without its content; fetch it with: git lfs pull, or: git annex get")
    raise FileError(f"{path}: neither NIfTI, MetaImage, NRRD, DICOM nor ZIP by its content; export it as .nii.gz")
