"""What the headers of DICOM files say of each slice, in plain values."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.volume import Array

from ..file_access import open_for_reading
from ..raw_image import ASSUMED_THICKNESS
from .multiframe import FUNCTIONAL_GROUPS, iter_frame_attributes
from .pixels import check_inflated_size

_KEYWORDS = (
    *("SOPInstanceUID", "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "PatientID"),
    *("Modality", "ImageType", "SeriesDescription", "ProtocolName", "SequenceName", "ScanningSequence"),
    *("Rows", "Columns", "NumberOfFrames", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "SamplesPerPixel"),
    *("PhotometricInterpretation", "EchoTime", "RepetitionTime", "InversionTime", "FlipAngle", "EchoNumbers"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "TriggerTime", "DiffusionBValue", "ImagesInAcquisition"),
    *("MagneticFieldStrength", "Manufacturer", "ManufacturerModelName", "BodyPartExamined"),
)
IMAGE_MODALITIES = ("MR", "CT", "OT", "")  # modalities; not those of segmentations, reports and the like
_GREYSCALE = ("", "MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """One slice without its pixels: a DICOM file, or a frame of one.

    frame: its place in a multi-frame file, from 0; None in a file of one slice. position: (3,) LPS mm; directions:
    (2, 3) unit vectors along a row and down a column; spacing: mm between rows and between columns; size: rows,
    columns. What is no grey image with a place in space has size (0, 0). syntax: UID of its transfer syntax.
    """

    path: Path
    frame_index: int | None
    transfer_syntax: str
    study_uid: str
    series_uid: str
    instance_uid: str
    patient_id: str
    modality: str
    matrix_size: tuple[int, int]
    position: Array
    directions: Array
    spacing: tuple[float, float]
    thickness: float
    rescale: tuple[float, float]
    attributes: dict[str, Any]

    @property
    def normal(self) -> Array:
        """The direction in which slices follow one another, (3,)."""
        return np.cross(self.directions[0], self.directions[1])

    @property
    def image_type(self) -> list[str]:
        """Its image type, in capitals."""
        kind = self.attributes.get("ImageType", ())
        return [str(word).upper() for word in (kind if isinstance(kind, tuple) else (kind,))]

    def number(self, name: str, default: float = 0.0) -> float:
        """A value that is one finite number."""
        found = _finite_numbers(self.attributes.get(name), 1)
        return found[0] if found else default


def read_slice_headers(path: Path) -> list[SliceHeader]:
    """The slices of a DICOM file; none when pydicom cannot make sense of it."""
    import pydicom

    with warnings.catch_warnings(), open_for_reading(path) as stream:
        warnings.simplefilter("ignore")
        check_inflated_size(path, stream)
        try:
            wanted: list[Any] = [*_KEYWORDS, *FUNCTIONAL_GROUPS]
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=wanted, force=True)
            return parse_slice_headers(path, dataset, str(dataset.file_meta.get("TransferSyntaxUID", "")))
        except Exception:  # a damaged file makes pydicom raise almost anything
            return []


def parse_slice_headers(path: Path, dataset: Any, syntax: str = "") -> list[SliceHeader]:
    """The slices that a data set tells of, wherever it comes from; raises whatever pydicom raises on a malformed one.

    path: of its file. syntax: UID of its transfer syntax.
    """
    values = _plain_values({name: _get_attribute(dataset, name) for name in _KEYWORDS})
    several = FUNCTIONAL_GROUPS[1] in dataset and values.get("Modality", "") in IMAGE_MODALITIES
    framed = [values | _plain_values(own) for own in iter_frame_attributes(dataset)] if several else []
    if framed and len(framed) == values.get("NumberOfFrames"):
        return [_slice_header(path, syntax, own, frame) for frame, own in enumerate(framed)]
    if "SOPClassUID" in values or is_private_syntax(syntax):
        return [_slice_header(path, syntax, values, None)]
    return []


def is_private_syntax(syntax: str) -> bool:
    """Whether a transfer syntax is a maker's own."""
    return bool(syntax) and not syntax.startswith("1.2.840.10008.")


def is_greyscale(values: dict[str, Any]) -> bool:
    """Whether the values of a header are those of a grey picture."""
    return str(values.get("PhotometricInterpretation", "")).upper() in _GREYSCALE


def _get_attribute(dataset: Any, name: str) -> Any:
    try:
        return dataset.get(name)
    except Exception:  # a malformed value is read as none
        return None


def _plain_values(values: dict[str, Any]) -> dict[str, Any]:
    plain = {}
    for name, value in values.items():
        try:
            plain[name] = _to_plain(value)
        except Exception:  # the same
            plain[name] = None
    return {name: value for name, value in plain.items() if value not in (None, "", ())}


def _to_plain(value: Any) -> Any:
    """A DICOM value as a number, text or tuple of them."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, Iterable):
        return tuple(_to_plain(part) for part in value)
    return int(value) if isinstance(value, int) else float(value)


def _slice_header(path: Path, syntax: str, values: dict[str, Any], frame: int | None) -> SliceHeader:
    position = _finite_numbers(values.get("ImagePositionPatient"), 3)
    cosines = _finite_numbers(values.get("ImageOrientationPatient"), 6)
    spacing = _finite_numbers(values.get("PixelSpacing"), 2)
    directions = np.reshape(cosines or (0,) * 6, (2, 3))
    lengths = np.linalg.norm(directions, axis=1)
    upright = np.abs(lengths - 1).max() < 0.01 and abs(directions[0] @ directions[1]) < 0.01
    placed = position and spacing and min(spacing) > 0 and upright
    single = frame is not None or values.get("NumberOfFrames", 1) in (0, 1)
    usable = placed and is_greyscale(values) and single and values.get("Modality", "") in IMAGE_MODALITIES
    distance = _finite_numbers(values.get("SpacingBetweenSlices"), 1) or _finite_numbers(
        values.get("SliceThickness"), 1
    )
    slope, intercept = (_finite_numbers(values.get(name), 1) for name in ("RescaleSlope", "RescaleIntercept"))
    return SliceHeader(
        path=path,
        frame_index=frame,
        transfer_syntax=syntax,
        study_uid=str(values.get("StudyInstanceUID", "")),
        series_uid=str(values.get("SeriesInstanceUID", "")),
        instance_uid=str(values.get("SOPInstanceUID", path)),
        patient_id=str(values.get("PatientID", "")),
        modality=str(values.get("Modality", "")),
        matrix_size=(_int_or_zero(values.get("Rows")), _int_or_zero(values.get("Columns"))) if usable else (0, 0),
        position=np.array(position or (0, 0, 0), np.float64),
        directions=directions / np.maximum(lengths, 1e-9)[:, None],
        spacing=(spacing[0], spacing[1]) if spacing else (0.0, 0.0),
        thickness=distance[0] if distance and distance[0] > 0 else ASSUMED_THICKNESS,
        rescale=(slope[0] if slope and slope[0] else 1.0, intercept[0] if intercept else 0.0),
        attributes=values,
    )


def _int_or_zero(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _finite_numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None."""
    parts = value if isinstance(value, tuple) else (value,)
    usable = len(parts) == count and all(isinstance(part, int | float) and np.isfinite(part) for part in parts)
    return tuple(float(part) for part in parts) if usable else None
