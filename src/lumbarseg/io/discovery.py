"""Which exams a list of files and folders means, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lumbarseg.errors import FileError

from . import archives
from .dicom import reader
from .file_access import to_file_error

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
_ZIP = ".zip"
_OUTPUT_SUFFIXES = ("_labels.nii.gz", ".seg.nrrd")


def exam_name(path: Path | str) -> str:
    """What an exam is called: a folder's name, or a file's without .nii, .nii.gz, .mha, .mhd, .nrrd, .nhdr or .zip."""
    path = Path(path)
    name = path.name or path.resolve().name or "exam"
    if path.is_dir():
        return path.resolve().name or "exam"
    suffix = next((s for s in (*IMAGE_SUFFIXES, _ZIP) if name.lower().endswith(s) and len(name) > len(s)), "")
    return name[: len(name) - len(suffix)]


def find_exams(paths: Iterable[Path | str]) -> list[Path]:
    """The exams that files and folders mean, each once, in the order given.

    A file stands for itself. A folder gives every NIfTI, MetaImage and NRRD file in it but hidden ones, our own
    `*_labels.nii.gz` and `*.seg.nrrd`, and is itself an exam when it holds DICOM files; DICOM in folders below it makes
    one exam for each study. A ZIP means what a folder of its content would, and is itself the exam when it holds one;
    those in a folder count when they hold any. FileError for a missing path or a folder without an exam. Two exams may
    have one `stem`.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for exam in _exams_in_folder(path) if path.is_dir() else _exams_of_file(path):
            found.setdefault(exam.resolve(), exam)
    return list(found.values())


def resolve_exam_path(path: Path) -> Path:
    """What to read of an exam: the one volume in a ZIP, the folder of a DICOMDIR, else the path itself."""
    if path.name.upper() == reader.DICOMDIR_NAME:
        return path.parent
    if not archives.is_archive_folder(path) or reader.contains_dicom(path, recursive=True):
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
        if not archives.is_archive_member(path):
            path.stat()
    except OSError as error:
        raise to_file_error(path, error) from error
    return [path.parent if path.name.upper() == reader.DICOMDIR_NAME else path]


def _exams_in_archive(place: Path) -> list[Path]:
    """The exams of a ZIP or a folder in it: every volume and every DICOM study below."""
    files = list(archives.iter_members(place))
    volumes = [path for path in files if path.name.lower().endswith(IMAGE_SUFFIXES)]
    exams = [
        *reader.find_studies(place),
        *(path for path in volumes if not path.name.lower().endswith(_OUTPUT_SUFFIXES)),
    ]
    if not exams:
        inner = "; unpack the ZIP in it first" if any(path.name.lower().endswith(_ZIP) for path in files) else ""
        reason = "only label maps in it" if volumes else f"no NIfTI, MetaImage, NRRD or DICOM file in it{inner}"
        raise FileError(f"{place}: {reason}; give the ZIP that holds the exams")
    return exams


def _exams_in_folder(folder: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise to_file_error(folder, error) from error
    volumes = [entry for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES) and entry.is_file()]
    exams = [entry for entry in volumes if not entry.name.lower().endswith(_OUTPUT_SUFFIXES)]
    if reader.contains_dicom(folder):
        exams.insert(0, folder)
    exams += [
        exam for entry in entries if entry.name.lower().endswith(_ZIP) for exam in _exams_of_archive_in_folder(entry)
    ]
    if not exams:
        exams = reader.find_studies(folder)
    if not exams:
        reason = "only label maps in it" if volumes else "no NIfTI, MetaImage, NRRD, DICOM or ZIP file in it"
        raise FileError(f"{folder}: {reason}; give the folder that holds the exams")
    return exams


def _exams_of_archive_in_folder(archive: Path) -> list[Path]:
    """The exams of a ZIP that lies in a folder: itself where it cannot be opened, to be told."""
    try:
        return (
            _exams_of_file(archive)
            if archives.is_archive_folder(archive) and next(archives.iter_members(archive), None)
            else []
        )
    except FileError:
        return [archive]
