"""Read one series of a DICOM study as one image.

Positions are LPS in mm (DICOM PS3.3 C.7.6.2). Only `RawImage.source_images` passes on what identifies the patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from ..raw_image import LPS_TO_RAS, RawImage, SourceImages
from ..voxel_data import check_claimed_size
from .files import describe_problems, scan
from .headers import SliceHeader, read_slice_headers
from .pixels import decode_frames, is_padding, read_dataset
from .series import ImageStack
from .series_selection import SeriesSelection, select_series
from .stacks import build_stack, group_by_position

_PIXEL_GROUP = 0x7FE0  # the group of pixel data; no later group describes the image


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
    files = list(scan(path, recursive=True))
    per_file = [read_slice_headers(file) for file, problem in files if not problem]
    headers = [header for slices in per_file for header in slices]
    skipped = describe_problems(problem for _, problem in files)
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
        header for file, problem in scan(path, recursive=True) if not problem for header in read_slice_headers(file)
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
    """Return the pixels as (slices, rows, columns) float32, rescaled, padding NaN, and their references for SEG."""
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
