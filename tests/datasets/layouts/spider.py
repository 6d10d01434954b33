"""SPIDER as Zenodo gives it: images/ and masks/ of the same names as .mha, with overview.csv and the gradings."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tests.io.itk import write_metaimage

from lumbarseg.anatomy import LEVELS, LUMBAR_LEVELS, arch_of_level, structure_by_name
from lumbarseg.datasets.schemes import REGULAR_VERTEBRAE, SCHEMES, encode_labels, value_for_structure
from lumbarseg.io import atomic_write
from lumbarseg.resampling import reorient
from lumbarseg.volume import Array, Volume

from .exam import InjectedFault, SyntheticExam

SEQUENCES = ("T2",)
FAULTS = ("", "stir", "counting", "same-acquisition", "above-T1", "label-header", "no-overview", "grey", "alone")
"""Fault of each exam in turn, starting over when they are used up."""

_ROWS = SCHEMES["spider"]
_SERIES = {"T1": "t1", "SPACE": "t2_SPACE"}
_PARTLY, _DISC = 100, 200
_COLUMNS = (
    "new_file_name", "num_vertebrae", "num_discs", "sex", "birth_date", "subset", "EchoTime", "FlipAngle",
    "MRAcquisitionType", "MagneticFieldStrength", "Manufacturer", "ManufacturerModelName", "PixelSpacing",
    "RepetitionTime", "SeriesDescription", "SliceThickness",
)  # fmt: skip
_GRADINGS = ("Patient", "IVD label", "Modic", "Spondylolisthesis", "Disc herniation", "Pfirrman grade")
_GREY = 57  # what an interpolated mask may hold
_SHIFT = 6.0  # mm by which a mask's header is off

Rows = list[dict[str, object]]


def is_usable(exam: SyntheticExam) -> bool:
    """Return whether the lowest lumbar vertebra is completely in view and there is no L6."""
    array = reorient(exam.labels, "RAS").array
    lowest = structure_by_name(LUMBAR_LEVELS[-1]).label
    return bool((array == lowest).any()) and not (
        {lowest, structure_by_name(LEVELS[-1]).label} & set(array[..., 0].ravel())
    )


def case_name(number: int) -> str:
    """Return the importer's name of exam `number` when it is T2."""
    return f"{_patient_number(number)}_t2"


def write(
    folder: Path, exams: Iterable[SyntheticExam], rng: np.random.Generator, with_faults: bool
) -> list[InjectedFault]:
    """Write the exams; with faults, in doubled folders (images/images), as unpacking often makes them."""
    parts = [folder / name / name if with_faults else folder / name for name in ("images", "masks")]
    faults: list[InjectedFault] = []
    overview: Rows = []
    gradings: Rows = []
    for number, exam in enumerate(exams):
        fault = FAULTS[number % len(FAULTS)] if with_faults else ""
        series = _SERIES.get(exam.contrast, "t2")
        names = [f"{_patient_number(number)}_{series}"]
        names += [f"{_patient_number(number)}_t2_SPACE"] if fault == "same-acquisition" else []
        mask = _with_fault(_spider_labels(exam), fault)
        for name in names:
            write_metaimage(exam.image, parts[0] / f"{name}.mha")
            write_metaimage(mask, parts[1] / f"{name}.mha")
            overview += [] if fault == "no-overview" else [_row(name, exam, mask.array, fault, rng)]
        if fault == "alone":
            write_metaimage(exam.image, parts[0] / f"{_patient_number(number)}_t1.mha")
            names = [f"{_patient_number(number)}_t1"]
        gradings += _grading_rows(number, fault, rng)
        word = "refused" if fault in ("grey", "alone") else fault
        faults += [InjectedFault(name, word, fault) for name in names if fault]
    _write_csv(folder / "overview.csv", _COLUMNS, overview)
    _write_csv(folder / "radiological_gradings.csv", _GRADINGS, gradings)
    return faults


def _patient_number(number: int) -> int:
    """Return a patient number, with gaps as in the published set."""
    return 3 * number + 1


def _spider_labels(exam: SyntheticExam) -> Volume:
    """Renumber labels as SPIDER counts them; a vertebra cut off by the image has 100 more."""
    numbers = encode_labels(exam.labels.array, _ROWS)
    upright = reorient(exam.labels, "RAS").array
    ends = set(np.unique(upright[..., [0, -1]]).tolist())
    for level in REGULAR_VERTEBRAE:
        body, arch = structure_by_name(level).label, arch_of_level(level).label
        value = value_for_structure(_ROWS, level)
        if body in ends or not (upright == body).any():
            numbers[np.isin(exam.labels.array, (body, arch))] = _PARTLY + value
    return Volume(numbers, exam.labels.affine)


def _with_fault(mask: Volume, fault: str) -> Volume:
    """Return the mask with a fault in it."""
    array, affine = mask.array.copy(), mask.affine.copy()
    if fault == "above-T1":
        complete = sorted(set(np.unique(array).tolist()) & set(range(1, len(REGULAR_VERTEBRAE) + 1)))
        array[array == complete[-1]] = len(REGULAR_VERTEBRAE) + 1
        array[array == _DISC + complete[-1]] = _DISC + len(REGULAR_VERTEBRAE) + 1
    if fault == "grey":
        array[array == value_for_structure(_ROWS, LUMBAR_LEVELS[2])] = _GREY
    if fault == "label-header":
        affine[2, 3] += _SHIFT
    return Volume(array, affine)


def _row(name: str, exam: SyntheticExam, mask: Array, fault: str, rng: np.random.Generator) -> dict[str, object]:
    stir = fault == "stir" or exam.contrast == "STIR"
    present = np.unique(mask)
    echo = round(float(rng.uniform(80, 120))) if fault != "same-acquisition" else 99
    return {
        "new_file_name": name,
        "num_vertebrae": int(((present > 0) & (present < _PARTLY)).sum()),
        "num_discs": int((present > _DISC).sum()),
        "sex": f"{rng.choice(['F', 'M'])} ",
        "birth_date": f"{rng.integers(20, 80)}" if rng.random() < 0.3 else "",
        "subset": "validation" if int(name.partition("_")[0]) % 5 == 0 else "training",
        "EchoTime": echo,
        "FlipAngle": 150,
        "MRAcquisitionType": "3D" if exam.contrast == "SPACE" else "2D",
        "MagneticFieldStrength": 1.5,
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "Avanto ",
        "PixelSpacing": " ".join(f"{s:.4f}" for s in exam.image.grid.spacing[1:]),
        "RepetitionTime": 3000 + 10 * echo,
        "SeriesDescription": f"SAG {'T2 TSE STIR' if stir else exam.contrast}",
        "SliceThickness": round(exam.image.grid.spacing[0], 3),
    }


def _grading_rows(number: int, fault: str, rng: np.random.Generator) -> Rows:
    """Return grades of the five lumbar discs; with the fault "counting", also of a disc below them."""
    levels = range(0 if fault == "counting" else 1, len(LUMBAR_LEVELS) + 1)
    first, second = _GRADINGS[:2]
    return [
        {first: _patient_number(number), second: level, **{name: int(rng.integers(0, 3)) for name in _GRADINGS[2:]}}
        for level in levels
    ]


def _write_csv(path: Path, columns: tuple[str, ...], rows: Rows) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, columns)
    table.writeheader()
    table.writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
