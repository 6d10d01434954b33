"""Which exams a list of files and folders means, and what they are called."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lumbarseg.errors import FileError

from . import dicom, zips
from .disk import refusal

SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
_ZIP = ".zip"
_OWN = ("_labels.nii.gz", ".seg.nrrd")


def stem(path: Path | str) -> str:
    """What an exam is called: a folder's name, or a file's without .nii, .nii.gz, .mha, .mhd, .nrrd, .nhdr or .zip."""
    path = Path(path)
    name = path.name or path.resolve().name or "exam"
    if path.is_dir():
        return path.resolve().name or "exam"
    suffix = next((s for s in (*SUFFIXES, _ZIP) if name.lower().endswith(s) and len(name) > len(s)), "")
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
        for exam in _folder(path) if path.is_dir() else _file(path):
            found.setdefault(exam.resolve(), exam)
    return list(found.values())


def within(path: Path) -> Path:
    """What to read of an exam: the one volume in a ZIP, the folder of a DICOMDIR, else the path itself."""
    if path.name.upper() == dicom.INDEX:
        return path.parent
    if not zips.is_folder(path) or dicom.holds_dicom(path, deep=True):
        return path
    exams = _zipped(path)
    if len(exams) > 1:
        raise FileError(f"{path}: a ZIP of {len(exams)} exams; name one, for example {exams[0]}")
    return exams[0]


def _file(path: Path) -> list[Path]:
    if zips.is_folder(path):
        exams = _zipped(path)
        return exams if len(exams) > 1 else [path]
    try:
        if not zips.holds(path):
            path.stat()
    except OSError as error:
        raise refusal(path, error) from error
    return [path.parent if path.name.upper() == dicom.INDEX else path]


def _zipped(place: Path) -> list[Path]:
    """The exams of a ZIP or a folder in it: every volume and every DICOM study below."""
    files = list(zips.walk(place))
    volumes = [path for path in files if path.name.lower().endswith(SUFFIXES)]
    exams = [*dicom.studies_below(place), *(path for path in volumes if not path.name.lower().endswith(_OWN))]
    if not exams:
        inner = "; unpack the ZIP in it first" if any(path.name.lower().endswith(_ZIP) for path in files) else ""
        reason = "only label maps in it" if volumes else f"no NIfTI, MetaImage, NRRD or DICOM file in it{inner}"
        raise FileError(f"{place}: {reason}; give the ZIP that holds the exams")
    return exams


def _folder(folder: Path) -> list[Path]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise refusal(folder, error) from error
    volumes = [entry for entry in entries if entry.name.lower().endswith(SUFFIXES) and entry.is_file()]
    exams = [entry for entry in volumes if not entry.name.lower().endswith(_OWN)]
    if dicom.holds_dicom(folder):
        exams.insert(0, folder)
    exams += [exam for entry in entries if entry.name.lower().endswith(_ZIP) for exam in _beside(entry)]
    if not exams:
        exams = dicom.studies_below(folder)
    if not exams:
        reason = "only label maps in it" if volumes else "no NIfTI, MetaImage, NRRD, DICOM or ZIP file in it"
        raise FileError(f"{folder}: {reason}; give the folder that holds the exams")
    return exams


def _beside(archive: Path) -> list[Path]:
    """The exams of a ZIP that lies in a folder: itself where it cannot be opened, to be told."""
    try:
        return _file(archive) if zips.is_folder(archive) and next(zips.walk(archive), None) else []
    except FileError:
        return [archive]
