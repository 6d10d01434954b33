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

from . import zips
from .disk import reading, refusal
from .headers import Header, headers
from .pixels import dataset_of, decoded
from .series import Series
from .source import Source, without_pixels
from .stacks import stack, together
from .studies import Choice, choose
from .voxels import LPS_TO_RAS, Stored, check_claim

INDEX = "DICOMDIR"
_DIRECTORY = b"1.2.840.10008.1.3.10"  # what a DICOMDIR says that it is, whatever its name
_STARTS = (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")  # of a file without preamble
_OWN = (".seg.dcm", ".labelmap.dcm", ".sr.dcm")  # what this package makes of an exam is none


def recognised(head: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM, with its preamble or, as of old, without."""
    return head[128:132] == b"DICM" or head[:4] in _STARTS or head[:6] == b"\2\0\0\0UL"


def holds_dicom(place: Path, deep: bool = False) -> bool:
    """Whether a DICOM file lies directly in this folder or ZIP, or, when `deep`, anywhere below."""
    return next(_dicom_files(place, deep), None) is not None


def studies_below(place: Path) -> list[Path]:
    """Folders of the DICOM studies somewhere below `place`: itself for one, else the largest folder of each alone.

    Of a study that shares its folders with another, every folder.
    """
    studies: dict[str, list[Path]] = {}
    seen: dict[Path, str] = {}
    for path in _dicom_files(place, deep=True):
        if path.parent not in seen and (heads := headers(path)):
            seen[path.parent] = heads[0].study
            studies.setdefault(heads[0].study, []).append(path.parent)
    if len(studies) <= 1:
        return [place] if studies else []
    beneath: dict[Path, set[str]] = {}
    for folder, study in seen.items():
        for above in (folder, *folder.parents):
            beneath.setdefault(above, set()).add(study)
    shared = {folder for folder, names in beneath.items() if len(names) > 1}
    return sorted(exam for folders in studies.values() for exam in _homes(place, folders, shared))


def _homes(place: Path, folders: list[Path], shared: set[Path]) -> list[Path]:
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
        if path.name.upper() != INDEX and not path.name.endswith(_OWN):
            with reading(path) as stream:
                head = stream.read(512)
            if recognised(head) and _DIRECTORY not in head:
                yield path


def _files(place: Path, deep: bool) -> Iterator[Path]:
    if zips.holds(place) or (place.is_file() and not zips.is_folder(place)):
        yield place
    elif not place.is_dir():
        yield from zips.walk(place, deep)
    for folder, folders, names in os.walk(place, onerror=_refuse) if place.is_dir() else ():
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        paths = (Path(folder, name) for name in sorted(names) if not name.startswith("."))
        yield from (path for path in paths if path.is_file())


def _refuse(error: OSError) -> None:
    raise refusal(Path(str(error.filename)), error) from error


def read(place: Path, volume: int | None = None, series: str | None = None) -> Stored:
    """One series of a study in a folder, a ZIP or one multi-frame file; FileError and GridError say what is wrong.

    volume: must be None or 0, a stack of slices has no more. series: number or part of the name of the one to read,
    where it is not to be the best for this package's purpose: the sagittal T2, else T1, else another.
    """
    if volume:
        raise FileError(f"{place}: no volume {volume}; a DICOM series holds one, counted from 0")
    found = [headers(path) for path in _dicom_files(place, deep=True)]
    heads = [head for slices in found for head in slices]
    if not heads:
        raise FileError(f"{place}: no readable DICOM file in it; give the folder that holds the exam")
    if len(heads) == 1 and heads[0].path == place and heads[0].frame is None and min(heads[0].size) > 0:
        raise FileError(f"{place}: one DICOM file of one slice; give the folder that holds its series")
    return _first_whole(place, choose(place, heads, series), sum(not slices for slices in found))


def _first_whole(place: Path, choice: Choice, damaged: int) -> Stored:
    """The first candidate that can be read, and what became of those before it."""
    notes, first = [], None
    for series in choice.candidates:
        try:
            stored = _stored(place, series)
        except FileError as error:
            first = first or error
            notes.append(f"left out: {str(error).removeprefix(f'{place}: ')}")
            continue
        told = f"DICOM {series.name}: {series.told()}"
        about = {**stored.about, "taken": told, "left_out": choice.left_out(series)}
        notes = [told, *notes, *stored.notes, *_doubts(series, choice, damaged)]
        return Stored(stored.array, stored.affine, notes, about, stored.source)
    raise first or FileError(f"{place}: no series in it")


def _stored(place: Path, series: Series) -> Stored:
    slices, notes = _without_copies(series.slices)
    slices, affine = stack(f"{place}: {series.name}", slices)
    array, source = _pixels(place, slices)
    about = series.about(float(np.linalg.norm(affine[:3, 2])))
    return Stored(array, LPS_TO_RAS @ affine, notes, about, source)


def _doubts(series: Series, choice: Choice, damaged: int) -> list[str]:
    notes = []
    if series.plane != "sagittal":
        notes.append(f"no sagittal series was read: its slices are {series.plane}")
    if series.mixed:
        notes.append("slices in several directions in one series: is it a localiser?")
    expected = int(series.slices[0].number("ImagesInAcquisition"))
    if not series.part and expected > len(series.slices) and "DERIVED" not in series.slices[0].words:
        notes.append(f"its files tell of {expected} images, {len(series.slices)} are there: was all of it exported?")
    if choice.copies:
        notes.append(f"{choice.copies} files that are copies of others were left out")
    if damaged:
        notes.append(f"{damaged} damaged DICOM files were left out")
    if series.slices[0].modality == "CT":
        notes.append("CT, not MRI")
    return notes


def _without_copies(slices: list[Header]) -> tuple[list[Header], list[str]]:
    """Slices without those that show the same pixels at the same position under another identity."""
    kept = []
    for group in together(slices):
        kept.append(group[0])
        if len(group) > 1:
            first = _values(group[:1])[0]
            kept += [head for head in group[1:] if not np.array_equal(_values([head])[0], first)]
    gone = len(slices) - len(kept)
    return kept, [f"{gone} slices that are copies of others were left out"] if gone else []


def _pixels(place: Path, slices: list[Header]) -> tuple[Array, Source]:
    """(columns, rows, slices) float32, and the images; dark is low, also where it was stored the other way round."""
    rows, columns = slices[0].size
    check_claim(place, (columns, rows, len(slices)), 2, float("inf"))
    array, source = _values(slices)
    if all(head.values.get("PhotometricInterpretation") == "MONOCHROME1" for head in slices):
        array = array.max() + array.min() - array
    return array.transpose(2, 1, 0), source


def _values(slices: Sequence[Header]) -> tuple[Array, Source]:
    """(slices, rows, columns) float32 with each slice's own rescaling, and the images; FileError names the file."""
    array = np.empty((len(slices), *slices[0].size), np.float32)
    files: dict[Path, list[int]] = {}
    for index, head in enumerate(slices):
        files.setdefault(head.path, []).append(index)
    heads = {}
    for path, indices in files.items():
        dataset = dataset_of(path)
        frames = [slices[index].frame or 0 for index in indices]
        for index, pixels in zip(indices, decoded(path, dataset, frames), strict=True):
            if pixels.shape != array.shape[1:]:
                raise FileError(f"{path}: does not hold the grey slice that its header tells of; export it again")
            array[index] = pixels
            slope, intercept = slices[index].rescale
            if (slope, intercept) != (1.0, 0.0):
                array[index] = array[index] * np.float32(slope) + np.float32(intercept)
        heads[path] = without_pixels(dataset)
    frame_numbers = tuple((head.frame or 0) + 1 for head in slices)
    return array, Source(tuple(heads[head.path] for head in slices), frame_numbers)
