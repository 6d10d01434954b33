"""Read the headers of DICOM files: geometry and attributes of each slice, as plain values."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lumbarseg.volume import Array

from ..file_access import open_for_reading
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
_MODALITIES = {  # by the start of the SOP class, for files without a modality
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.66": "SEG",
    "1.2.840.10008.5.1.4.1.1.88": "SR",
    "1.2.840.10008.5.1.4.1.1.11": "PR",
}
_GEOMETRY = ("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
IMAGE_MODALITIES = ("MR", "CT", "OT", "")  # others are segmentations, reports and the like
_FILE_META = ("TransferSyntaxUID", "MediaStorageSOPClassUID")
_GREYSCALE = ("", "MONOCHROME1", "MONOCHROME2")

DicomValue = str | int | float | None | tuple["DicomValue", ...]
Attributes = dict[str, DicomValue]
"""DICOM values by keyword; a tuple for an attribute of several values, in which None is an empty one."""


@dataclass(frozen=True, eq=False)
class SliceHeader:
    """One slice without its pixels: a DICOM file, or a frame of one.

    frame_index: in a multi-frame file, from 0; None for a file of one slice. transfer_syntax: its UID. position: (3,)
    LPS mm. directions: (2, 3) unit vectors along a row and down a column. spacing: mm between rows and between columns.
    matrix_size: rows and columns, (0, 0) for what is not a grey image with a position in space. slice_distance: mm, 0
    if the header has none. rescale: slope and intercept. attributes: DICOM values by keyword.
    """

    path: Path
    frame_index: int | None
    transfer_syntax: str
    matrix_size: tuple[int, int]
    position: Array
    directions: Array
    spacing: tuple[float, float]
    slice_distance: float
    rescale: tuple[float, float]
    attributes: Attributes

    @property
    def study_uid(self) -> str:
        """UID of the study."""
        return self.text("StudyInstanceUID")

    @property
    def series_uid(self) -> str:
        """UID of the series."""
        return self.text("SeriesInstanceUID")

    @property
    def instance_uid(self) -> str:
        """UID of the image; its path if it has none."""
        return self.text("SOPInstanceUID") or str(self.path)

    @property
    def modality(self) -> str:
        """Modality, for example "MR"."""
        return self.text("Modality")

    @property
    def normal(self) -> Array:
        """The direction in which slices follow one another, (3,)."""
        return np.cross(self.directions[0], self.directions[1])

    @property
    def image_type(self) -> list[str]:
        """The words of the image type, in capitals."""
        value = self.attributes.get("ImageType", ())
        return [str(word).upper() for word in (value if isinstance(value, tuple) else (value,))]

    @property
    def missing_geometry(self) -> list[str]:
        """Keywords of the attributes without which a slice has no size or position."""
        return [keyword for keyword in _GEOMETRY if keyword not in self.attributes]

    def text(self, keyword: str) -> str:
        """Return an attribute as one line of printable text, "" if it is missing."""
        text = str(self.attributes.get(keyword, ""))
        return text if text.isprintable() else " ".join("".join(c if c.isprintable() else " " for c in text).split())

    def number(self, keyword: str, default: float = 0.0) -> float:
        """Return an attribute that is one finite number, else the default."""
        numbers = _finite_numbers(self.attributes.get(keyword), 1)
        return numbers[0] if numbers else default


def read_slice_headers(path: Path) -> list[SliceHeader]:
    """Read the slices of a DICOM file; [] if pydicom cannot parse it."""
    import pydicom  # 160 ms, only for DICOM

    with warnings.catch_warnings(), open_for_reading(path) as stream:
        warnings.simplefilter("ignore")
        check_inflated_size(path, stream)
        try:
            keywords: list[Any] = [*_KEYWORDS, *FUNCTIONAL_GROUPS]
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=keywords, force=True)
            syntax, sop_class = (str(dataset.file_meta.get(name, "")) for name in _FILE_META)
            return parse_slice_headers(path, dataset, syntax, sop_class)
        except Exception:  # a damaged file makes pydicom raise almost anything
            return []


def parse_slice_headers(path: Path, dataset: Any, transfer_syntax: str = "", sop_class: str = "") -> list[SliceHeader]:
    """Return the slices that a pydicom data set describes; raises whatever pydicom raises if it is malformed.

    sop_class: from the file meta information, used if the data set has none.
    """
    attributes = _plain_attributes(dataset, _KEYWORDS)
    sop_class = str(attributes.setdefault("SOPClassUID", sop_class))
    if "Modality" not in attributes:
        attributes["Modality"] = _MODALITIES.get(".".join(sop_class.split(".")[:10]), "")
    is_multiframe = FUNCTIONAL_GROUPS[1] in dataset and attributes.get("Modality", "") in IMAGE_MODALITIES
    own_attributes = iter_frame_attributes(dataset) if is_multiframe else ()
    frames = [attributes | _plain_attributes(own, own) for own in own_attributes]
    if frames and len(frames) == attributes.get("NumberOfFrames"):
        return [_slice_header(path, transfer_syntax, own, index) for index, own in enumerate(frames)]
    if sop_class or is_private_syntax(transfer_syntax) or any(keyword in attributes for keyword in _GEOMETRY):
        return [_slice_header(path, transfer_syntax, attributes, None)]
    return []


def is_private_syntax(transfer_syntax: str) -> bool:
    """Return whether a transfer syntax is private to a manufacturer."""
    return bool(transfer_syntax) and not transfer_syntax.startswith("1.2.840.10008.")


def is_greyscale(attributes: Attributes) -> bool:
    """Return whether the attributes are those of a greyscale image."""
    return str(attributes.get("PhotometricInterpretation", "")).upper() in _GREYSCALE


def _plain_attributes(source: Any, keywords: Iterable[str]) -> Attributes:
    """Return the attributes of a data set or dictionary that are present and well-formed, as plain values."""
    plain: Attributes = {}
    for keyword in keywords:
        with suppress(Exception):  # a malformed value counts as missing
            plain[keyword] = _to_plain(source.get(keyword))
    return {keyword: value for keyword, value in plain.items() if value not in (None, "", ())}


def _to_plain(value: Any) -> DicomValue:
    """Return a DICOM value as a number, a text or a tuple of them."""
    if value is None or isinstance(value, str):
        return None if value is None else str(value)
    if isinstance(value, Iterable):
        return tuple(_to_plain(part) for part in value)
    return int(value) if isinstance(value, int) else float(value)


def _slice_header(path: Path, transfer_syntax: str, attributes: Attributes, frame_index: int | None) -> SliceHeader:
    def numbers(keyword: str, count: int = 1) -> tuple[float, ...]:
        return _finite_numbers(attributes.get(keyword), count) or ()

    position, spacing = numbers("ImagePositionPatient", 3), numbers("PixelSpacing", 2)
    directions = np.reshape(numbers("ImageOrientationPatient", 6) or (0,) * 6, (2, 3))
    lengths = np.linalg.norm(directions, axis=1)
    is_orthonormal = np.abs(lengths - 1).max() < 0.01 and abs(directions[0] @ directions[1]) < 0.01
    has_geometry = position and spacing and min(spacing) > 0 and is_orthonormal
    is_single = frame_index is not None or attributes.get("NumberOfFrames", 1) in (0, 1)
    is_image = is_single and is_greyscale(attributes) and attributes.get("Modality", "") in IMAGE_MODALITIES
    size = [value if isinstance(value := attributes.get(keyword), int) else 0 for keyword in ("Rows", "Columns")]
    slope, intercept = numbers("RescaleSlope"), numbers("RescaleIntercept")
    distance = numbers("SpacingBetweenSlices") or numbers("SliceThickness") or (0.0,)
    return SliceHeader(
        path=path,
        frame_index=frame_index,
        transfer_syntax=transfer_syntax,
        matrix_size=(size[0], size[1]) if has_geometry and is_image else (0, 0),
        position=np.array(position or (0, 0, 0), np.float64),
        directions=directions / np.maximum(lengths, 1e-9)[:, None],
        spacing=(spacing[0], spacing[1]) if spacing else (0.0, 0.0),
        slice_distance=max(distance[0], 0.0),
        rescale=(slope[0] if slope and slope[0] else 1.0, intercept[0] if intercept else 0.0),
        attributes=attributes,
    )


def _finite_numbers(value: DicomValue, count: int) -> tuple[float, ...] | None:
    """Return `count` finite numbers, or None."""
    parts = value if isinstance(value, tuple) else (value,)
    numbers = tuple(float(part) for part in parts if isinstance(part, int | float) and np.isfinite(part))
    return numbers if len(numbers) == len(parts) == count else None
