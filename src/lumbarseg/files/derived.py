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

from .frames import frames
from .source import Source

NAME = "lumbarseg"
UTF_8 = "ISO_IR 192"
_DATE, _TIME = re.compile(r"\d{8}"), re.compile(r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?")
_LONG, _SHORT = 64, 16  # characters
_EMPTY: dict[str, Callable[[str], bool]] = {  # must be there, may be empty; what is sound
    "PatientName": lambda text: len(text) <= 3 * _LONG,
    "PatientID": lambda text: len(text) <= _LONG,
    "PatientBirthDate": lambda text: _DATE.fullmatch(text) is not None,
    "PatientSex": lambda text: text in ("M", "F", "O"),
    "StudyDate": lambda text: _DATE.fullmatch(text) is not None,
    "StudyTime": lambda text: _TIME.fullmatch(text) is not None,
    "StudyID": lambda text: len(text) <= _SHORT,
    "AccessionNumber": lambda text: len(text) <= _SHORT,
    "ReferringPhysicianName": lambda text: len(text) <= 3 * _LONG,
}
_IF_THERE = (
    *("IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
    *("PositionReferenceIndicator", "LossyImageCompression", "LossyImageCompressionRatio"),
    "LossyImageCompressionMethod",
)
_OF_SERIES = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_OF_IMAGE = ("SOPClassUID", "SOPInstanceUID")
_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
_THICKNESS = "SpacingBetweenSlices"  # where the thickness is not said


@dataclass(frozen=True)
class Maker:
    """Who made an object. version: of the program; model, digest: the network's name and the SHA-256 of its file;
    guided: whether a person named a level or clicked.
    """

    version: str
    model: str
    digest: str
    guided: bool = False


def check(path: Path, source: Source | None) -> Source:
    """The source of an exam; FileError where no DICOM object can be made that refers to it, or without highdicom."""
    if source is None:
        raise FileError(
            f"{path}: not read from DICOM, so no DICOM object can refer to it; choose another --format, or give the "
            "folder of its DICOM files"
        )
    if find_spec("highdicom") is None:
        raise FileError(f"{path}: to write DICOM objects, install highdicom: pip install 'lumbarseg[dicom]'")
    missing = [keyword for keyword in (*_OF_SERIES, *_OF_IMAGE) for head in source.heads if not _text(head, keyword)]
    if missing:
        raise FileError(
            f"{path}: its images have no {missing[0]}, which a DICOM object must refer to; choose another --format"
        )
    if framed(source) and len({id(head) for head in source.heads}) > 1:
        raise FileError(f"{path}: its slices lie in several multi-frame files; DICOM objects are written for one alone")
    return source


def framed(source: Source) -> bool:
    """Whether the slices are frames of a multi-frame file."""
    return "PerFrameFunctionalGroupsSequence" in source.heads[0]


def images(source: Source) -> list[Any]:
    """What the slices of an exam say of patient, study and place, as data sets that highdicom takes as source images.

    One for each slice, in their order, or one with frames in their order when they are frames of one file.
    """
    first = source.heads[0]
    shared = _identity(first)
    if not framed(source):
        said = [{keyword: _value(head, keyword) for keyword in (*_PLACE, _THICKNESS)} for head in source.heads]
        places = [_place(values, said[0]) for values in said]
        return [_image(shared, head, place) for head, place in zip(source.heads, places, strict=True)]
    every = list(frames(first))
    said = [every[number - 1] for number in source.frames]
    return [_image(shared, first, _groups([_place(values, said[0]) for values in said]))]


def new_object(maker: Maker, of: str) -> dict[str, Any]:
    """What highdicom is told of every object made here: its numbers and its maker; of: what is in it."""
    from pydicom.uid import generate_uid

    return {
        "series_instance_uid": generate_uid(None),
        "series_description": f"{of} of the lumbar spine by {NAME}",
        "sop_instance_uid": generate_uid(None),
        "instance_number": 1,
        "manufacturer": NAME,
        "manufacturer_model_name": maker.model,
        "software_versions": maker.version,
        "device_serial_number": maker.digest,
        "specific_character_set": UTF_8,
    }


def number(source: Source, offset: int) -> int:
    """A number for a new series of the study, beside that of its source: series 3 has 301, 302, ..."""
    text = _text(source.heads[0], "SeriesNumber")
    return (int(text) % 10**6 if text.isdigit() else 0) * 100 + offset


def _identity(first: Any) -> Any:
    """Patient, study, series and frame of reference of a source."""
    from pydicom import Dataset

    shared = Dataset()
    shared.SpecificCharacterSet = UTF_8
    for keyword, sound in _EMPTY.items():
        text = _text(first, keyword)
        setattr(shared, keyword, text if sound(text) else "")
    for keyword in _IF_THERE:
        value = _value(first, keyword)
        if value not in (None, ""):
            setattr(shared, keyword, value)
    for keyword in (*_OF_SERIES, "Modality"):
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


def _image(shared: Any, head: Any, place: Any) -> Any:
    from pydicom import Dataset

    image = Dataset()
    image.update(shared)
    for keyword in _OF_IMAGE:
        setattr(image, keyword, _text(head, keyword))
    image.Rows, image.Columns = int(head.Rows), int(head.Columns)
    image.update(place)
    return image


def _place(values: Mapping[str, Any], first: Mapping[str, Any]) -> Any:
    """Where a slice lies, with direction and spacing of the first one, from which none of a stack differs but by dust.

    values: what it says, by keyword.
    """
    from pydicom import Dataset
    from pydicom.valuerep import DSfloat

    thickness = first.get("SliceThickness") or first.get(_THICKNESS) or 1.0
    said = {**first, "SliceThickness": [thickness], "ImagePositionPatient": values["ImagePositionPatient"]}
    place = Dataset()
    for keyword in _PLACE:
        setattr(place, keyword, [DSfloat(float(part), auto_format=True) for part in said[keyword]])
    return place


def _groups(places: Sequence[Any]) -> Any:
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
