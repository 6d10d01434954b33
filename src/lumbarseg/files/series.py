"""What the headers of DICOM slices say, and which series of a study is the one to read."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.errors import FileError
from lumbarseg.volume import Array

from .voxels import ASSUMED_THICKNESS

_PLANES = ("sagittal", "coronal", "axial")
_LOCALISER = re.compile(r"(^|[^a-z])(loc|localizer|localiser|scout|survey|topogram|pilot)([^a-z]|$)")
_CONTRASTS = {  # by the description; the first that fits
    "fat-suppressed": re.compile(r"stir|tirm|fat.?sat|(^|[^a-z])(ir|fs|spair|spir|dixon|water|fat)([^a-z]|$)"),
    "gradient echo": re.compile(r"t2[ _-]?(\*|star)|medic|merge|(^|[^a-z])(gre|ffe)([^a-z]|$)"),
    "T2": re.compile(r"t2"),
    "T1": re.compile(r"t1"),
}
_RANK = {"T2": 0, "T1": 1}  # of a contrast; all others after them
_FEW = 5  # slices below which a stack is hardly an exam
_TEXTS = ("SeriesDescription", "ProtocolName", "SequenceName")
_TAGS = (
    *("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "PatientID"),
    *("Modality", "ImageType", "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence"),
    *("Rows", "Columns", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept"),
    *("EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "MagneticFieldStrength"),
    *("Manufacturer", "ManufacturerModelName", "BodyPartExamined"),
)
_ABOUT_TEXTS = {
    "series": "SeriesDescription",
    "sequence": "SequenceName",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
    "body_part": "BodyPartExamined",
}
_ABOUT_NUMBERS = {
    "series_number": "SeriesNumber",
    "echo_time_ms": "EchoTime",
    "repetition_time_ms": "RepetitionTime",
    "inversion_time_ms": "InversionTime",
    "flip_angle_degrees": "FlipAngle",
    "slice_thickness_mm": "SliceThickness",
    "field_strength_tesla": "MagneticFieldStrength",
}


@dataclass(frozen=True, eq=False)
class Header:
    """One DICOM file without its pixels.

    position: (3,) LPS mm; directions: (2, 3) unit vectors along a row and down a column; spacing: mm between rows and
    between columns; size: rows, columns; frames: 1 for a plain slice. An image without a place has size (0, 0).
    """

    path: Path
    study: str
    series: str
    instance: str
    patient: str
    modality: str
    frames: int
    size: tuple[int, int]
    position: Array
    directions: Array
    spacing: tuple[float, float]
    thickness: float
    rescale: tuple[float, float]
    values: dict[str, Any]

    @property
    def normal(self) -> Array:
        """The direction in which slices follow one another, (3,)."""
        return np.cross(self.directions[0], self.directions[1])


@dataclass(frozen=True, eq=False)
class Series:
    """Slices of one series that have a place in space."""

    slices: list[Header]

    @property
    def _values(self) -> dict[str, Any]:
        return self.slices[0].values

    @property
    def name(self) -> str:
        """What a person calls it: its number and description."""
        description = self._values.get("SeriesDescription")
        return f"series {self._values.get('SeriesNumber', '?')}" + (f" '{description}'" if description else "")

    @property
    def plane(self) -> str:
        """sagittal, coronal or axial, by the direction of the slices' normal."""
        return _PLANES[int(np.abs(self.slices[0].normal).argmax())]

    @property
    def _text(self) -> str:
        return " ".join(str(self._values.get(name, "")) for name in _TEXTS).lower()

    @property
    def localiser(self) -> bool:
        """Whether it only served to plan the others."""
        kind = [str(word).upper() for word in self._values.get("ImageType", ())]
        return "LOCALIZER" in kind or _LOCALISER.search(self._text) is not None

    @property
    def contrast(self) -> str:
        """T2, T1, fat-suppressed, gradient echo or other, by the description, else by echo and repetition time."""
        for name in _TEXTS:
            text = str(self._values.get(name, "")).lower()
            for contrast, pattern in _CONTRASTS.items():
                if pattern.search(text):
                    return contrast
        echo, repetition = _number(self._values, "EchoTime", 0), _number(self._values, "RepetitionTime", 0)
        if echo >= 60 and repetition >= 1500:
            return "T2"
        return "T1" if 0 < echo <= 30 and 0 < repetition <= 1200 else "other"

    @property
    def _mixed(self) -> bool:
        """Whether its slices lie in several directions, as those of a three-plane localiser do."""
        return any(np.abs(head.directions - self.slices[0].directions).max() > 0.1 for head in self.slices)

    def order(self) -> tuple[bool, bool, bool, int, bool, int, float]:
        """Sorts what should be read first to the front."""
        derived = "DERIVED" in [str(word).upper() for word in self._values.get("ImageType", ())]
        number = _number(self._values, "SeriesNumber", 0)
        few, rank = len(self.slices) < _FEW, _RANK.get(self.contrast, len(_RANK))
        return self._mixed, self.plane != "sagittal", few, rank, derived, -len(self.slices), number

    def about(self, distance: float) -> dict[str, Any]:
        """Facts for a report; distance: of two slices, mm. No name, number or date of a patient."""
        texts = {name: self._values.get(tag) for name, tag in _ABOUT_TEXTS.items()}
        numbers = {name: _number(self._values, tag, 0) for name, tag in _ABOUT_NUMBERS.items()}
        return {
            "format": "DICOM",
            "modality": self.slices[0].modality,
            "plane": self.plane,
            "contrast": self.contrast,
            "slice_distance_mm": round(distance, 4),
            **{name: text for name, text in texts.items() if isinstance(text, str)},
            **{name: number for name, number in numbers.items() if number},
        }


def header(path: Path) -> Header | None:
    """The header of a DICOM file; None when pydicom cannot make sense of it."""
    import warnings

    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS), force=True)
        except Exception:  # a damaged file makes pydicom raise almost anything
            return None
        values = {name: value for name in _TAGS if (value := _value(dataset, name)) not in (None, "", ())}
    return _header(path, values) if "SOPClassUID" in values else None


def _value(dataset: Any, name: str) -> Any:
    try:
        return _plain(dataset.get(name))
    except Exception:  # a malformed value is read as none
        return None


def _plain(value: Any) -> Any:
    """A DICOM value as a number, text or tuple of them."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, Iterable):
        return tuple(_plain(part) for part in value)
    return int(value) if isinstance(value, int) else float(value)


def _header(path: Path, values: dict[str, Any]) -> Header:
    position = _numbers(values.get("ImagePositionPatient"), 3)
    cosines = _numbers(values.get("ImageOrientationPatient"), 6)
    spacing = _numbers(values.get("PixelSpacing"), 2)
    directions = np.reshape(cosines or (0,) * 6, (2, 3))
    lengths = np.linalg.norm(directions, axis=1)
    upright = np.abs(lengths - 1).max() < 0.01 and abs(directions[0] @ directions[1]) < 0.01
    placed = position and spacing and min(spacing) > 0 and upright
    distance = _numbers(values.get("SpacingBetweenSlices"), 1) or _numbers(values.get("SliceThickness"), 1)
    return Header(
        path=path,
        study=str(values.get("StudyInstanceUID", "")),
        series=str(values.get("SeriesInstanceUID", "")),
        instance=str(values.get("SOPInstanceUID", path)),
        patient=str(values.get("PatientID", "")),
        modality=str(values.get("Modality", "")),
        frames=int(values.get("NumberOfFrames", 1) or 1),
        size=(int(values.get("Rows", 0)), int(values.get("Columns", 0))) if placed else (0, 0),
        position=np.array(position or (0, 0, 0), np.float64),
        directions=directions / np.maximum(lengths, 1e-9)[:, None],
        spacing=(spacing[0], spacing[1]) if spacing else (0.0, 0.0),
        thickness=distance[0] if distance and distance[0] > 0 else ASSUMED_THICKNESS,
        rescale=(_number(values, "RescaleSlope", 1.0), _number(values, "RescaleIntercept", 0.0)),
        values=values,
    )


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None."""
    parts = value if isinstance(value, tuple) else (value,)
    usable = len(parts) == count and all(isinstance(part, int | float) and np.isfinite(part) for part in parts)
    return tuple(float(part) for part in parts) if usable else None


def _number(values: dict[str, Any], name: str, default: float) -> float:
    found = _numbers(values.get(name), 1)
    return found[0] if found else default


def choose(folder: Path, heads: list[Header]) -> tuple[Series, list[str]]:
    """The series to read, and the line that says why; FileError when there is none or when studies are mixed."""
    images = [head for head in heads if min(head.size) > 0 or (head.frames > 1 and head.modality in ("MR", "CT"))]
    slices = [head for head in images if head.frames == 1]
    if not images:
        raise FileError(
            f"{folder}: its DICOM files hold no slices with a place in space; export the images of the exam"
        )
    if not slices:
        raise FileError(
            f"{folder}: enhanced multi-frame DICOM, which is not read yet; convert it to NIfTI with dcm2niix"
        )
    for what, names in (("patients", {h.patient for h in slices}), ("studies", {h.study for h in slices})):
        if len(names) > 1:
            raise FileError(f"{folder}: holds {len(names)} {what}; give the folder of one")
    groups: dict[str, list[Header]] = {}
    for head in slices:
        groups.setdefault(head.series, []).append(head)
    every = [Series(group) for group in groups.values()]
    usable = sorted((series for series in every if not series.localiser), key=Series.order)
    if not usable:
        raise FileError(f"{folder}: only localisers in it; export the sagittal series")
    return usable[0], _reasons(usable[0], len(every), len(images) - len(slices))


def _reasons(series: Series, count: int, multi_frame: int) -> list[str]:
    echo, repetition = (_number(series.slices[0].values, name, 0) for name in ("EchoTime", "RepetitionTime"))
    times = f" (TE {echo:g}, TR {repetition:g} ms)" if echo and repetition else ""
    others = f"; {count - 1} other series left out" if count > 1 else ""
    notes = [
        f"DICOM {series.name} taken: {series.plane}, {series.contrast}{times}, {len(series.slices)} slices{others}"
    ]
    if series.plane != "sagittal":
        notes.append(f"no sagittal series in the folder: {series.plane} slices read")
    if multi_frame:
        notes.append(f"{multi_frame} multi-frame DICOM files left out: they are not read yet")
    return notes
