"""Find the exams that a list of files and folders refers to, and name them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lumbarseg.errors import FileError

from . import archives
from .dicom import files as dicom
from .file_access import file_size, to_file_error

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
_ZIP, _DICOM = ".zip", ".dcm"
_OUTPUT_SUFFIXES = ("_labels.nii.gz", ".seg.nrrd")
_LABEL_MAP_STEM = re.compile(r"(^|[ _.-])(labels?|masks?|msk|seg|dseg|segmentations?)$")
_LABEL_MAP_FOLDER = re.compile(r"labels?|labelst[rs]|masks?|segmentations?|derivatives.*")


@dataclass(frozen=True)
class FolderListing:
    """What lies below a folder: exams, files that are label maps by their names, and files that are neither."""

    exams: list[Path]
    label_maps: list[Path]
    other_files: list[Path]


def exam_name(path: Path | str) -> str:
    """Return the name of an exam: a folder's name, or a file's name without suffix (image, ZIP, DICOM)."""
    path = Path(path)
    name = path.name or path.resolve().name or "exam"
    if path.is_dir():
        return path.resolve().name or "exam"
    suffix = next((s for s in (*IMAGE_SUFFIXES, _ZIP, _DICOM) if name.lower().endswith(s) and len(name) > len(s)), "")
    return name[: len(name) - len(suffix)]


def find_exams(paths: Iterable[Path | str]) -> list[Path]:
    """Return the exams that files and folders refer to, each once, in the order given.

    A file is an exam. A folder yields every NIfTI, MetaImage and NRRD file and every DICOM study anywhere below it,
    except hidden files and files whose names say that they are label maps; with one study the folder itself is the
    exam. A ZIP archive yields what a folder of its content would, and is itself the exam if it holds one; archives in a
    folder count if they hold files. Two exams may have the same `exam_name`.

    Raises
    ------
    FileError
        For a missing path, or a folder without an exam.
    """
    exams: dict[Path, Path] = {}
    for path in map(Path, paths):
        for exam in list_folder(path).exams if path.is_dir() else _exams_of_file(path):
            exams.setdefault(exam.resolve(), exam)
    return list(exams.values())


def resolve_exam_path(path: Path) -> Path:
    """Return the path to read for an exam: the only image in a ZIP, the folder of a DICOMDIR, else the path itself."""
    if path.name.upper() == dicom.DICOMDIR_NAME:
        return path.parent
    if not archives.is_archive_folder(path) or dicom.contains_dicom(path, recursive=True):
        return path
    exams = _exams_in_archive(path)
    if len(exams) > 1:
        raise FileError(f"{path}: a ZIP of {len(exams)} exams; name one, for example {exams[0]}")
    return exams[0]


def _exams_of_file(path: Path) -> list[Path]:
    if archives.is_archive_folder(path):
        exams = _exams_in_archive(path)
        return exams if len(exams) > 1 else [path]
    try:
        file_size(path)
    except OSError as error:
        raise to_file_error(path, error) from error
    return [path.parent if path.name.upper() == dicom.DICOMDIR_NAME else path]


def _images(files: Iterable[Path]) -> tuple[list[Path], bool]:
    """Return the images among files without outputs of this package, and whether there are any outputs."""
    images = [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)]
    exams = [image for image in images if not image.name.lower().endswith(_OUTPUT_SUFFIXES)]
    return exams, len(images) > len(exams)


def _exams_in_archive(path: Path) -> list[Path]:
    """Return the exams of a ZIP archive, or of a folder in it: every image and every DICOM study below."""
    files = list(archives.iter_members(path))
    images, has_outputs = _images(files)
    exams = [*dicom.find_studies(path), *images]
    if not exams:
        hint = "; unpack the ZIP in it first" if any(file.name.lower().endswith(_ZIP) for file in files) else ""
        reason = "only label maps in it" if has_outputs else f"no NIfTI, MetaImage, NRRD or DICOM file in it{hint}"
        raise FileError(f"{path}: {reason}; give the ZIP that holds the exams")
    return exams


def list_folder(folder: Path, exclude: Path | None = None) -> FolderListing:
    """Find the exams anywhere below a folder.

    Parameters
    ----------
    exclude : a folder below it that is not searched, for example that of the results

    Raises
    ------
    FileError
        If the folder cannot be read, or holds no exam.
    """
    files = [file for file in dicom.iter_files(folder) if exclude is None or exclude not in file.absolute().parents]
    images = [file for file in files if file.name.lower().endswith(IMAGE_SUFFIXES)]
    zips = [file for file in files if file.name.lower().endswith(_ZIP)]
    images += [exam for archive in zips for exam in _exams_of_archive_in_folder(archive)]
    label_maps = [image for image in images if is_label_map_name(image.relative_to(folder))]
    studies = [
        study for study in dicom.find_studies(folder) if exclude is None or exclude not in (study, *study.parents)
    ]
    exams = [*studies, *sorted({*images} - {*label_maps}, key=images.index)]
    if not exams:
        reason = "only label maps in it" if label_maps else "no NIfTI, MetaImage, NRRD, DICOM or ZIP file in it"
        raise FileError(f"{folder}: {reason}{dicom.describe_skipped(folder)}; give the folder that holds the exams")
    others = {*files} - {*images} - {*zips}
    in_studies = {file for file in others if any(study in file.parents for study in studies)}
    return FolderListing(exams, label_maps, sorted(others - in_studies))


def is_label_map_name(path: Path) -> bool:
    """Return whether the name of a file, or of a folder that it is in, says that it is a label map."""
    folders = (part.lower() for part in path.parent.parts)
    return bool(_LABEL_MAP_STEM.search(exam_name(path).lower())) or any(map(_LABEL_MAP_FOLDER.fullmatch, folders))


def _exams_of_archive_in_folder(archive: Path) -> list[Path]:
    """Return the exams of an archive in a folder; the archive itself if it cannot be opened, so this is reported."""
    try:
        is_used = archives.is_archive_folder(archive) and any(archives.iter_members(archive))
        return _exams_of_file(archive) if is_used else []
    except FileError:
        return [archive]
