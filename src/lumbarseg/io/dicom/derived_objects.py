"""What all DICOM objects made from a series share: patient, study, source images, and the software that made them.

Only those attributes of the patient and study are copied that the standard requires of every object of a study (DICOM
PS3.3 C.7.1.1, C.7.2.1), and whether it was de-identified. A value that the standard forbids is left empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lumbarseg.errors import FileError
from lumbarseg.terminology import CODING_SCHEME

from ..raw_image import SourceImages
from .multiframe import FUNCTIONAL_GROUPS, iter_frame_attributes

SOFTWARE_NAME = "lumbarseg"
UTF8_CHARACTER_SET = "ISO_IR 192"
_REQUIRED_KEYWORDS = {  # must be present, may be empty; the pattern of a valid value
    "PatientName": r".{,192}",
    "PatientID": r".{,64}",
    "PatientBirthDate": r"\d{8}",
    "PatientSex": r"[MFO]",
    "StudyDate": r"\d{8}",
    "StudyTime": r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?",
    "StudyID": r".{,16}",
    "AccessionNumber": r".{,16}",
    "ReferringPhysicianName": r".{,192}",
}
_OPTIONAL_KEYWORDS = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("PositionReferenceIndicator", "LossyImageCompression", "LossyImageCompressionRatio"),
    "LossyImageCompressionMethod",
)
_SERIES_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_IMAGE_UIDS = ("SOPClassUID", "SOPInstanceUID")
_THICKNESS_KEYWORDS = ("SliceThickness", "SpacingBetweenSlices")  # the first that has a value is used


@dataclass(frozen=True)
class Provenance:
    """What made an object.

    model_sha256: of the model file. user_guided: whether the user named a level or clicked.
    """

    software_version: str
    model_name: str
    model_sha256: str
    user_guided: bool = False


def require_source_images(path: Path, source: SourceImages | None) -> SourceImages:
    """Return the source images of an exam.

    Raises
    ------
    FileError
        If no DICOM object can refer to them, or highdicom is not installed; the message begins with `path`.
    """
    if source is None:
        raise FileError(
            f"{path}: not read from DICOM, so no DICOM object can refer to it; choose another --format, or give the "
            "folder of its DICOM files"
        )
    if find_spec("highdicom") is None:
        raise FileError(f"{path}: to write DICOM objects, install highdicom: pip install 'lumbarseg[dicom]'")
    for keyword in (*_SERIES_UIDS, *_IMAGE_UIDS):
        if not all(_text(dataset, keyword) for dataset in source.datasets):
            raise FileError(
                f"{path}: its images have no {keyword}, which a DICOM object must refer to; choose another --format"
            )
    if not is_multiframe(source) and len({_text(image, "SOPInstanceUID") for image in source.datasets}) < len(
        source.datasets
    ):
        raise FileError(
            f"{path}: several of its images have the same SOPInstanceUID, so no DICOM object can refer to them; choose "
            "another --format"
        )
    if is_multiframe(source) and len({id(dataset) for dataset in source.datasets}) > 1:
        raise FileError(f"{path}: its slices lie in several multi-frame files; DICOM objects are written for one alone")
    return source


def is_multiframe(source: SourceImages) -> bool:
    """Return whether the slices are frames of a multi-frame file."""
    return FUNCTIONAL_GROUPS[1] in source.datasets[0]


def source_datasets(source: SourceImages) -> list[Any]:
    """Return patient, study and geometry of the slices as data sets that highdicom accepts as source images.

    One data set for each slice in order, or one with all frames in order if they are frames of one file.
    """
    from pydicom import Dataset

    first = source.datasets[0]
    shared = _patient_and_study(first)
    if is_multiframe(source):
        frames = list(iter_frame_attributes(first))
        shared.update(_image_attributes(first))
        shared.update(_functional_groups([frames[number - 1] for number in source.frame_numbers]))
        return [shared]
    images = []
    for dataset in source.datasets:
        image = Dataset()
        image.update(shared)
        image.update(_image_attributes(dataset))
        image.PixelSpacing = _decimals(first.PixelSpacing)
        image.ImageOrientationPatient = _decimals(first.ImageOrientationPatient)
        image.ImagePositionPatient = _decimals(dataset.ImagePositionPatient)
        image.SliceThickness = _thickness({key: _value(first, key) for key in _THICKNESS_KEYWORDS})
        images.append(image)
    return images


def new_object_attributes(provenance: Provenance, content: str) -> dict[str, Any]:
    """Return the arguments of highdicom that identify a new object; content: what it holds, for its description."""
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


def coded_concept(value: str, meaning: str, scheme: str = CODING_SCHEME) -> Any:
    """Return a code as highdicom's object."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value, scheme, meaning)


def derived_series_number(source: SourceImages, offset: int) -> int:
    """Return a series number related to that of the source: for series 3, offset 1 gives 301."""
    text = _text(source.datasets[0], "SeriesNumber")
    return (int(text) % 10**6 if text.isdigit() else 0) * 100 + offset


def _patient_and_study(first: Any) -> Any:
    """Return patient, study, series and frame of reference of a source."""
    from pydicom import Dataset

    shared = Dataset()
    shared.SpecificCharacterSet = UTF8_CHARACTER_SET
    for keyword, pattern in _REQUIRED_KEYWORDS.items():
        text = _text(first, keyword)
        setattr(shared, keyword, text if re.fullmatch(pattern, text) else "")
    for keyword in _OPTIONAL_KEYWORDS:
        value = _value(first, keyword)
        if value not in (None, ""):
            setattr(shared, keyword, value)
    for keyword in (*_SERIES_UIDS, "Modality"):
        setattr(shared, keyword, _text(first, keyword))
    return shared


def _text(dataset: Any, keyword: str) -> str:
    value = _value(dataset, keyword)
    return "" if value is None else str(value).strip()


def _value(dataset: Any, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except Exception:  # a malformed value counts as missing
        return None


def _image_attributes(dataset: Any) -> Any:
    """Return identity and size of an image."""
    from pydicom import Dataset

    image = Dataset()
    image.SOPClassUID, image.SOPInstanceUID = (_text(dataset, keyword) for keyword in _IMAGE_UIDS)
    image.Rows, image.Columns = int(dataset.Rows), int(dataset.Columns)
    return image


def _decimals(values: Iterable[Any]) -> list[Any]:
    from pydicom.valuerep import DSfloat

    return [DSfloat(float(value), auto_format=True) for value in values]


def _thickness(attributes: Mapping[str, Any]) -> float:
    """Return the slice thickness in mm; the distance of the slices, or 1, if it is missing."""
    return float(next(filter(None, map(attributes.get, _THICKNESS_KEYWORDS)), 1.0))


def _functional_groups(frames: Sequence[Mapping[str, Any]]) -> Any:
    """Return the functional groups with the geometry of frames, which share direction and spacing of the first."""
    import highdicom
    from pydicom import Dataset

    first, groups, shared = frames[0], Dataset(), Dataset()
    shared.PlaneOrientationSequence = highdicom.PlaneOrientationSequence("PATIENT", first["ImageOrientationPatient"])
    shared.PixelMeasuresSequence = highdicom.PixelMeasuresSequence(first["PixelSpacing"], _thickness(first))
    groups.NumberOfFrames = len(frames)
    groups.SharedFunctionalGroupsSequence = [shared]
    groups.PerFrameFunctionalGroupsSequence = [Dataset() for _ in frames]
    for group, frame in zip(groups.PerFrameFunctionalGroupsSequence, frames, strict=True):
        group.PlanePositionSequence = highdicom.PlanePositionSequence("PATIENT", frame["ImagePositionPatient"])
    return groups
