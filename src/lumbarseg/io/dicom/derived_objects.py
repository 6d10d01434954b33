"""What every DICOM object made from a series shares with it: its patient, its study, its images; and who made it.

Of what the source says of the patient and the study only that is copied which the standard asks of every object of a
study (DICOM PS3.3 C.7.1.1, C.7.2.1), and that it was made anonymous. A value that the standard forbids is left empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError

from .multiframe import iter_frame_attributes
from .source_images import SourceImages

SOFTWARE_NAME = "lumbarseg"
UTF8_CHARACTER_SET = "ISO_IR 192"
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_MAX_LONG_TEXT, _MAX_SHORT_TEXT = 64, 16  # characters
_REQUIRED_KEYWORDS: dict[str, Callable[[str], bool]] = {  # must be there, may be empty; what is sound
    "PatientName": lambda text: len(text) <= 3 * _MAX_LONG_TEXT,
    "PatientID": lambda text: len(text) <= _MAX_LONG_TEXT,
    "PatientBirthDate": lambda text: _DATE.fullmatch(text) is not None,
    "PatientSex": lambda text: text in ("M", "F", "O"),
    "StudyDate": lambda text: _DATE.fullmatch(text) is not None,
    "StudyTime": lambda text: _TIME.fullmatch(text) is not None,
    "StudyID": lambda text: len(text) <= _MAX_SHORT_TEXT,
    "AccessionNumber": lambda text: len(text) <= _MAX_SHORT_TEXT,
    "ReferringPhysicianName": lambda text: len(text) <= 3 * _MAX_LONG_TEXT,
}
_OPTIONAL_KEYWORDS = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("PositionReferenceIndicator", "LossyImageCompression", "LossyImageCompressionRatio"),
    "LossyImageCompressionMethod",
)
_SERIES_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_IMAGE_UIDS = ("SOPClassUID", "SOPInstanceUID")
_GEOMETRY_KEYWORDS = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_THICKNESS = "SpacingBetweenSlices"  # where the thickness is not said


@dataclass(frozen=True)
class Provenance:
    """Who made an object. version: of the program; model, digest: the network's name and the SHA-256 of its file;
    guided: whether a person named a level or clicked.
    """

    software_version: str
    model_name: str
    model_sha256: str
    user_guided: bool = False


def require_source_images(path: Path, source: SourceImages | None) -> SourceImages:
    """The source of an exam; FileError where no DICOM object can be made that refers to it, or without highdicom."""
    if source is None:
        raise FileError(
            f"{path}: not read from DICOM, so no DICOM object can refer to it; choose another --format, or give the "
            "folder of its DICOM files"
        )
    if find_spec("highdicom") is None:
        raise FileError(f"{path}: to write DICOM objects, install highdicom: pip install 'lumbarseg[dicom]'")
    missing = [
        keyword for keyword in (*_SERIES_UIDS, *_IMAGE_UIDS) for head in source.datasets if not _text(head, keyword)
    ]
    if missing:
        raise FileError(
            f"{path}: its images have no {missing[0]}, which a DICOM object must refer to; choose another --format"
        )
    if is_multiframe(source) and len({id(head) for head in source.datasets}) > 1:
        raise FileError(f"{path}: its slices lie in several multi-frame files; DICOM objects are written for one alone")
    return source


def is_multiframe(source: SourceImages) -> bool:
    """Whether the slices are frames of a multi-frame file."""
    return "PerFrameFunctionalGroupsSequence" in source.datasets[0]


def source_datasets(source: SourceImages) -> list[Any]:
    """What the slices of an exam say of patient, study and place, as data sets that highdicom takes as source images.

    One for each slice, in their order, or one with frames in their order when they are frames of one file.
    """
    first = source.datasets[0]
    shared = _patient_and_study(first)
    if not is_multiframe(source):
        said = [
            {keyword: _value(head, keyword) for keyword in (*_GEOMETRY_KEYWORDS, _THICKNESS)}
            for head in source.datasets
        ]
        places = [_slice_geometry(values, said[0]) for values in said]
        return [_source_image(shared, head, place) for head, place in zip(source.datasets, places, strict=True)]
    every = list(iter_frame_attributes(first))
    said = [every[number - 1] for number in source.frame_numbers]
    return [_source_image(shared, first, _functional_groups([_slice_geometry(values, said[0]) for values in said]))]


def new_object_attributes(provenance: Provenance, content: str) -> dict[str, Any]:
    """What highdicom is told of every object made here: its numbers and its maker; of: what is in it."""
    from pydicom.uid import generate_uid

    return {
        "series_instance_uid": generate_uid(None),
        "series_description": f"{content} of the lumbar spine by {SOFTWARE_NAME}",
        "sop_instance_uid": generate_uid(None),
        "instance_number": 1,
        "manufacturer": SOFTWARE_NAME,
        "manufacturer_model_name": provenance.model_name,
        "software_versions": provenance.software_version,
        "device_serial_number": provenance.model_sha256,
        "specific_character_set": UTF8_CHARACTER_SET,
    }


def derived_series_number(source: SourceImages, offset: int) -> int:
    """A number for a new series of the study, beside that of its source: series 3 has 301, 302, ..."""
    text = _text(source.datasets[0], "SeriesNumber")
    return (int(text) % 10**6 if text.isdigit() else 0) * 100 + offset


def _patient_and_study(first: Any) -> Any:
    """Patient, study, series and frame of reference of a source."""
    from pydicom import Dataset

    shared = Dataset()
    shared.SpecificCharacterSet = UTF8_CHARACTER_SET
    for keyword, sound in _REQUIRED_KEYWORDS.items():
        text = _text(first, keyword)
        setattr(shared, keyword, text if sound(text) else "")
    for keyword in _OPTIONAL_KEYWORDS:
        value = _value(first, keyword)
        if value not in (None, ""):
            setattr(shared, keyword, value)
    for keyword in (*_SERIES_UIDS, "Modality"):
        setattr(shared, keyword, _text(first, keyword))
    return shared


def _text(head: Any, keyword: str) -> str:
    value = _value(head, keyword)
    return "" if value is None else str(value).strip()


def _value(head: Any, keyword: str) -> Any:
    try:
        return head.get(keyword)
    except Exception:  # a malformed value is read as none
        return None


def _source_image(shared: Any, head: Any, place: Any) -> Any:
    from pydicom import Dataset

    image = Dataset()
    image.update(shared)
    for keyword in _IMAGE_UIDS:
        setattr(image, keyword, _text(head, keyword))
    image.Rows, image.Columns = int(head.Rows), int(head.Columns)
    image.update(place)
    return image


def _slice_geometry(values: Mapping[str, Any], first: Mapping[str, Any]) -> Any:
    """Where a slice lies, with direction and spacing of the first one, from which none of a stack differs but by dust.

    values: what it says, by keyword.
    """
    from pydicom import Dataset
    from pydicom.valuerep import DSfloat

    thickness = first.get("SliceThickness") or first.get(_THICKNESS) or 1.0
    said = {**first, "SliceThickness": [thickness], "ImagePositionPatient": values["ImagePositionPatient"]}
    place = Dataset()
    for keyword in _GEOMETRY_KEYWORDS:
        setattr(place, keyword, [DSfloat(float(part), auto_format=True) for part in said[keyword]])
    return place


def _functional_groups(places: Sequence[Any]) -> Any:
    """The same of the frames of one image, as its functional groups."""
    from pydicom import Dataset

    def group(place: Any, sequence: str, *keywords: str) -> Dataset:
        item, parts = Dataset(), Dataset()
        for keyword in keywords:
            setattr(parts, keyword, getattr(place, keyword))
        setattr(item, sequence, [parts])
        return item

    shared = group(places[0], "PlaneOrientationSequence", "ImageOrientationPatient")
    shared.update(group(places[0], "PixelMeasuresSequence", "PixelSpacing", "SliceThickness"))
    together = Dataset()
    together.NumberOfFrames = len(places)
    together.SharedFunctionalGroupsSequence = [shared]
    each = [group(place, "PlanePositionSequence", "ImagePositionPatient") for place in places]
    together.PerFrameFunctionalGroupsSequence = each
    return together
