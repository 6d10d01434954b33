"""What the headers of DICOM files say of each slice, in plain values."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.volume import Array

from .disk import reading
from .frames import GROUPS, frames
from .pixels import check_inflated
from .voxels import ASSUMED_THICKNESS

_TAGS = (
    *("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "PatientID"),
    *("Modality", "ImageType", "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence"),
    *("Rows", "Columns", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "SamplesPerPixel"),
    *("PhotometricInterpretation", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "EchoNumbers"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "DiffusionBValue", "ImagesInAcquisition"),
    *("MagneticFieldStrength", "Manufacturer", "ManufacturerModelName", "BodyPartExamined"),
)
IMAGES = ("MR", "CT", "OT", "")  # modalities; not those of segmentations, reports and the like
_GREY = ("", "MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, eq=False)
class Header:
    """One slice without its pixels: a DICOM file, or a frame of one.

    frame: its place in a multi-frame file, from 0; None in a file of one slice. position: (3,) LPS mm; directions:
    (2, 3) unit vectors along a row and down a column; spacing: mm between rows and between columns; size: rows,
    columns. What is no grey image with a place in space has size (0, 0). syntax: UID of its transfer syntax.
    """

    path: Path
    frame: int | None
    syntax: str
    study: str
    series: str
    instance: str
    patient: str
    modality: str
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

    @property
    def words(self) -> list[str]:
        """Its image type, in capitals."""
        kind = self.values.get("ImageType", ())
        return [str(word).upper() for word in (kind if isinstance(kind, tuple) else (kind,))]

    def number(self, name: str, default: float = 0.0) -> float:
        """A value that is one finite number."""
        found = _numbers(self.values.get(name), 1)
        return found[0] if found else default


def headers(path: Path) -> list[Header]:
    """The slices of a DICOM file; none when pydicom cannot make sense of it."""
    import pydicom

    with warnings.catch_warnings(), reading(path) as stream:
        warnings.simplefilter("ignore")
        check_inflated(path, stream)
        try:
            wanted: list[Any] = [*_TAGS, *GROUPS]
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=wanted, force=True)
            return told(path, dataset, str(dataset.file_meta.get("TransferSyntaxUID", "")))
        except Exception:  # a damaged file makes pydicom raise almost anything
            return []


def told(path: Path, dataset: Any, syntax: str = "") -> list[Header]:
    """The slices that a data set tells of, wherever it comes from; raises whatever pydicom raises on a malformed one.

    path: of its file. syntax: UID of its transfer syntax.
    """
    values = _plain_values({name: _value(dataset, name) for name in _TAGS})
    several = GROUPS[1] in dataset and values.get("Modality", "") in IMAGES
    framed = [values | _plain_values(own) for own in frames(dataset)] if several else []
    if framed and len(framed) == values.get("NumberOfFrames"):
        return [_header(path, syntax, own, frame) for frame, own in enumerate(framed)]
    if "SOPClassUID" in values or is_private(syntax):
        return [_header(path, syntax, values, None)]
    return []


def is_private(syntax: str) -> bool:
    """Whether a transfer syntax is a maker's own."""
    return bool(syntax) and not syntax.startswith("1.2.840.10008.")


def is_grey(values: dict[str, Any]) -> bool:
    """Whether the values of a header are those of a grey picture."""
    return str(values.get("PhotometricInterpretation", "")).upper() in _GREY


def _value(dataset: Any, name: str) -> Any:
    try:
        return dataset.get(name)
    except Exception:  # a malformed value is read as none
        return None


def _plain_values(values: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, value in values.items():
        try:
            plain[name] = _plain(value)
        except Exception:  # the same
            plain[name] = None
    return {name: value for name, value in plain.items() if value not in (None, "", ())}


def _plain(value: Any) -> Any:
    """A DICOM value as a number, text or tuple of them."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, Iterable):
        return tuple(_plain(part) for part in value)
    return int(value) if isinstance(value, int) else float(value)


def _header(path: Path, syntax: str, values: dict[str, Any], frame: int | None) -> Header:
    position = _numbers(values.get("ImagePositionPatient"), 3)
    cosines = _numbers(values.get("ImageOrientationPatient"), 6)
    spacing = _numbers(values.get("PixelSpacing"), 2)
    directions = np.reshape(cosines or (0,) * 6, (2, 3))
    lengths = np.linalg.norm(directions, axis=1)
    upright = np.abs(lengths - 1).max() < 0.01 and abs(directions[0] @ directions[1]) < 0.01
    placed = position and spacing and min(spacing) > 0 and upright
    single = frame is not None or values.get("NumberOfFrames", 1) in (0, 1)
    usable = placed and is_grey(values) and single and values.get("Modality", "") in IMAGES
    distance = _numbers(values.get("SpacingBetweenSlices"), 1) or _numbers(values.get("SliceThickness"), 1)
    slope, intercept = (_numbers(values.get(name), 1) for name in ("RescaleSlope", "RescaleIntercept"))
    return Header(
        path=path,
        frame=frame,
        syntax=syntax,
        study=str(values.get("StudyInstanceUID", "")),
        series=str(values.get("SeriesInstanceUID", "")),
        instance=str(values.get("SOPInstanceUID", path)),
        patient=str(values.get("PatientID", "")),
        modality=str(values.get("Modality", "")),
        size=(_whole(values.get("Rows")), _whole(values.get("Columns"))) if usable else (0, 0),
        position=np.array(position or (0, 0, 0), np.float64),
        directions=directions / np.maximum(lengths, 1e-9)[:, None],
        spacing=(spacing[0], spacing[1]) if spacing else (0.0, 0.0),
        thickness=distance[0] if distance and distance[0] > 0 else ASSUMED_THICKNESS,
        rescale=(slope[0] if slope and slope[0] else 1.0, intercept[0] if intercept else 0.0),
        values=values,
    )


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None."""
    parts = value if isinstance(value, tuple) else (value,)
    usable = len(parts) == count and all(isinstance(part, int | float) and np.isfinite(part) for part in parts)
    return tuple(float(part) for part in parts) if usable else None
