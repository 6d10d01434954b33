"""Which exams a list of files and folders means, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lumbarseg.errors import FileError

from . import dicom
from .disk import refusal

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
_OWN = ("_labels.nii.gz", ".seg.nrrd")


def stem(path: Path | str) -> str:
    """What an exam is called: a folder's name, or a file's without .nii, .nii.gz, .mha, .mhd, .nrrd or .nhdr."""
    path = Path(path)
    name = path.name or path.resolve().name or "exam"
    if path.is_dir():
        return path.resolve().name or "exam"
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s) and len(name) > len(s)), "")
    return name[: len(name) - len(suffix)]


def find_exams(paths: Iterable[Path | str]) -> list[Path]:
    """The exams that files and folders mean, each once, in the order given.

    A file stands for itself. A folder gives every NIfTI, MetaImage and NRRD file in it but hidden ones, our own
    `*_labels.nii.gz` and `*.seg.nrrd`, and is itself an exam when it holds DICOM files; DICOM in folders below it makes
    one exam for each study. FileError for a missing path or a folder without an exam. Two exams may have one `stem`.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        for exam in _folder(path) if path.is_dir() else [_file(path)]:
            found.setdefault(exam.resolve(), exam)
    return list(found.values())


def _file(path: Path) -> Path:
    try:
        path.stat()
    except OSError as error:
        raise refusal(path, error) from error
    return path


def _folder(folder: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise refusal(folder, error) from error
    volumes = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.is_file()]
    exams = [entry for entry in volumes if not entry.name.lower().endswith(_OWN)]
    if dicom.holds_dicom(folder):
        exams.insert(0, folder)
    elif not exams:
        exams = dicom.studies_below(folder)
    if not exams:
        reason = "only label maps in it" if volumes else "no NIfTI, MetaImage, NRRD or DICOM file in it"
        raise FileError(f"{folder}: {reason}; give the folder that holds the exams")
    return exams
