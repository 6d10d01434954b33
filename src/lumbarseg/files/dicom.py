"""A folder of DICOM files: its sagittal series as one volume, and why that series.

Positions are LPS in mm (DICOM PS3.3 C.7.6.2). Nothing that names the patient is passed on, but in `Stored.source`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .disk import reading, refusal
from .series import Header, Series, choose, header
from .source import Source, without_pixels
from .voxels import LPS_TO_RAS, Stored, check_claim

_INDEX = "DICOMDIR"
_UNEVEN = 0.2  # of the distance of two slices: how far one may lie from its place in an even stack
_SAME_PLACE = 0.01  # mm
_PARALLEL = 1e-3  # difference of direction cosines that still counts as one orientation


def recognised(head: bytes) -> bool:
    """Whether the first 132 bytes of a file are those of DICOM, with its preamble or, as of old, without."""
    return head[128:132] == b"DICM" or head[:4] in (b"\x08\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00")


def holds_dicom(folder: Path) -> bool:
    """Whether a DICOM file lies directly in this folder."""
    return next(_dicom_files(folder, deep=False), None) is not None


def studies_below(folder: Path) -> list[Path]:
    """Folders of the DICOM studies somewhere below `folder`: itself for one, else the smallest folder of each."""
    studies: dict[str, list[Path]] = {}
    seen: set[Path] = set()
    for path in _dicom_files(folder, deep=True):
        if path.parent not in seen and (head := header(path)):
            seen.add(path.parent)
            studies.setdefault(head.study, []).append(path.parent)
    if len(studies) <= 1:
        return [folder] if studies else []
    homes = {study: Path(os.path.commonpath(folders)) for study, folders in studies.items()}
    alone = {
        study for study, home in homes.items() if sum(home in (f, *f.parents) for f in seen) == len(studies[study])
    }
    return sorted(home for study in studies for home in ([homes[study]] if study in alone else studies[study]))


def _dicom_files(folder: Path, deep: bool) -> Iterator[Path]:
    """Files with DICOM in them, in the order of their names."""
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if deep and not name.startswith("."))
        for name in sorted(names):
            path = Path(place, name)
            if name.startswith(".") or name.upper() == _INDEX or not path.is_file():
                continue
            with reading(path) as stream:
                if recognised(stream.read(132)):
                    yield path


def _refuse(error: OSError) -> None:
    raise refusal(Path(str(error.filename)), error) from error


def read(folder: Path, volume: int | None = None) -> Stored:
    """The sagittal series of a folder of DICOM files; FileError and GridError say what is wrong with it.

    volume: must be None or 0, a stack of slices has no more.
    """
    if volume:
        raise FileError(f"{folder}: no volume {volume}; a DICOM series holds one, counted from 0")
    found = [header(path) for path in _dicom_files(folder, deep=True)]
    heads = [head for head in found if head]
    if not heads:
        raise FileError(f"{folder}: no readable DICOM file in it; give the folder that holds the exam")
    series, notes = choose(folder, heads)
    slices, affine = stack(folder, series)
    if len(slices) < len(series.slices):
        notes.append(f"{len(series.slices) - len(slices)} files that are copies of others were left out")
    if len(heads) < len(found):
        notes.append(f"{len(found) - len(heads)} damaged DICOM files were left out")
    if series.slices[0].modality == "CT":
        notes.append("CT, not MRI")
    about = {**series.about(_step(affine)), "taken": notes[0]}
    pixels, source = _pixels(folder, slices)
    return Stored(pixels, LPS_TO_RAS @ affine, notes, about, source)


def stack(folder: Path, series: Series) -> tuple[list[Header], Array]:
    """The slices in order along their normal, and the affine to LPS mm of (column, row, slice).

    FileError when they do not make one even stack.
    """
    name = f"{folder}: {series.name}"
    slices = list({head.instance: head for head in series.slices}.values())
    first = slices[0]
    if any(head.size != first.size or not np.allclose(head.spacing, first.spacing, rtol=1e-3) for head in slices):
        raise FileError(f"{name}: slices of different sizes; export one stack alone")
    if any(np.abs(head.directions - first.directions).max() > _PARALLEL for head in slices):
        raise FileError(f"{name}: slices of different orientations; export one stack alone")
    slices.sort(key=lambda head: float(head.position @ first.normal))
    positions = np.array([head.position for head in slices])
    _check_even(name, positions @ first.normal)
    affine = np.eye(4)
    affine[:3, 0] = first.directions[0] * first.spacing[1]
    affine[:3, 1] = first.directions[1] * first.spacing[0]
    affine[:3, 3] = positions[0]
    if len(slices) == 1:
        affine[:3, 2] = first.normal * first.thickness
    else:
        affine[:3, 2] = (positions[-1] - positions[0]) / (len(slices) - 1)
        drift = np.abs(positions - positions[0] - np.arange(len(slices))[:, None] * affine[:3, 2]).max()
        if drift > max(1.0, _UNEVEN * _step(affine)):
            raise FileError(f"{name}: slices up to {drift:.1f} mm beside the line of their stack; export it again")
    return slices, affine


def _step(affine: Array) -> float:
    return float(np.linalg.norm(affine[:3, 2]))


def _check_even(name: str, places: Array) -> None:
    """places: (n,) mm along the normal, ascending."""
    if len(places) == 1:
        return
    gaps = np.diff(places)
    if gaps.min() < _SAME_PLACE:
        many = len(places) / (np.count_nonzero(gaps >= _SAME_PLACE) + 1)
        raise FileError(
            f"{name}: {many:.3g} slices at each position (echoes, time points or two scans in one series); "
            "export one of them alone"
        )
    even = np.linspace(places[0], places[-1], len(places))
    usual = float(np.median(gaps))
    if gaps.max() > (1 + _UNEVEN) * usual or np.abs(places - even).max() > _UNEVEN * usual:
        raise FileError(
            f"{name}: slices are missing: gaps of {gaps.min():.2f} to {gaps.max():.2f} mm; export the series again"
        )


def _pixels(folder: Path, slices: list[Header]) -> tuple[Array, Source]:
    """(columns, rows, slices) float32 with each slice's own rescaling; FileError naming the file that fails."""
    rows, columns = slices[0].size
    check_claim(folder, (columns, rows, len(slices)), 2, float("inf"))
    array, heads = np.empty((len(slices), rows, columns), np.float32), []
    for index, head in enumerate(slices):
        pixels, dataset = _decoded(head.path)
        heads.append(without_pixels(dataset))
        if pixels.shape != (rows, columns):
            raise FileError(
                f"{head.path}: holds colours or several frames, not one grey slice; export it as grey values"
            )
        array[index] = pixels
        if head.rescale != (1.0, 0.0):
            array[index] = array[index] * np.float32(head.rescale[0]) + np.float32(head.rescale[1])
    return array.transpose(2, 1, 0), Source(tuple(heads), (1,) * len(heads))


def _decoded(path: Path) -> tuple[Array, Any]:
    """The pixels of a file and its data set."""
    import warnings

    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, force=True)
            if "TransferSyntaxUID" not in dataset.file_meta:  # a file from before DICOM files had a preamble
                implicit = dataset.original_encoding[0]
                syntaxes = pydicom.uid.ExplicitVRLittleEndian, pydicom.uid.ImplicitVRLittleEndian
                dataset.file_meta.TransferSyntaxUID = syntaxes[bool(implicit)]
        except Exception as error:  # a damaged file makes pydicom raise almost anything
            raise FileError(f"{path}: damaged DICOM file; copy or export it again") from error
        try:
            return np.asarray(dataset.pixel_array), dataset
        except Exception as error:  # the same, and whatever a decoder raises
            raise FileError(f"{path}: {_undecoded(dataset)}") from error


def _undecoded(dataset: Any) -> str:
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None)
    if "PixelData" not in dataset:
        return "truncated: it holds no pixels; copy or export it again"
    if syntax is not None and syntax.is_compressed:
        return (
            f"its pixels are compressed ({syntax.name}) and cannot be decoded here; pip install "
            "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or export it without compression"
        )
    return "its pixels are truncated or damaged; copy or export it again"
