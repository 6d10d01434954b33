"""Find DICOM files and studies in folders and ZIP archives, and report files that cannot be read."""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError

from .. import archives
from ..file_access import is_pointer, open_for_reading, to_file_error

DICOMDIR_NAME = "DICOMDIR"
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"  # in the header of a DICOMDIR, whatever its name
_VALUE_REPRESENTATION = re.compile(rb"A[EST]|CS|D[AST]|F[DL]|IS|L[OT]|O[BDFLVW]|PN|S[HLQSTV]|TM|U[CILNRSTV]")
_LONG_LENGTH = re.compile(rb"O[BDFLVW]|S[QV]|U[CNRTV]")  # value representations with a length of four bytes
_MAX_FIRST_GROUP, _MAX_HEADER_VALUE = 0x28, 2**16
_OUTPUT_SUFFIXES = (".seg.dcm", ".labelmap.dcm", ".sr.dcm")  # outputs of this package are not exams


def is_dicom(head: bytes) -> bool:
    """Return whether the first bytes of a file, at least 132 of them, are those of DICOM, also without a preamble."""
    return head[128:132] == b"DICM" or _is_data_set(head, "<") or _is_data_set(head, ">")


def _is_data_set(head: bytes, byte_order: str) -> bool:
    """Return whether bytes begin with elements of a data set: plausible lengths and groups, ascending tags."""
    position, last, count = 0, (0, 0), 0
    while position + 12 <= len(head) and count < 3:
        tag = struct.unpack_from(f"{byte_order}HH", head, position)
        representation = head[position + 4 : position + 6]
        if tag <= last or tag[0] % 2 or (count == 0 and not 2 <= tag[0] <= _MAX_FIRST_GROUP):
            return False
        if _LONG_LENGTH.fullmatch(representation):
            size = 12 + struct.unpack_from(f"{byte_order}L", head, position + 8)[0]
        elif _VALUE_REPRESENTATION.fullmatch(representation):
            size = 8 + struct.unpack_from(f"{byte_order}H", head, position + 6)[0]
        elif byte_order == "<":  # implicit value representation
            size = 8 + struct.unpack_from("<L", head, position + 4)[0]
            if _MAX_HEADER_VALUE < size < 2**32:
                return False
        else:
            return False
        position, last, count = position + size, tag, count + 1
    return count > 1 or (last[0] == 8 and position > len(head))


def contains_dicom(path: Path, recursive: bool = False) -> bool:
    """Return whether a folder or ZIP archive holds a DICOM file directly or, if `recursive`, anywhere below."""
    return any(not problem for _, problem in scan(path, recursive))


def find_studies(path: Path) -> list[Path]:
    """Return one folder for each DICOM study below `path`: `path` itself if there is only one study.

    With several studies, the topmost folder that holds one study alone; every folder of a study that shares its
    folders with another.
    """
    from .headers import read_slice_headers  # the reader of series, which exams of other formats do not need

    first_headers: dict[Path, list[Any]] = {}
    for file, problem in scan(path, recursive=True):
        if not problem and len(first_headers.setdefault(file.parent, [])) < 2:
            first_headers[file.parent] += read_slice_headers(file)[:1]
    study_of: dict[Path, str] = {}
    folders_of: dict[str, list[Path]] = {}
    for folder, headers in first_headers.items():
        if headers:  # files of one folder with a StudyInstanceUID each are separated by their patient alone
            has_one_study = headers[0].study_uid == headers[-1].study_uid
            study_of[folder] = headers[0].study_uid if has_one_study else f"patient {headers[0].text('PatientID')}"
            folders_of.setdefault(study_of[folder], []).append(folder)
    if len(folders_of) <= 1:
        return [path] if folders_of else []
    studies_below: dict[Path, set[str]] = {}
    for folder, study in study_of.items():
        for parent in (folder, *folder.parents):
            studies_below.setdefault(parent, set()).add(study)
    shared = {folder for folder, studies in studies_below.items() if len(studies) > 1}
    return sorted(exam for folders in folders_of.values() for exam in _study_folders(path, folders, shared))


def _study_folders(path: Path, folders: list[Path], shared: set[Path]) -> list[Path]:
    """Return the topmost folder below `path` that holds these folders and no other study; else all of them."""
    common = Path(os.path.commonpath(folders))
    if common in shared or common == path:
        return folders
    while common.parent != path and common.parent not in shared:
        common = common.parent
    return [common]


def describe_skipped(path: Path) -> str:
    """Return what below a folder could not be read, for example " (3 dangling links skipped)"; "" if nothing."""
    return describe_problems(problem for _, problem in scan(path, recursive=True))


def describe_problems(problems: Iterable[str]) -> str:
    """Return counts of problems, for example " (3 dangling links skipped)"; "" for none."""
    counts = Counter(filter(None, problems))
    return f" ({', '.join(f'{count} {problem}' for problem, count in counts.items())} skipped)" if counts else ""


def scan(path: Path, recursive: bool) -> Iterator[tuple[Path, str]]:
    """Yield the DICOM files of a folder or archive, sorted by name, or `path` itself if it is one.

    The second value is "" for a DICOM file; files that cannot be read have the reason, as a plural noun.
    """
    for file in iter_files(path, recursive):
        if file.name.upper() == DICOMDIR_NAME or file.name.endswith(_OUTPUT_SUFFIXES):
            continue
        try:
            with open_for_reading(file) as stream:
                head = stream.read(512)
        except FileError:
            if file == path or not os.path.lexists(file):  # a damaged archive is an error of its own
                raise
            yield file, "unreadable files" if file.exists() else "dangling links"
            continue
        if is_pointer(head):
            yield file, "pointers of Git LFS or git-annex"
        elif is_dicom(head) and _DICOMDIR_CLASS not in head:
            yield file, ""


def iter_files(path: Path, recursive: bool = True) -> Iterator[Path]:
    """Yield the files of a folder or archive that are not hidden, or `path` itself; links are followed."""
    if archives.member_size(path) is not None or (path.is_file() and not archives.is_archive_folder(path)):
        yield path
    elif not path.is_dir():
        yield from archives.iter_members(path, recursive)
    visited: set[str] = set()
    errors: list[OSError] = []
    for folder, folders, names in os.walk(path, onerror=errors.append, followlinks=True) if path.is_dir() else ():
        real = os.path.realpath(folder)
        folders[:] = sorted(name for name in folders if recursive and not name.startswith(".") and real not in visited)
        if real not in visited:  # links may lead in a circle
            visited.add(real)
            files = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
            yield from (file for file in files if file.is_file() or file.is_symlink())
    for error in errors:
        if Path(str(error.filename)) == path:
            raise to_file_error(path, error) from error
        yield Path(str(error.filename))
