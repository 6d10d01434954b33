"""Find DICOM studies in folders and ZIP archives, and read one series of a study as one image.

Positions are LPS in mm (DICOM PS3.3 C.7.6.2). Only `RawImage.source_images` passes on what identifies the patient.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .. import archives
from ..file_access import is_pointer, open_for_reading, to_file_error
from ..raw_image import LPS_TO_RAS, RawImage, SourceImages
from ..voxel_data import check_claimed_size
from .headers import SliceHeader, read_slice_headers
from .pixels import decode_frames, is_padding, read_dataset
from .series import ImageStack
from .series_selection import SeriesSelection, select_series
from .stacks import build_stack, group_by_position

DICOMDIR_NAME = "DICOMDIR"
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"  # in the header of a DICOMDIR, whatever its name
_VALUE_REPRESENTATION = re.compile(rb"A[EST]|CS|D[AST]|F[DL]|IS|L[OT]|O[BDFLVW]|PN|S[HLQSTV]|TM|U[CILNRSTV]")
_LONG_LENGTH = re.compile(rb"O[BDFLVW]|S[QV]|U[CNRTV]")  # value representations with a length of four bytes
_PIXEL_GROUP = 0x7FE0  # the group of pixel data; no later group describes the image
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
    return any(not problem for _, problem in _scan(path, recursive))


def find_studies(path: Path) -> list[Path]:
    """Return one folder for each DICOM study below `path`: `path` itself if there is only one study.

    With several studies, the topmost folder that holds one study alone; every folder of a study that shares its
    folders with another.
    """
    first_headers: dict[Path, list[SliceHeader]] = {}
    for file, problem in _scan(path, recursive=True):
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
    return _describe_problems(problem for _, problem in _scan(path, recursive=True))


def _describe_problems(problems: Iterable[str]) -> str:
    counts = Counter(filter(None, problems))
    return f" ({', '.join(f'{count} {problem}' for problem, count in counts.items())} skipped)" if counts else ""


def _scan(path: Path, recursive: bool) -> Iterator[tuple[Path, str]]:
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
    if archives.is_archive_member(path) or (path.is_file() and not archives.is_archive_folder(path)):
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


def read(path: Path, volume_index: int | None = None, series: str | None = None) -> RawImage:
    """Read one series of a study from a folder, a ZIP archive or one multi-frame file.

    Parameters
    ----------
    volume_index
        Must be None or 0, because a series is one volume.
    series
        Number or part of the name of the series; default: the sagittal T2 series, else T1, else another.

    Raises
    ------
    FileError, GridError
        If no series can be read.
    """
    if volume_index:
        raise FileError(f"{path}: no volume {volume_index}; a DICOM series holds one, counted from 0")
    files = list(_scan(path, recursive=True))
    per_file = [read_slice_headers(file) for file, problem in files if not problem]
    headers = [header for slices in per_file for header in slices]
    skipped = _describe_problems(problem for _, problem in files)
    if not headers:
        raise FileError(f"{path}: no readable DICOM file in it{skipped}; give the folder that holds the exam")
    first = headers[0]
    if len(headers) == 1 and first.path == path and first.frame_index is None and min(first.matrix_size) > 0:
        raise FileError(f"{path}: one DICOM file of one slice; give the folder that holds its series")
    return _read_first_complete(path, select_series(path, headers, series), per_file.count([]), skipped)


def list_series(path: Path) -> list[ImageStack]:
    """Return the series of a study that can be segmented, the best first; none for what is not DICOM.

    All lie in the plane of the best one, usually sagittal.
    """
    headers = [
        header for file, problem in _scan(path, recursive=True) if not problem for header in read_slice_headers(file)
    ]
    return select_series(path, headers).candidates if headers else []


def _read_first_complete(path: Path, selection: SeriesSelection, damaged: int, skipped: str) -> RawImage:
    """Read the first candidate that is not broken, with notes on those before it.

    damaged: number of damaged files. skipped: description of files that could not be read.
    """
    notes, first_error = [], None
    for stack in selection.candidates:
        try:
            raw = _read_stack(path, stack)
        except FileError as error:
            first_error = first_error or error
            notes.append(f"left out: {str(error).removeprefix(f'{path}: ')}")
            continue
        taken = f"DICOM {stack.name}: {replace(stack, slices=stack.slices[: raw.array.shape[2]]).describe()}"
        metadata = {**raw.metadata, "taken": taken, "left_out": selection.describe_left_out(stack)}
        notes = [taken, *notes, *raw.notes, *_quality_notes(stack, selection, damaged)]
        notes += [f"files without content{skipped}: is the exam complete?"] if skipped else []
        return RawImage(raw.array, raw.affine, notes, metadata, raw.source_images)
    raise FileError(f"{first_error or f'{path}: no series in it'}{skipped}")


def _read_stack(path: Path, stack: ImageStack) -> RawImage:
    slices = _drop_duplicates(stack.slices)
    dropped = len(stack.slices) - len(slices)
    notes = [f"{dropped} slices that are copies of others were left out"] if dropped else []
    slices, affine = build_stack(f"{path}: {stack.name}", slices)
    array, source_images = _read_pixels(path, slices)
    metadata = stack.metadata(float(np.linalg.norm(affine[:3, 2])))
    return RawImage(array, LPS_TO_RAS @ affine, notes, metadata, source_images)


def _quality_notes(stack: ImageStack, selection: SeriesSelection, damaged: int) -> list[str]:
    first, count = stack.slices[0], len(stack.slices)
    expected = int(first.number("ImagesInAcquisition"))
    is_incomplete = not stack.stack_number and expected > count and "DERIVED" not in first.image_type
    notes = {
        f"no sagittal series was read: its slices are {stack.plane}": stack.plane != "sagittal",
        "slices in several directions in one series: is it a localiser?": stack.has_mixed_orientations,
        f"its headers announce {expected} images, {count} are there: was all of it exported?": is_incomplete,
        f"{selection.duplicate_count} files that are copies of others were left out": selection.duplicate_count,
        f"{damaged} damaged DICOM files were left out": damaged,
        "its slices have different SeriesInstanceUIDs: joined by series number": _count(stack, "SeriesInstanceUID") > 1,
        "its slices have different StudyInstanceUIDs: read as one study": _count(stack, "StudyInstanceUID") > 1,
        "CT, not MRI": first.modality == "CT",
    }
    return [note for note, applies in notes.items() if applies]


def _count(stack: ImageStack, keyword: str) -> int:
    return len({header.text(keyword) for header in stack.slices})


def _drop_duplicates(slices: list[SliceHeader]) -> list[SliceHeader]:
    """Return the slices without those that repeat the pixels of another at the same position."""
    unique = []
    for first, *others in group_by_position(slices):
        unique.append(first)
        if others:
            pixels = _decode_slices([first])[0]
            unique += [
                header for header in others if not np.array_equal(_decode_slices([header])[0], pixels, equal_nan=True)
            ]
    return unique


def _read_pixels(path: Path, slices: list[SliceHeader]) -> tuple[Array, SourceImages]:
    """Return the pixels as (columns, rows, slices) float32 and the images.

    MONOCHROME1 is inverted; pixels that are declared to be padding get the darkest value of the others.
    """
    rows, columns = slices[0].matrix_size
    check_claimed_size(path, (columns, rows, len(slices)), 2, float("inf"))
    array, source_images = _decode_slices(slices)
    padding = np.isnan(array)
    if padding.all():
        raise FileError(f"{path}: all its pixels are declared to be padding; export it again")
    if all(header.text("PhotometricInterpretation") == "MONOCHROME1" for header in slices):
        array = np.nanmax(array) + np.nanmin(array) - array
    array[padding] = np.nanmin(array)
    return array.transpose(2, 1, 0), source_images


def _decode_slices(slices: Sequence[SliceHeader]) -> tuple[Array, SourceImages]:
    """Return the pixels as (slices, rows, columns) float32, each slice rescaled, padding NaN, and the images."""
    array = np.empty((len(slices), *slices[0].matrix_size), np.float32)
    indices_of: dict[Path, list[int]] = {}
    for index, header in enumerate(slices):
        indices_of.setdefault(header.path, []).append(index)
    datasets = {}
    for path, indices in indices_of.items():
        dataset = read_dataset(path)
        frames = [slices[index].frame_index or 0 for index in indices]
        for index, pixels in zip(indices, decode_frames(path, dataset, frames), strict=True):
            if pixels.shape != array.shape[1:]:
                raise FileError(f"{path}: does not hold the grey slice that its header describes; export it again")
            array[index] = np.where(is_padding(dataset, pixels), np.float32(np.nan), pixels)
            slope, intercept = slices[index].rescale
            if (slope, intercept) != (1.0, 0.0):
                array[index] = array[index] * np.float32(slope) + np.float32(intercept)
        for tag in [tag for tag in dataset.keys() if tag.is_private or tag.group >= _PIXEL_GROUP]:  # noqa: SIM118
            del dataset[tag]
        datasets[path] = dataset
    frame_numbers = tuple((header.frame_index or 0) + 1 for header in slices)
    return array, SourceImages(tuple(datasets[header.path] for header in slices), frame_numbers)
