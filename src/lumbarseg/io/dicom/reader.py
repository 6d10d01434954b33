"""DICOM in a folder or a ZIP: one series of the study as one volume, and why that series.

Positions are LPS in mm (DICOM PS3.3 C.7.6.2). Nothing that names the patient is passed on, but in `Stored.source`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .. import archives
from ..file_access import open_for_reading, to_file_error
from ..raw_image import LPS_TO_RAS, RawImage, check_claimed_size
from .headers import SliceHeader, read_slice_headers
from .pixels import decode_frames, read_dataset
from .series import ImageStack
from .series_selection import SeriesSelection, select_series
from .source_images import SourceImages, strip_pixels
from .stacks import build_stack, group_by_position

DICOMDIR_NAME = "DICOMDIR"
_DICOMDIR_CLASS = b"1.2.840.10008.1.3.10"  # what a DICOMDIR says that it is, whatever its name
_STARTS_WITHOUT_PREAMBLE = (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")  # of a file without preamble
_OUTPUT_SUFFIXES = (".seg.dcm", ".labelmap.dcm", ".sr.dcm")  # what this package makes of an exam is none


def is_dicom(head: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM, with its preamble or, as of old, without."""
    return head[128:132] == b"DICM" or head[:4] in _STARTS_WITHOUT_PREAMBLE or head[:6] == b"\2\0\0\0UL"


def contains_dicom(place: Path, recursive: bool = False) -> bool:
    """Whether a DICOM file lies directly in this folder or ZIP, or, when `deep`, anywhere below."""
    return next(_dicom_files(place, recursive), None) is not None


def find_studies(place: Path) -> list[Path]:
    """Folders of the DICOM studies somewhere below `place`: itself for one, else the largest folder of each alone.

    Of a study that shares its folders with another, every folder.
    """
    studies: dict[str, list[Path]] = {}
    seen: dict[Path, str] = {}
    for path in _dicom_files(place, deep=True):
        if path.parent not in seen and (heads := read_slice_headers(path)):
            seen[path.parent] = heads[0].study_uid
            studies.setdefault(heads[0].study_uid, []).append(path.parent)
    if len(studies) <= 1:
        return [place] if studies else []
    beneath: dict[Path, set[str]] = {}
    for folder, study in seen.items():
        for above in (folder, *folder.parents):
            beneath.setdefault(above, set()).add(study)
    shared = {folder for folder, names in beneath.items() if len(names) > 1}
    return sorted(exam for folders in studies.values() for exam in _study_folders(place, folders, shared))


def _study_folders(place: Path, folders: list[Path], shared: set[Path]) -> list[Path]:
    """The largest folder that holds all of these and nothing else, or where there is none, all of them."""
    home = Path(os.path.commonpath(folders))
    if home in shared or home == place:
        return folders
    while home.parent != place and home.parent not in shared:
        home = home.parent
    return [home]


def _dicom_files(place: Path, deep: bool) -> Iterator[Path]:
    """Files with DICOM in them, in the order of their names; `place` itself where it is one."""
    for path in _files(place, deep):
        if path.name.upper() != DICOMDIR_NAME and not path.name.endswith(_OUTPUT_SUFFIXES):
            with open_for_reading(path) as stream:
                head = stream.read(512)
            if is_dicom(head) and _DICOMDIR_CLASS not in head:
                yield path


def _files(place: Path, deep: bool) -> Iterator[Path]:
    if archives.is_archive_member(place) or (place.is_file() and not archives.is_archive_folder(place)):
        yield place
    elif not place.is_dir():
        yield from archives.iter_members(place, deep)
    for folder, folders, names in os.walk(place, onerror=_raise_file_error) if place.is_dir() else ():
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        paths = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _raise_file_error(error: OSError) -> None:
    raise to_file_error(Path(str(error.filename)), error) from error


def read(place: Path, volume_index: int | None = None, series: str | None = None) -> RawImage:
    """One series of a study in a folder, a ZIP or one multi-frame file; FileError and GridError say what is wrong.

    volume: must be None or 0, a stack of slices has no more. series: number or part of the name of the one to read,
    where it is not to be the best for this package's purpose: the sagittal T2, else T1, else another.
    """
    if volume_index:
        raise FileError(f"{place}: no volume {volume_index}; a DICOM series holds one, counted from 0")
    found = [read_slice_headers(path) for path in _dicom_files(place, deep=True)]
    heads = [head for slices in found for head in slices]
    if not heads:
        raise FileError(f"{place}: no readable DICOM file in it; give the folder that holds the exam")
    if len(heads) == 1 and heads[0].path == place and heads[0].frame_index is None and min(heads[0].matrix_size) > 0:
        raise FileError(f"{place}: one DICOM file of one slice; give the folder that holds its series")
    return _read_first_complete(place, select_series(place, heads, series), sum(not slices for slices in found))


def _read_first_complete(place: Path, choice: SeriesSelection, damaged: int) -> RawImage:
    """The first candidate that can be read, and what became of those before it."""
    notes, first = [], None
    for series in choice.candidates:
        try:
            stored = _read_stack(place, series)
        except FileError as error:
            first = first or error
            notes.append(f"left out: {str(error).removeprefix(f'{place}: ')}")
            continue
        told = f"DICOM {series.name}: {series.describe()}"
        about = {**stored.metadata, "taken": told, "left_out": choice.describe_left_out(series)}
        notes = [told, *notes, *stored.notes, *_quality_notes(series, choice, damaged)]
        return RawImage(stored.array, stored.affine, notes, about, stored.source_images)
    raise first or FileError(f"{place}: no series in it")


def _read_stack(place: Path, series: ImageStack) -> RawImage:
    slices, notes = _drop_duplicates(series.slices)
    slices, affine = build_stack(f"{place}: {series.name}", slices)
    array, source = _read_pixels(place, slices)
    about = series.metadata(float(np.linalg.norm(affine[:3, 2])))
    return RawImage(array, LPS_TO_RAS @ affine, notes, about, source)


def _quality_notes(series: ImageStack, choice: SeriesSelection, damaged: int) -> list[str]:
    notes = []
    if series.plane != "sagittal":
        notes.append(f"no sagittal series was read: its slices are {series.plane}")
    if series.has_mixed_orientations:
        notes.append("slices in several directions in one series: is it a localiser?")
    expected = int(series.slices[0].number("ImagesInAcquisition"))
    if not series.stack_number and expected > len(series.slices) and "DERIVED" not in series.slices[0].image_type:
        notes.append(f"its files tell of {expected} images, {len(series.slices)} are there: was all of it exported?")
    if choice.duplicate_count:
        notes.append(f"{choice.duplicate_count} files that are copies of others were left out")
    if damaged:
        notes.append(f"{damaged} damaged DICOM files were left out")
    if series.slices[0].modality == "CT":
        notes.append("CT, not MRI")
    return notes


def _drop_duplicates(slices: list[SliceHeader]) -> tuple[list[SliceHeader], list[str]]:
    """Slices without those that show the same pixels at the same position under another identity."""
    kept = []
    for group in group_by_position(slices):
        kept.append(group[0])
        if len(group) > 1:
            first = _decode_slices(group[:1])[0]
            kept += [head for head in group[1:] if not np.array_equal(_decode_slices([head])[0], first)]
    gone = len(slices) - len(kept)
    return kept, [f"{gone} slices that are copies of others were left out"] if gone else []


def _read_pixels(place: Path, slices: list[SliceHeader]) -> tuple[Array, SourceImages]:
    """(columns, rows, slices) float32, and the images; dark is low, also where it was stored the other way round."""
    rows, columns = slices[0].matrix_size
    check_claimed_size(place, (columns, rows, len(slices)), 2, float("inf"))
    array, source = _decode_slices(slices)
    if all(head.attributes.get("PhotometricInterpretation") == "MONOCHROME1" for head in slices):
        array = array.max() + array.min() - array
    return array.transpose(2, 1, 0), source


def _decode_slices(slices: Sequence[SliceHeader]) -> tuple[Array, SourceImages]:
    """(slices, rows, columns) float32 with each slice's own rescaling, and the images; FileError names the file."""
    array = np.empty((len(slices), *slices[0].matrix_size), np.float32)
    files: dict[Path, list[int]] = {}
    for index, head in enumerate(slices):
        files.setdefault(head.path, []).append(index)
    heads = {}
    for path, indices in files.items():
        dataset = read_dataset(path)
        frames = [slices[index].frame_index or 0 for index in indices]
        for index, pixels in zip(indices, decode_frames(path, dataset, frames), strict=True):
            if pixels.shape != array.shape[1:]:
                raise FileError(f"{path}: does not hold the grey slice that its header tells of; export it again")
            array[index] = pixels
            slope, intercept = slices[index].rescale
            if (slope, intercept) != (1.0, 0.0):
                array[index] = array[index] * np.float32(slope) + np.float32(intercept)
        heads[path] = strip_pixels(dataset)
    frame_numbers = tuple((head.frame_index or 0) + 1 for head in slices)
    return array, SourceImages(tuple(heads[head.path] for head in slices), frame_numbers)
